"""Names and keys: the stable id of a sample and the content key of a work item."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from sar1m.records import Candidate, SarProduct


def sample_id(patch: str, sar: SarProduct) -> str:
    """Stable name of a sample: the patch, then platform and acquisition time of the SAR product.

    Where the time is unknown, eight hexadecimal digits of the blake2b of the product's name are used instead.
    """
    if sar.acquired is None:
        return f"{patch}_{hashlib.blake2b(sar.product_id.encode(), digest_size=4).hexdigest()}"
    platform = (sar.platform or "sar").replace("sentinel-", "s").upper()
    return f"{patch}_{platform}_{sar.acquired:%Y%m%dT%H%M%S}"


def sample_key(name: str) -> int:
    """63 bits of the blake2b of a sample_id: a key that fits into a signed 64-bit integer."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def content_key(candidate: Candidate, pixel_digest: str) -> str:
    """blake2b-128, hexadecimal, of everything that determines a staged block.

    It covers the bytes of the products, grid, patches, parameters, and what the block's rows repeat (times, labels,
    rights). Only the handle is left out, which states where the inputs are.

    pixel_digest: config.BuildConfig.pixel_digest together with the version of the preparation.
    """
    described = {name: value for name, value in asdict(candidate).items() if name != "handle"}
    text = json.dumps([pixel_digest, described], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
