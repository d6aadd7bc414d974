"""Our masked autoencoder against the published definition: golden arrays, and a plain numpy program."""

import numpy as np
import pytest
import torch

from sarmae.model.positions import sincos_positions
from sarmae.model.spec import ModelSpec
from sarmae.weights import load_published
from support import mae_in_numpy
from support.paths import SHARED
from support.tiny_models import batch_db, tiny_model, tiny_spec

GOLDEN = SHARED / "golden/mae_tiny.npz"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_file(), reason=f"no {GOLDEN}; its sibling tests here need no golden array"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def golden_model(golden, folder, *, norm_pix):
    """Through the file format and the naming of public MAE checkpoints. Statistics 0 and 1: the pixels are no dB."""
    spec = ModelSpec(
        image_px=64,
        polarisations=("R", "G", "B"),
        width=48,
        depth=2,
        heads=4,
        decoder_width=32,
        decoder_depth=1,
        decoder_heads=4,
        norm_pix=norm_pix,
    )
    path = folder / "mae.pth"
    state = {name.removeprefix("state/"): value for name, value in golden.items() if name.startswith("state/")}
    torch.save({"model": state, "epoch": 3}, path)
    model = tiny_model(spec)
    model.normalise.mean_db.zero_()
    model.normalise.std_db.fill_(1.0)
    assert load_published(model, path, with_decoder=True).changes == ()
    return model


@needs_golden
@pytest.mark.parametrize(("norm_pix", "name"), [(False, "raw"), (True, "normpix")])
def test_golden_loss_and_gradients(golden, tmp_path, norm_pix, name):
    model = golden_model(golden, tmp_path, norm_pix=norm_pix)
    out = model(golden["input"], golden["input"], golden["noise"])
    out.loss.backward()
    assert out.loss.detach().double() == pytest.approx(golden[f"loss_{name}"].item(), abs=1e-6)
    gradients = {named: parameter.grad for named, parameter in model.named_parameters()}
    checked = 0
    for key, expected in golden.items():
        if key.startswith(f"grad_{name}/"):
            public = key.split("/")[1]
            ours = {"mask_token": "decoder.mask_token", "decoder_pred.weight": "decoder.pred.weight"}
            found = gradients[ours.get(public, f"encoder.{public}")]
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max(), public
            checked += 1
    assert checked == 4


@needs_golden
def test_golden_latent_prediction_and_mask(golden, tmp_path):
    model = golden_model(golden, tmp_path, norm_pix=False)
    with torch.no_grad():
        out = model(golden["input"], golden["input"], golden["noise"])
        every = model.predict_patches(golden["input"], golden["noise"])
    torch.testing.assert_close(out.visible, golden["latent"][:, 1:], atol=5e-6, rtol=0)
    torch.testing.assert_close(every, golden["pred"], atol=5e-6, rtol=0)
    torch.testing.assert_close(out.mask, golden["mask"], atol=0, rtol=0)
    where = out.ids_decode[:, :, None].expand_as(out.prediction)
    torch.testing.assert_close(out.prediction, golden["pred"].gather(1, where), atol=5e-6, rtol=0)
    assert torch.equal(torch.cat([out.ids_keep, out.ids_decode], dim=1).argsort(dim=1), golden["ids_restore"])


@needs_golden
def test_golden_positions(golden):
    ours = sincos_positions(768, 14)[0, ::13]
    torch.testing.assert_close(ours, golden["pos_embed_768_14"], atol=1e-7, rtol=0)


def test_positions_by_their_definition():
    """Column in the first half, row in the second; sine before cosine; the class token at the origin of nothing."""
    width, grid = 24, 5
    positions = sincos_positions(width, grid)[0].double().numpy()
    assert positions.shape == (1 + grid**2, width)
    assert not positions[0].any()
    for patch in range(grid**2):
        for i in range(6):
            frequency = 1.0 / 10000 ** (i / 6)
            row, column = divmod(patch, grid)
            expected = [np.sin(column * frequency), np.cos(column * frequency), np.sin(row * frequency)]
            np.testing.assert_allclose(positions[1 + patch, [i, 6 + i, 12 + i]], expected, atol=1e-7)


def oracle(model, batch, decoded):
    """(latents, predictions, errors) of the numpy program with the model's weights, and normalised pixels."""
    seen, wanted, noise = batch
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    mean, std = model.normalise.mean_db[:, None, None], model.normalise.std_db[:, None, None]
    samples = zip(((seen - mean) / std).double(), ((wanted - mean) / std).double(), noise, decoded, strict=True)
    results = [
        mae_in_numpy.mae(x.numpy(), y.numpy(), n.numpy(), weights, model.spec, ids.tolist()) for x, y, n, ids in samples
    ]
    return [np.stack(part) for part in zip(*results, strict=True)]


@pytest.mark.parametrize("decode_share", [1.0, 0.25])
@pytest.mark.parametrize("norm_pix", [False, True])
def test_against_a_plain_numpy_program(norm_pix, decode_share):
    """Also in part: patches left out are neither decoded nor attended to."""
    spec = tiny_spec(norm_pix=norm_pix, decode_share=decode_share)
    model = tiny_model(spec)
    batch = batch_db(spec)
    with torch.no_grad():
        out = model(*batch)
    assert out.ids_decode.shape == (3, 12 if decode_share == 1.0 else 3)
    latent, prediction, errors = oracle(model, batch, out.ids_decode)
    np.testing.assert_allclose(out.visible, latent[:, 1:], atol=3e-6)
    np.testing.assert_allclose(out.prediction, prediction, atol=3e-6)
    np.testing.assert_allclose(out.per_sample_loss, errors.mean(1), atol=1e-6)
    assert out.loss.item() == pytest.approx(errors.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("encoder.patch_embed.proj.weight", (3, 1, 2, 5)),
        ("encoder.blocks.0.attn.qkv.weight", (70, 4)),
        ("encoder.cls_token", (0, 0, 7)),
        ("decoder.mask_token", (0, 0, 2)),
        ("decoder.pred.weight", (90, 3)),
    ],
)
def test_gradients_against_differences_of_the_numpy_program(name, index):
    model = tiny_model()
    batch = batch_db(model.spec)
    out = model(*batch)
    out.loss.backward()
    parameter = dict(model.named_parameters())[name]
    step, losses = 2.0**-10, []
    for sign in (1, -1):
        with torch.no_grad():
            parameter[index] += sign * step
            losses.append(oracle(model, batch, out.ids_decode)[2].mean())
            parameter[index] -= sign * step
    slope = (losses[0] - losses[1]) / (2 * step)
    assert parameter.grad[index].item() == pytest.approx(slope, abs=3e-4 * parameter.grad.abs().max().item())
