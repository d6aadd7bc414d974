"""From a region to the source that serves it."""

from __future__ import annotations

from pathlib import Path

from sar1m.errors import RegionError
from sar1m.sources.base import Source
from sar1m.sources.folder import FolderSource
from sar1m.sources.region import Region
from sar1m.sources.sample import SampleSource
from sar1m.sources.simulated import SimulatedSource


def open_source(region: Region, scratch: Path | None = None) -> Source:
    """The source of a region. scratch: a folder for what a source unpacks while it reads pixels; may be None where only
    its candidates are wanted. Raises RegionError for an area of the Earth, which needs a service of scenes."""
    if region.kind == "sample":
        return SampleSource()
    if region.kind == "simulated":
        return SimulatedSource(int(region.argument))
    if region.kind == "folder":
        return FolderSource(Path(region.argument))
    if region.kind == "safe":
        # Its numerics bring a compiler: half a second that the other sources need not wait for.
        from sar1m.sources.safe import SafeSource  # noqa: PLC0415

        return SafeSource(Path(region.argument), scratch)
    raise RegionError(
        f"{region.label}: this version builds from local scenes only: `sample`, `folder:<path>`, "
        "`safe:<path>` or `simulated:<cells>`. For an area of the Earth, `sar1m plan` counts its cells; put its scenes "
        "into a folder and build with `safe:<path>` (Sentinel-1 products) or `folder:<path>` (geocoded rasters)."
    )
