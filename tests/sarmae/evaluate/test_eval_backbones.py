"""Encoders of ours behind the door: the same features as timm's, by name of the channel, at any size of image."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig
from sarmae.errors import CheckpointError
from sarmae.evaluate.backbones import open_backbone
from sarmae.evaluate.labelled_images import Inputs
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.export import timm_arguments
from sarmae.runs import export_run
from sarmae.timm_door import timm
from sarmae.train.checkpoint import Checkpoint, save
from sarmae.weights import adapt_channels
from support.tiny_models import tiny_model, tiny_spec

DB = Inputs(units="dB", channels=("VV", "VH"), image_px=32, mean=(-9.0, -15.0), std=(3.0, 2.0))
GREY = Inputs(units="picture", channels=("grey",), image_px=32, mean=(80.0,), std=(40.0,))


def study(**model):
    tiny = {"patch_px": 8, "width": 32, "depth": 2, "heads": 4, "decoder_width": 16, "decoder_depth": 1}
    pretrain = {"model": {**tiny, "decoder_heads": 2, **model}, "data": {"crop_px": 32}}
    return StudyConfig.model_validate({"arms": [{"name": "any"}], "pretrain": pretrain})


def opened(encoder, inputs=DB, *, seed=0, run=None, weights=None, changes=(), **model):
    arm = ArmConfig(name="arm", encoder=encoder, weights=weights, set=changes)
    return open_backbone(arm, inputs, study=study(**model), seed=seed, run=run)


def images(inputs=DB, samples=3, side=None, seed=1):
    """As a task reads them, one corner of the second image without data."""
    shape = (samples, len(inputs.channels), side or inputs.image_px, side or inputs.image_px)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
    values = mean + std * noise
    values[1, :, :8, :8] = torch.nan
    return values


def survey(backbone, seen):
    with torch.no_grad():
        return backbone(seen)


def as_run(folder, model, *, average=None):
    """A run's folder as the loop saves it, without its projector."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.model.{name}": weight.detach() for name, weight in average.named_parameters()}
    facts = {"config": PretrainConfig().model_dump(mode="json"), "spec": asdict(model.spec)}
    read_facts = json.loads(json.dumps(facts))
    save(folder, Checkpoint(step=7, model=tensors, optimiser={"a/step": torch.zeros(1)}, facts=read_facts), keep=1)
    return folder


@pytest.fixture
def run(tmp_path):
    model = tiny_model(seed=5)
    return as_run(tmp_path / "run", model), model


def of_timm(weights, model, normalised):
    """Class and patch tokens after the norm, of the exported file in timm."""
    name, arguments = timm_arguments(model.spec, "avg")
    theirs = timm.create_model(name, checkpoint_path=weights, **arguments).eval()
    with torch.no_grad():
        return theirs.fc_norm(theirs.forward_features(normalised))


# ---- the same features whichever way ----


def test_a_run_sees_what_timm_sees_with_the_exported_file(run, tmp_path):
    folder, model = run
    weights = export_run(folder, tmp_path / "out")
    seen = images()
    tokens = of_timm(weights, model, model.normalise(seen))[:, 1:]
    for encoder, own_run in ((f"run:{folder}", None), (None, folder), (f"file:{tmp_path / 'out'}", None)):
        pooled, grid = survey(opened(encoder, run=own_run), seen)
        torch.testing.assert_close(grid.flatten(2).transpose(1, 2), tokens, atol=3e-6, rtol=0)
        torch.testing.assert_close(pooled, tokens.mean(dim=1), atol=3e-6, rtol=0)
        assert grid.shape == (3, 32, 4, 4)
    exact = survey(opened(f"file:{weights}"), seen).grid
    assert torch.equal(exact, survey(opened(f"run:{folder}"), seen).grid)


def test_the_moving_average_is_what_is_evaluated(tmp_path):
    model, average = tiny_model(seed=5), tiny_model(seed=6)
    folder = as_run(tmp_path / "run", model, average=average)
    seen = images()
    expected = average.tokens(seen).detach()[:, 1:].mean(dim=1)
    torch.testing.assert_close(survey(opened(f"run:{folder}"), seen).pooled, expected, atol=3e-6, rtol=0)


def test_the_grid_is_row_by_row(run):
    backbone = opened(f"run:{run[0]}")
    seen = images()
    changed = seen.clone()
    changed[0, :, 8:16, 24:32] += 5.0  # row 1, column 3
    difference = (survey(backbone, changed).grid - survey(backbone, seen).grid).norm(dim=1)[0]
    assert int(difference.argmax()) == 1 * 4 + 3


def test_what_has_no_data_is_the_mean_and_taints_nothing_else(run):
    folder, model = run
    seen = images()
    filled = torch.where(seen.isnan(), model.normalise.mean_db[:, None, None], seen)
    backbone = opened(f"run:{folder}")
    ours, theirs = survey(backbone, seen), survey(backbone, filled)
    assert ours.grid.isfinite().all()
    torch.testing.assert_close(ours.grid, theirs.grid, atol=3e-6, rtol=0)


# ---- channels and units ----


def permuted(inputs, order):
    pick = {name: tuple(getattr(inputs, name)[place] for place in order) for name in ("channels", "mean", "std")}
    return Inputs(units=inputs.units, image_px=inputs.image_px, **pick)


def test_polarisations_meet_by_name(run):
    backbone, turned = opened(f"run:{run[0]}"), opened(f"run:{run[0]}", permuted(DB, (1, 0)))
    seen = images()
    torch.testing.assert_close(survey(turned, seen.flip(1)).grid, survey(backbone, seen).grid, atol=3e-6, rtol=0)
    assert (survey(backbone, seen.flip(1)).grid - survey(backbone, seen).grid).abs().max() > 0.1


def test_more_polarisations_than_the_encoder_knows_are_left_aside(run):
    wide = Inputs(units="dB", channels=("HH", "VV", "VH"), image_px=32, mean=(-5.0, -9.0, -15.0), std=(1.0, 3.0, 2.0))
    seen = images(wide)
    expected = survey(opened(f"run:{run[0]}"), seen[:, 1:])
    torch.testing.assert_close(survey(opened(f"run:{run[0]}", wide), seen).grid, expected.grid, atol=3e-6, rtol=0)


def adapted(model, channels):
    """timm's ViT of a model for other channels, by adapt_channels."""
    name, arguments = timm_arguments(model.spec, "token")
    theirs = timm.create_model(name, **{**arguments, "in_chans": channels}).eval()
    state = dict(model.encoder.state_dict())
    state["patch_embed.proj.weight"] = adapt_channels(state["patch_embed.proj.weight"], channels)
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("channels", [("grey",), ("red", "nir", "swir")])
def test_channels_that_are_not_known_are_adapted_as_weights_would_be(run, channels):
    count = len(channels)
    inputs = Inputs(
        units="picture", channels=channels, image_px=32, mean=(80.0, 90.0, 70.0)[:count], std=(40.0, 20.0, 30.0)[:count]
    )
    seen = images(inputs)
    mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
    standardised = ((seen - mean) / std).nan_to_num()
    with torch.no_grad():
        expected = adapted(run[1], count).forward_features(standardised)[:, 1:].transpose(1, 2)
    found = survey(opened(f"run:{run[0]}", inputs), seen).grid
    torch.testing.assert_close(found.flatten(2), expected, atol=5e-6, rtol=0)


def test_a_polarisation_that_a_task_lacks_is_seen_as_the_other(run):
    """In units of pretraining's own normalisation."""
    folder, model = run
    only = permuted(DB, (0,))
    seen = images(only)
    units = (seen - model.normalise.mean_db[0]) / model.normalise.std_db[0]
    both = units * model.normalise.std_db[:, None, None] + model.normalise.mean_db[:, None, None]
    expected = survey(opened(f"run:{folder}"), both).grid
    torch.testing.assert_close(survey(opened(f"run:{folder}", only), seen).grid, expected, atol=5e-6, rtol=0)


def test_what_the_encoder_does_not_know_stands_in_for_nothing_where_it_knows_another(run):
    """VV is known and stands for VH; HH is not and is left aside."""
    odd = Inputs(units="dB", channels=("HH", "VV"), image_px=32, mean=(-5.0, -9.0), std=(1.0, 3.0))
    seen = images(odd)
    expected = survey(opened(f"run:{run[0]}", permuted(DB, (0,))), seen[:, 1:])
    torch.testing.assert_close(survey(opened(f"run:{run[0]}", odd), seen).grid, expected.grid, atol=5e-6, rtol=0)


def test_pictures_named_as_polarisations_are_not_decibels(run):
    picture = Inputs(units="picture", channels=("VV", "VH"), image_px=32, mean=(80.0, 50.0), std=(40.0, 20.0))
    seen = images(picture)
    mean, std = (torch.tensor(values)[:, None, None] for values in (picture.mean, picture.std))
    with torch.no_grad():
        expected = run[1].encoder.forward_features(((seen - mean) / std).nan_to_num())[:, 1:].mean(dim=1)
    found = survey(opened(f"run:{run[0]}", picture), seen).pooled
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)


def test_a_scale_of_grey_values_changes_nothing(run):
    bright = Inputs(units="picture", channels=("grey",), image_px=32, mean=(80.0 * 256,), std=(40.0 * 256,))
    seen = images(GREY)
    eight, sixteen = opened(f"run:{run[0]}", GREY), opened(f"run:{run[0]}", bright)
    torch.testing.assert_close(survey(sixteen, 256 * seen).pooled, survey(eight, seen).pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("std", [(0.0,), (float("nan"),), (1.0, 1.0)])
def test_a_channel_that_is_the_same_everywhere_is_named(run, std):
    flat = Inputs(units="picture", channels=("grey",), image_px=32, mean=(80.0,), std=std)
    for encoder in (f"run:{run[0]}", "random", "pixels", "statistics"):
        with pytest.raises(ConfigError, match=r"images of grey \(picture\): mean \[80\.0\], standard deviation"):
            opened(encoder, flat)


# ---- sizes ----


def test_positions_are_interpolated_to_the_images_size(run):
    large = Inputs(units="dB", channels=("VV", "VH"), image_px=64, mean=DB.mean, std=DB.std)
    backbone = opened(f"run:{run[0]}", large)
    seen = images(large)
    name, arguments = timm_arguments(run[1].spec, "token")
    theirs = timm.create_model(name, **{**arguments, "img_size": 64}).eval()
    state = dict(run[1].encoder.state_dict())
    state["pos_embed"] = timm.layers.pos_embed.resample_abs_pos_embed(state["pos_embed"], new_size=[8, 8])
    theirs.load_state_dict(state)
    with torch.no_grad():
        expected = theirs.forward_features(run[1].normalise(seen))[:, 1:].mean(dim=1)
    found = survey(backbone, seen)
    assert found.grid.shape == (3, 32, 8, 8)
    assert backbone.network.pos_embed.shape == (1, 65, 32)  # once, so that fine-tuning teaches positions of this size
    torch.testing.assert_close(found.pooled, expected, atol=3e-6, rtol=0)
    assert survey(backbone, images(large, side=48)).grid.shape == (3, 32, 6, 6)


def test_an_image_that_patches_do_not_cover_is_refused(run):
    with pytest.raises(ConfigError, match=r"arm: images of 36 px, and its patches are of 8 px"):
        opened(f"run:{run[0]}", Inputs(units="dB", channels=("VV", "VH"), image_px=36, mean=DB.mean, std=DB.std))
    with pytest.raises(ConfigError, match=r"images of 20 px"):
        survey(opened(f"run:{run[0]}"), images(side=20))
    with pytest.raises(ConfigError, match=r"batch, 2, rows, columns"):
        survey(opened(f"run:{run[0]}"), images(GREY))


# ---- random starts ----


def test_random_weights_are_those_that_pretraining_begins_with():
    seen = images()
    for seed in (0, 1):
        begun = tiny_model(seed=seed)
        with torch.no_grad():
            begun.normalise.mean_db[:] = torch.tensor(DB.mean)
            begun.normalise.std_db[:] = torch.tensor(DB.std)
            expected = begun.tokens(seen)[:, 1:].mean(dim=1)
        torch.testing.assert_close(survey(opened("random", seed=seed), seen).pooled, expected, atol=3e-6, rtol=0)
    assert not torch.equal(*(survey(opened("random", seed=seed), seen).pooled for seed in (0, 1)))


def test_an_arm_may_change_what_is_drawn():
    assert opened("random", changes=("model.depth=3",)).depth_groups()[3:] != ()
    assert len(opened("random", changes=("model.depth=3",)).depth_groups()) == 5


def test_opening_leaves_the_global_generator_alone(run):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for encoder in (f"run:{run[0]}", "random", "pixels"):
        opened(encoder)
    assert torch.equal(torch.get_rng_state(), before)


# ---- published weights ----


def test_a_published_encoder_comes_into_the_studys_shape(tmp_path):
    theirs = tiny_model(tiny_spec(polarisations=("r", "g", "b"), image_px=48), seed=8)
    state = {f"sar_encoder.{name}": tensor for name, tensor in theirs.encoder.state_dict().items()}
    torch.save({"model": state}, tmp_path / "published.pth")
    found = survey(opened(f"file:{tmp_path / 'published.pth'}", GREY), images(GREY))
    mean, std = (torch.tensor(values)[:, None, None] for values in (GREY.mean, GREY.std))
    expected_net = adapted(theirs, 1)
    expected_net.set_input_size((32, 32))
    with torch.no_grad():
        expected = expected_net.forward_features(((images(GREY) - mean) / std).nan_to_num())[:, 1:].mean(dim=1)
    torch.testing.assert_close(found.pooled, expected, atol=5e-6, rtol=0)
    with pytest.raises(CheckpointError, match=r"published\.pth: .* do not fit the model"):
        opened(f"file:{tmp_path / 'published.pth'}", GREY, width=64)


# ---- fine-tuning ----


def test_groups_hold_every_weight_once_from_the_input_to_the_output(run):
    backbone = opened(f"run:{run[0]}")
    groups = backbone.depth_groups()
    names = {id(weight): name for name, weight in backbone.named_parameters()}
    group_names = [[names.pop(id(weight)).removeprefix("network.") for weight in group] for group in groups]
    assert not names
    assert sorted(group_names[0]) == ["cls_token", "patch_embed.proj.bias", "patch_embed.proj.weight", "pos_embed"]
    assert {name.rpartition(".")[0].split(".")[1] for name in group_names[1]} == {"0"}
    assert group_names[-1] == ["norm.weight", "norm.bias"]
    assert len(groups) == 2 + 2


def test_it_learns_in_every_weight(run):
    backbone = opened(f"run:{run[0]}").train()
    seen = backbone(images())
    (seen.pooled.sum() + seen.grid.square().sum()).backward()
    assert backbone.learns
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in backbone.parameters())
    assert backbone.width == 32
    assert backbone.stride_px == 8


# ---- errors ----


def test_what_is_no_run_and_no_weights_is_named(tmp_path, run):
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        opened(f"run:{tmp_path / 'nowhere'}")
    with pytest.raises(CheckpointError, match=r"nothing\.pth: no such file"):
        opened(f"file:{tmp_path / 'nothing.pth'}")
    with pytest.raises(ConfigError, match="'arm': names no encoder and was not pretrained"):
        opened(None)
    for encoder in (f"run:{run[0]}", "pixels", "random"):
        with pytest.raises(ConfigError, match=r"weights = 'w\.pth' goes with timm:NAME"):
            opened(encoder, weights="w.pth")


def rewrite(path, metadata=None, **changed):
    """The exported file with other metadata or other tensors."""
    tensors = {**load_file(path), **changed}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata)


@pytest.mark.parametrize("metadata", ["{", "[1]", "{}", json.dumps({"mean_db": [1.0], "std_db": [0.0]})])
def test_metadata_that_describe_no_encoder_are_refused(run, tmp_path, metadata):
    weights = export_run(run[0], tmp_path / "out")
    rewrite(weights, {"sarmae": metadata})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its metadata do not say which encoder"):
        opened(f"file:{weights}")


def test_an_exported_file_of_another_shape_than_it_says_is_refused(run, tmp_path):
    weights = export_run(run[0], tmp_path / "out")
    with_metadata = {"sarmae": json.dumps(exported_facts(weights))}
    rewrite(weights, with_metadata, **{"blocks.1.mlp.fc1.bias": None})
    with pytest.raises(CheckpointError, match=r"are not those of vit_base_patch16_224 with .*fc1\.bias"):
        opened(f"file:{weights}")


def exported_facts(path):
    header = path.read_bytes()
    size = int.from_bytes(header[:8], "little")
    return json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["sarmae"])


def test_a_run_that_was_never_saved_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match="run: no checkpoint; expected the folder of a run"):
        opened(None, run=tmp_path / "run")
