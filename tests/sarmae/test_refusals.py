"""What cannot be is refused in one line that names it: folders, disks, numbers, devices, packages, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from sar1m.store import entry
from sar1m.store.errors import ConfigError, OutputError
from sarmae.config import PretrainConfig
from sarmae.evaluate.study_config import StudyConfig
from sarmae.sarc.cache_writer import write_cache
from sarmae.train import metrics
from sarmae.train.parallel import Launch, join_ranks, pick_device
from support.hang_guard import STUCK_S
from support.small_runs import Notes, small_config, train, training_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return training_store(tmp_path_factory.mktemp("store"))


def below_a_file(tmp_path):
    (tmp_path / "taken").write_text("a file")
    return tmp_path / "taken"


@pytest.mark.parametrize("inside", ["", "run"])
def test_an_out_that_is_a_file_or_lies_in_one_is_refused_by_name(store, tmp_path, inside):
    out = below_a_file(tmp_path) / inside
    with pytest.raises(OutputError, match=r"taken: is a file; a folder expected"):
        train(small_config(store), out)
    with pytest.raises(OutputError, match=r"taken: is a file; a folder expected"):
        write_cache(small_config(store, sarc={"teacher": "linear_patch"}, model={"patch_px": 16}), out, Notes())


@pytest.mark.parametrize("call", ["__init__", "add_scalar", "add_image", "close"])
def test_a_disk_that_is_full_when_metrics_are_written_is_told(store, tmp_path, monkeypatch, call):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics.SummaryWriter, call, full)
    with pytest.raises(OutputError, match=r"cannot be written: No space left on device. Free space"):
        train(small_config(store, train={"steps": 1, "panel_every": 1}), tmp_path)


@pytest.mark.parametrize(
    "train_keys",
    [{"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"seed": 2**63}, {"seed": -1}, {"lr": float("inf")}],
)
def test_numbers_out_of_range_are_refused_before_anything_is_made(train_keys):
    with pytest.raises(ValueError, match=next(iter(train_keys))):
        PretrainConfig.model_validate({"train": train_keys})


@pytest.mark.parametrize("seeds", [[-1], [0, 2**63]])
def test_seeds_of_a_study_are_those_torch_takes(seeds):
    with pytest.raises(ValueError, match="seeds"):
        StudyConfig.model_validate({"seeds": seeds})


@pytest.mark.parametrize("name", ["meta", "cpu:7", "cuda:99", "gpu", "", "auto:1", "vulkan"])
def test_a_device_that_cannot_train_is_refused(name):
    with pytest.raises(ConfigError, match=r"train\.device"):
        pick_device(name)


def test_one_gpu_is_not_given_to_many_processes(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda *_sizes, **_options: None)  # as if the GPUs were here
    assert [pick_device("cuda", rank, 4).index for rank in range(3)] == [0, 1, 2]
    assert pick_device("cuda:1", 0, 1).index == 1
    with pytest.raises(ConfigError, match="would give one GPU to all 4 processes"):
        pick_device("cuda:1", 0, 4)


def test_ranks_that_cannot_meet_are_told_what_to_type(monkeypatch):
    def refuse(_backend):
        raise ValueError("environment variable MASTER_PORT expected")

    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    with pytest.raises(ConfigError, match=r"The 2 processes could not meet.*torchrun --nproc-per-node"):
        join_ranks("cpu", Launch(rank=0, size=2, local_rank=0)).__enter__()


@pytest.mark.parametrize(
    ("program", "extra", "module", "expected"),
    [
        ("sarmae", "training", "torch", "Install the trainer: pip install 'sar1m[training]'"),
        ("sarmae", "training", "timm.layers", "Install the trainer: pip install 'sar1m[training]'"),
        ("sarmae", "training", "sklearn", "Install it: pip install 'sar1m[evaluate]'"),
        ("sar1m", "pipeline", "rasterio", "Install the pipeline: pip install 'sar1m[pipeline]'"),
        ("sar1m", "pipeline", "PIL", "Install the pipeline: pip install 'sar1m[pipeline]'"),
        ("sar1m", "pipeline", "pystac_client", "Install it: pip install 'sar1m[stac]'"),
        ("sar1m", "pipeline", "ee", "Install it: pip install 'sar1m[earthengine]'"),
        ("sar1m", "pipeline", "torch", "Install the trainer: pip install 'sar1m[training]'"),
    ],
)
def test_a_missing_package_is_one_line_with_the_extra_that_brings_it(capsys, program, extra, module, expected):
    def needs():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    with pytest.raises(SystemExit) as end:
        entry.run_command(program, needs, extra=extra)
    assert end.value.code == 1
    assert capsys.readouterr().err == f"{program}: {module} is not installed. {expected}\n"
    signal.signal(signal.SIGINT, signal.default_int_handler)


IMPORTING = """
import os, sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            print("up", flush=True)
            import time
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv = [{program!r}, *{arguments!r}]
from {program}.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("program", "arguments", "module"),
    [
        ("sarmae", ["pretrain", "--data", "nowhere"], "torch"),
        ("sarmae", ["--help"], "typer"),
        ("sar1m", ["--help"], "typer"),
    ],
)
def test_ctrl_c_while_libraries_load_is_one_line(tmp_path, program, arguments, module):
    code = IMPORTING.format(program=program, arguments=arguments, module=module)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads here
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, problems = process.communicate(timeout=STUCK_S)
    assert process.returncode == 130
    assert len(problems.splitlines()) == 1
    assert problems.startswith(f"{program}: interrupted.")
