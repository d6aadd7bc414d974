"""A store to train on in no time, a configuration that does, and runs in processes of their own that can be killed."""

import contextlib
import json
import multiprocessing

import torch

from sarmae.config import PretrainConfig
from sarmae.train.loop import pretrain
from support.small_stores import seal, small_store

SECTIONS = {
    "data": {"crop_px": 32, "threads": 1},
    "model": {
        "width": 24,
        "depth": 1,
        "heads": 2,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "patch_px": 8,
    },
    "sare": {"speckle": "gamma", "probability": 1.0},
    "train": {
        "steps": 24,
        "global_batch": 4,
        "warmup_steps": 3,
        "lr": 0.05,
        "log_every": 1,
        "checkpoint_every": 5,
        "device": "cpu",
        "precision": "fp32",
    },
}


def training_store(root, *, samples=22, unpaired=(3, 9), statistics=True):
    """A small store with the statistics a run asks for."""
    store = small_store(root, samples=samples, slots=8, side=48, unpaired=unpaired)
    if statistics:
        band = {"mean_db": -12.0, "std_db": 5.0, "p02_db": -20.0, "p50_db": -12.0, "p98_db": -3.0, "pixels": 100}
        statistics_file = {"basis": "train", "samples": samples, "sar": {"VV": band, "VH": band}, "optical": {}}
        path = root / "stats/normalisation.json"
        path.parent.mkdir()
        path.write_text(json.dumps(statistics_file))
        seal(root)
    return store


def small_config(*stores, **sections):
    """SECTIONS with changes by section."""
    merged = {name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in {*SECTIONS, *sections}}
    merged["data"]["stores"] = [str(store.root) for store in stores]
    return PretrainConfig.model_validate({"name": "small", **merged})


class Notes:
    """A Watch that remembers, and the log steps of a run."""

    def __init__(self):
        self.notes, self.steps = [], []

    def stage(self, title, total):
        return contextlib.nullcontext(lambda: None)

    def note(self, text):
        self.notes.append(text)

    def progress(self, progress):
        self.steps.append(progress)


def train(config, folder):
    watch = Notes()
    return pretrain(config, folder, watch, watch.progress), watch


def child(target, *arguments):
    """A process like this one that runs target; forked, so that nothing is imported anew."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_alone, args=(target, *arguments))
    process.start()
    return process


def _alone(target, *arguments):
    torch.set_num_threads(1)  # a forked child has none of its parent's threads
    target(*arguments)


def losses(folder):
    """Every step's losses and gradient norm, as they were written."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        line["step"]: (line["loss"], line["mae"], line["sarc"], line["gradient_norm"])
        for line in lines
        if "loss" in line
    }


def weights(folder):
    """Bytes of the newest checkpoint's tensors."""
    name = (folder / "checkpoints/LATEST").read_text()
    return [
        (folder / "checkpoints" / name / file).read_bytes() for file in ("model.safetensors", "optimiser.safetensors")
    ]
