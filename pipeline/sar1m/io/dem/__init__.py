"""Digital elevation models: finding the rasters, joining their posts, and heights on a block's grid."""
