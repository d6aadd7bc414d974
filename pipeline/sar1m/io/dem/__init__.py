"""Digital elevation models: which rasters there are, their posts put together, and heights on a block's grid."""
