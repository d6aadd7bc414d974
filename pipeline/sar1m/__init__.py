"""SAR-1M: Sentinel-1 scenes in, a verified and sharded Zarr dataset of SAR-optical patches out."""

__version__ = "0.1.0"
