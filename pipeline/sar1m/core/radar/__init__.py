"""Radar geometry and radiometry of Sentinel-1 GRD images: arrays in, arrays out."""
