"""A block's pixels from cloud-optimised GeoTIFFs at addresses: only the tiles under the block are fetched.

Where a raster lies is read from its own header; `proj:transform` of items can be out of date (Planetary Computer's
issue 417). Full resolution only: overviews are never read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sar1m.config import BuildConfig
from sar1m.io.net.fetch import Fetcher, StatusError
from sar1m.io.net.ranged import BLOCK_BYTES
from sar1m.io.raster_open import RangedTiff
from sar1m.records import RasterGrid
from sar1m.sources.item_words import sar_unit
from sar1m.sources.layers import REFLECTANCE_PER_DN, BandFile, ClassLayer, OpticalLayer, SarLayer
from sar1m.sources.pixels import REGISTRATION_BANDS, SWIR_BAND, OpticalPixels, SarPixels
from sar1m.sources.read_layers import BandReader, read_optical, read_sar
from sar1m.sources.scene import ASSET_WORDS, Price, Scene
from sar1m.sources.services.stac.signing import SasAuth, forget_tokens
from sar1m.store.errors import SourceError

_REFUSED: Final = (401, 403)
_Pixels = TypeVar("_Pixels")


@dataclass(frozen=True, kw_only=True)
class CogReader:
    """Reads blocks of one scene. sign: signs addresses, None where the service needs no signature."""

    fetcher: Fetcher
    scene: Scene
    sign: SasAuth | None = None

    def sar(self, grid: RasterGrid, config: BuildConfig) -> SarPixels:
        """Linear power of config.area.polarisations, in their order, NaN where the file holds 0 or nothing. The noise
        floor is the usual one: a terrain-corrected product states neither noise nor angle.

        Raises SourceError where a polarisation, file or tile is missing or damaged, or the numbers contradict the unit
        that the item states (linear power where it states none).
        """
        scene = self.scene
        if scene.sar_quantity is None:
            raise SourceError(f"{scene.service} {scene.scene_id}: is no SAR scene.")
        bands = tuple(self._band(name) for name in config.area.polarisations)
        unit = sar_unit(bands[0].unit, f"{scene.service} {scene.scene_id}")
        layer = SarLayer(product_id=scene.scene_id, bands=bands, unit=unit, quantity=scene.sar_quantity)
        reader = BandReader(grid, self._raster, f"{scene.service} {scene.scene_id}")
        return with_fresh_token(self.sign, lambda: read_sar(reader, layer))

    def optical(self, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        """Reflectance of config.pixels.optical_bands and of those to register with; clouds and snow of the scene
        classification. Only without one B11 is read too, for the brightness test.

        Raises SourceError where a band, file or tile is missing or damaged.
        """
        scene, wanted = self.scene, config.pixels.optical_bands
        if scene.offset_dn is None:
            raise SourceError(f"{scene.service} {scene.scene_id}: states no radiometric offset; its DN cannot be used.")
        layer = OpticalLayer(
            product_id=scene.scene_id,
            bands=tuple(
                self._dn_band(name, scene.offset_dn) for name in optical_assets(scene, wanted) if name != "SCL"
            ),
            unit="dn",
            offset_applied=scene.offset_dn,
        )
        classes = (ClassLayer(kind="scl", band=self._band("SCL")),) if _has(scene, "SCL") else ()
        reader = BandReader(grid, self._raster, f"{scene.service} {scene.scene_id}")
        return with_fresh_token(self.sign, lambda: read_optical(reader, layer, classes, wanted))

    def _band(self, name: str) -> BandFile:
        asset = self.scene.asset(name)
        words = {word: getattr(asset, word) for word in ASSET_WORDS}
        return BandFile(name=name, path=asset.href, number=1, **words)

    def _dn_band(self, name: str, offset_dn: int) -> BandFile:
        band = self._band(name)
        scale = band.scale or REFLECTANCE_PER_DN
        return replace(band, scale=scale, offset=offset_dn * scale)

    def _raster(self, band: BandFile) -> RangedTiff:
        return RangedTiff(name=band.path, open=lambda: self.fetcher.ranged(band.path, auth=self.sign))


def with_fresh_token(sign: SasAuth | None, read: Callable[[], _Pixels]) -> _Pixels:
    """Reads; once more with a new token where a store refuses a token before its time (clocks differ, tokens are
    withdrawn)."""
    try:
        return read()
    except StatusError as refusal:
        if sign is None or refusal.status not in _REFUSED:
            raise
        forget_tokens()
        return read()


def optical_assets(scene: Scene, bands: tuple[str, ...]) -> tuple[str, ...]:
    """Assets that a block needs: the bands asked for, those to register with, and the classification or else B11."""
    optional = (*REGISTRATION_BANDS, "SCL" if _has(scene, "SCL") else SWIR_BAND)
    return tuple(dict.fromkeys((*bands, *(name for name in optional if _has(scene, name)))))


def _has(scene: Scene, name: str) -> bool:
    return any(asset.name == name for asset in scene.assets)


@dataclass(frozen=True, kw_only=True)
class CogShape:
    """What a raster is assumed to be before it is opened. bytes_per_px: compressed, at full resolution."""

    tile_px: int
    gsd_m: float
    bytes_per_px: float


# Planetary Computer's RTC: a recorded item of 2.06 GB a polarisation covers 479 million pixels by its footprint, and a
# quarter of a COG are its overviews: 3.2 bytes a pixel, 0.84 MB a tile of 512 px. Sentinel-2, measured on three real
# chips under deflate with a predictor: 1.36-1.53 bytes a pixel at 10 m, 1.9-2.2 at 20 m, under 0.15 for classes. Tiles:
# as the services publish their COGs; a raster's own are seen only when it is opened.
RTC: Final = CogShape(tile_px=512, gsd_m=10.0, bytes_per_px=3.2)
TEN_METRES: Final = CogShape(tile_px=512, gsd_m=10.0, bytes_per_px=1.4)
TWENTY_METRES: Final = CogShape(tile_px=512, gsd_m=20.0, bytes_per_px=2.1)
CLASSES: Final = CogShape(tile_px=512, gsd_m=20.0, bytes_per_px=0.15)
ELEMENT84_TILE_PX: Final = 1024


def price_windows(scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:
    """Requests and bytes of one block.

    For each asset: its header (the first BLOCK_BYTES) and the tiles that a block meets on average, one request a tile.
    With every row of tiles BLOCK_BYTES more are fetched. Retries, and what the cache already holds, are not counted.
    """
    names = config.area.polarisations if scene.kind == "sar" else optical_assets(scene, config.pixels.optical_bands)
    total = Price(requests=0.0, bytes=0.0)
    for name in names:
        total += price_raster(assumed_shape(scene, name), grid)
    return total


def price_raster(shape: CogShape, grid: RasterGrid) -> Price:
    """Requests and bytes of one block of one raster, as in price_windows."""
    down, across = (_tiles_met(pixels * grid.gsd_m, shape) for pixels in (grid.rows, grid.cols))
    content = down * across * shape.tile_px**2 * shape.bytes_per_px
    return Price(requests=1 + down * across, bytes=content + BLOCK_BYTES * (1 + down))


def assumed_shape(scene: Scene, asset: str) -> CogShape:
    """The assumed shape of an asset, by its kind and service."""
    if scene.kind == "sar":
        return RTC
    shape = TEN_METRES if asset in REGISTRATION_BANDS else CLASSES if asset == "SCL" else TWENTY_METRES
    tile_px = ELEMENT84_TILE_PX if scene.service == "earth-search" else shape.tile_px
    return CogShape(tile_px=tile_px, gsd_m=shape.gsd_m, bytes_per_px=shape.bytes_per_px)


def _tiles_met(length_m: float, shape: CogShape) -> float:
    """Average number of tiles that a stretch meets along one side, over all places where it may begin."""
    return (math.ceil(length_m / shape.gsd_m) - 1) / shape.tile_px + 1
