"""Streaming the shards: order (pure), reader, disk cache for remote stores, transforms, loader."""
