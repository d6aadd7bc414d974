"""Segmentation: a light pyramid head and a linear one on any encoder's grid, scored by one confusion matrix."""

from sarmae.evaluate.segment.protocol import segment

__all__ = ["segment"]
