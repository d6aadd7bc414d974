"""Encoders of every origin behind the one door of sarmae.evaluate.backbones.backbone.Backbone."""

from sarmae.evaluate.backbones.arm_encoder import open_backbone

__all__ = ["open_backbone"]
