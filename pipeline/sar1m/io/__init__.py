"""Bytes to arrays and back: rasters, staged blobs, shards, manifests."""
