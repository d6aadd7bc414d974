"""Products read into records: compared with what the factory wrote and with figures of real products; refusals."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from defusedxml.ElementTree import parse

from sar1m.io.safe.product import find_products, product_digest, read_product
from sar1m.store.errors import SourceError
from support.paths import SHARED
from support.safe_factory import (
    SafeRecipe,
    ground_range_fits,
    safe_members,
    state_vectors,
    tie_points,
    write_members,
    write_safe,
    write_safe_zip,
)

REAL = SHARED / "data/s1_safe_annotations"
ASCENDING = "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE"
ROME = "rome/data/S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real products in {REAL}")


def edited(tmp_path, name_part, old, new, recipe=None):
    """A product with one text replaced in every file whose name holds name_part."""
    recipe = recipe or SafeRecipe()
    members = safe_members(recipe)
    hits = [name for name in members if name_part in name and old.encode() in members[name]]
    assert hits, f"{old} is in no {name_part}"
    for name in hits:
        members[name] = members[name].replace(old.encode(), new.encode())
    return write_members(tmp_path / f"{recipe.name}.SAFE", members)


# ---- what the factory wrote ----


def test_geometry_is_what_was_written(tmp_path):
    recipe = SafeRecipe()
    geometry = read_product(write_safe(tmp_path, recipe)).geometry
    position_m, velocity_m_s = state_vectors(np.arange(-70.0, 80.0, 10.0))
    srgr, grsr = ground_range_fits(recipe, 0.0)
    points = tie_points(recipe)
    assert geometry.epoch == recipe.start
    assert (geometry.lines, geometry.samples, geometry.line_interval_s) == (48, 64, 1.5e-3)
    np.testing.assert_array_equal(geometry.orbit.time_s, np.arange(-70.0, 80.0, 10.0))
    np.testing.assert_allclose(geometry.orbit.position_m, position_m, rtol=1e-15)
    np.testing.assert_allclose(geometry.orbit.velocity_m_s, velocity_m_s, rtol=1e-15)
    np.testing.assert_array_equal(geometry.ground_range.time_s[:3], [-1.0, 0.0, 1.0])
    np.testing.assert_allclose(geometry.ground_range.srgr[1], srgr, rtol=1e-14)
    np.testing.assert_allclose(geometry.ground_range.grsr[1], grsr, rtol=1e-14)
    np.testing.assert_array_equal(geometry.grid.line, [point["line"] for point in points])
    np.testing.assert_array_equal(geometry.grid.sample, [point["sample"] for point in points])
    np.testing.assert_allclose(geometry.grid.lat, [point["lat"] for point in points], rtol=1e-14)
    np.testing.assert_allclose(geometry.grid.incidence_deg, [point["incidence"] for point in points], rtol=1e-14)


@pytest.mark.parametrize("packed", [False, True])
def test_head_and_channels_are_what_was_written(tmp_path, packed):
    recipe = SafeRecipe(polarisations=("HH", "HV"), platform="S1C", mode="EW", ipf="003.90", relative_orbit=None)
    path = write_safe_zip(tmp_path / "any name.zip", recipe) if packed else write_safe(tmp_path, recipe)
    product = read_product(path)
    assert (product.product_id, product.platform, product.mode) == (recipe.name, "S1C", "EW")
    assert (product.ipf, product.orbit_state, product.datatake) == ("003.90", "ascending", "049F13")
    assert (product.absolute_orbit, product.relative_orbit) == (39156, None)
    assert (product.start, product.stop) == (recipe.start, recipe.stop)
    assert [channel.polarisation for channel in product.channels] == ["HH", "HV"]
    for channel in product.channels:
        assert channel.measurement == f"measurement/{recipe.stem(channel.polarisation)}.tiff"
        np.testing.assert_array_equal(channel.sigma.line, [0, 17, 34, 52])
        np.testing.assert_array_equal(channel.sigma.sample[0], [0, 16, 32, 48, 63])
        np.testing.assert_allclose(
            channel.sigma.value[0], 660 * (1 - 0.1 * np.array([0, 16, 32, 48, 63]) / 64), rtol=1e-6
        )
        np.testing.assert_allclose(channel.beta.value[3], 474)
        np.testing.assert_allclose(channel.gamma.value[1][0], 612)
        assert [(part.swath, part.first_sample, part.last_sample) for part in channel.noise.azimuth] == [
            ("EW1", 0, 31),
            ("EW2", 32, 63),
        ]


def test_both_noise_formats_hold_the_same_range_noise(tmp_path):
    new = read_product(write_safe(tmp_path / "new")).channels[0].noise
    old = read_product(write_safe(tmp_path / "old", SafeRecipe(old_noise=True))).channels[0].noise
    assert old.azimuth == ()
    assert len(new.azimuth) == 2
    np.testing.assert_array_equal(old.range_power.line, new.range_power.line)
    np.testing.assert_array_equal(np.concatenate(old.range_power.value), np.concatenate(new.range_power.value))


def test_stripmap_has_no_azimuth_noise_and_a_denoised_product_none_at_all(tmp_path):
    stripmap = read_product(write_safe(tmp_path, SafeRecipe(mode="S4")))
    denoised = read_product(write_safe(tmp_path, SafeRecipe(noise_removed=True)))
    assert stripmap.mode == "S4"
    assert stripmap.channels[0].noise.azimuth == ()
    assert [channel.noise for channel in denoised.channels] == [None, None]


# ---- real products ----


@needs_real
def test_every_real_product_is_read():
    found = [*find_products(REAL), *find_products(REAL / "rome")]
    products = {product.product_id[-4:]: product for product in map(read_product, found)}
    heads = {
        name: (
            product.platform,
            product.mode,
            product.ipf,
            product.orbit_state,
            product.relative_orbit,
            product.datatake,
            (product.geometry.lines, product.geometry.samples),
            "".join(channel.polarisation for channel in product.channels),
            len(product.channels[0].noise.azimuth),
        )
        for name, product in products.items()
    }
    assert heads == {
        "6D00": ("S1A", "IW", "002.70", "descending", 7, "00574F", (16712, 25560), "VVVH", 0),
        "FEC3": ("S1A", "IW", "002.36", "descending", 7, "00574F", (16711, 25562), "VVVH", 0),
        "8255": ("S1A", "IW", "003.31", "descending", 79, "043ED0", (16854, 25931), "VVVH", 3),
        "6FF8": ("S1A", "IW", "003.31", "ascending", 59, "049F13", (16676, 26144), "VVVH", 3),
        "4B8B": ("S1C", "S4", "003.90", "ascending", 15, "000538", (11524, 8087), "HHHV", 0),
        "5371": ("S1B", "IW", "003.40", "descending", 22, "039993", (16705, 26102), "VV", 3),
    }


@needs_real
def test_figures_of_a_real_product_agree_with_its_text():
    product = read_product(REAL / ASCENDING)
    geometry, cross = product.geometry, product.channels[1]
    stem = "s1a-iw-grd-{}-20210809t173953-20210809t174018-039156-049f13-{}"
    vv, vh = stem.format("vv", "001"), stem.format("vh", "002")
    tree = parse(REAL / ASCENDING / f"annotation/{vv}.xml")
    noise = parse(REAL / ASCENDING / f"annotation/calibration/noise-{vh}.xml")
    calibration = parse(REAL / ASCENDING / f"annotation/calibration/calibration-{vh}.xml")

    assert geometry.epoch == datetime(2021, 8, 9, 17, 39, 53, 153776, tzinfo=UTC)
    assert geometry.line_interval_s == 1.499191837510891e-03
    assert geometry.orbit.time_s[0] == -64.153776
    np.testing.assert_array_equal(geometry.orbit.position_m[0], [5430376.907, -120620.073, 4525906.749])
    np.testing.assert_array_equal(geometry.orbit.velocity_m_s[0], [-4770.34038, -1681.807741, 5663.122891])
    lon = [float(element.text) for element in tree.iter("longitude")]
    np.testing.assert_array_equal(geometry.grid.lon, lon)
    assert geometry.grid.azimuth_time_s[0] == -0.000267
    rows = [[float(word) for word in element.text.split()] for element in tree.iter("srgrCoefficients")]
    np.testing.assert_array_equal(geometry.ground_range.srgr, rows)
    for name, element in (("sigma", "sigmaNought"), ("beta", "betaNought"), ("gamma", "gamma")):
        table = np.array([vector.text.split() for vector in calibration.iter(element)], dtype=np.float64)
        np.testing.assert_array_equal(getattr(cross, name).value, table)
    factors = [np.array(vector.text.split(), dtype=np.float64) for vector in noise.iter("noiseAzimuthLut")]
    assert [len(part.factor) for part in cross.noise.azimuth] == [1687, 1687, 1687]
    for part, factor in zip(cross.noise.azimuth, factors, strict=True):
        np.testing.assert_array_equal(part.factor, factor)
    assert [(part.first_sample, part.last_sample) for part in cross.noise.azimuth] == [
        (0, 8759),
        (8760, 17560),
        (17561, 26143),
    ]


# ---- refusals ----

DAMAGE = {
    "too few state vectors": ("annotation/s1a", 'List count="15"', 'List count="3"', "orbitList: found 15 elements"),
    "a state vector in space": ("annotation/s1a", "<position><x>", "<position><x>9", "orbit.*position/x: found '9"),
    "an inertial frame": ("annotation/s1a", "Earth Fixed", "GM2000", "frame: found 'GM2000'; expected Earth Fixed"),
    "no lines": ("annotation/s1a", "<numberOfLines>48", "<numberOfLines>0", "numberOfLines: found '0'"),
    "more lines than time": ("annotation/s1a", "<numberOfLines>48", "<numberOfLines>4800", "lines as fill the time"),
    "an absurd width": ("annotation/s1a", "<numberOfSamples>64", "<numberOfSamples>400000", "numberOfSamples: found"),
    "a negative spacing": ("annotation/s1a", "Spacing>1.0", "Spacing>-1.0", "PixelSpacing: found '-1.0.*from 1 to 200"),
    "tie points late": ("annotation/s1a", "<line>47<", "<line>17<", "PointList: found azimuth times 0.045 s"),
    "a complex image": ("annotation/s1a", ">Detected<", ">Complex<", "pixelValue: found 'Complex'; expected Detected"),
    "a calibration of zero": ("calibration-", "4.740000e+02", "0", "betaNought: found 0 to 0; expected positive"),
    "a calibration without number": ("calibration-", "6.120000e+02", "nan", "gamma: found 1 of 5 not finite"),
    "a calibration one short": ("calibration-", "6.120000e+02", "", "gamma: found 4 numbers but count '5'"),
    "samples that fall": ("calibration-", "0 16 32 48 63", "0 32 16 48 63", "pixel: found 32 followed by 16"),
    "negative noise": ("noise-", "3.120000e+03", "-3.120000e+03", "noiseRangeLut: found -3120 to .*at least 0"),
    "noise without swaths": ("noise-", "<swath>IW1</swath>", "", "noiseAzimuthVector.*swath: found none"),
    "a processor of no version": ("manifest", "003.40", "three", "software/@version: found 'three'"),
    "a manifest of another orbit": ("manifest", ">39156<", ">39157<", "orbit 39157 ascending, but the anno"),
    "the noise of another orbit": ("noise-", ">39156<", ">39157<", "found absolute_orbit 39157; expected 39156"),
    "an annotation of another name": ("annotation/s1a", ">302867<", ">302868<", "states S1A, IW, 039156, 049F14, VV, "),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(tmp_path, damage):
    name_part, old, new, message = DAMAGE[damage]
    path = edited(tmp_path, name_part, old, new)
    with pytest.raises(SourceError, match=message) as refused:
        read_product(path)
    assert str(path) in str(refused.value)
    assert "etch the product again" in str(refused.value)


def test_lines_that_the_processor_left_at_the_times_of_echoes_are_refused(tmp_path):
    """Whether it corrected them, only the annotation tells; no option guesses it."""
    flag = "<bistaticDelayCorrectionApplied>true</bistaticDelayCorrectionApplied>"
    path = edited(tmp_path / "false", "annotation/s1a", flag, flag.replace("true", "false", 1))
    with pytest.raises(SourceError, match=r"bistaticDelayCorrectionApplied is false; expected true\. W") as refused:
        read_product(path)
    assert str(path) in str(refused.value)
    with pytest.raises(SourceError, match=r"bistaticDelayCorrectionApplied: found none; expected one"):
        read_product(edited(tmp_path / "left-out", "annotation/s1a", flag, ""))


@pytest.mark.parametrize(
    ("old", "new", "differing"),
    [
        ("<rangePixelSpacing>1.0", "<rangePixelSpacing>1.1", "rangePixelSpacing"),
        ("<gr0>0.000000000000000e+00", "<gr0>1.000000000000000e+00", "coordinateConversionList"),
        ("53.153776</time>", "53.153777</time>", "orbitList"),
        ("<line>0</line><pixel>0<", "<line>0</line><pixel>1<", "geolocationGridPointList"),
    ],
)
def test_polarisations_of_two_products_are_not_one(tmp_path, old, new, differing):
    path = edited(tmp_path, f"annotation/{SafeRecipe().stem('VH')}", old, new)
    with pytest.raises(SourceError, match=rf"-vh-.* differs from .*-vv-.* in {differing}; expected one geometry"):
        read_product(path)


def test_a_product_with_cloud_optimised_images_is_read(tmp_path):
    """CDSE's _COG products: the same files under names that end in -cog."""
    recipe = SafeRecipe(polarisations=("VV",))
    members = {name.replace("-001.", "-001-cog."): content for name, content in safe_members(recipe).items()}
    product = read_product(write_members(tmp_path / f"{recipe.name}_COG.SAFE", members))
    assert product.product_id.endswith("_6FF8_COG")
    assert product.channels[0].measurement.endswith("-001-cog.tiff")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "S1A_IW_SLC__1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE",
            ": IW SLC product; expected ground",
        ),
        (
            "S1A_WV_OCN__2SSV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE",
            ": WV OCN product; expected ground",
        ),
        (
            "S1A_IW_RAW__0SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE",
            ": IW RAW product; expected ground",
        ),
        ("my copy", "its folder is named 'my copy'; expected the product's own name"),
    ],
)
def test_other_products_are_refused_by_name(tmp_path, name, message):
    path = write_members(tmp_path / name, safe_members(SafeRecipe()))
    with pytest.raises(SourceError, match=message):
        read_product(path)


def test_an_incomplete_product_names_what_is_missing(tmp_path):
    recipe = SafeRecipe()
    path = write_safe(tmp_path, recipe)
    (path / f"annotation/calibration/noise-{recipe.stem('VH')}.xml").unlink()
    with pytest.raises(SourceError, match=r"noise-s1a-iw-grd-vh-.*: missing. Found in annotation/calibration: cal"):
        read_product(path)
    (path / "manifest.safe").unlink()
    with pytest.raises(SourceError, match=r"no manifest.safe in it"):
        read_product(path)
    with pytest.raises(SourceError, match="cannot be read"):
        read_product(tmp_path / "nothing")


# ---- listing and identity ----


def test_products_are_found_here_and_one_level_below(tmp_path):
    here = write_safe(tmp_path)
    below = write_safe(tmp_path / "2021", SafeRecipe(unique="AAAA"))
    packed = write_safe_zip(tmp_path / "2021/renamed.zip", SafeRecipe(unique="BBBB"))
    write_safe(tmp_path / "2021/deep", SafeRecipe(unique="CCCC"))
    (tmp_path / "other.zip").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("x")
    assert find_products(tmp_path) == sorted([here, below, packed])
    with pytest.raises(SourceError, match="cannot be listed"):
        find_products(tmp_path / "nothing")


def test_the_digest_follows_content_not_packing(tmp_path):
    recipe = SafeRecipe()
    folder, again = write_safe(tmp_path / "a", recipe), write_safe(tmp_path / "b", recipe)
    packed, tighter = write_safe_zip(tmp_path / "a.zip", recipe), write_safe_zip(tmp_path / "b.zip", recipe, method=0)
    assert product_digest(folder) == product_digest(again)
    assert product_digest(packed) == product_digest(tighter)
    image = folder / f"measurement/{recipe.stem('VH')}.tiff"
    image.write_bytes(image.read_bytes()[:-1] + b"\x07")
    assert product_digest(folder) != product_digest(again)
    changed = write_safe_zip(tmp_path / "c.zip", replace(recipe, seed=2))
    assert product_digest(changed) != product_digest(packed)
    (again / "annotation/calibration/notes.txt").write_text("not the product's")
    assert product_digest(again) == product_digest(write_safe(tmp_path / "c", recipe))


def test_times_are_exact_to_the_microsecond(tmp_path):
    start = datetime(2021, 8, 9, 17, 39, 53, 1, tzinfo=UTC)
    recipe = SafeRecipe(start=start)
    orbit = read_product(write_safe(tmp_path, recipe)).geometry.orbit
    assert start + timedelta(seconds=orbit.time_s[3]) == start - timedelta(seconds=40)
