"""Crops, flips and dequantisation: the same place in both sensors, the schema's own values, keyed by the sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.schema import LinearEncoding, optical_encoding, sar_encoding
from sarmae.stream import transforms
from sarmae.stream.batch import Batch, ImageSpec
from sarmae.stream.loader_settings import CropFlip
from sarmae.stream.transforms import Dequantise, centre_crop, crop_flip, draw_geometry

SEED = 11


def coordinates(side_px=64, samples=12, epoch=2):
    """Pixels that say where they stand: SAR row * 256 + column, optical band 0 the row, band 1 the column."""
    rows, cols = np.mgrid[:side_px, :side_px]
    sar = np.broadcast_to(rows * 256 + cols, (samples, 2, side_px, side_px)).astype(np.uint16)
    optical = np.broadcast_to(np.stack([rows, cols, rows]), (samples, 3, side_px, side_px)).astype(np.uint8)
    return Batch(
        sar=torch.from_numpy(sar),
        optical=torch.from_numpy(optical),
        paired=torch.ones(samples, dtype=torch.bool),
        id=torch.arange(samples) * 1_000_003,
        enl=torch.full((samples,), 4.4),
        epoch=epoch,
        step=0,
    )


def turned(grid, upside_down, mirrored):
    return grid[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("take", ["_copy_windows", "_gather_windows"])
def test_both_sensors_are_cut_and_turned_as_the_geometry_says(align, take, monkeypatch):
    monkeypatch.setattr(transforms, "_copy_windows", getattr(transforms, take))  # what the CPU uses
    augmented = crop_flip(coordinates(), CropFlip(crop_px=32, align=align), SEED)
    batch, geometry = augmented.batch, augmented.geometry
    assert batch.sar.shape == (12, 2, 32, 32)
    assert batch.sar.dtype == torch.uint16
    for k in range(12):
        rows, cols = np.mgrid[:32, :32]
        rows, cols = rows + int(geometry.rows_px[k]), cols + int(geometry.cols_px[k])
        flips = bool(geometry.flipped_rows[k]), bool(geometry.flipped_cols[k])
        for band in range(2):
            assert np.array_equal(batch.sar[k, band].numpy(), turned(rows * 256 + cols, *flips))
        assert np.array_equal(batch.optical[k, 0].numpy(), turned(rows, *flips))
        assert np.array_equal(batch.optical[k, 1].numpy(), turned(cols, *flips))


def test_aligned_corners_stand_on_tokens_and_reach_all_of_them():
    geometry = draw_geometry(coordinates(256, samples=1), CropFlip(crop_px=224), SEED)
    many = replace(coordinates(256, samples=1), id=torch.arange(900))
    geometry = draw_geometry(many, CropFlip(crop_px=224), SEED)
    corners, counts = np.unique(np.stack([geometry.rows_px, geometry.cols_px]), axis=1, return_counts=True)
    assert corners.T.tolist() == [[row, col] for row in (0, 16, 32) for col in (0, 16, 32)]
    assert counts.min() > 60
    shares = [geometry.flipped_rows.float().mean(), geometry.flipped_cols.float().mean()]
    assert all(0.4 < float(share) < 0.6 for share in shares)
    both = (geometry.flipped_rows & geometry.flipped_cols).float().mean()
    assert 0.15 < float(both) < 0.35  # the two coins are not one


def test_without_align_every_corner_to_the_last_one_is_met():
    many = replace(coordinates(64, samples=1), id=torch.arange(2000))
    geometry = draw_geometry(many, CropFlip(crop_px=31, align=False), SEED)
    assert set(geometry.rows_px.tolist()) == set(range(34))
    assert set(geometry.cols_px.tolist()) == set(range(34))


def test_a_sample_meets_the_same_fate_in_any_batch():
    batch, crop = coordinates(), CropFlip(crop_px=32)
    whole = crop_flip(batch, crop, SEED).batch
    picked = torch.tensor([11, 3, 4])
    other = crop_flip(batch.select(picked), crop, SEED).batch
    assert torch.equal(other.sar.view(torch.int16), whole.sar.view(torch.int16)[picked])
    assert torch.equal(other.optical, whole.optical[picked])


def test_epochs_and_seeds_differ_and_a_switch_leaves_the_rest_as_drawn():
    batch, crop = coordinates(samples=64), CropFlip(crop_px=32)
    first = draw_geometry(batch, crop, SEED)
    for other in (draw_geometry(replace(batch, epoch=3), crop, SEED), draw_geometry(batch, crop, SEED + 1)):
        assert not torch.equal(other.rows_px, first.rows_px)
    unflipped = draw_geometry(batch, replace(crop, flip_rows=False), SEED)
    assert not unflipped.flipped_rows.any()
    assert torch.equal(unflipped.flipped_cols, first.flipped_cols)
    assert torch.equal(unflipped.rows_px, first.rows_px)


def test_what_comes_out_is_owned():
    batch = coordinates(32)
    out = crop_flip(batch, CropFlip(crop_px=32, flip_rows=False, flip_cols=False), SEED).batch
    batch.sar.zero_()
    batch.optical.zero_()
    assert int(out.sar[0, 0, 31, 31]) == 31 * 256 + 31
    assert int(out.optical[0, 0, 31, 31]) == 31


def test_centre_crop_takes_the_middle():
    free = centre_crop(coordinates(66), CropFlip(crop_px=32, align=False))
    assert int(free.batch.sar[0, 0, 0, 0]) == 17 * 256 + 17
    aligned = centre_crop(coordinates(256), CropFlip(crop_px=224))
    assert aligned.geometry.rows_px.tolist() == [16] * 12
    assert not aligned.geometry.flipped_rows.any()


def test_sar_alone_passes():
    out = crop_flip(replace(coordinates(), optical=None), CropFlip(crop_px=32), SEED).batch
    assert out.optical is None


@pytest.mark.parametrize(
    ("side_px", "settings", "message"),
    [
        (64, {"crop_px": 80}, "larger than the stored patches of 64 x 64"),
        (72, {"crop_px": 64}, "multiple of 16 px; these are 72 x 72"),
        (64, {"crop_px": 40}, "Use 32, or switch align off"),
        (64, {"crop_px": 0}, "positive number"),
        (64, {"crop_px": -16}, "positive number"),
    ],
)
def test_impossible_crops_are_refused(side_px, settings, message):
    with pytest.raises(ConfigError, match=message):
        crop_flip(coordinates(side_px), CropFlip(**settings), SEED)


def test_sensors_of_different_size_are_refused():
    batch = coordinates()
    with pytest.raises(StoreError, match="one grid for both"):
        crop_flip(replace(batch, optical=batch.optical[..., :32]), CropFlip(crop_px=32), SEED)


def spec(encoding, name="sar"):
    return ImageSpec(
        name=name,
        labels=("a",),
        sample_shape=(1, 256, 256),
        dtype=encoding.dtype,
        scale_factor=encoding.scale_factor,
        add_offset=encoding.add_offset,
        units=encoding.units,
        slots=1,
        codec="none",
    )


def numbers(dtype, sar=None):
    """One sample whose pixels are every digital number."""
    every = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256)
    optical = every if dtype == "uint16" else (every % 256).astype(np.uint8)
    return replace(
        coordinates(16, samples=1),
        sar=torch.from_numpy(every if sar is None else sar),
        optical=torch.from_numpy(optical),
    )


@pytest.mark.parametrize("profile", ["training", "archive"])
def test_sar_becomes_the_decibels_of_the_schema(profile):
    encoding = sar_encoding(profile, "gamma0")
    batch = numbers("uint16")
    out = Dequantise(spec(encoding), spec(optical_encoding("training", "reflectance"), "optical"))(batch)
    exact = encoding.decode(batch.sar.numpy())
    assert out.sar.dtype == torch.float32
    assert np.array_equal(out.sar.numpy(), exact, equal_nan=True)
    assert torch.isnan(out.sar).sum() == 1
    assert torch.isnan(out.sar[0, 0, 0, 0])


def test_optical_of_8_bits_is_shown_brightness():
    out = Dequantise(spec(sar_encoding("training", "sigma0")), spec(optical_encoding("training", "display"), "o"))(
        numbers("uint8")
    )
    shown = out.optical[0, 0, 0]
    assert shown.dtype == torch.float32
    assert float(shown[0]) == 0.0
    assert float(shown[255]) == 1.0
    assert float(shown[51]) == pytest.approx(0.2)


SCHEMA_1_0 = LinearEncoding(dtype="uint8", scale_factor=0.3 / 254, add_offset=-0.3 / 254, units="1", long_name="")
WIDE = LinearEncoding(dtype="uint8", scale_factor=1.6 / 254, add_offset=-0.1, units="1", long_name="")


@pytest.mark.parametrize(
    "encoding",
    [SCHEMA_1_0, WIDE, optical_encoding("training", "reflectance"), optical_encoding("archive", "reflectance")],
    ids=["1.0", "8 bits over another range", "training", "archive"],
)
def test_reflectance_is_clipped_to_the_display_range_by_the_arrays_own_scale(encoding):
    out = Dequantise(spec(sar_encoding("archive", "sigma0")), spec(encoding, "optical"))(numbers(encoding.dtype))
    shown = out.optical.reshape(-1)
    reflectance = np.array([-0.05, 0.0, 0.15, 0.3, 0.9])
    expected = [0.0, 0.0, 0.5, 1.0, 1.0]
    off = encoding.scale_factor / 2 / 0.3 + 1e-5
    assert shown[encoding.encode(reflectance).astype(np.int64)].tolist() == pytest.approx(expected, abs=off)
    assert float(shown[0]) == 0.0  # no data, and every pixel of an unpaired sample
    assert float(shown.max()) == 1.0


def test_a_batch_is_dequantised_once_and_by_its_own_store():
    dequantise = Dequantise(
        spec(sar_encoding("training", "sigma0")), spec(optical_encoding("archive", "reflectance"), "optical")
    )
    batch = numbers("uint16")
    with pytest.raises(ConfigError, match="sar holds float32, uint16 expected"):
        dequantise(dequantise(batch))
    with pytest.raises(ConfigError, match="optical holds uint8, uint16 expected"):
        dequantise(numbers("uint8"))
    with pytest.raises(ConfigError, match="nothing expected"):
        Dequantise(spec(sar_encoding("training", "sigma0")), None)(batch)


def test_crop_then_dequantise_is_dequantise_then_crop():
    rng = np.random.default_rng(3)
    batch = replace(coordinates(), sar=torch.from_numpy(rng.integers(0, 3000, (12, 2, 64, 64)).astype(np.uint16)))
    dequantise = Dequantise(
        spec(sar_encoding("training", "sigma0")), spec(optical_encoding("training", "display"), "o")
    )
    crop = CropFlip(crop_px=48)
    one = dequantise(crop_flip(batch, crop, SEED).batch)
    other = crop_flip(dequantise(batch), crop, SEED).batch
    assert np.array_equal(one.sar.numpy(), other.sar.numpy(), equal_nan=True)
    assert torch.equal(one.optical, other.optical)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_bits_of_the_cpu():
    dequantise = Dequantise(
        spec(sar_encoding("training", "sigma0")), spec(optical_encoding("training", "display"), "o")
    )
    batch, crop = coordinates(), CropFlip(crop_px=32)
    here = dequantise(crop_flip(batch, crop, SEED).batch)
    there = dequantise(crop_flip(batch.to("cuda"), crop, SEED).batch)
    assert np.array_equal(there.sar.cpu().numpy(), here.sar.numpy(), equal_nan=True)
    assert torch.equal(there.optical.cpu(), here.optical)
