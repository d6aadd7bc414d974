"""A SAFE product made ready: with the orbit that is to be used, and checked against itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.radar.orbit import check_orbit
from sar1m.core.radar.product import GEOLOCATION_GRID, GrdGeometry, GrdProduct
from sar1m.core.radar.range_doppler import image_coordinates
from sar1m.io.safe.archive import open_archive
from sar1m.io.safe.orbit_file import read_orbit
from sar1m.io.safe.product import read_product
from sar1m.store.errors import SourceError

# The worst of real products (IPF 2.36) is 0.3 lines and, in the median, 1.5 samples off its own tie points; the orbit
# of another day or satellite is thousands off.
MAX_LINES_OFF: Final = 3.0
MAX_SAMPLES_OFF: Final = 10.0


def open_product(path: Path, orbit_file: Path | None) -> GrdProduct:
    """A product with the state vectors of an orbit file where there is one.

    Raises SourceError where the product or the orbit file is damaged, the orbit does not span the scene, or it does not
    put the annotation's own tie points where the annotation has them.
    """
    product = read_product(path)
    geometry = product.geometry
    if orbit_file is not None:
        geometry = replace(geometry, orbit=read_orbit(orbit_file, product.start, product.stop, geometry.epoch))
    check_orbit(geometry.orbit, 0.0, (geometry.lines - 1) * geometry.line_interval_s, str(path))
    _require_own_grid(geometry, path, orbit_file)
    return replace(product, geometry=geometry)


def _require_own_grid(geometry: GrdGeometry, path: Path, orbit_file: Path | None) -> None:
    grid = geometry.grid
    found = image_coordinates(geometry, ecef_from_geodetic(grid.lon, grid.lat, grid.height_m), GEOLOCATION_GRID)
    lines_off = float(np.nanmedian(np.abs(found.line - grid.line)))
    samples_off = float(np.nanmedian(np.abs(found.sample - grid.sample)))
    if not (lines_off <= MAX_LINES_OFF and samples_off <= MAX_SAMPLES_OFF):
        orbit = "its own state vectors" if orbit_file is None else f"the orbit of {orbit_file}"
        remedy = "Fetch the product again." if orbit_file is None else "Take the orbit file of this satellite and day."
        raise SourceError(
            f"{path}: {orbit} puts the annotation's tie points {lines_off:.1f} lines and {samples_off:.1f} samples "
            f"from their stated positions; at most {MAX_LINES_OFF:g} and {MAX_SAMPLES_OFF:g} are plausible. {remedy}"
        )


def require_measurements(path: Path, product: GrdProduct, polarisations: tuple[str, ...]) -> None:
    """Raises SourceError where the image of a polarisation is missing or empty. Checked once here, instead of failing
    at every block."""
    with open_archive(path) as archive:
        for channel in product.channels:
            if channel.polarisation in polarisations and not archive.member(channel.measurement).size:
                raise SourceError(
                    f"{archive.label(channel.measurement)}: is empty (0 bytes). Fetch the product again, or take it "
                    "out of the folder."
                )
