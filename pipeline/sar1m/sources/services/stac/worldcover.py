"""Land cover under a block: ESA WorldCover 2021 (v200) from Planetary Computer, whatever services its scenes are of.

Source: ESA WorldCover Product User Manual v2.0: classes and colours, tiles of 3 x 3 degrees named by their south-west
corner, 1/12000 degree a pixel, EPSG:4326.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import product
from typing import Final

import numpy as np

from sar1m.core.grid import bounds_lonlat
from sar1m.io.net.fetch import Fetcher
from sar1m.io.raster_open import RangedTiff
from sar1m.records import RasterGrid
from sar1m.sources.class_tables import WORLDCOVER
from sar1m.sources.layers import BandFile, ClassLayer
from sar1m.sources.pixels import OpticalPixels
from sar1m.sources.read_layers import BandReader, read_optical
from sar1m.sources.scene import Price
from sar1m.sources.services.stac.cog import CogShape, price_raster, with_fresh_token
from sar1m.sources.services.stac.item_search import ItemQuestion, StacApi
from sar1m.sources.services.stac.items import ItemRule, checked_href
from sar1m.sources.services.stac.signing import SasAuth
from sar1m.store.errors import SourceError

COLLECTION: Final = "esa-worldcover"
HOST: Final = "ai4edataeuwest.blob.core.windows.net"
NO_LAND_COVER: Final = "no_land_cover"  # flag: open sea, or a block on the antimeridian
TILE_DEG: Final = 3
# Tiles of 1024 px as published; 0.15 bytes a pixel as measured on other class rasters (cog.CLASSES): an assumption.
SHAPE: Final = CogShape(tile_px=1024, gsd_m=9.3, bytes_per_px=0.15)
_YEAR: Final = (datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 12, 31, tzinfo=UTC))


@dataclass(frozen=True, kw_only=True)
class WorldCover:
    """Reads land cover. api_url: of the STAC API; rule: of its items."""

    fetcher: Fetcher
    api_url: str
    rule: ItemRule

    def read(self, grid: RasterGrid) -> OpticalPixels:
        """Land cover on a grid: class numbers, 0 where there are none, their names, and water. No picture.

        Where there is no tile (open sea), and across the antimeridian, there is no land cover, and a flag says so.
        Raises SourceError where the catalogue fails or a raster is damaged.
        """
        hrefs = [href for tile in tiles_under(grid) if (href := _href(self, *tile)) is not None]
        if not hrefs:
            return OpticalPixels(flags=frozenset({NO_LAND_COVER}))
        sign = SasAuth(fetcher=self.fetcher)
        reader = BandReader(grid, lambda band: self._raster(band, sign), self.rule.service)
        classes = np.zeros((grid.rows, grid.cols), np.uint8)
        for href in hrefs:
            band = BandFile(name="map", path=href, number=1)
            layer = ClassLayer(kind="land_cover", band=band, names=WORLDCOVER.names)
            part = with_fresh_token(sign, partial(read_optical, reader, None, (layer,), ()))
            if part.land_cover is not None:
                np.copyto(classes, part.land_cover, where=classes == 0)
        return OpticalPixels(
            land_cover=classes,
            land_cover_names=WORLDCOVER.names,
            water=np.isin(classes, tuple(WORLDCOVER.water)),
            flags=frozenset(reader.flags),
        )

    def price(self, grid: RasterGrid) -> Price:
        """The price of one block inside one tile. The search for a tile, once a process, is not counted."""
        return price_raster(SHAPE, grid)

    def _raster(self, band: BandFile, sign: SasAuth) -> RangedTiff:
        return RangedTiff(name=band.path, open=lambda: self.fetcher.ranged(band.path, auth=sign))


def tiles_under(grid: RasterGrid) -> Iterator[tuple[int, int]]:
    """South-west corners (latitude, longitude in degrees) of the tiles that a grid meets.

    None for a grid across the antimeridian: its columns would be looked for around the world.
    """
    west, south, east, north = bounds_lonlat([grid])[0].tolist()
    if west > east:
        return
    rows, cols = (
        range(int(low // TILE_DEG) * TILE_DEG, int(np.ceil(high)), TILE_DEG)
        for low, high in ((south, north), (west, east))
    )
    yield from product(rows, cols)


def tile_id(south: int, west: int) -> str:
    """The id of the item of a tile."""
    place = f"{'N' if south >= 0 else 'S'}{abs(south):02d}{'E' if west >= 0 else 'W'}{abs(west):03d}"
    return f"ESA_WorldCover_10m_2021_v200_{place}"


@lru_cache(maxsize=256)
def _href(cover: WorldCover, south: int, west: int) -> str | None:
    """Address of a tile's raster, None where there is no land."""
    wanted, service = tile_id(south, west), cover.rule.service
    question = ItemQuestion(
        collections=(COLLECTION,),
        box=(west + 1.0, south + 1.0, west + 2.0, south + 2.0),
        first=_YEAR[0],
        last=_YEAR[1],
        filters={},
    )
    for item in StacApi(cover.fetcher, cover.api_url, service).items(question):
        if isinstance(item, dict) and item.get("id") == wanted:
            assets = item.get("assets")
            about = assets.get("map") if isinstance(assets, dict) else None
            if not isinstance(about, dict):
                raise SourceError(f"{service} {wanted}: has no asset named map. The catalogue's answer is not used.")
            return checked_href(about.get("href"), cover.rule, f"{service} {wanted}")
    return None
