"""Sentinel-1 products (SAFE, a folder or a zip) in, records of `core/radar/product.py` out."""
