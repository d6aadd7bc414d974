"""From a region to the source that serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sar1m.config import BuildConfig
from sar1m.sources.folder.source import FolderSource
from sar1m.sources.regions.region import Region
from sar1m.sources.sample import SampleSource
from sar1m.sources.simulated import SimulatedSource
from sar1m.sources.source import Source
from sar1m.store.errors import ConfigError

if TYPE_CHECKING:
    from sar1m.io.net.fetch import Fetcher
    from sar1m.sources.area.source import AreaSource

INFLATED_DIR: Final = "cache/inflated"  # measurements taken out of zips, while a build reads them
NET_DIR: Final = "cache/net"  # what was downloaded, and the limits that all workers share

# Some sources bring a compiler or a client of a service: half a second and more that the others need not wait for.
# ruff: noqa: PLC0415


def open_source(region: Region, config: BuildConfig, out: Path, plan: Path | None = None) -> Source:
    """The source of a region. out: the build's folder, for what a source keeps while it works. plan: a file that
    `sar1m plan` wrote, for areas of the Earth.

    Raises ConfigError where a service is unknown or not set up, or a plan is given for another kind of region.
    """
    if plan is not None and region.kind != "area":
        raise ConfigError(f"--plan {plan}: plans are of areas of the Earth; {region.label} needs none.")
    if region.kind == "sample":
        return SampleSource()
    if region.kind == "simulated":
        return SimulatedSource(int(region.argument))
    if region.kind == "folder":
        return FolderSource(Path(region.argument))
    if region.kind == "safe":
        from sar1m.sources.safe.source import SafeSource

        return SafeSource(Path(region.argument), out / INFLATED_DIR)
    area = open_area(region, config, out)
    if plan is None:
        return area
    from sar1m.sources.area.plan_table import PlanTableSource

    return PlanTableSource(plan.absolute(), area)


def open_area(region: Region, config: BuildConfig, out: Path) -> AreaSource:
    """The source of an area of the Earth, by the services that area.sar and area.optical name."""
    from sar1m.sources.area.source import AreaSource
    from sar1m.sources.services.registry import open_service

    fetcher = open_fetcher(config, out)
    optical = None if config.area.optical == "none" else open_service(config.area.optical, config, fetcher)
    return AreaSource(region, open_service(config.area.sar, config, fetcher), optical)


def open_fetcher(config: BuildConfig, out: Path) -> Fetcher:
    """The downloader of a build, whose limits and cache lie in its folder."""
    from sar1m.io.net.fetch import Fetcher, FetchSettings

    return Fetcher(FetchSettings(root=out.absolute() / NET_DIR, limits=config.download))
