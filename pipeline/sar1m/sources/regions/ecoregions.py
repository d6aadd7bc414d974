"""The ecoregion of a point, by polygons of a file that the user has, such as RESOLVE Ecoregions 2017 (Dinerstein et al.
2017, doi 10.1093/biosci/bix014) or WWF TEOW (Olson et al. 2001)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from sar1m.config import BalanceConfig
from sar1m.core.sphere import TURNS_DEG
from sar1m.sources.regions.polygon_file import read_named_polygons
from sar1m.store.errors import ConfigError, RegionError


@dataclass(frozen=True, kw_only=True, eq=False)
class Ecoregions:
    """Polygons in lon/lat degrees, (n,), by name. digest: blake2b-128 of outlines and names."""

    outlines: npt.NDArray[np.object_]
    names: tuple[str, ...]
    digest: str

    def at(self, lon: npt.ArrayLike, lat: npt.ArrayLike) -> list[str | None]:
        """Name of the polygon that holds each point in degrees, arrays (n,); None outside all of them. A point in
        several goes to the first name of the alphabet."""
        x, y = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        tree = shapely.STRtree(shapely.envelope(self.outlines))
        found = np.full(x.size, len(self.names), dtype=np.int64)
        for turn in TURNS_DEG:
            point, outline = tree.query(shapely.points(x + turn, y))
            order = np.argsort(outline, kind="stable")
            for near, number in _runs(point[order], outline[order]):
                inside = near[shapely.intersects_xy(self.outlines[number], x[near] + turn, y[near])]
                found[inside] = np.minimum(found[inside], number)
        names = [*self.names, None]
        return [names[number] for number in found]


def open_ecoregions(balance: BalanceConfig) -> Ecoregions | None:
    """The polygons of balance.ecoregions, read once a process while the file stays as it is; None without a file.

    Raises RegionError where the file or its attribute cannot be used, ConfigError where a share is to hold that needs
    a file.
    """
    if balance.ecoregions is None:
        if balance.max_ecoregion_share < 1:
            raise ConfigError(
                f"balance.max_ecoregion_share = {balance.max_ecoregion_share:g}: no ecoregions are known. Set "
                "balance.ecoregions to a file of them, such as RESOLVE Ecoregions 2017, or remove the share."
            )
        return None
    path = Path(balance.ecoregions)
    try:
        state = path.stat()
    except OSError as error:
        raise RegionError(f"balance.ecoregions: {path}: {error.strerror}. Give a file of polygons.") from error
    return _read(path, balance.ecoregion_name, (state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=1)
def _read(path: Path, attribute: str, _state: tuple[int, int]) -> Ecoregions:
    polygons, names = read_named_polygons(path, attribute)
    named = [(name, polygon) for name, polygon in zip(names, polygons, strict=True) if name is not None]
    if not named:
        raise RegionError(f"{path}: {attribute!r} is empty for every polygon. Set balance.ecoregion_name to the names.")
    named.sort(key=lambda one: one[0])
    outlines = np.empty(len(named), dtype=object)
    outlines[:] = [polygon for _, polygon in named]
    shapely.prepare(outlines)
    digest = hashlib.blake2b(digest_size=16)
    for (name, _), content in zip(named, shapely.to_wkb(outlines), strict=True):
        digest.update(name.encode() + b"\0" + content)
    return Ecoregions(outlines=outlines, names=tuple(name for name, _ in named), digest=digest.hexdigest())


def _runs(points: npt.NDArray[np.int64], outlines: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], int]]:
    """For each outline in order: the points near it, and its number."""
    numbers, first = np.unique(outlines, return_index=True)
    return list(zip(np.split(points, first[1:]), numbers.tolist(), strict=True)) if numbers.size else []
