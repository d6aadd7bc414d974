"""Sentinel-1 GRD products in SAFE format as a source of blocks."""
