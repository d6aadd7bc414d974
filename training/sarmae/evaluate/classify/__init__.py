"""Classification of images by what an encoder sees in them."""

from sarmae.evaluate.classify.protocol import classify

__all__ = ["classify"]
