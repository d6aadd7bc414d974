"""Real products beside the checkout (../shared/data), a second reader of their tables which shares no line with the
package's (defusedxml, numpy and scipy alone), and real pixels. For tests and benchmarks."""

import zipfile
from pathlib import Path

import numpy as np
import rasterio
from defusedxml.ElementTree import parse
from scipy.interpolate import interp1d

from sar1m.core.radar.border import edge_depth, edge_strips, valid_samples
from sar1m.io.safe.product import read_product
from support.paths import SHARED
from support.radiometry_cases import channel, table, window

SAFE = SHARED / "data/s1_safe_annotations"
GRD = SHARED / "data/s1_grd_gcp/sentinel-s1-l1c/GRD"
ROME, IW_2021, IW_2021_ZIP, STRIPMAP = "*5371.SAFE", "*6FF8.SAFE", "*8255.zip", "*4B8B.SAFE"
OLD, OLD_NO_NOISE = "*6D00.zip", "*FEC3.zip"  # IPF 2.70; 2.36, whose noise tables are all 0
EVERY = (ROME, IW_2021, IW_2021_ZIP, STRIPMAP, OLD, OLD_NO_NOISE)
WITH_RANGE_VECTORS = (ROME, IW_2021, IW_2021_ZIP, STRIPMAP)
THREE_SWATHS = (ROME, IW_2021, IW_2021_ZIP)


def product_path(pattern):
    return next(SAFE.rglob(pattern))


def xml_files(pattern, folder):
    """calibration and noise XML of each polarisation in folder, under the names they have in the product."""
    path = product_path(pattern)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if "/annotation/calibration/" in name and name.endswith(".xml"):
                    (folder / Path(name).name).write_bytes(archive.read(name))
    else:
        folder = path / "annotation/calibration"
    return {
        kind.name.split("-")[4].upper(): (kind, next(folder.glob(f"noise*-{kind.name.split('-')[4]}-*.xml")))
        for kind in sorted(folder.glob("calibration-*.xml"))
    }


def some_lines(lines):
    """Every 397th line: a dense enough sample of a full grid that would fill 3.5 GB."""
    return np.arange(0, lines, 397)


def on_lines(read, at, samples):
    return np.concatenate([read(window(int(line), 0, 1, samples)) for line in at]).astype(np.float64)


def second_reader(path, vector, field, at, samples):
    """One table straight from the XML: np.interp along samples, scipy's interp1d along lines."""
    vectors = parse(path).getroot().findall(f".//{vector}")
    line = [int(v.findtext("line")) for v in vectors]
    numbers = [[np.array(v.findtext(f).split(), float) for f in ("pixel", field)] for v in vectors]
    rows = [np.interp(np.arange(samples), pixel, value) for pixel, value in numbers]
    return interp1d(line, rows, axis=0, bounds_error=False, fill_value=(rows[0], rows[-1]))(at)


def second_azimuth_factor(path, at, samples):
    factor = np.ones((len(at), samples))
    for block in parse(path).getroot().findall(".//noiseAzimuthVector"):
        first, last, left, right = (
            int(block.findtext(name))
            for name in ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
        )
        line, value = (np.array(block.findtext(name).split(), float) for name in ("line", "noiseAzimuthLut"))
        inside = (at >= first) & (at <= last)
        factor[inside, left : right + 1] = np.interp(at[inside], line, value)[:, None]
    return factor


# ---- real pixels, averaged 20 x 20; their tables are not here, so those of a like product stand in ----


def real_pixels(pattern):
    with rasterio.open(next(GRD.rglob(pattern))) as image:
        return image.read(1), image.gcps[0]


def averaged_channel(pattern, polarisation, lines, samples):
    """A product's tables as of an image of lines x samples: a composite, for the image is of another product."""
    product = read_product(product_path(pattern))
    of = next(c for c in product.channels if c.polarisation == polarisation)
    down, across = lines / product.geometry.lines, samples / product.geometry.samples

    def scaled(lut):
        at = (lut.line * down).astype(int)
        columns = np.arange(samples)
        rows = {a: np.interp(columns, s * across, v) for a, s, v in zip(at, lut.sample, lut.value, strict=True)}
        return table(list(rows), [columns] * len(rows), lambda a, _: rows[a])

    return channel(scaled(of.sigma), scaled(of.noise.range_power))


def real_mask(dn, radar_channel, depth_px=100):
    at = window(0, 0, *dn.shape)
    depths = []
    for strip in edge_strips(at, *dn.shape, depth_px):
        w = strip.window
        pixels = np.ascontiguousarray(dn[w.line : w.line + w.lines, w.sample : w.sample + w.samples])
        depths.append(edge_depth(pixels, strip, radar_channel))
    return valid_samples(at, depths)
