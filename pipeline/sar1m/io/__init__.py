"""Reading and writing: rasters, elevation models, SAFE products, tables, staged blocks, downloads."""
