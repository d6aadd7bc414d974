"""Classification end to end on made-up chips: a planted signal is found, noise gives chance, every row is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError, Sar1mError, SourceError
from sarmae.errors import NonFiniteError
from sarmae.evaluate.classify import classify
from sarmae.evaluate.labelled_images import LabelledChips
from sarmae.evaluate.scores import Score
from sarmae.evaluate.study_config import DatasetConfig, TaskConfig
from support.eval_pieces import HeldImages, TinyBackbone, made_chips, task_config, textures

CPU = torch.device("cpu")
ALL = ("knn", "linear", "attentive", "fine-tune")


def scores_of(task: LabelledChips, question: TaskConfig, *, seed: int = 0, **backbone: Any) -> list[Score]:
    return classify(TinyBackbone(**backbone), task, question, seed, CPU).scores


def table(scores: list[Score], metric: str = "balanced accuracy") -> dict[tuple[str, str], Score]:
    rows = [score for score in scores if score.metric == metric]
    found = {(score.protocol, score.setting): score for score in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("protocol", ALL)
def test_a_planted_signal_is_found(protocol: str):
    found = table(scores_of(made_chips(signal_db=5.0), task_config(protocols=(protocol,))))[protocol, ""]
    assert found.value > 0.9
    assert found.tested == 36
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("protocol", ALL)
def test_noise_without_signal_gives_chance(protocol: str):
    task = made_chips(count=600, signal_db=0.0)
    found = table(scores_of(task, task_config(protocols=(protocol,), fit={"epochs": 2})))[protocol, ""]
    assert found.value == pytest.approx(1 / 3, abs=0.12)  # 180 tested: standard error 0.035
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1 / 3 + 0.03
    assert found.high > 1 / 3 - 0.03


def everything(**changes: Any) -> TaskConfig:
    question = {
        "protocols": ALL,
        "shots": (2,),
        "label_shares": (0.3, 1.0),
        "looks": (1.0, 16.0),
        "breakdown": ("region", "incidence_deg"),
        "fit": {"epochs": 2},
    }
    return task_config(**(question | changes))


def test_the_same_seed_gives_the_same_scores_bit_for_bit_whatever_was_drawn_before():
    first = scores_of(made_chips(), everything(), seed=1)
    torch.rand(7)
    assert scores_of(made_chips(), everything(), seed=1) == first
    other = scores_of(made_chips(), everything(), seed=2)
    assert table(other)["knn", ""].value == table(first)["knn", ""].value
    assert table(other)["fine-tune", ""] != table(first)["fine-tune", ""]


def test_every_row_asked_for_is_there_the_main_figure_first():
    scores = scores_of(made_chips(), everything(protocols=("knn", "linear")))
    assert (scores[0].protocol, scores[0].setting, scores[0].metric) == ("knn", "", "balanced accuracy")
    settings = list(dict.fromkeys(score.setting for score in scores if score.protocol == "linear"))
    assert settings[:3] == ["", "region north", "region south"]
    assert [one.split()[0] for one in settings[3:6]] == ["incidence_deg"] * 3
    assert settings[6:] == [
        "ENL 1",
        "ENL 16 (all images as they are)",
        "30 % of the labels",
        "100 % of the labels",
        "2 a class",
    ]
    plain = [score.metric for score in scores if (score.protocol, score.setting) == ("linear", "")]
    assert plain == ["balanced accuracy", "accuracy", "macro F1", *(f"recall: class-{one}" for one in range(3))]
    rows = table(scores, "accuracy")
    assert rows["knn", "100 % of the labels"].value == rows["knn", ""].value
    assert rows["knn", "ENL 16 (all images as they are)"].value == rows["knn", ""].value
    by_region = [rows["knn", f"region {name}"] for name in ("north", "south")]
    assert sum(one.tested for one in by_region) == 36
    assert sum(one.value * one.tested for one in by_region) == pytest.approx(rows["knn", ""].value * 36)


def test_held_out_and_seen_regions_stand_beside_each_other():
    dataset = DatasetConfig(kind="folders", path="nowhere", image_px=32, hold_out="region=south")
    rows = table(scores_of(made_chips(), task_config(protocols=("linear",), dataset=dataset)))
    assert rows["linear", "held-out regions"].value == rows["linear", ""].value
    assert rows["linear", "seen regions"].tested == 24


def test_an_encoder_that_learns_nothing_has_no_fine_tuning_and_keeps_its_weights_otherwise():
    assert scores_of(made_chips(), task_config(protocols=("fine-tune",)), learns=False) == []
    backbone = TinyBackbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    classify(backbone, made_chips(), task_config(protocols=("fine-tune",)), 0, CPU)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_images_are_encoded_once_for_all_frozen_protocols_shots_and_shares():
    task = made_chips()
    classify(TinyBackbone(), task, everything(protocols=("knn", "linear"), looks=()), 0, CPU)
    assert isinstance(task.images, HeldImages)
    assert task.images.reads == 120


def test_more_speckle_lowers_the_accuracy():
    task = made_chips(signal_db=3.0)
    rows = table(scores_of(task, task_config(protocols=("linear",), looks=(0.25, 1.0, 4.0))))
    assert rows["linear", "ENL 0.25"].value < rows["linear", "ENL 4"].value <= rows["linear", ""].value + 0.05


def test_few_labels_do_worse_and_a_class_that_has_fewer_is_named():
    rows = table(scores_of(made_chips(signal_db=2.0), task_config(protocols=("linear",), shots=(1, 40))))
    settings = [setting for _, setting in rows]
    assert settings[:2] == ["", "1 a class"]
    assert settings[2].startswith("40 a class (all there are: class-0 ")
    assert rows["linear", "1 a class"].value < rows["linear", ""].value
    assert rows["linear", settings[2]].value == rows["linear", ""].value


def test_without_a_val_split_the_strength_is_chosen_by_folds():
    task = made_chips(signal_db=5.0)
    splits = np.where(task.splits == "val", "train", task.splits)
    found = table(scores_of(made_chips(signal_db=5.0, splits=splits), task_config(protocols=("linear",), shots=(1,))))
    assert found["linear", ""].value > 0.9
    assert found["linear", "1 a class"].tested == 36


def only(task: LabelledChips, **kept: int) -> Any:
    """Splits in which a split has so many samples of class 0 at most, and others only of the other classes."""
    splits = task.splits.copy()
    for split, most in kept.items():
        splits[np.flatnonzero((splits == split) & (task.labels == 0))[most:]] = "unused"
    return splits


@pytest.mark.parametrize(
    ("changes", "question", "error", "message"),
    [
        ({"splits": only(made_chips(), train=0)}, {}, ConfigError, "class-0: tested, but without any train sample"),
        ({"splits": np.array(["train"] + ["test"] * 119)}, {}, ConfigError, "train split has 1 samples of 1 classes"),
        ({"labels": np.zeros(120, dtype=np.int64)}, {}, ConfigError, "samples of 1 classes"),
        ({"splits": np.array(["train"] * 120)}, {}, ConfigError, "test split is empty"),
        ({"labels": np.arange(120) - 1}, {}, SourceError, "labels of samples 0, 4, 5"),
        ({}, {"breakdown": ("weather",)}, ConfigError, "breakdown by weather.*incidence_deg, region"),
    ],
)
def test_bad_input_is_named(changes: Any, question: Any, error: type[Sar1mError], message: str):
    with pytest.raises(error, match=message):
        scores_of(made_chips(**changes), task_config(**question))


def test_looks_are_refused_where_values_are_no_power():
    task = made_chips()
    pictures = type(task.inputs)(**{**vars(task.inputs), "units": "picture"})
    with pytest.raises(ConfigError, match="grey values"):
        scores_of(made_chips(inputs=pictures), task_config(looks=(1.0,)))


def test_features_that_are_not_finite_name_the_samples():
    values = textures(made_chips().labels, signal_db=4.0)
    values[[17, 64], 0, 3, 3] = torch.inf
    with pytest.raises(NonFiniteError, match=r"tiny: features of samples 17 are"):
        scores_of(made_chips(images=HeldImages(values)), task_config())


def test_a_class_with_no_test_sample_has_no_recall_and_does_not_lower_the_mean():
    task = made_chips(signal_db=6.0)
    scores = scores_of(made_chips(signal_db=6.0, splits=only(task, test=0)), task_config(protocols=("linear",)))
    assert {score.metric for score in scores} >= {"recall: class-1", "recall: class-2"}
    assert "recall: class-0" not in {score.metric for score in scores}
    assert table(scores)["linear", ""].value > 0.9


def test_an_encoder_that_sees_nothing_gives_chance_not_an_error():
    backbone = TinyBackbone()
    torch.nn.init.zeros_(backbone.embed.weight)
    scores = classify(backbone, made_chips(), task_config(protocols=("knn", "linear", "attentive")), 0, CPU).scores
    assert {round(score.value, 6) for score in table(scores).values()} == {round(1 / 3, 6)}
