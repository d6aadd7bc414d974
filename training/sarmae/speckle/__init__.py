"""SARE, speckle-aware representation enhancement: physical speckle on the model's input."""

from sarmae.speckle.sare import Sare

__all__ = ["Sare"]
