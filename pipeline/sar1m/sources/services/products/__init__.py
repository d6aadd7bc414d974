"""Services that deliver whole Sentinel-1 GRD products."""
