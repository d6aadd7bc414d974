"""The loader under its former name, which published cards show: `from sarmae.data.stream import ShardLoader`."""

import warnings

from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings

__all__ = ["LoaderSettings", "ShardLoader"]

warnings.warn(
    "sarmae.data.stream is the former name: write `from sarmae import LoaderSettings, ShardLoader`. It goes with 1.0",
    DeprecationWarning,
    stacklevel=2,
)
