"""Phase 1 for one work item: read, register, correct, measure, encode, stage."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sar1m.config import BuildConfig
from sar1m.core.identity import sample_id
from sar1m.core.mutual_information import InformationShift, information_shift
from sar1m.core.quality import brightness_masks
from sar1m.core.registration import BlockRegistration, recover_shifts, register_block
from sar1m.records import F32, BlockPixels, Candidate, PatchPlace, Row
from sar1m.sources.source import Source
from sar1m.stages import columns
from sar1m.stages.columns import PatchPixels
from sar1m.stages.staged import StagedRecord, write_staged
from sar1m.stages.statistics import channel_statistics, finite
from sar1m.store.chunks import encode_chunk
from sar1m.store.errors import SourceError
from sar1m.store.outputs.output import Output
from sar1m.store.schema import (
    LAYOVER_SHADOW_ENCODING,
    LOCAL_INCIDENCE_ENCODING,
    SAR_FLOOR_DB,
    optical_encoding,
    sar_encoding,
)

LEAST_BANDS = 3  # whose floors together tell an offset from dark or bright ground


def prepare_item(item: tuple[str, Candidate], *, source: Source, config: BuildConfig, staging: Output) -> None:
    """Prepares one work item and commits it under its content key.

    Raises SourceError where the source cannot give what it promised, OutputError where nothing can be written.
    """
    key, candidate = item
    record, chunks = prepare_block(candidate, source.read(candidate, config), config)
    write_staged(staging, key, record, chunks)


def prepare_block(
    candidate: Candidate, pixels: BlockPixels, config: BuildConfig
) -> tuple[StagedRecord, Mapping[str, bytes]]:
    """Rows, statistics and encoded chunks of a block's patches. Raises SourceError where shapes disagree."""
    _require_shapes(candidate, pixels)
    pixels = _with_cloud_test(pixels, candidate)
    registration = _register(candidate, pixels, config)
    rows, statistics = [], []
    chunks: dict[str, bytes] = {}
    optical_quantity = None if candidate.optical is None else candidate.optical.quantity
    second = _second_shifts(candidate, pixels, registration, config)
    identities = columns.identity(candidate, config.grid.patch_px)
    for number, place in enumerate(candidate.patches):
        applied = applied_shift(registration, number, candidate.halo_px, config)
        patch = cut_patch(candidate, pixels, place, applied, config.grid.patch_px)
        pair = columns.pair(registration, number, applied)
        pair |= columns.second_pair(registration, number, second.get(number))
        rows.append(identities[number] | pair | columns.quality(pixels, patch, optical_quantity))
        encoded, channels = _encode(candidate, patch, config)
        chunks |= encoded
        statistics.append({"patch": place.name} | channels)
    recoveries = _self_test(candidate, pixels, registration, config)
    return StagedRecord(rows=rows, statistics=statistics, self_test=recoveries), chunks


def applied_shift(
    registration: BlockRegistration | None, number: int, halo_px: int, config: BuildConfig
) -> tuple[int, int]:
    """Whole pixels by which the optical window of a patch is moved so that it shows what the SAR window shows.

    The shift of the scene pair, or of the patch where its block has a field, rounded, so that no pixel is resampled. At
    most half a pixel is left in each direction; the table states it. (0, 0) where the shift cannot be measured or is
    larger than the halo.

    number: position of the patch in its block.
    """
    if registration is None or config.registration.correct == "none":
        return (0, 0)
    row_px, col_px = registration.correction_px(number)
    if not (math.isfinite(row_px) and math.isfinite(col_px)):
        return (0, 0)
    row, col = round(row_px), round(col_px)
    return (row, col) if max(abs(row), abs(col)) <= halo_px else (0, 0)


def cut_patch(
    candidate: Candidate, pixels: BlockPixels, place: PatchPlace, applied: tuple[int, int], side: int
) -> PatchPixels:
    """The pixels of one patch: SAR and radar masks in place, optical and its masks moved by applied."""
    row, col = place.row + candidate.halo_px, place.col + candidate.halo_px
    still = (..., slice(row, row + side), slice(col, col + side))
    top, left = row + applied[0], col + applied[1]
    moved = (..., slice(top, top + side), slice(left, left + side))
    return PatchPixels(
        place=place,
        sar=pixels.sar[still],
        optical=None if pixels.optical is None else pixels.optical[moved],
        offset_bands=None if (bands := _offset_bands(candidate, pixels)) is None else bands[moved],
        cloud=None if pixels.cloud is None else pixels.cloud[moved],
        snow=None if pixels.snow is None else pixels.snow[moved],
        water=None if pixels.water is None else pixels.water[still],
        layover_shadow=None if pixels.layover_shadow is None else pixels.layover_shadow[still],
        local_incidence_deg=None if pixels.local_incidence_deg is None else pixels.local_incidence_deg[still],
        land_cover=None if pixels.land_cover is None else pixels.land_cover[still],
    )


def _offset_bands(candidate: Candidate, pixels: BlockPixels) -> F32 | None:
    """The bands that show a radiometric offset which the description denies: B10 where the partner has it, else those
    to register with, else those of the output. None without a partner, for pictures, and for fewer than three bands
    without B10: some ground is dark in one band and none in all."""
    if candidate.optical is None or candidate.optical.quantity != "reflectance":
        return None
    if pixels.cirrus is not None:
        return pixels.cirrus[None]
    bands = pixels.optical if pixels.registration_optical is None else pixels.registration_optical
    return None if bands is None or len(bands) < LEAST_BANDS else bands


def _require_shapes(candidate: Candidate, pixels: BlockPixels) -> None:
    side = 2 * candidate.halo_px
    expected = (candidate.grid.rows + side, candidate.grid.cols + side)
    named = {
        "sar": pixels.sar,
        "optical": pixels.optical,
        "cloud": pixels.cloud,
        "land_cover": pixels.land_cover,
        "local_incidence_deg": pixels.local_incidence_deg,
    }
    for name, array in named.items():
        if array is not None and array.shape[-2:] != expected:
            raise SourceError(
                f"{candidate.item_id}: {name} is {array.shape[-2:]} px, expected {expected} with its halo."
            )
    if len(pixels.sar) != len(candidate.sar.polarisations):
        raise SourceError(
            f"{candidate.item_id}: {len(pixels.sar)} SAR channels for polarisations {candidate.sar.polarisations}."
        )
    if candidate.optical is not None and pixels.optical is None:
        raise SourceError(f"{candidate.item_id}: the optical partner {candidate.optical.product_id} gave no pixels.")


def _with_cloud_test(pixels: BlockPixels, candidate: Candidate) -> BlockPixels:
    """Sources without a cloud mask get one from brightness, where blue, green, red and near infrared are there."""
    optical, bands = candidate.optical, pixels.registration_optical
    if pixels.cloud is not None or optical is None or optical.quantity != "reflectance":
        return pixels
    if bands is None or len(bands) != 4:
        return pixels
    masks = brightness_masks(bands[[2, 1, 0]], bands[3], pixels.swir)
    snow = masks.snow if pixels.snow is None else pixels.snow
    return replace(pixels, cloud=masks.cloud, snow=snow, cloud_source="brightness test")


def _register(candidate: Candidate, pixels: BlockPixels, config: BuildConfig) -> BlockRegistration | None:
    if pixels.optical is None:
        return None
    optical = pixels.optical if pixels.registration_optical is None else pixels.registration_optical
    side = config.grid.patch_px + 2 * candidate.halo_px
    windows = [(place.row, place.col, side, side) for place in candidate.patches]
    return register_block(pixels.sar, optical, masked=pixels.cloud, windows=windows, settings=config.registration)


def _encode(
    candidate: Candidate, patch: PatchPixels, config: BuildConfig
) -> tuple[dict[str, bytes], dict[str, list[Row]]]:
    """Encoded chunks by name and channel statistics by array."""
    profile, compression = config.pixels.profile, config.pixels.compression
    encoding = sar_encoding(profile, candidate.sar.quantity)
    encoded = {"sar": (encoding.encode(decibels(patch.sar)), encoding)}
    if patch.optical is not None and candidate.optical is not None:
        encoding = optical_encoding(profile, candidate.optical.quantity)
        encoded["optical"] = (encoding.encode(patch.optical), encoding)
    if config.pixels.terrain_layers and patch.local_incidence_deg is not None and patch.layover_shadow is not None:
        angle_deg, masked = patch.local_incidence_deg[None], patch.layover_shadow[None].astype(np.float32)
        encoded["local_incidence"] = (LOCAL_INCIDENCE_ENCODING.encode(angle_deg), LOCAL_INCIDENCE_ENCODING)
        encoded["layover_shadow"] = (LAYOVER_SHADOW_ENCODING.encode(masked), LAYOVER_SHADOW_ENCODING)
    chunks = {f"{patch.place.name}/{name}": encode_chunk(dn, compression) for name, (dn, _) in encoded.items()}
    return chunks, {name: channel_statistics(dn, encoding) for name, (dn, encoding) in encoded.items()}


def decibels(power: F32) -> F32:
    """10 log10 of linear power, any shape; NaN stays NaN.

    Power under the store's floor, also zero and negative power, takes the floor. Backscatter is floored only here, on
    the way into storage.
    """
    floor = np.float32(10 ** (SAR_FLOOR_DB / 10))
    logarithm: F32 = np.float32(10) * np.log10(np.maximum(power, floor))
    return logarithm


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """A measured pair that a test has drawn: number in the block, sample_id, the draw's generator, pixels with halo."""

    number: int
    name: str
    rng: np.random.Generator
    sar: F32
    optical: F32


def _self_test(
    candidate: Candidate, pixels: BlockPixels, registration: BlockRegistration | None, config: BuildConfig
) -> list[Row]:
    """Known shifts injected into a share of the measured pairs."""
    rows = []
    for drawn in _draw(candidate, pixels, registration, config, test="", share=config.registration.self_test_share):
        recovery = recover_shifts(drawn.sar, drawn.optical, rng=drawn.rng, settings=config.registration)
        rows.append({"sample_id": drawn.name, **{k: finite(v) for k, v in vars(recovery).items()}})
    return rows


def _second_shifts(
    candidate: Candidate, pixels: BlockPixels, registration: BlockRegistration | None, config: BuildConfig
) -> dict[int, InformationShift]:
    """The shifts by mutual information of a share of the measured pairs, by number in the block."""
    share, search_px = config.registration.second_estimator_share, config.registration.search_px
    return {
        drawn.number: information_shift(drawn.sar, drawn.optical, search_px=search_px)
        for drawn in _draw(candidate, pixels, registration, config, test=" second", share=share)
    }


def _draw(
    candidate: Candidate,
    pixels: BlockPixels,
    registration: BlockRegistration | None,
    config: BuildConfig,
    *,
    test: str,
    share: float,
) -> Iterator[_Drawn]:
    """The measured pairs that a test takes, drawn by seed, sample_id and test; clouds are NaN."""
    optical = pixels.optical if pixels.registration_optical is None else pixels.registration_optical
    if registration is None or optical is None:
        return
    if pixels.cloud is not None:
        optical = np.where(pixels.cloud, np.float32(np.nan), optical)
    side = config.grid.patch_px + 2 * candidate.halo_px
    for number, (place, shift) in enumerate(zip(candidate.patches, registration.patches, strict=True)):
        name = sample_id(place.name, candidate.sar)
        rng = _generator(config.seed, name + test)
        if shift.status != "measured" or rng.random() >= share:
            continue
        window = (..., slice(place.row, place.row + side), slice(place.col, place.col + side))
        yield _Drawn(number=number, name=name, rng=rng, sar=pixels.sar[window], optical=optical[window])


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
