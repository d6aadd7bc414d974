"""Shards put together from encoded chunks, read back by independent readers: zarr-python and xarray."""

import struct

import google_crc32c
import numpy as np
import pandas as pd
import pytest
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st

from sar1m.io.zarr_groups import ImageArray, group_files
from sar1m.store.chunks import checked_payload, encode_chunk
from sar1m.store.durable import write_durably
from sar1m.store.schema import ArrayLayout, optical_encoding, sar_encoding
from sar1m.store.shard_index import shard_name, shard_pieces

SIDE = 16


def image(name, labels, encoding, compression, shard_samples):
    layout = ArrayLayout(
        name=name,
        dims=("sample", {"sar": "pol", "optical": "band"}[name], "y", "x"),
        sample_shape=(len(labels), SIDE, SIDE),
        dtype=encoding.dtype,
        shard_samples=shard_samples,
    )
    return ImageArray(layout=layout, encoding=encoding, compression=compression, labels=labels)


def write_split(group, images, pixels, paired):
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(len(paired))],
            "paired": paired,
            "enl": 4.4,
            "land_cover": [{"Cropland": 0.6, "Tree cover": 0.4}] * len(paired),
            "lon": np.linspace(0, 1, len(paired)),
            "lat": np.linspace(5, 6, len(paired)),
        }
    )
    for name, content in group_files(images, samples, {"split": "train"}).items():
        write_durably(group / name, [content])
    for one in images:
        slots = one.layout.shard_samples
        for shard in range(-(-len(paired) // slots)):
            chosen = range(shard * slots, min((shard + 1) * slots, len(paired)))
            chunks = (
                encode_chunk(pixels[one.layout.name][i], one.compression)
                if one.layout.name == "sar" or paired[i]
                else None
                for i in chosen
            )
            write_durably(group / shard_name(one.layout.name, shard), shard_pieces(chunks, slots=slots))


@pytest.mark.parametrize("compression", ["blosc-lz4", "none"])
@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_zarr_and_xarray_read_what_was_assembled(tmp_path, compression, count):
    rng = np.random.default_rng(count)
    sar_db = rng.uniform(-35, 5, (count, 2, SIDE, SIDE)).astype(np.float32)
    sar_db[0, 0, 0, :3] = np.nan
    reflectance = rng.uniform(-0.2, 1.6, (count, 3, SIDE, SIDE)).astype(np.float32)
    paired = [i % 3 != 1 for i in range(count)]
    images = [
        image("sar", ("VV", "VH"), sar_encoding("training", "sigma0"), compression, 4),
        image("optical", ("B04", "B03", "B02"), optical_encoding("training", "reflectance"), compression, 4),
    ]
    pixels = {"sar": images[0].encoding.encode(sar_db), "optical": images[1].encoding.encode(reflectance)}
    write_split(tmp_path / "train.zarr", images, pixels, paired)

    stored = zarr.open_array(tmp_path / "train.zarr/sar", mode="r")
    np.testing.assert_array_equal(stored[:], pixels["sar"])
    dataset = xarray.open_zarr(tmp_path / "train.zarr", consolidated=False)
    assert dataset["sar"].dims == ("sample", "pol", "y", "x")
    assert dataset["sar"].attrs["units"] == "dB"
    assert list(dataset["pol"].values) == ["VV", "VH"]
    assert list(dataset["band"].values) == ["B04", "B03", "B02"]
    assert set(dataset["sar"].coords) >= {"sample_id", "lon", "lat", "pol"}
    np.testing.assert_allclose(dataset["sar"].values, sar_db, atol=0.05 / 2 + 1e-4)  # NaN where no data, on both sides
    keep = np.array(paired)
    np.testing.assert_allclose(dataset["optical"].values[keep], reflectance[keep], atol=0.001 / 2 + 1e-6)
    assert np.isnan(dataset["optical"].values[~keep]).all()
    assert list(dataset["paired"].values) == [int(one) for one in paired]


@given(st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=40)), max_size=7), st.integers(7, 9))
def test_index_finds_every_chunk(chunks, slots):
    shard = b"".join(shard_pieces(iter(chunks), slots=slots))
    encoded, checksum = shard[-(16 * slots + 4) : -4], shard[-4:]
    assert struct.unpack("<I", checksum) == (google_crc32c.value(encoded),)
    places = list(struct.iter_unpack("<QQ", encoded))
    absent = (2**64 - 1, 2**64 - 1)
    found = [None if place == absent else shard[place[0] : sum(place)] for place in places]
    assert found == [*chunks, *[None] * (slots - len(chunks))]


def test_flipped_bit_is_found_never_read():
    chunk = bytearray(encode_chunk(np.arange(64, dtype=np.uint16), "blosc-lz4"))
    assert checked_payload(bytes(chunk)) == bytes(chunk[:-4])
    for position in range(len(chunk)):
        damaged = bytearray(chunk)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(ValueError, match="its checksum does not hold"):
            checked_payload(bytes(damaged))


def test_encoding_never_turns_a_measurement_into_no_data():
    encoding = sar_encoding("archive", "gamma0")
    dn = encoding.encode(np.array([-1000.0, -60.0, -59.99, 0.0, 1e6, np.nan]))
    assert list(dn) == [1, 1, 1, 6000, 65535, 0]
    assert np.isnan(encoding.decode(dn)[-1])
    assert encoding.decode(dn)[3] == pytest.approx(0.0, abs=1e-6)
