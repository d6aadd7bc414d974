"""The published SAR-1M (folders of 8-bit pictures), read as it is."""
