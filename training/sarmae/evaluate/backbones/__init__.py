"""Encoders of every origin behind the one door of sarmae.evaluate.values.Backbone."""

from sarmae.evaluate.backbones.open_arm import open_backbone

__all__ = ["open_backbone"]
