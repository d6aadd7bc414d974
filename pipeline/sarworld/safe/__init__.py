"""Simulates Sentinel-1 scenes of which everything is known, and writes them as products in the SAFE format.

Modules of the same name in `sar1m/io/safe` read what is written here: annotation, calibration, manifest, measurement,
orbit_file, xml, product. They share no code, so that each can test the other.
"""
