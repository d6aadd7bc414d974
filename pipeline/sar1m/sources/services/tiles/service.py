"""The service tiles: high-resolution pictures that the user may use, from an address of tiles in Web Mercator.

What is known of such pictures is little: no date, so that no time to the SAR scene can be checked; no clouds; no unit,
so that they are display brightness, 0..255. Flags say so. Their licence is the user's: unless the configuration says
otherwise they are recipe-only, and their pixels never enter a release.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from PIL import Image

from sar1m.config import AreaConfig, BuildConfig
from sar1m.core.utm import lonlat_from_utm
from sar1m.core.web_mercator import extent_px, ground_resolution_m, picture_positions, resample_picture, zoom_for
from sar1m.io.net.faults import StatusError
from sar1m.io.net.fetch import Fetcher
from sar1m.records import F32, U8, Bool, RasterGrid
from sar1m.sources.pixels import OpticalPixels, SarPixels
from sar1m.sources.scene import UNDATED, Asset, Kind, Price, Query, Scene
from sar1m.sources.services.tiles.template import (
    EXAMPLE,
    KEY_VARIABLE,
    TileTemplate,
    parse_template,
    require_terms,
    with_key,
)
from sar1m.store.errors import ConfigError, Sar1mError, SourceError

BANDS: Final = ("B04", "B03", "B02")
UNDATED_OPTICAL: Final = "undated_optical"  # flag: nobody knows how far in time the partner lies
TILES_MISSING: Final = "tiles_missing"  # flag: the service has no picture of a part of the block
UPSAMPLED: Final = "upsampled_optical"  # flag: the service's finest pictures are coarser than the grid
LUMINANCE: Final = (0.2126, 0.7152, 0.0722)  # of red, green, blue: ITU-R BT.709

_NO_TILE: Final = (404, 410)
_TYPES: Final = ("image/png", "image/jpeg", "image/webp")
_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_MODES: Final = frozenset({"L", "LA", "P", "PA", "RGB", "RGBA"})
_MAX_TILE_BYTES: Final = 2 * 2**20  # 512 x 512 px with transparency, not compressed, are 1 MiB
_MAX_TILES: Final = 1024  # of a block: 11 km at 1 m a pixel
_TYPICAL_BYTES: Final = 40_000  # of a tile of 256 px, between a JPEG (20 kB) and a PNG (100 kB) of land; an assumption


@dataclass(frozen=True, kw_only=True)
class _Cover:
    """The tiles that a block needs: zoom, and first and last row and column, both included."""

    zoom: int
    first_row: int
    first_col: int
    last_row: int
    last_col: int

    @property
    def count(self) -> int:
        return (self.last_row - self.first_row + 1) * (self.last_col - self.first_col + 1)


@dataclass(frozen=True, kw_only=True)
class TilesService:
    """Tiles of one address. open_tiles makes it."""

    fetcher: Fetcher
    template: TileTemplate
    licence: str

    @property
    def name(self) -> str:
        return "tiles"

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset({"optical"})

    @property
    def scene_id(self) -> str:
        """`tiles-` and a digest of the address without its key."""
        return f"tiles-{self.template.digest}"

    def search(self, query: Query) -> Iterator[Scene]:
        """One scene for any place and time: its footprint is the box that is asked for, its time UNDATED.

        Raises ConfigError where the terms of these tiles forbid what a build does.
        """
        if query.kind != "optical":
            return
        require_terms(self.template, self.licence)
        west, south, east, north = query.box
        yield Scene(
            scene_id=self.scene_id,
            service=self.name,
            kind="optical",
            acquired=UNDATED,
            footprint=((west, south), (east, south), (east, north), (west, north), (west, south)),
            assets=(Asset(name="tiles", href=self.template.address),),
            licence=self.licence,
            provider=self.template.host,
            processing="Web Mercator tiles, display brightness",
            optical_quantity="display",
        )

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:  # noqa: ARG002  part of Service
        """One request a tile, each of a typical size."""
        tiles = _cover(self.template, grid).count
        return Price(requests=tiles, bytes=tiles * _TYPICAL_BYTES * (self.template.tile_px / 256) ** 2)

    def read_sar(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> SarPixels:  # noqa: ARG002
        """Raises SourceError: there is no radar here."""
        raise SourceError(f"{scene.scene_id}: tiles are optical pictures. Set area.sar to a service of Sentinel-1.")

    def read_optical(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        """Display brightness 0..255 of the bands asked for. Registration uses their luminance.

        NaN where a tile is missing (the service answers 404 or 410), where it is transparent or of the stated nodata
        colour, and beside such pixels. Raises SourceError where other bands than red, green and blue are wanted, the
        scene is of another address, or a tile is not as the address says; ConfigError where terms forbid it.
        """
        bands = config.pixels.optical_bands
        if not set(bands) <= set(BANDS):
            raise SourceError(f"{scene.scene_id}: tiles have {', '.join(BANDS)}. Set pixels.optical_bands to these.")
        if scene.scene_id != self.scene_id:
            raise SourceError(f"{scene.scene_id}: planned with another area.tiles_url. Plan the build again.")
        require_terms(self.template, self.licence)
        colours, flags = self._colours(grid)
        return OpticalPixels(
            optical=colours[[BANDS.index(band) for band in bands]],
            registration_optical=np.tensordot(np.asarray(LUMINANCE, np.float32), colours, axes=1)[None],
            flags=frozenset(flags | {UNDATED_OPTICAL}),
        )

    def usable(self) -> tuple[bool, str]:
        """Whether the key is there, where the address needs one, and the terms are accepted, where known terms forbid
        such use."""
        try:
            require_terms(self.template, self.licence)
        except ConfigError as error:
            return False, str(error)
        if self.template.needs_key and not os.environ.get(KEY_VARIABLE):
            return False, f"{self.template.host}: set {KEY_VARIABLE}, which the address has a place for"
        credential = f"key from {KEY_VARIABLE}" if self.template.needs_key else "no key"
        return True, f"{self.template.host} with {credential}; licence {self.licence}"

    def _colours(self, grid: RasterGrid) -> tuple[F32, set[str]]:
        """Red, green and blue (3, rows, cols) on the grid, and flags."""
        cover, side = _cover(self.template, grid), self.template.tile_px
        if cover.count > _MAX_TILES:
            raise SourceError(
                f"{self.scene_id}: a block needs {cover.count} tiles at zoom {cover.zoom}; at most {_MAX_TILES} are "
                "asked for. Set a smaller grid.patches_per_side or patch_px, or a max_zoom after # in area.tiles_url."
            )
        rows, cols = picture_positions(grid, cover.zoom, side)
        picture, valid, missing = self._mosaic(cover)
        width_px = grid.gsd_m / ground_resolution_m(_middle_lat_deg(grid), cover.zoom, side)
        rows -= cover.first_row * side
        cols -= cover.first_col * side
        flags = {TILES_MISSING} if missing else set()
        if ground_resolution_m(_least_lat_deg(grid), cover.zoom, side) > grid.gsd_m * (1 + 1e-6):
            flags.add(UPSAMPLED)
        return resample_picture(picture, valid, rows, cols, width_px), flags

    def _mosaic(self, cover: _Cover) -> tuple[U8, Bool, int]:
        """Colours (H, W, 3), where there are colours (H, W), and the number of missing tiles."""
        side = self.template.tile_px
        shape = ((cover.last_row - cover.first_row + 1) * side, (cover.last_col - cover.first_col + 1) * side)
        picture, valid, missing = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.bool_), 0
        for row, col in product(range(cover.first_row, cover.last_row + 1), range(cover.first_col, cover.last_col + 1)):
            rgba = self._tile(cover.zoom, row, col)
            if rgba is None:
                missing += 1
                continue
            place = (
                slice((row - cover.first_row) * side, (row - cover.first_row + 1) * side),
                slice((col - cover.first_col) * side, (col - cover.first_col + 1) * side),
            )
            picture[place] = rgba[..., :3]
            valid[place] = self._is_picture(rgba)
        return picture, valid, missing

    def _is_picture(self, rgba: U8) -> Bool:
        """Where tiles show a picture. Half transparent pixels show none: nobody knows what would shine through."""
        opaque: Bool = rgba[..., 3] == 255
        if self.template.nodata_rgb is None:
            return opaque
        blank: Bool = (rgba[..., :3] == np.asarray(self.template.nodata_rgb, np.uint8)).all(axis=-1)
        return opaque & ~blank

    def _tile(self, zoom: int, row: int, col: int) -> U8 | None:
        """A tile (side, side, 4), None where the service has none. Columns may run beyond the antimeridian, rows
        beyond the end of the picture at 85 degrees."""
        if not 0 <= row < 2**zoom:
            return None
        col %= 2**zoom
        try:
            answer = self.fetcher.request(
                "GET",
                self.template.url(zoom, row, col),
                auth=with_key if self.template.needs_key else None,
                expect=_TYPES,
                max_bytes=_MAX_TILE_BYTES,
            )
        except StatusError as error:
            if error.status in _NO_TILE:
                return None
            raise
        return decode_tile(answer.content, self.template.tile_px, f"{self.scene_id} tile {zoom}/{col}/{row}")


def open_tiles(area: AreaConfig, fetcher: Fetcher) -> TilesService:
    """The service of area.tiles_url. Raises ConfigError where that is missing, is no address of tiles, or holds a
    secret."""
    if area.tiles_url is None:
        raise ConfigError(f"area.tiles_url is not set. Give the address of your tiles, such as {EXAMPLE}.")
    return TilesService(fetcher=fetcher, template=parse_template(area.tiles_url), licence=area.tiles_licence)


def decode_tile(content: bytes, tile_px: int, item: str) -> U8:
    """Red, green, blue and opacity (tile_px, tile_px, 4) of a PNG, JPEG or WebP picture; grey becomes three equal
    colours. item names the tile in errors.

    Raises SourceError where it is none of these, damaged, of another size (seen in its header, before any pixel is
    decoded) or of more than 8 bits a colour.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            _require_size(picture, tile_px, item)
            return np.asarray(picture.convert("RGBA"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SourceError(f"{item}: a picture of many thousand px a side; expected {tile_px}. Not decoded.") from None
    except Sar1mError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's answers to damaged files
        raise SourceError(
            f"{item}: cannot be decoded ({type(error).__name__}); expected a whole PNG, JPEG or WebP picture. Try "
            "again later, or see what the address gives in a browser."
        ) from error


def _require_size(picture: Image.Image, tile_px: int, item: str) -> None:
    if picture.size in ((256, 256), (512, 512)) and picture.size[0] != tile_px:
        found = picture.size[0]
        raise SourceError(f"{item}: is {found} px a side, not {tile_px}. Put #tile_px={found} behind area.tiles_url.")
    if picture.size != (tile_px, tile_px):
        raise SourceError(f"{item}: is {picture.size[0]} x {picture.size[1]} px; expected {tile_px} x {tile_px}.")
    if picture.mode not in _MODES:
        raise SourceError(f"{item}: stores pixels as {picture.mode}; expected 8 bits of grey or red, green and blue.")


def _cover(template: TileTemplate, grid: RasterGrid) -> _Cover:
    """The tiles that resampling onto a grid may touch."""
    zoom = zoom_for(grid.gsd_m, _least_lat_deg(grid), template.tile_px, template.max_zoom)
    edges = [
        grid.window(0, 0, 1, grid.cols),
        grid.window(grid.rows - 1, 0, 1, grid.cols),
        grid.window(0, 0, grid.rows, 1),
        grid.window(0, grid.cols - 1, grid.rows, 1),
    ]
    positions = [picture_positions(edge, zoom, template.tile_px) for edge in edges]
    first_row, last_row = extent_px(np.concatenate([rows.ravel() for rows, _ in positions]))
    first_col, last_col = extent_px(np.concatenate([cols.ravel() for _, cols in positions]))
    return _Cover(
        zoom=zoom,
        first_row=first_row // template.tile_px,
        first_col=first_col // template.tile_px,
        last_row=last_row // template.tile_px,
        last_col=last_col // template.tile_px,
    )


def _corner_lats_deg(grid: RasterGrid) -> list[float]:
    left, bottom, right, top = grid.bounds_m
    _, lat = lonlat_from_utm([left, right, left, right], [bottom, bottom, top, top], grid.epsg)
    return [float(value) for value in lat]


def _middle_lat_deg(grid: RasterGrid) -> float:
    return math.fsum(_corner_lats_deg(grid)) / 4


def _least_lat_deg(grid: RasterGrid) -> float:
    """The latitude on the grid that is nearest to the equator: there pictures are coarsest."""
    lats = _corner_lats_deg(grid)
    return 0.0 if min(lats) < 0 < max(lats) else min(map(abs, lats))
