"""Frozen optical encoders whose features the visible SAR tokens are pulled towards: live, or from a cache."""

from sarmae.sarc.anchors import Anchors, open_anchors

__all__ = ["Anchors", "open_anchors"]
