"""Regions of the Earth: what a user may write, polygon files, countries and ecoregions."""
