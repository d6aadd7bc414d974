"""Encoders of every origin behind the one door of sarmae.evaluate.records.Backbone."""

from sarmae.evaluate.backbones.opening import open_backbone

__all__ = ["open_backbone"]
