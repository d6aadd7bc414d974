"""Whole studies: the same bytes after any stop and with any number of processes, scores kept, failures reported."""

import json
import os
import random
import signal
import time
import weakref
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from sar1m.store import settings
from sar1m.store.errors import ConfigError, Sar1mError
from sarmae.evaluate import data_check
from sarmae.evaluate import study as study_module
from sarmae.evaluate.labelled_images import Inputs, LabelledChips
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.study import run_study
from sarmae.evaluate.study_config import TASK_OF_DATASET, StudyConfig, TaskConfig
from support.campaigns import campaign
from support.simulated_sets import write_target_chips
from support.small_runs import SECTIONS, Notes, training_store


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    write_target_chips(root / "chips", classes=3, per_class=12, side_px=48)
    return root, training_store(root / "store")


TASK = {"name": "t", "kind": "classification", "dataset": {"kind": "folders", "path": "somewhere"}}


def study_of(place, **changes):
    root, store = place
    task = {
        "name": "targets",
        "kind": "classification",
        "dataset": {"kind": "folders", "path": str(root / "chips"), "image_px": 48},
        "protocols": ["knn", "linear"],
        "bootstrap": 20,
    }
    pretrain = {name: dict(part) for name, part in SECTIONS.items()}
    pretrain["data"]["stores"] = [str(store.root)]
    pretrain["train"] |= {"steps": 4, "checkpoint_every": 2}
    arms = [
        {"name": "MAE + SARE", "set": ["sare.speckle=gamma", "sarc.teacher=none"]},
        {"name": "raw statistics", "encoder": "statistics"},
    ]
    given = {"name": "small", "seeds": [0, 1], "pretrain": pretrain, "arms": arms, "tasks": [task], **changes}
    return StudyConfig.model_validate(given)


def run_alone(study, folder):
    """In a process of its own, as the command does it; None where it was killed."""
    return get_context("spawn").Process(target=run_quietly, args=(study, folder))


def run_quietly(study, folder):
    outcome = run_study(study, folder, Notes())
    (folder / "outcome.json").write_text(json.dumps([outcome.answered, outcome.asked, list(outcome.failures)]))


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    watch = Notes()
    outcome = run_study(study_of(place, processes=2), folder, watch)
    assert (outcome.answered, outcome.asked, outcome.failures, outcome.exit_code) == (4, 4, (), 0), watch.notes
    return folder


def test_a_study_answers_every_task_by_every_arm_and_seed(undisturbed):
    lines = (undisturbed / "scores.csv").read_text().splitlines()
    assert lines[0] == "task,arm,seed,protocol,setting,metric,value,low,high,tested"
    found = {tuple(line.split(",")[1:4]) for line in lines[1:]}
    arms = ("MAE + SARE", "raw statistics")
    assert found == {(arm, seed, way) for arm in arms for seed in "01" for way in ("knn", "linear")}
    assert "MAE + SARE" in (undisturbed / "summary.md").read_text()
    assert "MAE + SARE" in (undisturbed / "report.html").read_text()


@pytest.mark.parametrize("kills", [1, *campaign(2)])
def test_killed_studies_go_on_to_the_same_bytes(place, undisturbed, tmp_path, kills):
    """Killed at random moments, workers left to notice by themselves, then run to its end with one
    process where the undisturbed one had two."""
    moments = random.Random(3)
    study = study_of(place)
    for _ in range(kills):
        process = run_alone(study, tmp_path)
        process.start()
        time.sleep(moments.uniform(4, 14))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    run_quietly(study, tmp_path)
    assert json.loads((tmp_path / "outcome.json").read_text()) == [4, 4, []]
    for name in ("scores.csv", "summary.md"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_second_run_answers_nothing_anew(place, undisturbed, monkeypatch):
    """Nor does it need the images."""
    monkeypatch.setattr(data_check, "open_dataset", lambda _: pytest.fail("the images were read"))
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("seed-*.json")}
    outcome = run_study(study_of(place), undisturbed, Notes())
    assert (outcome.answered, outcome.exit_code) == (4, 0)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("seed-*.json")} == before


def test_an_answer_to_another_question_is_not_taken(place, undisturbed):
    study = study_of(place)
    arm, task = study.arms[0], study.tasks[0]
    assert ScoreFiles(study, undisturbed).scores(arm, task, 0)
    assert ScoreFiles(study, undisturbed).scores(arm, task.model_copy(update={"name": "targets "}), 0)
    other = task.model_copy(update={"bootstrap": 21})
    assert ScoreFiles(study, undisturbed).scores(arm, other, 0) is None
    longer = study_of(place, pretrain={**study.pretrain.model_dump(), "name": "other"})
    assert ScoreFiles(longer, undisturbed).scores(longer.arms[0], task, 0) is None


def test_a_damaged_answer_is_asked_again(place, undisturbed, tmp_path):
    study = study_of(place)
    kept = ScoreFiles(study, tmp_path)
    arm, task = study.arms[0], study.tasks[0]
    kept.keep_scores(arm, task, 0, ScoreFiles(study, undisturbed).scores(arm, task, 0))
    assert kept.scores(arm, task, 0)
    path = next(tmp_path.rglob("seed-0.json"))
    path.write_bytes(path.read_bytes()[:-9])
    assert kept.scores(arm, task, 0) is None


def one_class_of_chips(root):
    write_target_chips(root, classes=1, per_class=6, side_px=48)


def masks_of(root, mask):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(6):
        Image.fromarray(rng.integers(1, 255, (64, 64), dtype=np.uint8)).save(root / f"images/{number}.png")
        Image.fromarray(mask).save(root / f"masks/{number}.png")


def one_class_of_masks(root):
    masks_of(root, np.ones((64, 64), np.uint8))


def masks_without_a_label(root):
    masks_of(root, np.full((64, 64), 255, np.uint8))


def images_without_an_object(root):
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(1, 255, (64, 64), dtype=np.uint8)).save(root / f"{number}.png")
    images = [{"id": number, "file_name": f"{number}.png", "width": 64, "height": 64} for number in range(6)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "ship"}]}
    (root / "annotations.json").write_text(json.dumps(content))


def chips(root):
    write_target_chips(root, classes=2, per_class=6, side_px=48)


def nothing(root):
    pass


UNFIT = [
    ("folders", one_class_of_chips, {}, "class"),
    ("folders", chips, {"looks": [4]}, "calibrated backscatter in dB expected"),
    ("folders", chips, {"breakdown": ["region"]}, "breakdown by region"),
    ("masks", one_class_of_masks, {}, "1 of the two classes that are the least"),
    ("masks", masks_without_a_label, {}, "no pixel has a label"),
    ("coco", images_without_an_object, {}, "3 images with no box"),
    *((kind, nothing, {}, "unfit") for kind in TASK_OF_DATASET),
]


@pytest.mark.parametrize(("kind", "write", "keys", "message"), UNFIT)
def test_images_that_cannot_be_used_are_one_error_before_any_arm_starts(
    place, tmp_path, monkeypatch, kind, write, keys, message
):
    """Also those of the second task; nothing is left behind, and an older study's file stays as it was."""
    write(tmp_path / "unfit")
    monkeypatch.setattr(study_module, "_work_off", lambda *_: pytest.fail("an arm was started"))
    dataset = {"kind": kind, "path": str(tmp_path / "unfit"), "image_px": 32}
    unfit = {"name": "unfit", "kind": TASK_OF_DATASET[kind], "dataset": dataset, **keys}
    study = study_of(place, tasks=[study_of(place).tasks[0].model_dump(), unfit])
    with pytest.raises(Sar1mError, match=message) as refused:
        run_study(study, tmp_path / "new/study", Notes())
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/study.toml").write_text("older")
    with pytest.raises(Sar1mError, match=message):
        run_study(study, tmp_path / "old", Notes())
    assert [(path.name, path.read_text()) for path in (tmp_path / "old").iterdir()] == [("study.toml", "older")]


def test_every_set_is_opened_once_and_none_beside_another(monkeypatch):
    alive, opened = weakref.WeakSet(), []

    def opens(task):
        assert not alive
        opened.append(task.name)
        labels = np.tile([0, 1], 4)
        found = LabelledChips(
            name=task.name,
            inputs=Inputs(units="picture", channels=("grey",), image_px=32, mean=(0.0,), std=(1.0,)),
            images=None,
            classes=("a", "b"),
            labels=labels,
            splits=np.repeat(["train", "test"], 4),
            groups=np.arange(8),
        )
        alive.add(found)
        return found

    monkeypatch.setattr(data_check, "open_dataset", opens)
    tasks = [
        TaskConfig.model_validate({**TASK, "name": name, "dataset": {"kind": "folders", "path": path}})
        for name, path in (("a", "x"), ("b", "y"), ("c", "x"))
    ]
    watch = Notes()
    data_check.check_data(tasks, watch)
    assert opened == ["a", "b"]
    assert watch.notes == ["a, c: the images can be used.", "b: the images can be used."]
    with pytest.raises(ConfigError, match="task 'c': breakdown by region"):
        data_check.check_data([*tasks[:2], tasks[2].model_copy(update={"breakdown": ("region",)})], watch)


@pytest.mark.campaign
def test_what_fails_is_reported_and_the_rest_goes_on(place, tmp_path):
    arms = [
        {"name": "gone", "encoder": "run:nowhere"},
        {"name": "raw statistics", "encoder": "statistics"},
    ]
    outcome = run_study(study_of(place, arms=arms, seeds=[0]), tmp_path, Notes())
    assert (outcome.answered, outcome.asked, outcome.exit_code) == (1, 2, 1)
    (failure,) = outcome.failures
    assert failure.startswith("gone, seed 0: targets: ")
    assert "nowhere" in failure
    assert "nowhere" in (tmp_path / "report.html").read_text()


def test_a_wrong_key_of_an_arm_is_reported_before_anything_is_computed(place, tmp_path):
    arms = [{"name": "MAE", "set": ["sare.speckel=gamma"]}]
    with pytest.raises(ConfigError, match=r"arm 'MAE'.*speckel"):
        run_study(study_of(place, arms=arms), tmp_path, Notes())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": [{"name": "A b"}, {"name": "a-B"}]}, "same folder name"),
        ({"arms": [{"name": "A", "control": "B"}]}, "'B' is named as an arm or a control; arms are A"),
        ({"arms": [{"name": "A", "encoder": "pixels", "set": ["train.steps=1"]}]}, "exclude each other"),
        ({"seeds": [1, 1]}, "listed only once"),
        ({"tasks": [{**TASK, "arms": ["B"]}]}, "'B' is named as an arm"),
        ({"arms": [{"name": "A", "encoder": "resnet"}]}, "encoder"),
    ],
)
def test_studies_that_cannot_be_are_refused(place, changes, message):
    with pytest.raises(ValueError, match=message):
        study_of(place, **changes)


@pytest.mark.parametrize("dataset", ["masks", "coco"])
@pytest.mark.parametrize(
    "changes", [{"shots": (5,)}, {"looks": (4.0,), "breakdown": ("region",)}, {"breakdown": ("region",)}]
)
def test_what_only_classification_defines_is_refused_elsewhere(dataset, changes):
    kind = TASK_OF_DATASET[dataset]
    with pytest.raises(ValidationError, match=f"task 'a': {', '.join(changes)}: not defined for {kind}"):
        TaskConfig(name="a", kind=kind, dataset={"kind": dataset, "path": "x"}, **changes)


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("label_shares", (0.5, 1.5), (0.5, 1.0)),
        ("label_shares", (0.0,), (0.01,)),
        ("shots", (0,), (1,)),
        ("looks", (0.0,), (0.1,)),
        ("fit", {"strengths": (0.0,)}, {"strengths": (1e-9,)}),
    ],
)
def test_numbers_out_of_range_are_refused_with_their_key(key, wrong, right):
    task = {"name": "a", "kind": "classification", "dataset": {"kind": "folders", "path": "x"}}
    TaskConfig(**task, **{key: right})
    with pytest.raises(ValidationError, match=key):
        TaskConfig(**task, **{key: wrong})


def test_a_task_may_ask_some_arms_only(place, tmp_path):
    study = study_of(place)
    chosen = study.tasks[0].model_copy(update={"name": "chosen", "arms": ("raw statistics",)})
    both = study.model_copy(update={"tasks": (*study.tasks, chosen)})
    assert [[task.name for task in both.tasks_of(arm)] for arm in both.arms] == [
        ["targets"],
        ["targets", "chosen"],
    ]
    kept = ScoreFiles(both, tmp_path)
    kept.keep_scores(both.arms[1], chosen, 0, [])
    asked_of_all = chosen.model_copy(update={"arms": ()})
    assert kept.scores(both.arms[1], asked_of_all, 0) == []  # whom else a task asks is no part of the question


def test_a_study_is_written_as_it_was_read(place):
    study = study_of(place, analyses={"overhead": True})
    assert settings.parse(StudyConfig, settings.to_toml(study), origin="written") == study


def test_seed_and_device_of_a_study_are_those_of_its_runs(place):
    study = study_of(place)
    config = study.pretraining_of(study.arms[1], 7)
    assert (config.train.seed, config.train.device, config.sare.speckle) == (7, "cpu", "gamma")
