"""Weights from elsewhere: known namings, channels and sizes are fitted; everything else is refused, by name."""

import argparse
import pickle

import pytest
import safetensors.torch
import torch

from sarmae.errors import CheckpointError
from sarmae.weights import adapt_channels, load_published, read_weights
from support.campaigns import campaign
from support.tiny_models import batch_db, tiny_model, tiny_spec


def public_names(model):
    """The model's state in the naming of public MAE checkpoints."""
    named = {}
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "encoder":
            named[rest] = tensor
        elif part == "decoder":
            named["mask_token" if rest == "mask_token" else f"decoder_{rest}"] = tensor
    return named


def encoder_names(model, prefix=""):
    return {prefix + name: tensor for name, tensor in model.encoder.state_dict().items()}


@pytest.fixture
def source():
    return tiny_model(seed=1)


@pytest.mark.parametrize("kind", ["sarmae", "sarmae ddp", "mae", "bare", "ours", "safetensors", "classifier"])
def test_known_namings_are_read(source, tmp_path, kind):
    path = tmp_path / "published.pth"
    arguments = argparse.Namespace(lr=1e-3)
    head = {"head.weight": torch.zeros(5, 32), "head.bias": torch.zeros(5)}
    pooled = {
        name.replace("norm.", "fc_norm.", 1) if name.startswith("norm.") else name: tensor
        for name, tensor in encoder_names(source).items()
    }
    other = {"decoder.weight": torch.zeros(3), "projector.0.weight": torch.zeros(2, 2)}
    content = {
        "sarmae": {"model": encoder_names(source, "sar_encoder.") | other, "epoch": 3, "args": arguments},
        "sarmae ddp": {"state_dict": encoder_names(source, "module.sar_encoder.") | other},
        "mae": {"model": public_names(source), "optimizer": {"state": {}}, "args": arguments},
        "bare": encoder_names(source),
        "ours": source.state_dict(),
        "safetensors": source.state_dict(),
        "classifier": pooled | head,
    }[kind]
    if kind == "safetensors":
        path = path.with_suffix(".safetensors")
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    model = tiny_model(seed=2, mean_db=-20.0)
    decoder = model.decoder.pred.weight.clone()
    assert load_published(model, path, with_decoder=False).changes == ()
    for name, tensor in source.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], tensor), name
    assert torch.equal(model.decoder.pred.weight, decoder)
    assert model.normalise.mean_db[0] == -20.0


@pytest.mark.parametrize("naming", ["mae", "ours"])
def test_the_decoder_comes_along_where_asked_for(source, tmp_path, naming):
    path = tmp_path / "mae.pth"
    torch.save({"model": public_names(source) if naming == "mae" else source.state_dict()}, path)
    model = tiny_model(seed=2)
    load_published(model, path, with_decoder=True)
    batch = batch_db(model.spec)
    with torch.no_grad():
        assert torch.equal(model(*batch).loss, source(*batch).loss)


@pytest.mark.parametrize(("have", "want"), [(2, 1), (2, 3), (3, 2), (1, 3), (3, 1)])
def test_adapted_channels_embed_an_equal_image_as_before(have, want):
    weight = torch.randn(6, have, 4, 4, dtype=torch.float64)
    image = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    before = torch.nn.functional.conv2d(image.expand(-1, have, -1, -1), weight, stride=4)
    after = torch.nn.functional.conv2d(image.expand(-1, want, -1, -1), adapt_channels(weight, want), stride=4)
    torch.testing.assert_close(after, before)


def test_another_channel_count_is_adapted_and_told(source, tmp_path):
    path = tmp_path / "two.pth"
    torch.save(encoder_names(source), path)
    model = tiny_model(tiny_spec(polarisations=("HH",)))
    assert load_published(model, path, with_decoder=False).changes == (
        "patch embedding adapted from 2 to 1 channel(s)",
    )
    expected = source.encoder.patch_embed.proj.weight.sum(1, keepdim=True)
    torch.testing.assert_close(model.encoder.patch_embed.proj.weight, expected)


@pytest.mark.parametrize("image_px", [48, 24])
def test_positions_are_interpolated_to_another_size(source, tmp_path, image_px):
    """A position that is a plane in row and column stays one, away from the edges of the bicubic kernel."""
    grid = image_px // 8
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    state = source.state_dict()
    state["encoder.pos_embed"][0, 1:, 0] = (2.0 * rows - columns).flatten()
    state["encoder.pos_embed"][0, 0, 0] = 7.0
    path = tmp_path / "small.pth"
    torch.save(state, path)
    model = tiny_model(tiny_spec(image_px=image_px))
    changes = load_published(model, path, with_decoder=True).changes
    assert [change.split("(")[0] for change in changes] == [
        f"positions interpolated from 4x4 to {grid}x{grid} patches "
    ] * 2
    found = model.encoder.pos_embed[0, :, 0]
    centre = (torch.arange(float(grid)) + 0.5) * 4 / grid - 0.5
    expected = 2.0 * centre[:, None] - centre
    inner = slice(grid // 2 - 1, grid // 2 + 1) if grid > 3 else slice(1, 2)
    torch.testing.assert_close(found[1:].view(grid, grid)[inner, inner], expected[inner, inner], atol=0.15, rtol=0)
    assert found[0] == 7.0
    assert model.decoder.pos_embed.shape == (1, 1 + grid**2, 16)


# ---- refusals ----

odd_protocols = pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's word on pickles of others


class Harmful:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def refused(path, model=None, *, with_decoder=False):
    model = model or tiny_model(seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_published(model, path, with_decoder=with_decoder)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert str(path) in str(caught.value)
    return str(caught.value)


@odd_protocols
def test_code_in_a_pickle_is_never_run(source, tmp_path):
    path, trace = tmp_path / "harmful.pth", tmp_path / "trace"
    torch.save({"model": encoder_names(source), "extra": Harmful(trace)}, path)
    assert "would run code" in refused(path)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Harmful(trace)))
    refused(tmp_path / "bare.pth")
    assert not trace.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_files_cut_short(source, tmp_path, suffix, share):
    path = tmp_path / f"cut.{suffix}"
    if suffix == "pth":
        torch.save(encoder_names(source), path)
    else:
        safetensors.torch.save_file(encoder_names(source), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    message = refused(path)
    assert f"{path.stat().st_size:,} bytes" in message
    assert "fetch" in message


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\n", b"<html>404</html>", b"\x80\x04."]
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@odd_protocols
def test_files_that_are_something_else(tmp_path, suffix, content):
    path = tmp_path / f"pointer.{suffix}"
    path.write_bytes(content)
    assert "expected a" in refused(path)


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in refused(tmp_path / "absent.safetensors")
    assert "no such file" in refused(tmp_path / "absent.pth")
    assert "unreadable" in refused(tmp_path)


def test_wrong_contents_are_named(source, tmp_path):
    path = tmp_path / "wrong.pth"
    torch.save({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, path)
    assert "2 tensors (conv1.weight, fc.bias, ...) but no ViT encoder" in refused(path)
    torch.save([1, 2], path)
    assert "holds list without tensors" in refused(path)
    torch.save({"model": {"epoch": 3}}, path)
    assert "holds dict without tensors" in refused(path)
    torch.save({**encoder_names(source), "patch_embed.proj.weight": torch.zeros(32)}, path)
    assert "of 4 axes" in refused(path)
    torch.save({**encoder_names(source), "pos_embed": torch.zeros(32)}, path)
    assert "pos_embed of shape (32,)" in refused(path)
    torch.save({**encoder_names(source), "pos_embed": torch.zeros(1, 1 + 12, 32)}, path)
    assert "(1, 13, 32)" in refused(path)


def test_another_architecture_is_named_on_both_sides(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(encoder_names(tiny_model(tiny_spec(width=64, depth=3))), path)
    message = refused(path)
    assert "width 64, depth 3, patch 8 px, 2 channel(s)" in message
    assert "width 32, depth 2, patch 8 px, 2 channel(s)" in message
    scaled = encoder_names(tiny_model()) | {"blocks.0.ls1.gamma": torch.ones(32)}
    torch.save(scaled, path)
    assert "blocks.0.ls1.gamma is unknown" in refused(path)


def test_a_decoder_that_is_not_there_or_does_not_fit(source, tmp_path):
    path = tmp_path / "encoder.pth"
    torch.save(encoder_names(source), path)
    assert "decoder.blocks.0.attn.proj.bias is missing" in refused(path, with_decoder=True)
    torch.save(public_names(source), path)
    three = tiny_model(tiny_spec(polarisations=("R", "G", "B")))
    message = refused(path, three, with_decoder=True)
    assert "decoder.pred.weight is (128, 16), the model's (192, 16)" in message
    assert "load the encoder alone" in message


@odd_protocols
@pytest.mark.parametrize("every", [130, *campaign(13)])
def test_damage_anywhere_is_one_kind_of_error_or_none(source, tmp_path, every):
    """Whatever torch raises over a damaged archive, the user meets a CheckpointError that names the file."""
    whole, path = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    torch.save(encoder_names(source), whole)
    content = bytearray(whole.read_bytes())
    unlike = 0
    for at in [*range(0, 1200, every), *range(len(content) - 3000, len(content), every * 31 // 13)]:
        path.write_bytes(bytes(content[:at]) + bytes([content[at] ^ 0x55]) + bytes(content[at + 1 :]))
        try:
            read_weights(path)
        except CheckpointError as error:
            unlike += str(path) not in str(error)
    assert unlike == 0
