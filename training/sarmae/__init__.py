"""SARMAE: a masked autoencoder for SAR, pretrained by streaming the shards that `sar1m` writes.

ShardLoader, LoaderSettings, pretrain and load_encoder are the names for use from Python. They are imported on first
use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sarmae.api import pretrain as pretrain
    from sarmae.encoders import load_encoder as load_encoder
    from sarmae.stream.loader import ShardLoader as ShardLoader
    from sarmae.stream.loader_settings import LoaderSettings as LoaderSettings

_HOMES: Final = {
    "LoaderSettings": "sarmae.stream.loader_settings",
    "ShardLoader": "sarmae.stream.loader",
    "load_encoder": "sarmae.encoders",
    "pretrain": "sarmae.api",
}
__all__ = ["LoaderSettings", "ShardLoader", "load_encoder", "pretrain"]


def __getattr__(name: str) -> object:
    """A name of the public face. Importing it loads PyTorch, which takes some seconds."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
