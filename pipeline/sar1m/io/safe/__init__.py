"""Reads Sentinel-1 products in the SAFE format (a folder or a zip) into the records of `core/radar/product.py`.

The simulator has modules of the same names, which write what is read here: annotation, calibration, manifest,
measurement, orbit_file, xml, product. The two share no code, so that each can test the other.
"""
