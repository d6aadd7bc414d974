"""What the model does beyond the published definition: no-data pixels, shares, precision, shapes, seeds."""

import copy
import json
from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sar1m.store.errors import ConfigError
from sarmae.model.attention import choose_attention
from sarmae.model.flops import step_flops
from sarmae.model.patches import flat_targets, mask_by_noise, take_patches, to_images
from sarmae.model.sarmae import build_model
from sarmae.model.spec import ModelSpec, encoder_size
from sarmae.timm_door import timm
from support.tiny_models import batch_db, tiny_model, tiny_spec


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pixels_of(ids, spec):
    """(B, P, H, W) bool: the pixels of the patches at ids."""
    chosen = torch.zeros(len(ids), spec.patches, dtype=torch.bool).scatter(1, ids, value=True)
    return to_images(chosen[:, :, None].expand(-1, -1, spec.patch_values), spec.patch_px)


# ---- encoder ----


@pytest.mark.parametrize("changed", [{}, {"polarisations": ("HH",), "image_px": 24}, {"image_px": 56, "depth": 3}])
def test_with_every_patch_visible_it_is_timms_vit(changed):
    spec = tiny_spec(**changed)
    model = tiny_model(spec)
    theirs = timm.create_model(
        "vit_base_patch16_224",
        img_size=spec.image_px,
        patch_size=8,
        in_chans=len(spec.polarisations),
        embed_dim=32,
        depth=spec.depth,
        num_heads=4,
        num_classes=0,
    )
    theirs.load_state_dict(model.encoder.state_dict())
    seen, _, _ = batch_db(spec)
    every = torch.arange(spec.patches).expand(len(seen), -1)
    with torch.no_grad():
        normalised = model.normalise(seen)
        ours = model.encoder.visible(take_patches(normalised, every, 8), every)
        expected = theirs.eval().forward_features(normalised)
        torch.testing.assert_close(model.tokens(seen), expected, atol=0, rtol=0)
    torch.testing.assert_close(ours, expected, atol=3e-6, rtol=0)


def test_hidden_patches_never_reach_the_encoder():
    model = tiny_model()
    seen, wanted, noise = batch_db(model.spec)
    first = model(seen, wanted, noise)
    hidden = ~pixels_of(first.ids_keep, model.spec)
    second = model(torch.where(hidden, 99.0, seen), wanted, noise)
    assert torch.equal(first.visible, second.visible)
    assert torch.equal(first.loss, second.loss)


# ---- masking and patches ----


def test_masking_keeps_the_smallest_noise_in_its_order_and_decodes_the_next():
    noise = torch.tensor([[0.3, 0.1, 0.9, 0.2, 0.8, 0.4]])
    masking = mask_by_noise(noise, 2, 3)
    assert masking.ids_keep.tolist() == [[1, 3]]
    assert masking.ids_decode.tolist() == [[0, 5, 4]]
    assert masking.mask.tolist() == [[1, 0, 1, 0, 1, 1]]


def test_every_masked_patch_is_decoded_equally_often():
    """Uniform noise: 12 masked of 16, 3 of them decoded; expected share 3/16 a patch, also next to any kept one."""
    noise = torch.rand(40_000, 16, generator=torch.Generator().manual_seed(1))
    masking = mask_by_noise(noise, 4, 3)
    decoded = torch.zeros(40_000, 16).scatter(1, masking.ids_decode, 1.0)
    assert (decoded * (1 - masking.mask)).sum() == 0
    five_sigma = 5 * (3 / 16 * 13 / 16 / 40_000) ** 0.5
    assert (decoded.mean(0) - 3 / 16).abs().max() < five_sigma
    beside = decoded[masking.mask[:, 0] == 0][:, 1:].mean(0)
    assert (beside - 3 / 15).abs().max() < 5 * (0.2 * 0.8 / 10_000) ** 0.5 * 1.1


def test_patches_and_images_are_each_others_inverse():
    images = torch.randn(2, 3, 12, 12)
    every = torch.arange(9).expand(2, -1)
    patches = take_patches(images, every, 4)
    assert torch.equal(patches[1, 5], images[1, :, 4:8, 8:12])
    assert torch.equal(to_images(flat_targets(patches), 4), images)


# ---- pixels without data ----


@pytest.mark.parametrize("norm_pix", [False, True])
def test_no_data_pixels_of_the_target_are_not_in_the_loss(norm_pix):
    """The loss over a patch half without data is that of its other half, whatever the missing pixels would be."""
    model = tiny_model(tiny_spec(norm_pix=norm_pix))
    seen, wanted, noise = batch_db(model.spec)
    gap = torch.zeros_like(wanted, dtype=torch.bool)
    gap[0, :, :, :13] = True
    gap[1] = True
    with torch.no_grad():
        out = model(seen, wanted.masked_fill(gap, torch.nan), noise)
    normalised = model.normalise(wanted)
    values = flat_targets(take_patches(normalised, out.ids_decode, 8))
    there = ~flat_targets(take_patches(gap, out.ids_decode, 8))
    errors = []
    for sample in (0, 2):
        for patch, kept, predicted in zip(values[sample], there[sample], out.prediction[sample], strict=True):
            target = patch[kept]
            if norm_pix and len(target):
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            errors.append((sample, (predicted[kept] - target).square()))
    assert out.loss.item() == pytest.approx(torch.cat([e for _, e in errors]).mean().item(), rel=1e-5)
    of_first = torch.cat([e for sample, e in errors if sample == 0]).mean().item()
    assert out.per_sample_loss[0].item() == pytest.approx(of_first, rel=1e-5)
    assert out.per_sample_loss[1].item() == 0.0


def test_no_data_pixels_of_the_input_are_the_mean_of_their_band():
    model = tiny_model()
    seen, wanted, noise = batch_db(model.spec)
    gap = torch.rand(seen.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    means = model.normalise.mean_db[:, None, None]
    with torch.no_grad():
        gapped = model(seen.masked_fill(gap, torch.nan), wanted, noise)
        filled = model(torch.where(gap, means, seen), wanted, noise)
    assert torch.equal(gapped.prediction, filled.prediction)
    assert gapped.prediction.isfinite().all()


@pytest.mark.parametrize("decode_share", [1.0, 0.1])
@pytest.mark.parametrize("without_data", [False, True])
def test_every_learning_parameter_has_a_finite_gradient(without_data, decode_share):
    """Also where nothing at all was measured: DDP waits for each of them."""
    model = tiny_model(tiny_spec(decode_share=decode_share))
    seen, wanted, noise = batch_db(model.spec)
    if without_data:
        seen, wanted = torch.full_like(seen, torch.nan), torch.full_like(wanted, torch.nan)
    out = model(seen, wanted, noise)
    out.loss.backward()
    lacking = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert lacking == []
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["encoder.pos_embed"]
    assert (out.loss.item() == 0.0) == without_data


# ---- precision and compilation ----


def test_bfloat16_keeps_the_loss_in_float32_and_near():
    model = tiny_model()
    batch = batch_db(model.spec)
    exact = model(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(*batch)
        rough.loss.backward()
    assert rough.loss.dtype == rough.per_sample_loss.dtype == torch.float32
    assert not torch.equal(rough.loss, exact.loss)
    assert rough.loss.item() == pytest.approx(exact.loss.item(), rel=0.02)


def test_it_compiles_as_one_graph_with_the_same_loss_and_gradients():
    model = tiny_model(tiny_spec(depth=1))
    batch = batch_db(model.spec)
    plain = model(*batch)
    plain.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(*batch)
    compiled.loss.backward()
    torch.testing.assert_close(compiled.loss, plain.loss, atol=1e-6, rtol=0)
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("device", "bf16", "image_px", "fused"),
    [
        ("cuda", True, 224, (True, True)),
        ("cpu", True, 224, (False, False)),
        ("cpu", False, 224, (False, True)),
        ("cpu", False, 32, (False, False)),
    ],
)
def test_attention_is_chosen_for_the_machine(device, bf16, image_px, fused):
    model = tiny_model(tiny_spec(image_px=image_px, patch_px=image_px // 14 if image_px == 224 else 8))
    batch = batch_db(model.spec, samples=2)
    before = model(*batch)
    choose_attention(model, device, bf16=bf16)
    for blocks, expected in zip((model.encoder.blocks, model.decoder.blocks), fused, strict=True):
        assert {block.attn.fused_attn for block in blocks} == {expected}
    torch.testing.assert_close(model(*batch).prediction, before.prediction, atol=2e-6, rtol=0)


# ---- learning and showing ----


def test_it_learns_and_reconstructs_what_it_learnt():
    """Stripes, seen at a quarter of the patches: after some steps the hidden ones come back in decibels."""
    model = tiny_model(tiny_spec(norm_pix=False))
    stripes = -14.0 + 5.0 * torch.sign(torch.sin(torch.arange(32) * torch.pi / 4 + 0.1))
    images = stripes.expand(4, 2, 32, 32)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    generator = torch.Generator().manual_seed(4)
    for _ in range(80):
        optimiser.zero_grad()
        model(images, images, torch.rand(4, 16, generator=generator)).loss.backward()
        optimiser.step()
    shown = model.reconstruct(images, images, torch.rand(4, 16, generator=generator))
    assert (shown - images).square().mean().sqrt() < 1.0


def test_reconstruction_gives_patches_back_their_moments():
    """With norm_pix each patch has its target's mean and spread; a decoder that says 0 shows the means alone."""
    model = tiny_model()
    torch.nn.init.zeros_(model.decoder.pred.weight)
    _, wanted, noise = batch_db(model.spec)
    shown = model.reconstruct(wanted, wanted, noise)
    tiles = model.normalise(wanted).unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(1, 4, 5))
    expected = model.normalise.denormalise(
        tiles.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 2, -1, -1)
    )
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=0)


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(1)
    first, draw = tiny_model(seed=8).state_dict(), torch.rand(1)
    torch.manual_seed(2)
    again, other = tiny_model(seed=8).state_dict(), tiny_model(seed=9).state_dict()
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), draw)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["decoder.pred.weight"], other["decoder.pred.weight"])


def test_weights_start_as_mae_has_them():
    model = tiny_model(tiny_spec(width=64, image_px=64))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif name.endswith("weight"):
            fan = parameter[0].numel() + len(parameter)
            limit = (6 / fan) ** 0.5
            assert 0.95 * limit < parameter.abs().max() <= limit, name
            assert parameter.std().item() == pytest.approx(limit / 3**0.5, rel=0.05), name
    assert model.encoder.cls_token.std().item() == pytest.approx(0.02, rel=0.4)
    assert model.decoder.mask_token.std().item() == pytest.approx(0.02, rel=0.6)


def test_a_copy_of_its_state_holds_the_normalisation():
    model = tiny_model(mean_db=-9.0)
    other = tiny_model(mean_db=-20.0)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert other.normalise.mean_db.tolist() == [-9.0, -15.0]


# ---- the record and refusals ----


def test_spec_counts():
    spec = ModelSpec()
    assert (spec.grid, spec.patches, spec.kept, spec.decoded, spec.patch_values) == (14, 196, 49, 147, 512)
    assert ModelSpec(decode_share=0.25).decoded == 37
    assert ModelSpec(image_px=160, mask_ratio=0.8).kept == 20  # 100 * (1 - 0.8) is 19.999...
    assert ModelSpec(**json.loads(json.dumps(asdict(spec)))) == spec


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"image_px": 250}, "250 is not a multiple of patch_px = 16"),
        ({"image_px": 8}, "image_px = 8"),
        ({"polarisations": ()}, "at least one name"),
        ({"polarisations": ("VV", "VV")}, "none twice"),
        ({"width": 100, "heads": 3}, "width = 100"),
        ({"decoder_width": 30, "decoder_heads": 15}, "decoder_width = 30"),
        ({"mask_ratio": 1.0}, "mask_ratio = 1.0"),
        ({"mask_ratio": 0.001}, "0 masked"),
        ({"decode_share": 0.0}, "decode_share = 0.0"),
        ({"decode_share": float("nan")}, "decode_share = nan"),
    ],
)
def test_impossible_specs_are_refused_by_name(changed, named):
    with pytest.raises(ConfigError, match=named):
        ModelSpec(**changed)


def test_unknown_size_names_the_known_ones():
    assert encoder_size("large") == (1024, 24, 16)
    with pytest.raises(ConfigError, match=r"'giant' is not known.*tiny, small, base, large, huge"):
        encoder_size("giant")


@pytest.mark.parametrize("which", ["input", "target"])
def test_images_of_another_shape_are_refused(which):
    model = tiny_model()
    seen, wanted, noise = batch_db(model.spec)
    three = torch.zeros(3, 3, 32, 32)
    with pytest.raises(ConfigError, match=r"\(3, 3, 32, 32\).*expected \(batch, 2, 32, 32\).*VV, VH"):
        model(*((three, wanted) if which == "input" else (seen, three)), noise)


def test_statistics_of_other_polarisations_are_refused():
    statistics = type("Statistics", (), {"polarisations": ("VH", "VV"), "mean_db": (0.0, 0.0), "std_db": (1.0, 1.0)})
    with pytest.raises(ConfigError, match="statistics of VH, VV for a model of VV, VH"):
        build_model(tiny_spec(), statistics, seed=0)


# ---- operations ----


def test_counted_operations_are_those_torch_counts():
    model = tiny_model(tiny_spec(depth=3, decode_share=0.5))
    batch = batch_db(model.spec, samples=2)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(*batch)
    flops = step_flops(model.spec)
    assert counter.get_total_flops() == 2 * (flops.encoder + flops.decoder)
    assert flops.step == 3 * (flops.encoder + flops.decoder)


@pytest.mark.parametrize(
    ("size", "encoder", "decoder", "step"), [("base", 8.6, 10.6, 58.7), ("large", None, 10.6, 124.5)]
)
def test_operations_of_the_usual_models(size, encoder, decoder, step):
    """Figures of the design, in GFLOP, which embed and predict all patches: ours are up to 2 % fewer."""
    width, depth, heads = encoder_size(size)
    flops = step_flops(ModelSpec(width=width, depth=depth, heads=heads, polarisations=("R", "G", "B")))
    assert flops.decoder / 1e9 == pytest.approx(decoder, rel=0.015)
    assert flops.step / 1e9 == pytest.approx(step, rel=0.02)
    if encoder:
        assert flops.encoder / 1e9 == pytest.approx(encoder, rel=0.01)
