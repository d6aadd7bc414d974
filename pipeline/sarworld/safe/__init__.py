"""Sentinel-1 GRD products in radar geometry over ground of which everything is known."""
