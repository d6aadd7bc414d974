"""SAR-1M: Sentinel-1 scenes in, a verified and sharded Zarr dataset of SAR-optical patches out.

build, plan, open, verify, release and audit_pairs are what a person calls from Python; they are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from sar1m.store.version import __version__

if TYPE_CHECKING:
    from sar1m.api import audit_pairs as audit_pairs
    from sar1m.api import build as build
    from sar1m.api import open as open  # noqa: A004 - `sar1m.open`
    from sar1m.api import plan as plan
    from sar1m.api import release as release
    from sar1m.api import verify as verify

__all__ = ["__version__", "audit_pairs", "build", "open", "plan", "release", "verify"]


def __getattr__(name: str) -> object:
    """A function of the public face. Importing it loads the pipeline, which takes a second or two."""
    if name in __all__:
        return getattr(import_module("sar1m.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
