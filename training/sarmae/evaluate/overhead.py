"""The cost of using an encoder: time, memory, weights and operations, compared to a plain timm ViT of its shape."""

# B batch, C channels of the task, S side in pixels

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.backbones.sar_encoders import SarBackbone
from sarmae.evaluate.labelled_images import Inputs

BATCHES_CPU: Final = (1, 8)
BATCHES: Final = (8, 64, 256)  # of accelerators
MEMORY_BATCH: Final = 8
WARM_UP: Final = 2
THROUGHPUT_PASSES: Final = 3
SEED: Final = 0
MIB: Final = 2**20
_RESET_PEAK: Final = "5"  # to /proc/self/clear_refs: VmHWM begins anew; proc(5)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one module.

    latency_p50_ms, latency_p90_ms: of one image.
    images_per_s: at batch best_batch, the best of a few.
    peak_mib: the weights, and the peak of what a pass over MEMORY_BATCH images allocates besides. On a CPU from the
    peak memory of the process; None where the system does not report it.
    weights_m: millions.
    multiply_adds_g: 10^9 for one image, of matrix products and convolutions.
    """

    latency_p50_ms: float
    latency_p90_ms: float
    images_per_s: float
    best_batch: int
    peak_mib: float | None
    weights_m: float
    multiply_adds_g: float


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """The cost of an encoder and of the plain timm ViT of its shape, measured in turns; None where there is no such
    ViT.

    encoder: from images in the units of the task, with normalisation. plain: from normalised images.
    latency_ratio, throughput_ratio, memory_ratio: encoder over plain. The ratio of latencies is the median over pairs
    of passes, one directly after the other.
    largest_difference: between the patch features of the two, absolute.
    """

    encoder: Cost
    plain: Cost | None
    latency_ratio: float | None
    throughput_ratio: float | None
    memory_ratio: float | None
    largest_difference: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entrant:
    """A module and the images it takes, (B, any, S, S) for the largest B."""

    module: nn.Module
    images: Tensor


def measure_overhead(backbone: Backbone, inputs: Inputs, *, device: torch.device, repeats: int = 30) -> Overhead:
    """Measures a backbone on random images of a task's shape, in eval mode, without gradients. Moves it to the device.

    repeats: timed passes for the latency. The encoder and its plain twin take turns, pass by pass, so that other work
    on the machine affects both. Times are for this machine and torch's present number of threads.
    """
    was_training = backbone.training
    backbone.to(device).eval()
    images = _images(inputs, max(_batches(device)[-1], MEMORY_BATCH)).to(device)
    entrants = [_Entrant(module=backbone, images=images)]
    difference = None
    with torch.inference_mode():
        if isinstance(backbone, SarBackbone):
            twin = backbone.plain_twin().to(device)
            entrants.append(_Entrant(module=twin, images=backbone.adapter(images)))
            difference = _difference(backbone, twin, images[:MEMORY_BATCH])
        costs, latencies_s = _costs(entrants, device, repeats)
    backbone.train(was_training)
    encoder, plain = costs[0], costs[1] if len(costs) > 1 else None
    return Overhead(
        encoder=encoder,
        plain=plain,
        latency_ratio=None if plain is None else float(np.median(latencies_s[0] / latencies_s[1])),
        throughput_ratio=None if plain is None else encoder.images_per_s / plain.images_per_s,
        memory_ratio=None if plain is None else _ratio(encoder.peak_mib, plain.peak_mib),
        largest_difference=difference,
    )


def _costs(entrants: Sequence[_Entrant], device: torch.device, repeats: int) -> tuple[list[Cost], np.ndarray]:
    """The cost of each module, and the seconds (modules, repeats) of its passes over one image."""
    for entrant in entrants:
        for _ in range(WARM_UP):
            entrant.module(entrant.images[:1])
    peaks = [_peak_mib(entrant, device) for entrant in entrants]
    latencies_s = _timed(entrants, 1, repeats, device)
    batches = _batches(device)
    speeds = np.array([b / np.median(_timed(entrants, b, THROUGHPUT_PASSES, device), axis=1) for b in batches])
    best = speeds.argmax(axis=0)
    costs = [
        Cost(
            latency_p50_ms=1e3 * float(np.quantile(latencies_s[place], 0.5)),
            latency_p90_ms=1e3 * float(np.quantile(latencies_s[place], 0.9)),
            images_per_s=float(speeds[best[place], place]),
            best_batch=batches[best[place]],
            peak_mib=peaks[place],
            weights_m=sum(weight.numel() for weight in entrant.module.parameters()) / 1e6,
            multiply_adds_g=_multiply_adds(entrant) / 1e9,
        )
        for place, entrant in enumerate(entrants)
    ]
    return costs, latencies_s


def _timed(entrants: Sequence[_Entrant], batch: int, passes: int, device: torch.device) -> np.ndarray:
    """(modules, passes) seconds of a pass over a batch, the modules in turn."""
    took_s = np.empty((len(entrants), passes))
    for number in range(passes):
        for place, entrant in enumerate(entrants):
            _wait(device)
            began = time.perf_counter()
            entrant.module(entrant.images[:batch])
            _wait(device)
            took_s[place, number] = time.perf_counter() - began
    return took_s


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _batches(device: torch.device) -> tuple[int, ...]:
    return BATCHES_CPU if device.type == "cpu" else BATCHES


def _images(inputs: Inputs, count: int) -> Tensor:
    shape = (count, len(inputs.channels), inputs.image_px, inputs.image_px)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    mean, std = (torch.tensor(values)[:, None, None] for values in (inputs.mean, inputs.std))
    return mean + std * noise


def _difference(backbone: SarBackbone, twin: nn.Module, images: Tensor) -> float:
    tokens = twin.fc_norm(twin.forward_features(backbone.adapter(images)))  # type: ignore[operator]  # timm's methods
    patches = backbone(images).grid.flatten(2).transpose(1, 2)
    return float((tokens[:, -patches.shape[1] :] - patches).abs().max())


def _multiply_adds(entrant: _Entrant) -> int:
    """Of one image. torch counts only the plain attention, not the fused attention of a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        entrant.module(entrant.images[:1])
    return int(counter.get_total_flops()) // 2


# ---- memory ----


def _peak_mib(entrant: _Entrant, device: torch.device) -> float | None:
    tensors = [*entrant.module.parameters(), *entrant.module.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def one_pass() -> None:
        entrant.module(entrant.images[:MEMORY_BATCH])

    if device.type == "cuda":
        besides: int | None = _peak_besides_cuda(one_pass, device)
    else:
        besides = _peak_besides_cpu(one_pass)
    return None if besides is None else (weights + besides) / MIB


def _peak_besides_cuda(run: Callable[[], None], device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_besides_cpu(run: Callable[[], None]) -> int | None:
    """Bytes by which a run raises the peak memory of the process; None where the kernel does not report it."""
    with suppress(AttributeError, OSError):  # other C libraries have no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)  # else freed memory of a former run hides what this one takes
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
        before = _status_bytes("VmRSS")
        run()
        return max(_status_bytes("VmHWM") - before, 0)
    except (OSError, LookupError):
        return None


def _status_bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise LookupError(name)
    return int(found[1]) * 1024


def _ratio(over: float | None, under: float | None) -> float | None:
    return None if over is None or not under else over / under
