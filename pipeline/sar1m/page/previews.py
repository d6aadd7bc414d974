"""Small pictures of samples. All pictures of a store have the same stretch, so that they can be compared."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import zarr
from PIL import Image
from zarr.storage import ObjectStore

from sar1m.core.resample import block_mean
from sar1m.records import F32, U8, Bool
from sar1m.store.errors import StoreError
from sar1m.store.places.failures import asked_again, naming_failures
from sar1m.store.places.place import Place
from sar1m.store.places.remote import RemotePlace
from sar1m.store.schema import DATA_DIR, DISPLAY_WHITE_REFLECTANCE

PREVIEW_PX = 256  # longest side
COLOURS = 128  # of a picture's palette: speckle does not compress, and 128 colours look the same at a third of the size
FALLBACK_SAR_DB = (-25.0, 0.0)  # where the training split has no statistics
SAR_SPAN_DB = 14.0  # to both sides of the median: otherwise the noise floor over water takes most of the range
RATIO_SPAN_DB = 12.0  # to both sides of the median cross-polarisation ratio
FALLBACK_REFLECTANCE = (0.0, DISPLAY_WHITE_REFLECTANCE)
WHITE_OVER_MEDIAN = 2.0
REFLECTANCE_GAMMA = 1.6  # lifts forest and water, which are dark beside a bare field
RGB_BANDS = ("B04", "B03", "B02")

Limits = tuple[float, float]


class Rendering(NamedTuple):
    """colours: (H, W, 3). valid: (H, W), where there are data."""

    colours: U8
    valid: Bool


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The values shown as black and as white.

    sar_db: by polarisation. ratio_db: first over second polarisation; None with one polarisation.
    optical: the same for all bands, which keeps their balance. gamma: optical shares are raised to 1 / gamma.
    """

    sar_db: tuple[Limits, ...]
    ratio_db: Limits | None
    optical: Limits
    gamma: float


@dataclass(frozen=True, kw_only=True)
class Preview:
    """PNG data URIs; optical None where the sample is unpaired."""

    sar: str
    optical: str | None

    @property
    def size(self) -> int:
        """Characters in the page."""
        return len(self.sar) + len(self.optical or "")


def release_stretch(normalisation: Mapping[str, Any], summary: Mapping[str, Any]) -> Stretch:
    """2nd to 98th percentile of the training split, SAR within 14 dB of its median.

    White is at most reflectance 0.3, or twice the median where that is more: some snow or cloud does not darken the
    land, and snow alone is not all white.

    Display pictures are stretched already and stay as they are.
    """
    sar = normalisation.get("sar", {})
    limits = tuple(_sar_limits(sar.get(pol, {})) for pol in summary["polarisations"])
    medians = [sar.get(pol, {}).get("p50_db") for pol in summary["polarisations"][:2]]
    ratio = None
    if len(limits) > 1:
        middle = 7.0 if None in medians else medians[0] - medians[1]
        ratio = (middle - RATIO_SPAN_DB, middle + RATIO_SPAN_DB)
    if summary["optical_quantity"] == "display":
        return Stretch(sar_db=limits, ratio_db=ratio, optical=(0.0, 255.0), gamma=1.0)
    bands = normalisation.get("optical", {}).values()
    spans = [_reflectance_limits(band) for band in bands] or [FALLBACK_REFLECTANCE]
    optical = (min(low for low, _ in spans), max(high for _, high in spans))
    return Stretch(sar_db=limits, ratio_db=ratio, optical=optical, gamma=REFLECTANCE_GAMMA)


def stretch_words(stretch: Stretch, polarisations: Sequence[str]) -> str:
    """The stretch as sentences of a caption."""
    low, high = stretch.optical
    optical = f"Optical: {low:.3g} to {high:.3g}"
    optical += f", raised to 1/{stretch.gamma:g}" if stretch.gamma != 1 else ""
    return f"{_sar_words(stretch, polarisations)}. {optical}".replace("-", "−")


def _sar_words(stretch: Stretch, polarisations: Sequence[str]) -> str:
    spans = zip(polarisations, stretch.sar_db, strict=True)
    words = ", ".join(f"{pol} {low:.1f} to {high:.1f} dB" for pol, (low, high) in spans)
    if stretch.ratio_db is None:
        return f"SAR in grey: {words}"
    ratio = f"{polarisations[0]}/{polarisations[1]} {stretch.ratio_db[0]:.1f} to {stretch.ratio_db[1]:.1f} dB"
    return f"SAR in red, green, blue: {words}, {ratio}"


def sar_picture(sar_db: F32, stretch: Stretch) -> Rendering:
    """A picture of (P, H, W) decibels with NaN.

    Two polarisations: the first, the second and their ratio as red, green and blue. One: grey.
    """
    first = _stretched(sar_db[0], stretch.sar_db[0])
    if len(sar_db) < 2 or stretch.ratio_db is None:
        return Rendering(np.dstack([first] * 3), np.isfinite(sar_db[0]))
    second = _stretched(sar_db[1], stretch.sar_db[1])
    ratio = _stretched(sar_db[0] - sar_db[1], stretch.ratio_db)
    return Rendering(np.dstack([first, second, ratio]), np.isfinite(sar_db[0]) & np.isfinite(sar_db[1]))


def optical_picture(optical: F32, bands: Sequence[str], stretch: Stretch) -> Rendering:
    """A picture of (B, H, W) values with NaN.

    Red, green and blue are B04, B03 and B02 by name, else the first three bands, else the first band in grey.
    """
    if set(RGB_BANDS) <= set(bands):
        chosen = [list(bands).index(name) for name in RGB_BANDS]
    else:
        chosen = [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]
    rgb = np.dstack([_stretched(optical[number], stretch.optical, stretch.gamma) for number in chosen])
    valid = [np.isfinite(optical[number]) for number in chosen]
    return Rendering(rgb, valid[0] & valid[1] & valid[2])


def png_data_uri(rgb: U8, valid: Bool) -> str:
    """A PNG of at most 128 colours, transparent where there are no data. rgb (H, W, 3), valid (H, W)."""
    palette_image = Image.fromarray(rgb).quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    numbers = np.array(palette_image)
    palette = (palette_image.getpalette() or [])[: 3 * COLOURS]
    see_through = len(palette) // 3  # the entry after the last colour, or a decoder finds none of that number
    numbers[~valid] = see_through
    image = Image.fromarray(numbers)
    image.putpalette([*palette, 0, 0, 0])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=see_through)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class PreviewReader:
    """Opens the groups of a store once and renders samples of them, at most longest_px high and wide."""

    def __init__(self, store: Place, stretch: Stretch, longest_px: int = PREVIEW_PX) -> None:
        self._store, self._stretch, self._longest_px = store, stretch, longest_px
        self._groups: dict[str, zarr.Group] = {}

    def preview(self, row: Mapping[str, Any]) -> Preview:
        """Pictures of one row of samples.parquet. Raises StoreError where the pixels are missing from the store."""
        sar, optical = self.pictures(row)
        return Preview(sar=png_data_uri(*sar), optical=None if optical is None else png_data_uri(*optical))

    def pictures(self, row: Mapping[str, Any]) -> tuple[Rendering, Rendering | None]:
        """Pictures of SAR and optical, the latter None where unpaired. Raises StoreError where pixels are missing."""
        if not isinstance(self._store, RemotePlace):
            return self._pictures(row)

        def asked() -> tuple[Rendering, Rendering | None]:
            with naming_failures(self._store.location):
                return self._pictures(row)

        return asked_again(asked)

    def _pictures(self, row: Mapping[str, Any]) -> tuple[Rendering, Rendering | None]:
        split = str(row["split"])
        if split not in self._groups:
            self._groups[split] = _open(self._store, split)
        group = self._groups[split]
        sar_db = _pixels(group, "sar", row, nodata_column="sar_nodata_frac")
        if max(sar_db.shape[1:]) > self._longest_px:
            linear = self._shrunk((10.0 ** (sar_db / 10)).astype(np.float32))  # never averaged in decibels
            sar_db = 10 * np.log10(linear)
        sar = sar_picture(sar_db, self._stretch)
        if not row["paired"]:
            return sar, None
        optical = self._shrunk(_pixels(group, "optical", row, nodata_column="optical_nodata_frac"))
        return sar, optical_picture(optical, row["bands"], self._stretch)

    def _shrunk(self, image: F32) -> F32:
        return block_mean(image, -(-max(image.shape[1:]) // self._longest_px))


def _open(store: Place, split: str) -> zarr.Group:
    name = f"{DATA_DIR}/{split}.zarr"
    try:
        if isinstance(store, RemotePlace):
            return zarr.open_group(ObjectStore(store.client(), read_only=True), path=name, mode="r")
        return zarr.open_group(store.local_path(name), mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{name}: cannot be opened ({type(error).__name__}). Check the store with `sar1m verify`."
        ) from error


def _pixels(group: zarr.Group, name: str, row: Mapping[str, Any], *, nodata_column: str) -> F32:
    """Decoded pixels (C, H, W), NaN without data.

    zarr reads a missing shard as no data and reports nothing. A sample whose table row says that it has data, and that
    reads as having none, is therefore a fault.
    """
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{row['sample_id']}: {name} is no array in the store. Check the store with `sar1m verify`.")
    dn = np.asarray(array[int(row["index"])])
    nodata_frac = row[nodata_column]
    if not dn.any() and (nodata_frac is None or nodata_frac < 1):
        raise StoreError(
            f"{row['sample_id']}: {name} holds no data, expected pixels. A shard is missing: run `sar1m verify`."
        )
    scale, offset = (float(array.attrs[key]) for key in ("scale_factor", "add_offset"))  # type: ignore[arg-type]
    return np.where(dn == 0, np.nan, offset + scale * dn.astype(np.float64)).astype(np.float32)


def _stretched(values: npt.NDArray[np.float32], limits: Limits, gamma: float = 1.0) -> U8:
    low, high = limits
    share = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    grey: U8 = np.rint(255 * np.where(np.isnan(share), 0, share) ** (1 / gamma)).astype(np.uint8)
    return grey


def _sar_limits(statistics: Mapping[str, Any]) -> Limits:
    low, high = _percentiles(statistics, "db", FALLBACK_SAR_DB)
    middle = statistics.get("p50_db")
    return (low, high) if middle is None else (max(low, middle - SAR_SPAN_DB), min(high, middle + SAR_SPAN_DB))


def _reflectance_limits(statistics: Mapping[str, Any]) -> Limits:
    low, high = _percentiles(statistics, "value", FALLBACK_REFLECTANCE)
    white = max(DISPLAY_WHITE_REFLECTANCE, WHITE_OVER_MEDIAN * (statistics.get("p50_value") or 0.0))
    return (low, min(high, white)) if low < white else (low, high)


def _percentiles(statistics: Mapping[str, Any], unit: str, fallback: Limits) -> Limits:
    low, high = statistics.get(f"p02_{unit}"), statistics.get(f"p98_{unit}")
    return fallback if low is None or high is None or high <= low else (float(low), float(high))
