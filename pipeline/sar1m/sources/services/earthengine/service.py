"""Google Earth Engine: SAR and optical pixels computed on a block's own grid, one request a block and kind.

SAR is COPERNICUS/S1_GRD_FLOAT: sigma nought in linear power, thermal and border noise removed, terrain corrected, not
flattened. Optical is COPERNICUS/S2_SR_HARMONIZED, whose radiometric offset is already applied, with the clouds of
GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED where it has the scene, else those of the scene classification.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sar1m.config import BuildConfig
from sar1m.io.net.fetch import Fetcher
from sar1m.records import RasterGrid
from sar1m.sources.pixels import OpticalPixels, SarPixels
from sar1m.sources.scene import Kind, Price, Query, Scene
from sar1m.sources.services.earthengine import collections as catalogue
from sar1m.sources.services.earthengine import images
from sar1m.sources.services.earthengine.session import (
    HIGH_VOLUME_URL,
    INSTALL,
    Session,
    check_endpoint,
    find_account,
    is_installed,
    open_session,
)
from sar1m.store.errors import SourceError

URL_VARIABLE: Final = "SAR1M_EARTHENGINE_URL"
# Assumption, not a measurement: Google publishes no figure, and what a request costs varies with its caches. Profiles
# of small reductions over one image show 0.2 to 1 EECU-second; Google's monitoring shows the true sum of a build under
# the workload tag sar1m. Replace it by that sum over the megapixels and layers built.
EECU_S_PER_LAYER_MPX: Final = 1.0
EECU_S_PER_SEARCH: Final = 1.0  # likewise assumed, of one page of scenes


@dataclass(frozen=True, kw_only=True)
class EarthEngineService:
    """Earth Engine as a service.

    endpoint: the high-volume one unless SAR1M_EARTHENGINE_URL names another. Account and project come from the
    environment or from ee's own store, on the worker that reads.
    """

    fetcher: Fetcher
    endpoint: str | None = None
    name: str = catalogue.NAME
    kinds: frozenset[Kind] = frozenset(("sar", "optical"))

    def search(self, query: Query) -> Iterator[Scene]:
        """Scenes in the order of acquisition, by one request for 1000 of them. Raises SourceError."""
        session = self._open()
        yield from catalogue.search(query, lambda build: session.value(build, EECU_S_PER_SEARCH))

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:
        """The price of one block: one request, unless the block is over Earth Engine's limits.

        units: EECU-seconds by the rate assumed above. bytes: as computed, before any compression on the way.
        """
        layout = _layout(scene, config)
        mpx = grid.rows * grid.cols / 1e6
        return Price(
            requests=len(images.strips(grid, layout.itemsize)),
            bytes=grid.rows * grid.cols * layout.itemsize,
            units=EECU_S_PER_LAYER_MPX * len(layout.names or ()) * mpx,
        )

    def read_sar(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> SarPixels:
        """Sigma nought in linear power, never flattened. Raises SourceError."""
        polarisations = images.sar_polarisations(scene, config)
        asset_id = scene.asset("image").href
        pixels = self._pixels(scene, grid, config, lambda ee: images.sar_image(ee, asset_id, polarisations))
        return images.sar_side(pixels, polarisations)

    def read_optical(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        """Reflectance with masks. Raises SourceError."""
        bands = images.optical_bands(config)
        pixels = self._pixels(scene, grid, config, lambda ee: images.optical_image(ee, scene, bands))
        return images.optical_side(pixels, config)

    def usable(self) -> tuple[bool, str]:
        """Whether client and account are there, and one line that says with what, or what to do."""
        if not is_installed():
            return False, f"its client library is not installed: {INSTALL}"
        try:
            check_endpoint(self._endpoint)
            return True, f"with {find_account().shown}"
        except SourceError as error:
            return False, str(error).removeprefix("earthengine: ")

    @property
    def _endpoint(self) -> str:
        return self.endpoint or os.environ.get(URL_VARIABLE) or HIGH_VOLUME_URL

    def _open(self) -> Session:
        return open_session(self.fetcher.settings, self._endpoint)

    def _pixels(
        self, scene: Scene, grid: RasterGrid, config: BuildConfig, build: Callable[[ModuleType], Any]
    ) -> npt.NDArray[Any]:
        """Structured array (rows, cols) of the image that build makes, on the grid."""
        layout = _layout(scene, config)
        parts = images.strips(grid, layout.itemsize)
        units = self.price(scene, grid, config).units / len(parts)
        session = self._open()
        pieces = []
        for part in parts:
            content = session.pixels(build, images.grid_message(part), units)
            pieces.append(images.parse_npy(content, layout, (part.rows, part.cols), scene.scene_id))
        return np.concatenate(pieces)


def _layout(scene: Scene, config: BuildConfig) -> np.dtype[Any]:
    if scene.kind == "sar":
        return images.sar_layout(images.sar_polarisations(scene, config))
    scored = images.cloud_score_asset(scene) is not None
    return images.optical_layout(images.optical_bands(config), cloud_score=scored)
