"""What an encoder costs: counts that are known, a twin that is timm's own, memory that is there."""

import numpy as np
import pytest
import torch

from sarmae.evaluate import overhead
from sarmae.evaluate.backbones import open_backbone
from sarmae.evaluate.backbones.backbone import Backbone, Features
from sarmae.evaluate.labelled_images import Inputs
from sarmae.evaluate.overhead import measure_overhead
from sarmae.evaluate.study_config import ArmConfig, StudyConfig
from sarmae.timm_door import timm

INPUTS = Inputs(units="dB", channels=("VV", "VH"), image_px=32, mean=(-9.0, -15.0), std=(3.0, 2.0))
CPU = torch.device("cpu")


def opened(encoder, inputs=INPUTS):
    tiny = {"patch_px": 8, "width": 32, "depth": 2, "heads": 4}
    study = StudyConfig.model_validate(
        {"arms": [{"name": "any"}], "pretrain": {"model": tiny, "data": {"crop_px": 64}}}
    )
    return open_backbone(ArmConfig(name="arm", encoder=encoder), inputs, study=study, seed=0, run=None)


def test_the_encoder_is_the_plain_timm_vit_of_its_shape():
    backbone = opened("random").train()
    twin = backbone.plain_twin()
    assert type(twin) is timm.models.VisionTransformer
    assert not twin.dynamic_img_size
    found = measure_overhead(backbone, INPUTS, device=CPU, repeats=3)
    assert found.largest_difference <= 3e-6
    assert found.encoder.weights_m == found.plain.weights_m == sum(w.numel() for w in twin.parameters()) / 1e6
    assert found.encoder.multiply_adds_g == found.plain.multiply_adds_g
    assert found.encoder.latency_p90_ms >= found.encoder.latency_p50_ms > 0
    assert backbone.training  # as it was


def test_ratios_are_of_passes_one_after_the_other(monkeypatch):
    """A machine that is busy for a while is so for both."""
    clock = iter([*(t for pair in ((1, 2), (10, 20), (3, 6)) for s in pair for t in (0.0, s)), *[0.0, 1.0] * 99])
    monkeypatch.setattr(overhead.time, "perf_counter", lambda: next(clock))
    found = measure_overhead(opened("random"), INPUTS, device=CPU, repeats=3)
    assert found.encoder.latency_p50_ms == 3e3
    assert found.plain.latency_p50_ms == 6e3
    assert found.latency_ratio == 0.5
    assert found.throughput_ratio == 1.0
    assert found.encoder.best_batch == 8


def test_a_twin_with_other_weights_is_seen(monkeypatch):
    backbone = opened("random")
    twin = backbone.plain_twin()
    with torch.no_grad():
        twin.blocks[0].mlp.fc1.bias += 0.01
    monkeypatch.setattr(type(backbone), "plain_twin", lambda self: twin)
    assert measure_overhead(backbone, INPUTS, device=CPU, repeats=1).largest_difference > 1e-5


def test_operations_are_those_of_the_formula():
    """Of a block: query, key, value, output (4 width**2), MLP (8 width**2), two products of attention."""
    found = measure_overhead(opened("random"), INPUTS, device=CPU, repeats=1).encoder
    tokens, width = 1 + 16, 32
    every = 16 * (2 * 8 * 8) * width + 2 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    assert found.multiply_adds_g == pytest.approx(every / 1e9)


class Hungry(Backbone):
    """Holds 8 MiB an image, for a moment."""

    name, width, stride_px, learns = "hungry", 1, 16, False

    def forward(self, images):
        held = torch.ones(len(images), 2, 2**20)
        return Features(held.mean(dim=(1, 2))[:, None], images[:, :1, :1, :1])

    def depth_groups(self):
        return ()


def test_memory_is_what_a_pass_takes_and_is_measured_anew_each_time():
    peaks = [measure_overhead(Hungry(), INPUTS, device=CPU, repeats=1).encoder.peak_mib for _ in range(2)]
    little = measure_overhead(opened("pixels"), INPUTS, device=CPU, repeats=1).encoder.peak_mib
    if None in peaks:
        pytest.skip("needs a /proc/self/clear_refs that resets the high-water mark")
    assert np.allclose(peaks, 8 * 8, rtol=0.1)
    assert little < 8


def test_where_the_kernel_tells_no_peak_there_is_none(monkeypatch):
    monkeypatch.setattr(overhead, "_status_bytes", lambda name: {}[name])
    found = measure_overhead(opened("random"), INPUTS, device=CPU, repeats=1)
    assert found.encoder.peak_mib is None
    assert found.memory_ratio is None
    assert found.latency_ratio > 0


def test_what_is_no_vit_of_ours_has_no_twin():
    found = measure_overhead(opened("statistics"), INPUTS, device=CPU, repeats=2)
    assert found.plain is None
    assert found.latency_ratio is None
    assert found.largest_difference is None
    assert found.encoder.weights_m == 0
    assert found.encoder.images_per_s > 0
