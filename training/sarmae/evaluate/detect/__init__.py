"""Detection: what an encoder's features are worth for finding objects. `detect` is the whole of it."""

from sarmae.evaluate.detect.protocol import detect

__all__ = ["detect"]
