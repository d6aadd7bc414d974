"""SARE, speckle-aware representation enhancement: physical speckle on the model's input."""

from sarmae.sare.extra_speckle import Sare

__all__ = ["Sare"]
