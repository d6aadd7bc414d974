"""Releases: finished builds merged into a folder that a stranger can verify, cite, load and trust."""
