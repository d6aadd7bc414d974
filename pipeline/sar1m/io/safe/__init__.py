"""Reads Sentinel-1 products in the SAFE format (a folder or a zip) into the records of `core/radar/product.py`.

Modules of the same name in `sarworld/safe` write what is read here: annotation, calibration, manifest, measurement,
orbit_file, xml, product. They share no code, so that each can test the other.
"""
