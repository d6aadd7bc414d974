"""The published SAR-1M, in a folder made here: what is read, what is left out, what is reported."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sar1m.store.errors import ConfigError, StoreError
from sarmae.stream.published.index import index_published
from sarmae.stream.published.picture_reader import DISPLAY_STATISTICS, PublishedReader
from support.paths import SHARED

SIDE = 48
SHIPS = SHARED / "data/ship_boxes/coco/images"


def picture(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Two pairs and two unpaired: grey and colour, square and oblong, lists with and without leading folders."""
    save(tmp_path / "SAR/a/1.png", picture((SIDE, SIDE), 1))
    save(tmp_path / "OPT/a/1.png", picture((SIDE, SIDE, 3), 2))
    save(tmp_path / "SAR/2.png", np.repeat(picture((60, 70, 1), 3), 3, axis=2))
    save(tmp_path / "OPT/2.png", picture((60, 70), 4))
    save(tmp_path / "SAR/3.jpg", picture((SIDE, SIDE), 5))
    save(tmp_path / "SAR/4.png", picture((SIDE, 64), 6))
    pairs = [{"sar": "SAR/a/1.png", "optical": "OPT/a/1.png"}, {"sar": "2.png", "optical": "2.png"}]
    (tmp_path / "paired.json").write_text(json.dumps(pairs))
    (tmp_path / "unpaired.json").write_text(json.dumps(["SAR/3.jpg", {"sar": "4.png"}]))
    return tmp_path


def add(folder, *entries, name="unpaired.json"):
    path = folder / name
    path.write_text(json.dumps([*json.loads(path.read_text()), *entries]))


def read(published, samples=None, optical=True):
    samples = np.arange(len(published.split)) if samples is None else np.array(samples)
    sar = np.full((len(samples), *published.split.sar.sample_shape), 99, dtype=np.uint8)
    colour = np.full((len(samples), *published.split.optical.sample_shape), 99, dtype=np.uint8) if optical else None
    faults = PublishedReader(published).read_into(samples, np.arange(len(samples)), sar, colour)
    return sar, colour, faults


def test_pairs_come_first_and_unpaired_ones_have_no_optical(folder):
    published = index_published(folder, published_px=SIDE)
    split = published.split
    assert [one.sar for one in published.listed] == ["SAR/a/1.png", "SAR/2.png", "SAR/3.jpg", "SAR/4.png"]
    assert split.paired.tolist() == [True, True, False, False]
    assert published.left_out == ()
    assert (split.sar.labels, split.sar.sample_shape) == (("display",), (1, SIDE, SIDE))
    assert split.optical.sample_shape == (3, SIDE, SIDE)
    assert len(set(split.keys.tolist())) == 4
    assert split.keys.min() >= 0
    assert np.isnan(split.enl).all()
    assert split.files["OPT/2.png"] == (folder / "OPT/2.png").stat().st_size
    assert DISPLAY_STATISTICS.polarisations == split.sar.labels


def test_pixels_are_the_middle_of_the_pictures_with_black_kept_apart_from_no_data(folder):
    sar, optical, faults = read(index_published(folder, published_px=SIDE))
    assert faults == []
    assert np.array_equal(sar[0, 0], np.maximum(picture((SIDE, SIDE), 1), 1))
    assert np.array_equal(optical[0], np.maximum(np.moveaxis(picture((SIDE, SIDE, 3), 2), -1, 0), 1))
    assert np.array_equal(sar[1, 0], np.maximum(picture((60, 70, 1), 3)[6:54, 11:59, 0], 1))
    grey = np.maximum(picture((60, 70), 4)[6:54, 11:59], 1)
    assert all(np.array_equal(band, grey) for band in optical[1])
    with Image.open(folder / "SAR/3.jpg") as jpeg:
        assert np.array_equal(sar[2, 0], np.maximum(np.asarray(jpeg), 1))
    assert optical[2:].max() == 0
    assert sar.min() == 1


def test_rows_of_a_batch_are_filled_where_asked(folder):
    published = index_published(folder, published_px=SIDE)
    whole, _, _ = read(published)
    sar = np.zeros((5, 1, SIDE, SIDE), dtype=np.uint8)
    assert PublishedReader(published).read_into(np.array([3, 0]), np.array([1, 4]), sar, None) == []
    assert np.array_equal(sar[[1, 4]], whole[[3, 0]])
    assert sar[[0, 2, 3]].max() == 0


def test_a_digest_stands_for_names_sizes_and_window(folder):
    first = index_published(folder, published_px=SIDE)
    assert index_published(folder, published_px=SIDE, threads=1).split.digest == first.split.digest
    assert index_published(folder, published_px=32).split.digest != first.split.digest
    save(folder / "SAR/4.png", np.zeros((SIDE, 64), dtype=np.uint8))
    assert index_published(folder, published_px=SIDE).split.digest != first.split.digest


@pytest.mark.parametrize("name", ["../../etc/passwd", "SAR/../../x.png", "/etc/passwd", "a//b.png", "a\\b.png", ""])
def test_names_that_lead_elsewhere_are_left_out(folder, name):
    add(folder, name)
    add(folder, {"sar": "5.png", "optical": name}, name="paired.json")
    published = index_published(folder, published_px=SIDE)
    assert len(published.split) == 4
    assert [out.name for out in published.left_out] == ["paired.json[2]", "unpaired.json[2]"]


@pytest.mark.parametrize("entry", [7, None, ["a"], {"optical": "a.png"}, {"sar": 3}])
def test_entries_that_are_no_names_are_left_out(folder, entry):
    add(folder, entry)
    published = index_published(folder, published_px=SIDE)
    assert (len(published.split), len(published.left_out)) == (4, 1)


def big_png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff():
    stream = io.BytesIO()
    Image.fromarray(picture((SIDE, SIDE))).save(stream, "TIFF")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "cause_words"),
    [
        (b"", "whole PNG or JPEG"),
        (b"not a picture", "whole PNG or JPEG"),
        (tiff(), "whole PNG or JPEG"),
        (big_png(30_000, 30_000), "Not decoded"),
        (big_png(8_192, 8_193), "at most 67108864 px"),
        (big_png(SIDE, SIDE - 1), "47 x 48 px; at least 48"),
        (None, "is missing"),
    ],
)
def test_pictures_that_cannot_be_used_are_left_out_by_name(folder, content, cause_words):
    if content is not None:
        (folder / "SAR/5.png").write_bytes(content)
    add(folder, "5.png")
    published = index_published(folder, published_px=SIDE)
    assert len(published.split) == 4
    assert [out.name for out in published.left_out] == ["SAR/5.png"]
    assert cause_words in published.left_out[0].cause


def test_a_picture_beyond_pillows_warning_is_left_out(folder):
    (folder / "SAR/5.png").write_bytes(big_png(10_000, 10_000))
    add(folder, "5.png")
    assert "Not decoded" in index_published(folder, published_px=SIDE).left_out[0].cause


def test_16_bit_pictures_are_left_out(folder):
    save(folder / "SAR/5.png", picture((SIDE, SIDE)).astype(np.uint16) * 257)
    add(folder, "5.png")
    assert "8 bits of grey or colour expected" in index_published(folder, published_px=SIDE).left_out[0].cause


def test_palettes_with_transparency_are_read_without_it(folder):
    grey = Image.fromarray(picture((SIDE, SIDE))).convert("P")
    grey.save(folder / "SAR/5.png", transparency=bytes(range(256)))
    add(folder, "5.png")
    sar, _, faults = read(index_published(folder, published_px=SIDE), [4])
    assert faults == []
    assert np.array_equal(sar[0, 0], np.maximum(picture((SIDE, SIDE)), 1))


def test_a_pair_of_two_sizes_is_left_out(folder):
    save(folder / "SAR/5.png", picture((60, 60)))
    save(folder / "OPT/5.png", picture((60, 61, 3)))
    add(folder, {"sar": "5.png", "optical": "5.png"}, name="paired.json")
    left_out = index_published(folder, published_px=SIDE).left_out
    assert left_out[0].cause == "60 x 60 px, but its optical picture 60 x 61 px"


def test_a_sample_listed_twice_stands_once(folder):
    add(folder, "SAR/2.png", "4.png")
    published = index_published(folder, published_px=SIDE)
    assert [(out.name, out.cause[:13]) for out in published.left_out] == [
        ("SAR/2.png", "listed before"),
        ("SAR/4.png", "listed before"),
    ]
    assert published.split.paired.sum() == 2


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"", None])
@pytest.mark.parametrize("name", ["SAR/2.png", "OPT/2.png"])
def test_a_picture_damaged_after_indexing_is_a_fault_with_its_name(folder, name, damage):
    published = index_published(folder, published_px=SIDE)
    path = folder / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    sar, optical, faults = read(published, [0, 1, 2])
    assert [fault.sample for fault in faults] == [1]
    assert name in str(faults[0])
    assert sar[1].max() == optical[1].max() == 0
    assert sar[0].max() > 0
    assert sar[2].max() > 0


@pytest.mark.parametrize(
    "content", ["{", "{}", "3", '"x"', "[" * 100_000, b"\xff\xfe\x00", '["\\u0000"]', '["\\ud800.png"]']
)
@pytest.mark.parametrize("name", ["paired.json", "unpaired.json"])
def test_a_broken_list_is_an_error_with_its_name(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=name):
        index_published(folder)


def test_a_missing_list_says_what_belongs_there(folder):
    (folder / "unpaired.json").unlink()
    with pytest.raises(StoreError, match=r"unpaired\.json: there is no such file.*write \[\]"):
        index_published(folder)


def test_nothing_usable_is_an_error_that_says_why(folder):
    with pytest.raises(StoreError, match=r"none of 4 listed samples.*at least 100 px"):
        index_published(folder, published_px=100)


@pytest.mark.parametrize("settings", [{"published_px": 0}, {"threads": 0}])
def test_impossible_settings_are_refused(folder, settings):
    with pytest.raises(ConfigError, match="at least 1 each"):
        index_published(folder, **settings)


@pytest.mark.skipif(not SHIPS.is_dir(), reason="no ../shared/data/ship_boxes here; the tests above draw their pictures")
def test_real_grey_jpegs_of_three_channels_keep_their_grey(tmp_path):
    (tmp_path / "OPT").mkdir()
    (tmp_path / "SAR").symlink_to(SHIPS.resolve())
    names = sorted(path.name for path in SHIPS.glob("*.jpg"))
    (tmp_path / "paired.json").write_text("[]")
    (tmp_path / "unpaired.json").write_text(json.dumps(names))
    published = index_published(tmp_path, published_px=224)
    assert len(published.split) == len(names) == 4
    sar, _, faults = read(published, optical=False)
    assert faults == []
    for pixels, name in zip(sar, names, strict=True):
        with Image.open(SHIPS / name) as picture:
            whole = np.asarray(picture)
        top, left = (whole.shape[0] - 224) // 2, (whole.shape[1] - 224) // 2
        window = whole[top : top + 224, left : left + 224]
        assert (window == window[..., :1]).all()
        assert np.array_equal(pixels[0], np.maximum(window[..., 0], 1))
