"""Names and keys: the stable id of a sample and the content key of a work item."""

from __future__ import annotations

import hashlib
import json

from sar1m.records import Candidate, SarProduct


def sample_id(patch: str, sar: SarProduct) -> str:
    """Stable name of a sample: the patch, then platform and acquisition time of the SAR product.

    Where the time is unknown the product's name stands in by eight hexadecimal digits of its blake2b.
    """
    if sar.acquired is None:
        return f"{patch}_{hashlib.blake2b(sar.product_id.encode(), digest_size=4).hexdigest()}"
    platform = (sar.platform or "sar").replace("sentinel-", "s").upper()
    return f"{patch}_{platform}_{sar.acquired:%Y%m%dT%H%M%S}"


def sample_key(name: str) -> int:
    """First 63 bits of blake2b of a sample_id: a key that fits a signed 64-bit tensor."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def content_key(candidate: Candidate, pixel_digest: str) -> str:
    """blake2b-128 of everything that shapes a staged block: products' bytes, grid, patches, parameters.

    pixel_digest: config.BuildConfig.pixel_digest together with the version of the preparation.
    """
    optical = candidate.optical
    grid = candidate.grid
    shaping = [
        pixel_digest,
        candidate.item_id,
        candidate.sar.product_id,
        candidate.sar.digest,
        None if optical is None else [optical.product_id, optical.digest],
        [grid.epsg, grid.left_m, grid.top_m, grid.gsd_m, grid.rows, grid.cols, candidate.halo_px],
        [[place.name, place.row, place.col] for place in candidate.patches],
    ]
    text = json.dumps(shaping, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
