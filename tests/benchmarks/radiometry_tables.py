"""The tables of radiometry.md that measure no time: agreement with others, noise levels, borders, geolocation."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from measure import Section
from scipy.ndimage import gaussian_filter, label
from xarray_sentinel import sentinel1

sys.path.append(str(Path(__file__).parents[1]))
from sar1m.core.radar.border import edge_depth, edge_strips
from sar1m.core.radar.calibration import nesz
from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.radar.product import GrdChannel, GrdProduct
from sar1m.core.radar.tie_points import (
    TiePoints,
    fit_tie_points,
    relief_error_px,
    tie_point_coordinates,
)
from sar1m.io.safe.product import read_product
from sar1m.sources.regions.countries import find_country
from support import radiometry_cases as cases
from support import radiometry_real as real

Row = dict[str, Any]
INDIAN_GEOID_M = -93.0  # the sea's height above the ellipsoid off Kerala, EGM96, to a few metres


def all_tables() -> list[Section]:
    """Every table; those on real products only where ../shared/data is beside the checkout."""
    tables = [synthetic_border()]
    if real.SAFE.is_dir() and real.GRD.is_dir():
        tables = [agreement(), azimuth_factors(), noise_levels(), *tables, real_border(), geolocation()]
    return tables


def _name(product: GrdProduct, channel: GrdChannel) -> str:
    return f"{product.product_id[-4:]} {channel.polarisation}, IPF {product.ipf}"


def agreement() -> Section:
    rows = []
    for pattern in real.EVERY:
        product = read_product(real.product_path(pattern))
        at, samples = real.some_lines(product.geometry.lines), product.geometry.samples
        with tempfile.TemporaryDirectory() as folder:
            files = real.xml_files(pattern, Path(folder))
            rows += [_agreement(product, c, files[c.polarisation], at, samples) for c in product.channels]
    note = (
        "Largest differences on every 397th line, all samples. Calibration: the worst of sigma, beta and gamma, "
        "relative. Noise in DN^2 (range vectors alone for xarray-sentinel 0.9.6, which holds tables as float32). Our "
        "result is float32. fails: xarray-sentinel finds no noiseRangeVector in products before IPF 2.9 (IndexError). "
        "It reads no zip: members were unpacked for it. Its group with the pixels does not open where the measurement "
        "is absent or empty (all products here but 5371); its readers of single XML files, used here, need none."
    )
    return Section(title="Look-up tables on the full grid, against two other readers", note=note, rows=rows)


def _agreement(product: GrdProduct, channel: GrdChannel, files: Sequence[Path], at: Any, samples: int) -> Row:
    calibration, noise = files
    theirs = sentinel1.open_calibration_dataset(str(calibration))
    second, third = [], []
    for lut, name in ((channel.sigma, "sigmaNought"), (channel.beta, "betaNought"), (channel.gamma, "gamma")):
        ours = real.on_lines(lambda w, lut=lut: cases.lut_values(lut, w), at, samples)
        expected = real.second_reader(calibration, "calibrationVector", name, at, samples)
        second.append(np.abs(ours / expected - 1).max())
        third.append(np.abs(ours / theirs[name].interp(line=at, pixel=np.arange(samples)).to_numpy() - 1).max())
    return {
        "product": _name(product, channel),
        "calibration, second reader": f"{max(second):.1e}",
        "calibration, xarray-sentinel": f"{max(third):.1e}",
        **_noise_agreement(channel, noise, at, samples),
    }


def _noise_agreement(channel: GrdChannel, path: Path, at: Any, samples: int) -> Row:
    assert channel.noise is not None
    old = "<noiseVectorList" in path.read_text(encoding="utf-8")
    vector, field = ("noiseVector", "noiseLut") if old else ("noiseRangeVector", "noiseRangeLut")
    expected = real.second_reader(path, vector, field, at, samples)
    ours = real.on_lines(lambda w: cases.removed_noise(channel.noise, w), at, samples)
    both = np.abs(ours - expected * real.second_azimuth_factor(path, at, samples)).max()
    if old:
        return {"noise, second reader": f"{both:.1e}", "range noise, xarray-sentinel": "fails"}
    theirs = sentinel1.open_noise_range_dataset(str(path)).noiseRangeLut.interp(line=at, pixel=np.arange(samples))
    ours = real.on_lines(lambda w: cases.lut_values(channel.noise.range_power, w), at, samples)
    off = np.abs(ours - theirs.to_numpy()).max()
    return {"noise, second reader": f"{both:.1e}", "range noise, xarray-sentinel": f"{off:.1e}"}


def azimuth_factors() -> Section:
    rows = []
    for pattern in real.THREE_SWATHS:
        product = read_product(real.product_path(pattern))
        at = np.arange(0, product.geometry.lines, 7)
        for channel in product.channels:
            with tempfile.TemporaryDirectory() as folder:
                path = real.xml_files(pattern, Path(folder))[channel.polarisation][1]
                theirs = sentinel1.open_noise_azimuth_dataset(str(path)).noiseAzimuthLut.interp(line=at).to_numpy()
                second = real.second_azimuth_factor(path, at, product.geometry.samples)
            assert channel.noise is not None
            row: Row = {"product": _name(product, channel)}
            for block in channel.noise.azimuth:
                ours = np.interp(at, block.line, block.factor)
                off = 100 * (theirs / ours - 1)
                assert np.abs(ours / second[:, (block.first_sample + block.last_sample) // 2] - 1).max() < 1e-12
                row[f"{block.swath} mean / rms / largest %"] = (
                    f"{off.mean():+.2f} / {np.sqrt((off**2).mean()):.2f} / {np.abs(off).max():.2f}"
                )
            rows.append(row)
    note = (
        "By how much xarray-sentinel's noise differs from ours, which equals the second reader's: it applies the first "
        "swath's azimuth vector to all swaths (its source says BROKEN). Every 7th line."
    )
    return Section(title="Azimuth noise: the first swath's factor for all", note=note, rows=rows)


def noise_levels() -> Section:
    rows = []
    for pattern in real.EVERY:
        product = read_product(real.product_path(pattern))
        for channel in product.channels:
            rows += _noise_levels(product, channel)
    note = (
        "Mean noise-equivalent sigma nought over 2,000 lines in the middle of the image, from annotated noise and "
        "calibration; least and largest over columns of 100 samples. Old products have no swath blocks: thirds of the "
        "image stand for swaths. Required: -22 dB or better (Torres et al. 2012). FEC3 is the same acquisition as "
        "6D00; its processor wrote tables of zeros, so its noise is unknown (None), not 0."
    )
    return Section(title="Noise-equivalent sigma nought in dB", note=note, rows=rows)


def _noise_levels(product: GrdProduct, channel: GrdChannel) -> list[Row]:
    assert channel.noise is not None
    samples, first = product.geometry.samples, product.geometry.lines // 2 - 1000
    blocks = [(b.swath, b.first_sample, b.last_sample) for b in channel.noise.azimuth]
    thirds = [(f"third {k + 1}", samples * k // 3, samples * (k + 1) // 3 - 1) for k in range(3)]
    parts = blocks or ([("all", 0, samples - 1)] if product.mode.startswith("S") else thirds)
    rows = []
    for swath, left, right in parts:
        level = nesz(channel, cases.window(first, left, 2000, right - left + 1))
        columns = [nesz(channel, cases.window(first, s, 200, 100)) for s in range(left, right - 99, 100)]
        db = [10 * np.log10(value) for value in columns if value is not None]
        spread = f"{min(db):.1f} to {max(db):.1f}" if db else "-"
        mean = "unknown" if level is None else f"{10 * np.log10(level):.2f}"
        rows.append({"product": _name(product, channel), "part": swath, "mean": mean, "columns": spread})
    return rows


def synthetic_border() -> Section:
    """A strip of 2048 samples with padding of known staircase; echo of one level, garbage that rises inwards."""
    rows = []
    lines, samples = 1000, 25_560
    channel = cases.flat_channel(lines, samples)
    depth = np.where(np.arange(lines) < 430, 310, 470)
    strip = edge_strips(cases.window(0, 0, lines, 100), lines, samples)[0]
    inward = np.arange(strip.window.samples) - depth[:, None]
    for name, sigma0_db in (("nothing but noise", -99.0), ("dark water", -26.0), ("land", -10.0)):
        for peak_dn in (0, 5, 10, 15, 20):
            rng = np.random.default_rng(peak_dn)
            echo = cases.NOISE_DN2 + 10 ** (sigma0_db / 10) * cases.AMPLITUDE**2
            mean = np.where(inward < 0, 1.0 + peak_dn**2 * np.exp(np.minimum(inward, 0) / 60), echo)
            error = edge_depth(cases.speckled(mean, rng), strip, channel).depth_px - depth
            rows.append(
                {
                    "beyond the padding": name,
                    "garbage DN at the seam": peak_dn,
                    "lines exact %": 100 * float((error == 0).mean()),
                    "rms px": float(np.sqrt((error**2.0).mean())),
                    "real samples lost, worst line": int(max(error.max(), 0)),
                    "garbage left, worst line": int(max(-error.min(), 0)),
                }
            )
    note = (
        "Padding 310 and 470 samples deep (a step at line 430), values in it 1 + A^2 exp(-distance / 60 samples) with "
        "speckle; noise 900 DN^2 (-26 dB), 4.4 looks, independent pixels. Garbage of DN 18 has a third of the noise's "
        "power: above that it cannot be told from data by this method."
    )
    return Section(title="Border of known depth", note=note, rows=rows)


def real_border() -> Section:
    rows = []
    images = (
        ("iw-vv.tiff", real.IW_2021, "VV"),
        ("iw-vh.tiff", real.IW_2021, "VH"),
        ("s1-vh.tiff", real.STRIPMAP, "HV"),
    )
    for image, tables, polarisation in images:
        dn, _ = real.real_pixels(image)
        valid = real.real_mask(dn, real.averaged_channel(tables, polarisation, *dn.shape))
        lost = ~valid & (dn > 0)
        rows.append(
            {
                "image": image,
                "pixels": f"{dn.shape[0]} x {dn.shape[1]}",
                "DN 0": int((dn == 0).sum()),
                "DN 0 left": int((valid & (dn == 0)).sum()),
                "masked besides": int(lost.sum()),
                "their DN: median, largest": f"{np.median(dn[lost]):.0f}, {dn[lost].max()}",
                "valid DN: 1st percentile, median": f"{np.percentile(dn[valid], 1):.0f}, {np.median(dn[valid]):.0f}",
            }
        )
    note = (
        "IPF 2.91 (2018) and 3.61 (2023), averaged 20 x 20, a border of 25-26 columns at far range and 0-2 columns. "
        "Composites: the tables are another product's of the same mode. What is masked besides DN 0 are pixels "
        "averaged from border and image, and 718 pixels of DN 1 in columns 0 and 1 of the stripmap image."
    )
    return Section(title="Border of real pixels", note=note, rows=rows)


def _tie_points(image: str, incidence_deg: tuple[float, float]) -> tuple[Any, TiePoints, int]:
    """Pixels, tie points (incidence linear from near to far: TIFFs state none), and tie points a line."""
    dn, points = real.real_pixels(image)
    line, sample, lon, lat, height_m = np.array([(p.row, p.col, p.x, p.y, p.z) for p in points]).T
    near, far = incidence_deg
    columns = len(np.unique(sample))
    ground = ecef_from_geodetic(lon[[0, columns - 1]], lat[[0, columns - 1]], 0.0)
    tie_points = TiePoints(
        name=image,
        line=line,
        sample=sample,
        lon=lon,
        lat=lat,
        height_m=height_m,
        incidence_deg=near + (far - near) * sample / dn.shape[1],
        range_spacing_m=float(np.linalg.norm(ground[1] - ground[0]) / (sample[columns - 1] - sample[0])),
    )
    return dn, tie_points, columns


def _left_out(points: TiePoints, columns: int) -> str:
    """Every other column of tie points placed by the rest: worst line and sample error."""
    odd = np.arange(points.line.size) % columns % 2 == 1
    names = ("line", "sample", "lon", "lat", "height_m", "incidence_deg")
    kept = {name: getattr(points, name)[~odd] for name in names}
    model = fit_tie_points(TiePoints(name="kept", range_spacing_m=points.range_spacing_m, **kept))
    found = tie_point_coordinates(model, points.lon[odd], points.lat[odd])
    worst = [np.nanmax(np.abs(a - b)) for a, b in ((found.line, points.line[odd]), (found.sample, points.sample[odd]))]
    return f"{worst[0]:.3f} / {worst[1]:.3f} px"


def geolocation() -> Section:
    rows = [*_mahe(), *_kerala()]
    note = (
        "Pixels of about 200 m placed by the TIFFs' own control points (core/radar/tie_points.py) against Natural "
        "Earth 1:50m. Mahé: centroid of the island (connected, VH over 29.5 dB of DN) against its outline, which has 8"
        " points; the image's island reaches 2 km farther south. Kerala: the last bright pixel of each line against "
        "the outermost coast there, measured along the line, of lines 190 to 836, once with the control points' own "
        "heights and once as if the coast were at sea level. Those heights are one number a line (255 to 755 m, the "
        "same over land and sea to 7 mm): at the coast that alone is 2 to 4 pixels, in proportion to height. The "
        "outline is worth 1-2 km here (straight pieces of 20 km, lagoons), so the check finds gross errors (axis, "
        "order, hemisphere, look side) and nothing under some 10 pixels: it settles neither question of height. Left "
        "out: every other column of control points placed by the rest."
    )
    return Section(title="Real pixels on the map", note=note, rows=rows)


def _mahe() -> list[Row]:
    dn, points, columns = _tie_points("s1-vh.tiff", (20.0, 26.0))
    bright, _ = label(gaussian_filter(20 * np.log10(np.maximum(dn, 1.0)), 0.7) > 29.5)
    island = np.argwhere(bright == bright[394, 140])
    outline = find_country("SYC").geometry
    found = tie_point_coordinates(fit_tie_points(points), outline.centroid.x, outline.centroid.y)
    shift = island.mean(axis=0) + 0.5 - [float(found.line), float(found.sample)]
    metres_a_degree = 111_200.0
    expected = outline.area * metres_a_degree**2 * np.cos(np.radians(4.7)) / points.range_spacing_m**2
    return [
        {
            "place": "Mahé, s1-vh.tiff",
            "heights": "0 m",
            "image less atlas": f"{shift[0]:+.1f} lines, {shift[1]:+.1f} samples; area {len(island) / expected:.2f}",
            "left out, worst line / sample": _left_out(points, columns),
        }
    ]


def _kerala() -> list[Row]:
    dn, points, columns = _tie_points("iw-vh.tiff", (30.9, 46.0))
    line, sample, height_m, incidence_deg = _outer_coast(points, dn.shape)
    db = gaussian_filter(20 * np.log10(np.maximum(dn, 1.0)), 1)[:, :1240]
    image = 1240 - np.argmax(db[:, ::-1] > 34, axis=1) + 0.0
    shift = relief_error_px(height_m - INDIAN_GEOID_M, incidence_deg, points.range_spacing_m)
    rows = []
    for heights, where in (("of the control points", sample), ("sea level", sample + shift)):
        low, middle, high = np.percentile((image - where)[line], [25, 50, 75])
        rows.append(
            {
                "place": "Kerala, iw-vh.tiff",
                "heights": heights,
                "image less atlas": f"{middle:+.1f} samples (quartiles {low:+.1f} to {high:+.1f})",
                "left out, worst line / sample": _left_out(points, columns),
            }
        )
    return rows


def _outer_coast(points: TiePoints, shape: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Lines where the atlas's coast shows, and by line its last sample, tie-point height and incidence there."""
    coast = shapely.get_coordinates(shapely.segmentize(find_country("IND").geometry.boundary, 0.001))
    coast = coast[(coast[:, 0] > 75.4) & (coast[:, 0] < 78) & (coast[:, 1] > 9.2) & (coast[:, 1] < 11.2)]
    shown = tie_point_coordinates(fit_tie_points(points), coast[:, 0], coast[:, 1])
    inside = np.nan_to_num(shown.sample, nan=-1) > 0
    inside &= (shown.sample < 1240) & (shown.line >= 190) & (shown.line < shape[0])
    order = np.flatnonzero(inside)[np.argsort(shown.sample[inside])]  # the last one written is the outermost
    by_line = np.full((3, shape[0]), np.nan)
    row = shown.line[order].astype(int)
    by_line[:, row] = shown.sample[order], shown.height_m[order], shown.incidence_deg[order]
    return np.flatnonzero(np.isfinite(by_line[0])), *by_line
