"""Segmentation by heads on an encoder's grid."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError
from sarmae.evaluate.label_splits import share_of_groups
from sarmae.evaluate.segment import fit_head, segment
from sarmae.evaluate.segment.fit_head import KeptGrids
from sarmae.evaluate.segment.heads import LinearHead, PyramidHead, Standardise
from support.eval_pieces import HeldImages, HeldMasks, TinyBackbone, made_scenes, task_config

CPU = torch.device("cpu")
FIT = {"epochs": 6, "batch": 8, "lr": 5e-3}


def question(**changes):
    fit = FIT | changes.pop("fit", {})
    return task_config("segmentation", fit=fit, **({"bootstrap": 50} | changes))


def run(task, seed=0, backbone=None, **changes):
    return segment(backbone or TinyBackbone(), task, question(**changes), seed, CPU)


def values(scores, protocol="pyramid", setting=""):
    return {score.metric: score.value for score in scores if (score.protocol, score.setting) == (protocol, setting)}


@pytest.fixture(scope="module")
def scenes():
    return made_scenes(count=24, side_px=32)


@pytest.fixture(scope="module")
def plain(scenes):
    return run(scenes)


def test_half_planes_are_distinguished(plain):
    pyramid, linear = values(plain), values(plain, "linear")
    assert pyramid["mIoU"] > 0.85
    assert linear["mIoU"] > 0.6
    assert pyramid["mIoU"] == pytest.approx((pyramid["IoU: dark"] + pyramid["IoU: bright"]) / 2)
    assert plain[0].metric == "mIoU"
    assert plain[0].protocol == "pyramid"
    assert plain[0].low < plain[0].value < plain[0].high


def test_noise_is_not_segmented(scenes):
    masks = HeldMasks(torch.randint(2, scenes.masks.values.shape, generator=torch.Generator().manual_seed(1)))
    scores = values(run(replace(scenes, masks=masks)))
    assert scores["pixel accuracy"] == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_gives_the_same_scores_whatever_was_drawn_before(scenes, plain):
    torch.manual_seed(99)
    torch.rand(7)
    assert run(scenes) == plain
    assert run(scenes, seed=1) != plain


def test_the_encoder_is_left_as_it_was_and_learns_in_a_copy(scenes, plain):
    backbone = TinyBackbone()
    before = {name: weight.clone() for name, weight in backbone.state_dict().items()}
    learned = run(scenes, backbone=backbone)
    assert all((weight == before[name]).all() for name, weight in backbone.state_dict().items())
    frozen = run(scenes, fit={"freeze": True})
    assert {score.protocol for score in frozen} == {"frozen pyramid", "linear"}
    assert values(frozen, "frozen pyramid") != values(learned)
    assert values(frozen, "linear") == values(plain, "linear")


def test_an_encoder_without_weights_is_scored_too(scenes):
    scores = run(scenes, backbone=TinyBackbone(learns=False), protocols=("knn",))
    assert {score.protocol for score in scores} == {"pyramid"}
    assert values(scores)["mIoU"] > 0.7


def test_shares_of_the_labels_are_nested_groups_of_scenes(scenes, monkeypatch):
    taught = {}

    def remember(step, weights, *, count, config, seed):
        taught[count] = True
        return real(step, weights, count=count, config=config, seed=seed)

    real = fit_head.fit
    monkeypatch.setattr(fit_head, "fit", remember)
    grouped = replace(scenes, groups=np.arange(len(scenes.groups)) // 2)
    scores = run(grouped, protocols=("knn",), label_shares=(0.1, 0.5, 1.0), fit={"epochs": 1})
    assert {score.setting for score in scores} == {
        "", "10 % of the labels", "50 % of the labels", "100 % of the labels",
    }  # fmt: skip
    assert values(scores) == values(scores, setting="100 % of the labels")
    assert len(taught) == 3


def test_smaller_shares_lie_in_larger_ones_and_take_groups_whole(scenes):
    grouped = replace(scenes, groups=np.arange(len(scenes.groups)) // 3)
    train = np.flatnonzero(scenes.splits == "train")

    def drawn(share, seed=4):
        return set(share_of_groups(train, grouped.groups, share, stream="any", seed=seed).tolist())

    shares = [drawn(share) for share in (0.01, 0.3, 0.6, 1.0)]
    assert shares[0]
    assert shares[0] < shares[1] < shares[2] < shares[3] == set(train.tolist())
    for share in shares:
        mates = {number for number in train if grouped.groups[number] in grouped.groups[list(share)]}
        assert mates == share
    assert shares[1] != drawn(0.3, seed=5)


def test_pixels_without_data_neither_teach_nor_count(scenes):
    """Wrong labels where there is no data change nothing."""
    images = scenes.images.values.clone()
    images[:, :, :, :8] = float("nan")
    wrong = scenes.masks.values.clone()
    wrong[:, :, :8] = 1 - wrong[:, :, :8].clamp(min=0)
    right, wrong_masks = (
        run(replace(scenes, images=HeldImages(images), masks=HeldMasks(masks)), protocols=("knn",), fit={"epochs": 2})
        for masks in (scenes.masks.values, wrong)
    )
    assert right == wrong_masks


def test_scenes_without_labels_count_nothing(scenes):
    masks = scenes.masks.values.clone()
    empty = np.flatnonzero(scenes.splits == "test")[:2]
    masks[empty] = -1
    masks[np.flatnonzero(scenes.splits == "train")[:8]] = -1  # a whole batch, in some epoch, may be without labels
    scores = run(replace(scenes, masks=HeldMasks(masks)), protocols=("knn",), fit={"batch": 2, "epochs": 3})
    assert {score.tested for score in scores} == {int((scenes.splits == "test").sum()) - 2}
    assert all(np.isfinite(score.value) for score in scores)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_any_label_is_reported(scenes, split):
    masks = scenes.masks.values.clone()
    masks[np.flatnonzero(scenes.splits == split)] = -1
    with pytest.raises(ConfigError, match=f"no pixel of the {split} scenes"):
        run(replace(scenes, masks=HeldMasks(masks)), fit={"epochs": 1})


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_scenes_is_reported(scenes, split):
    with pytest.raises(ConfigError, match=f"no scene in the split {split}"):
        run(replace(scenes, splits=np.where(scenes.splits == split, "val", scenes.splits)))


def test_labels_out_of_range_and_masks_of_another_size_are_reported(scenes):
    high = scenes.masks.values.clone()
    high[0, 3, 3] = 2
    with pytest.raises(ConfigError, match=r"labels -1 to 2; expected .* to 1"):
        run(replace(scenes, masks=HeldMasks(high), splits=np.where(np.arange(24) < 12, "train", "test")))
    with pytest.raises(ConfigError, match=r"masks of \(16, 32\)"):
        run(replace(scenes, masks=HeldMasks(scenes.masks.values[:, :16])))


def test_a_frozen_encoder_sees_every_scene_and_flip_once(scenes):
    seen = []

    class Counting(TinyBackbone):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    run(scenes, backbone=Counting(), fit={"freeze": True, "epochs": 20})
    assert sum(seen) <= 4 * 12 + 8  # 12 scenes teach in four ways, 8 are tested


def test_what_does_not_fit_is_made_again_and_the_same(scenes, monkeypatch):
    few, keys = scenes.images.values[:3], [(number, False, False) for number in range(3)]
    kept = KeptGrids(encoder=TinyBackbone())
    first, again = kept(few, keys), kept(few, keys)
    monkeypatch.setattr(fit_head, "MOST_KEPT_BYTES", 0)
    anew = KeptGrids(encoder=TinyBackbone())
    assert (first == again).all()
    assert (anew(few, keys) == anew(few, keys)).all()
    assert not anew._kept


@pytest.mark.parametrize("stride_px", [1, 4, 8, 14, 16, 32])
@pytest.mark.parametrize("side", [1, 3, 8])
def test_heads_take_grids_of_any_stride_and_size(stride_px, side):
    side_px = side * stride_px
    logits = PyramidHead(6, stride_px, 3)(torch.randn(2, 6, side, side), side_px)
    assert logits.shape == (2, 3, side_px, side_px)
    assert torch.isfinite(logits).all()
    assert LinearHead(6, 3)(torch.randn(2, 6, side, side), side_px).shape == logits.shape


def test_every_weight_of_the_pyramid_learns():
    head = PyramidHead(6, 16, 3)
    head(torch.randn(2, 6, 8, 8), 128).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in head.parameters())


def test_features_are_standardised_and_a_constant_channel_is_nought():
    grid = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(1)) * 3 + 7
    grid[:, 1] = 2.5
    flat = grid.transpose(0, 1).flatten(1).double()
    scaled = Standardise(flat.mean(dim=1), flat.std(dim=1))(grid)
    assert scaled[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert scaled[:, 0].std() == pytest.approx(1, abs=1e-3)
    assert (scaled[:, 1] == 0).all()
