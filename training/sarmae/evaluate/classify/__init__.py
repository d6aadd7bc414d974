"""Classification of images by what an encoder sees in them."""

from sarmae.evaluate.classify.task import classify

__all__ = ["classify"]
