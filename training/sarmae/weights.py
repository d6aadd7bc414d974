"""Weights that others published, read without running their code, fitted to a model of ours or refused with a reason.

Known namings: MAE (`patch_embed...`, `decoder_blocks...`), SARMAE (`sar_encoder.` before MAE's encoder names), our own
models (`encoder.`, `decoder.`) and timm's ViT, which is what `sarmae.export` writes.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sarmae.errors import CheckpointError
from sarmae.model.sarmae import SarMae
from sarmae.timm_door import timm

MOST_BLOCKS: Final = 512  # transformer blocks; the deepest published ViTs have some forty
NESTS: Final = ("model", "state_dict")  # where training programs put the weights inside their checkpoints
WRAPPERS: Final = re.compile(r"^(_orig_mod\.|module\.)+")  # left by torch.compile and DDP
ENCODER_PREFIXES: Final = ("sar_encoder.", "encoder.", "")
DECODER_NAMES: Final = re.compile(r"^(decoder[._]|mask_token$)")
CLASSIFIER_NAMES: Final = re.compile(r"^(head|fc|head_drop)\.")

# What reading a damaged file was seen to raise, one byte changed at a time: torch's reader checks little by itself.
DAMAGE: Final = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    safetensors.SafetensorError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The changes that make weights fit a model: one sentence each, for a log; empty where there are none."""

    changes: tuple[str, ...]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a `.safetensors` file, or of anything else as torch.load(weights_only=True) reads it.

    A nesting under `model` or `state_dict` is taken off, as are the prefixes of DDP and torch.compile; entries that are
    not tensors are left. CheckpointError where the file is missing, cut short, not a checkpoint, or would run code.
    """
    content: object
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            _refuse_compressed(path)
            with torch.serialization.safe_globals([argparse.Namespace]):  # MAE's programs save their arguments so
                content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; expected a checkpoint. Check the path") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: cannot be read as plain tensors ({_first_sentence(error)}); expected a checkpoint of weights "
            "alone. It would run code to load, which is refused, or it is damaged: convert it to .safetensors where "
            "you trust it, or fetch it again"
        ) from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{path}: {_size(path)}, unreadable ({_first_sentence(error)}); expected a whole .safetensors file or a "
            "checkpoint of torch.save. It is cut short or damaged: fetch or copy it again and compare its checksum"
        ) from error
    return _tensors(content, path)


def load_published(model: SarMae, path: Path, *, with_decoder: bool) -> Fitted:
    """Puts a published encoder, and its MAE decoder where asked for, into a model; all of it or, on an error, nothing.

    Another number of channels is adapted by `adapt_channels`, another image size by interpolating the positions. A
    classifier or normalisation in the file is left out: the model keeps its own. CheckpointError names the file, what
    was found, what was expected and what to do.
    """
    found = read_weights(path)
    encoder = _encoder_weights(found, path)
    changes = _fit_channels(encoder, len(model.spec.polarisations)) + _fit_positions(encoder, model.spec.grid, path)
    state = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    if with_decoder:
        decoder = _decoder_weights(found)
        changes += _fit_positions(decoder, model.spec.grid, path)
        state |= {f"decoder.{name}": tensor for name, tensor in decoder.items()}
    parts = ("encoder.", "decoder.") if with_decoder else ("encoder.",)
    _require_same(state, {name: t for name, t in model.state_dict().items() if name.startswith(parts)}, path)
    model.load_state_dict(state, strict=False)
    return Fitted(changes=tuple(changes))


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Patch-embedding weights (D, C, p, p) for another number of channels: (D, channels, p, p).

    Each new channel gets the sum over the old ones divided by the number of new ones. An image that is the same in
    every channel is then embedded as before, whatever both numbers are, and no order of channels is assumed.
    """
    spread = weight.sum(dim=1, keepdim=True) / channels
    return spread.repeat(1, channels, 1, 1)


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    for nest in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    entries = content.items() if isinstance(content, Mapping) else ()
    tensors = {WRAPPERS.sub("", str(name)): value for name, value in entries if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if not _plain(tensor):
            raise CheckpointError(
                f"{path}: {name} of shape {tuple(tensor.shape)} is no plain array of numbers that the file holds; "
                "expected dense tensors with their own values. Save model.state_dict() from the program that wrote it"
            )
    if not tensors:
        raise CheckpointError(
            f"{path}: holds {type(content).__name__} without tensors by name; expected a state_dict, alone or under "
            f"'{NESTS[0]}' or '{NESTS[1]}'. Save model.state_dict() from the program that wrote it"
        )
    return tensors


def _plain(tensor: Tensor) -> bool:
    """Whether all values of a tensor stand in the file: a view that repeats a few would claim any size for nothing."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return dense and not tensor.is_complex() and tensor.nbytes <= tensor.untyped_storage().nbytes()


def _refuse_compressed(path: Path) -> None:
    """torch.save compresses nothing; a compressed member could unpack to a thousand times its size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        packed = [member for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(
            f"{path}: {len(packed)} compressed members ({packed[0].filename[:80]!r}, {packed[0].file_size:,} bytes "
            "unpacked); expected a checkpoint as torch.save writes it, uncompressed. Unpack it and save it again"
        )


def count_blocks(weights: Mapping[str, Tensor]) -> int:
    """Number of transformer blocks by the names of timm.

    Raises CheckpointError where there are more than MOST_BLOCKS: a model of so many takes all memory, however narrow.
    """
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if depth > MOST_BLOCKS:
        raise CheckpointError(
            f"weights of {depth:,} transformer blocks; at most {MOST_BLOCKS} are read. Check which model this is"
        )
    return depth


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being a model's: other shapes, missing and unknown names, in words; empty if they fit."""
    return [
        *(
            f"{name} is {tuple(found[name].shape)}, the model's {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & found.keys())
            if found[name].shape != expected[name].shape
        ),
        *(f"{name} is missing" for name in sorted(expected.keys() - found.keys())),
        *(f"{name} is unknown" for name in sorted(found.keys() - expected.keys())),
    ]


def _encoder_weights(found: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Encoder weights by timm's names, whichever prefix they stand under; the pooled norm under its usual name."""
    for prefix in ENCODER_PREFIXES:
        if getattr(found.get(f"{prefix}patch_embed.proj.weight"), "ndim", 0) == 4 and f"{prefix}pos_embed" in found:
            named = {name.removeprefix(prefix): t for name, t in found.items() if name.startswith(prefix)}
            return {
                re.sub(r"^fc_norm\.", "norm.", name): tensor
                for name, tensor in named.items()
                if not DECODER_NAMES.match(name) and not CLASSIFIER_NAMES.match(name)
            }
    raise CheckpointError(
        f"{path}: {len(found)} tensors ({', '.join(sorted(found)[:3])}, ...) but no ViT encoder: expected pos_embed and"
        " patch_embed.proj.weight of 4 axes, alone or under 'sar_encoder.' or 'encoder.'. Check which model this is"
    )


def _decoder_weights(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {name: tensor for name, tensor in found.items() if DECODER_NAMES.match(name)}
    return {re.sub(r"^decoder[._]", "", name): tensor for name, tensor in named.items()}


def _fit_channels(encoder: dict[str, Tensor], channels: int) -> list[str]:
    weight = encoder["patch_embed.proj.weight"]
    if weight.shape[1] == channels:
        return []
    encoder["patch_embed.proj.weight"] = adapt_channels(weight, channels)
    return [f"patch embedding adapted from {weight.shape[1]} to {channels} channel(s)"]


def _fit_positions(weights: dict[str, Tensor], grid: int, path: Path) -> list[str]:
    """Bicubic interpolation, in place, of pos_embed (1, 1 + N, D) to another square grid; the class token's row stays.

    A pos_embed that is absent is left to the comparison of names.
    """
    positions = weights.get("pos_embed")
    if positions is None or positions.shape[1:2] == (1 + grid**2,):
        return []
    former = math.isqrt(max(positions.shape[1] - 1, 0)) if positions.ndim == 3 else 0
    if former < 1 or 1 + former**2 != positions.shape[1]:
        raise CheckpointError(
            f"{path}: pos_embed of shape {tuple(positions.shape)}; expected (1, 1 + n * n, width): one class token and "
            "a square grid. Models with other tokens or grids cannot be loaded here"
        )
    weights["pos_embed"] = timm.layers.pos_embed.resample_abs_pos_embed(
        positions, new_size=[grid, grid], num_prefix_tokens=1
    )
    return [f"positions interpolated from {former}x{former} to {grid}x{grid} patches (width {positions.shape[2]})"]


def _require_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    if not (faults := misfits(found, expected)):
        return
    raise CheckpointError(
        f"{path}: {len(faults)} of its tensors do not fit the model: {'; '.join(faults[:4])}. The file's encoder is "
        f"{_describe(found)}, the model's {_describe(expected)}. Build the model in the file's shape, or take a file "
        "of this one; a decoder fits only its own width, depth and channels: load the encoder alone without it"
    )


def _describe(weights: Mapping[str, Tensor]) -> str:
    """Shape of an encoder in words, from its own tensors."""
    width, channels, patch_px, _ = weights["encoder.patch_embed.proj.weight"].shape
    depth = len({name.split(".")[2] for name in weights if name.startswith("encoder.blocks.")})
    return f"width {width}, depth {depth}, patch {patch_px} px, {channels} channel(s)"


def _first_sentence(error: Exception) -> str:
    return re.split(r"(?<=[.:])\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".:") or type(error).__name__


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes" if path.is_file() else "not a file"
