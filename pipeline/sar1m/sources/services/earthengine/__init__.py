"""Google Earth Engine: sessions, collections, images of a block, and what its refusals mean."""
