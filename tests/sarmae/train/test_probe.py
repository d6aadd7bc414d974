"""What features are worth by the probe, on features whose worth is known; which samples teach and which are asked; and
the picture of a reconstruction."""

import math
import shutil

import numpy as np
import pytest
import torch
import zarr

from sarmae.model.sarmae import build_model
from sarmae.model.spec import ModelSpec
from sarmae.stream.band_statistics import SarStatistics
from sarmae.stream.loader_settings import CropFlip
from sarmae.train.panels import GAP_PX, MASKED_GREY, SAMPLES, panel
from sarmae.train.probe import LEAST_ASKED, LEAST_SHOWN, ProbeSet, encode, open_probe, score
from sarmae.train.step import Views
from support.small_stores import edit_json, seal, small_store

CROP = CropFlip(crop_px=16, flip_rows=False, flip_cols=False)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)


def asked_about(labels, teaches):
    """A probe over made-up features: without images."""
    names = tuple(f"class {number}" for number in range(int(labels.max()) + 1))
    return ProbeSet(sar_db=torch.empty(len(labels), 0), labels=labels, teaches=teaches, names=names)


def draws(seed):
    return torch.Generator().manual_seed(seed)


def test_features_that_separate_the_classes_are_worth_one():
    labels = torch.arange(400) % 4
    features = 3 * torch.nn.functional.one_hot(labels, 4) + 0.1 * torch.randn(400, 4, generator=draws(1))
    found = score(features, asked_about(labels, torch.arange(400) % 8 < 4))
    assert (found.knn, found.linear, found.classes) == (1.0, 1.0, 4)


def test_noise_is_worth_a_guess():
    labels = torch.arange(6000) % 4
    found = score(torch.randn(6000, 12, generator=draws(2)), asked_about(labels, torch.arange(6000) < 2000))
    assert found.knn == pytest.approx(0.25, abs=0.03)  # 1,000 asked of each class: four standard errors are 0.027
    assert found.linear == pytest.approx(0.25, abs=0.03)


def test_labels_of_the_asked_are_not_looked_at():
    """Features that distinguish the tested samples, but not the teaching ones, give the score of a guess."""
    labels = torch.arange(4000) % 2
    teaches = torch.arange(4000) < 2000
    features = torch.randn(4000, 2, generator=draws(3))
    features[~teaches, 0] += 5 * labels[~teaches]
    assert score(features, asked_about(labels, teaches)).linear == pytest.approx(0.5, abs=0.06)


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    """One feature, N(0, 1) and N(2, 1): the best boundary for equal classes lies at 1, where each is right in Phi(1) of
    the cases. Were classes weighted by their numbers, 39 to 1, the rare one would hardly ever be named."""
    labels = (torch.arange(8000) % 40 == 0).long()
    features = torch.randn(8000, 1, generator=draws(4)) + 2 * labels[:, None]
    found = score(features, asked_about(labels, torch.arange(8000) // 40 % 2 == 0))
    assert found.linear == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=0.06)


def test_scales_of_the_features_do_not_matter():
    labels = torch.arange(300) % 3
    features = torch.nn.functional.one_hot(labels, 3) + 0.3 * torch.randn(300, 3, generator=draws(5))
    probe = asked_about(labels, torch.arange(300) % 2 == 0)
    stretched = features * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([5.0, -70.0, 1e4])
    plain, scaled = score(features, probe), score(stretched, probe)
    assert scaled.linear == pytest.approx(plain.linear, abs=0.02)
    assert scaled.knn == pytest.approx(plain.knn, abs=0.02)


def test_a_feature_that_never_changes_is_borne():
    labels = torch.arange(200) % 2
    features = torch.stack([torch.full((200,), 7.0), labels.float()], dim=1)
    found = score(features, asked_about(labels, torch.arange(200) % 4 < 2))
    assert (found.knn, found.linear) == (1.0, 1.0)


def covered_store(root, train, val=()):
    """A store whose samples have these land covers by number; 0 is unknown."""
    for split, covers in (("train", train), ("val", val)):
        if not covers:
            continue
        place = root if split == "train" else root / "held-out"
        small_store(place, samples=len(covers), slots=64, side=32)
        column = zarr.open_group(place / "data/train.zarr", mode="r+")["land_cover"]
        column[:] = np.array(covers, dtype=np.uint8)
        names = "unknown Cropland Tree_cover Water"
        column.update_attributes({"flag_values": [0, 1, 2, 3], "flag_meanings": names})
    if val:
        edit_json(root / "held-out/data/train.zarr/zarr.json", lambda group: group["attributes"].update(split="val"))
        shutil.move(root / "held-out/data/train.zarr", root / "data/val.zarr")
        shutil.rmtree(root / "held-out")
    seal(root)
    return str(root)


def test_the_val_split_is_asked_where_it_is_big_enough(tmp_path):
    place = covered_store(tmp_path, train=[1, 2] * 20 + [0] * 4, val=[1] * (LEAST_ASKED - 10) + [2] * 10 + [0] * 3)
    probe = open_probe([place], CROP, None)
    assert probe.names == ("Cropland", "Tree_cover")
    assert int(probe.teaches.sum()) == 40
    assert torch.bincount(probe.labels[~probe.teaches]).tolist() == [LEAST_ASKED - 10, 10]
    assert probe.sar_db.shape == (40 + LEAST_ASKED, 2, 16, 16)
    assert probe.sar_db.nan_to_num(nan=-20.0).median() < 0  # decibels


def test_every_fourth_of_train_is_asked_where_val_is_too_small(tmp_path):
    place = covered_store(tmp_path, train=[1, 2, 3, 1, 2] * 30, val=[1] * (LEAST_ASKED - 1))
    probe = open_probe([place], CROP, None)
    assert len(probe.labels) == 150
    assert torch.equal(probe.teaches, torch.arange(150) % 4 != 0)
    assert torch.bincount(probe.labels).tolist() == [60, 60, 30]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ([1, 2] * 10, []),  # five asked
        ([0] * 200, []),  # nothing known
        ([1] * 200, []),  # one class alone
        ([1] * 200 + [2] * (LEAST_SHOWN - 1), [1, 2] * LEAST_ASKED),  # a class hardly shown
        ([1, 2] * 40, [3] * LEAST_ASKED),  # none of those asked was shown
    ],
)
def test_too_few_samples_are_no_probe(tmp_path, train, val):
    assert open_probe([covered_store(tmp_path, train, val)], CROP, None) is None


def test_classes_hardly_shown_are_not_asked(tmp_path):
    train = [1] * 40 + [2] * 40 + [3] * (LEAST_SHOWN - 1)
    probe = open_probe([covered_store(tmp_path, train, [1, 2, 3] * LEAST_ASKED)], CROP, None)
    assert probe.names == ("Cropland", "Tree_cover")
    assert len(probe.labels) == 80 + 2 * LEAST_ASKED


def small_model(*, norm_pix=False, mask_ratio=0.75, **target):
    spec = ModelSpec(
        image_px=32,
        patch_px=8,
        width=24,
        depth=1,
        heads=2,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=2,
        norm_pix=norm_pix,
        mask_ratio=mask_ratio,
        **target,
    )
    bands = {"mean_db": (-12.0, -19.0), "std_db": (5.0, 4.0)}
    statistics = SarStatistics(polarisations=("VV", "VH"), **bands, basis="train", samples=1)
    return build_model(spec, statistics, seed=6)


def views(samples):
    rng = draws(7)
    images = -12 + 5 * torch.randn(samples, 2, 32, 32, generator=rng)
    images[0, :, :8, :8] = float("nan")
    noise = torch.rand(samples, 16, generator=rng)
    return Views(images, images + 1.0, noise, None, torch.ones(samples, dtype=torch.bool))


def test_features_are_the_same_in_pieces():
    model, images = small_model(), views(5).target_db
    assert torch.allclose(encode(model, images, batch=2), encode(model, images, batch=64), atol=1e-6)
    alone = model.tokens(images[3:4])[0, 1:].mean(dim=0)
    assert torch.allclose(encode(model, images)[3], alone, atol=1e-6)


def cells(picture):
    """{row: [input, visible, answer, target]} of a panel, each (32, 32)."""
    step = 32 + GAP_PX
    rows = (picture.shape[1] + GAP_PX) // step
    return [[picture[0, r * step : r * step + 32, c * step : c * step + 32] for c in range(4)] for r in range(rows)]


@pytest.mark.parametrize("norm_pix", [False, True])
def test_a_panel_shows_what_the_model_saw(norm_pix):
    model, shown = small_model(norm_pix=norm_pix), views(SAMPLES + 2)
    picture = panel(model, shown)
    side = 4 * 32 + 3 * GAP_PX
    assert (picture.shape, picture.dtype) == ((3, side, side), torch.uint8)
    assert torch.equal(picture[0], picture[2])
    assert (picture[:, 32 : 32 + GAP_PX] == 255).all()
    assert (picture[:, :, 32 : 32 + GAP_PX] == 255).all()
    ids = torch.stack([model(*shown[:3]).ids_keep[row].sort().values for row in range(SAMPLES)])
    for row, (whole, visible, answer, target) in enumerate(cells(picture)):
        for patch in range(16):
            place = np.s_[patch // 4 * 8 : patch // 4 * 8 + 8, patch % 4 * 8 : patch % 4 * 8 + 8]
            if patch in ids[row]:
                assert torch.equal(visible[place], whole[place])
                assert torch.equal(answer[place], whole[place])
            elif (row, patch) != (0, 0):
                assert (visible[place] == round(255 * MASKED_GREY)).all()
        assert not torch.equal(answer, visible)
        assert (target.float() - whole.float()).clamp(min=0).sum() > 0  # the target is a decibel brighter


@pytest.mark.parametrize("target", ["lowpass", "log_ratio", "hog", "mix"])
def test_a_panel_of_features_shows_prediction_and_target_by_the_targets_spread(target):
    """Where patches are seen, the target's own features stand in the prediction's picture."""
    model, shown = small_model(target=target, mix=(0, 1, 1, 0)), views(2)
    ids = model(*shown[:3]).ids_keep
    for row, (_, visible, answer, wanted) in enumerate(cells(panel(model, shown))):
        seen = torch.zeros(16, dtype=torch.bool).scatter(0, ids[row], value=True).view(4, 4)
        seen = seen.repeat_interleave(8, 0).repeat_interleave(8, 1)
        assert (visible[~seen] == round(255 * MASKED_GREY)).all()
        assert torch.equal(answer[seen], wanted[seen])
        assert not torch.equal(answer[~seen], wanted[~seen])
        assert wanted.float().std() > 5


def test_no_data_are_black_in_a_panel():
    whole, _, _, target = cells(panel(small_model(mask_ratio=0.25), views(2)))[0]
    for image in (whole, target):
        assert (image[:8, :8] == 0).all()
        assert (image[8:, 8:] > 0).float().mean() > 0.9


def test_a_panel_of_few_samples_has_few_rows():
    assert panel(small_model(), views(2)).shape[1] == 2 * 32 + GAP_PX
