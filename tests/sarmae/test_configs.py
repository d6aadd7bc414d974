"""The configurations that come with sarmae: each says how it is run, fits together, and costs what its head says."""

import re
import tomllib

import pytest

from sar1m.store.settings import override
from sarmae.config import PretrainConfig, resolve_config
from sarmae.model.flops import step_flops
from sarmae.train.schedule import scaled_rate
from sarmae.train.setup import model_spec
from support.paths import ROOT

FOLDER = ROOT / "training/configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
H100_FLOPS = 989.4e12 * 0.40  # dense bf16 peak of the data sheet, at the utilisation the heads name
TEACHER_FLOPS = {"dinov3_base": 35.9e9}  # a forward pass at 224 px, from the design's table
PAIRED_SHARE = 0.75
SAMPLE_PX, SAMPLE_TRAIN = 112, 4  # of `sar1m build --region sample`


def head_of(name):
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.lstrip("# ") for line in lines[: next(i for i, text in enumerate(lines) if text[:1] != "#")])


def spec_of(config):
    return model_spec(config.model, config.data.crop_px, ("VV", "VH"))


def test_the_four_that_were_asked_for_are_there():
    assert {"smoke", "vit_base", "vit_large", "paper"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_head_says_how_it_is_run_and_what_to_expect(name):
    head = head_of(name)
    assert re.search(rf"^Command: .*--config {name}\b", head, re.MULTILINE) or f"--config {name} " in head
    for label in ("Command", "Device", "Hours", "Expect"):
        assert re.search(rf"^{label}: +\S", head, re.MULTILINE), label


@pytest.mark.parametrize("name", NAMES)
def test_it_parses_under_its_own_name_and_what_its_head_sets_are_keys(name):
    sets = re.findall(r"--set (\S+=\w[\w.]*)", head_of(name)) + re.findall(r"\b(train\.\w+=\d+)", head_of(name))
    assert resolve_config(name, sets).name == name


@pytest.mark.parametrize("name", NAMES)
def test_model_crop_and_batch_fit_together(name):
    config = resolve_config(name, [])
    spec = spec_of(config)
    assert spec.image_px == config.data.crop_px
    assert spec.patch_px == 16 or config.sarc.teacher == "none"  # the grid of the anchors
    ranks = 1 if name == "smoke" else 8
    share, rest = divmod(config.train.global_batch, ranks)
    assert rest == 0
    micro = config.train.micro_batch or share
    assert share % min(micro, share) == 0
    assert config.train.warmup_steps < config.train.steps


def test_smoke_trains_on_the_embedded_sample():
    config = resolve_config("smoke", [])
    assert config.train.global_batch <= SAMPLE_TRAIN
    assert config.data.crop_px <= SAMPLE_PX
    assert config.sarc.teacher == "linear_patch"  # no download
    assert sum(step_flops(spec_of(config))) * config.train.global_batch * config.train.steps < 1e12  # seconds


@pytest.mark.parametrize(
    ("name", "gpus", "live"), [("vit_base", 1, False), ("vit_large", 8, False), ("paper", 8, True)]
)
def test_the_hours_in_its_head_follow_from_its_operations(name, gpus, live):
    config = resolve_config(name, [])
    teacher = TEACHER_FLOPS[config.sarc.teacher] * PAIRED_SHARE if live else 0
    samples = config.train.steps * config.train.global_batch
    hours = samples * (step_flops(spec_of(config)).step + teacher) / H100_FLOPS / gpus / 3600
    head = head_of(name)
    stated = float(re.search(r"^Hours: +about ([\d.]+), estimated", head, re.MULTILINE)[1])
    assert stated == pytest.approx(hours, rel=0.1)
    assert "not measured" in head


def test_paper_holds_what_paper_and_published_command_say():
    config = resolve_config("paper", [])
    assert (config.sarc.weight, config.model.mask_ratio, config.sare.speckle) == (0.1, 0.75, "gamma")
    assert (config.sare.target, config.sare.probability) == ("clean", 0.5)
    assert config.model.decode_share == 1.0
    assert scaled_rate(config.train.lr, config.train.global_batch) == pytest.approx(1e-4)
    assert config.train.steps * config.train.global_batch == pytest.approx(300e6, rel=0.01)


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.toml")), ids=lambda path: path.stem)
def test_half_of_the_inputs_are_speckled_or_the_file_says_why(path):
    """The paper's share. No run sees speckled images alone."""
    text = path.read_text(encoding="utf-8")
    content = tomllib.loads(text)
    base = content.get("pretrain", content)
    arms = [arm for arm in content.get("arms", [{}]) if "encoder" not in arm]
    configs = [override(PretrainConfig.model_validate({**base, "name": "any"}), arm.get("set", [])) for arm in arms]
    for sare in (config.sare for config in configs if config.sare.speckle != "none"):
        assert sare.probability < 1
        assert sare.probability == 0.5 or re.search(r"^probability = [\d.]+ +# \S", text, re.MULTILINE)


def test_the_keys_of_a_configuration_and_their_defaults_are_those_of_earlier_runs():
    """Checkpoints hold them, and a run goes on only under the same ones. The one default that changed since the first
    runs is sare.probability, 1 before: they state it, and go on under their own config.toml.
    data.where, data.bbox, model.target and model.mix came later: earlier runs take their defaults, the whole store and
    pixels.
    """
    first = override(PretrainConfig(), ["sare.probability=1"])
    assert first.digest() == "f31ee6837876347f6fac85bb6669a2bc"
    assert first.to_toml().count("probability = 1.0") == 1
    assert PretrainConfig().digest() == "806983d274a43f017e5a911e97211ccb"


def test_every_key_of_the_stream_reaches_the_loader_under_its_own_name():
    data = {
        "threads": 3,
        "prefetch": 5,
        "order": "lanes",
        "lanes": 2,
        "window": 7,
        "weights": (1.0, 2.0),
        "unpaired_share": 0.25,
        "max_faults": 9,
        "published_px": 64,
    }
    train = {"seed": 11, "global_batch": 6}
    config = PretrainConfig.model_validate({"data": data, "train": train})
    settings = config.loader_settings(optical=False, pin_memory=True)
    assert {name: getattr(settings, name) for name in (*data, *train)} == data | train
    assert (settings.optical, settings.pin_memory, settings.tail) == (False, True, "drop")
