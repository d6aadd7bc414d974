"""The Copernicus Data Space: search, tokens, zipped products and its object store."""
