"""Numbers about a store: counts, normalisation, the self-test of the registration. They are computed from staged
records in a fixed order, so that they do not depend on which worker finished first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sar1m.core.table import floats
from sar1m.io.zarr_groups import ImageArray
from sar1m.records import Row
from sar1m.stages.staged_table import StagedTable
from sar1m.store.errors import StoreError
from sar1m.store.schema import SPLITS, LinearEncoding

HISTOGRAM_BIN = {"dB": 0.25, "1": 0.002, "degree": 0.5}  # width by unit: fine enough for percentiles, small to keep
SCENE_COLUMNS = ("scene_shift_row_px", "scene_shift_col_px", "scene_psr")
APPLIED_COLUMNS = ("applied_row_px", "applied_col_px")
SUMMARY_COLUMNS = (  # of candidates: what site_summary and self_test_summary look at
    "site",
    "optical_product",
    "registration_status",
    *SCENE_COLUMNS,
    *APPLIED_COLUMNS,
    "polarisation_spread_px",
    "residual_px",
    "second_shift_status",
    "disagreement_px",
    "shift_sigma_px",
    "second_shift_sigma_px",
    "band_offset_px",
)
SITE_LIMIT = 200
MOMENTS = ("count", "sum_dn", "sum_squares_dn")
# Measured on 11SMT and on simulated worlds: tests/benchmarks/results/second_estimator.md
SHARED_ERRORS = "One speckle misleads both, and where the truth is known their errors correlate by about 0.5."


def channel_statistics(dn: np.ndarray, encoding: LinearEncoding) -> list[Row]:
    """Per channel of one sample: count, sum and sum of squares of its digital numbers, and a histogram.

    dn: (C, H, W) unsigned digital numbers; 0 (no data) is left out. Sums are whole numbers, hence exact whatever the
    order. The histogram has bins of histogram_step digital numbers, from first_bin to the last bin with a count.
    """
    step = histogram_step(encoding)
    rows = []
    for channel in dn:
        counts = np.bincount(channel.ravel(), minlength=2)
        counts[0] = 0
        numbers = np.arange(counts.size)
        bins = np.add.reduceat(counts, numbers[::step])
        moments = (int(counts.sum()), int((counts * numbers).sum()), int((counts * numbers**2).sum()))
        rows.append(_channel_row(moments, bins))
    return rows


def _channel_row(moments: tuple[int, ...], bins: npt.NDArray[np.int64]) -> Row:
    """moments: count, sum, sum of squares."""
    used = np.flatnonzero(bins)
    first, last = (int(used[0]), int(used[-1])) if used.size else (0, -1)
    counted = dict(zip(MOMENTS, moments, strict=True))
    return {**counted, "first_bin": first, "histogram": bins[first : last + 1].tolist()}


def histogram_step(encoding: LinearEncoding) -> int:
    """Width of a histogram's bins in digital numbers, at least 1."""
    return max(1, round(HISTOGRAM_BIN[encoding.units] / encoding.scale_factor))


class ChannelTotals:
    """Channel statistics of many samples added up: whole numbers, hence the same in any order.

    labels: names of the channels. encoding: of their digital numbers.
    """

    def __init__(self, labels: Sequence[str], encoding: LinearEncoding) -> None:
        self._labels, self._encoding = labels, encoding
        self._moments: list[tuple[int, ...]] = [
            (0, 0, 0) for _ in labels
        ]  # Python's integers: a million patches of 16 bits exceed 64 bits
        self._step = histogram_step(encoding)
        bins = encoding.max_dn // self._step + 1
        self._histogram: npt.NDArray[np.int64] = np.zeros((len(labels), bins), dtype=np.int64)

    def add(self, channels: Sequence[Mapping[str, Any]]) -> None:
        """Adds the channel statistics of one sample, or the rows of other totals."""
        for number, channel in enumerate(channels):
            count, total, squares = self._moments[number]
            self._moments[number] = (
                count + channel["count"],
                total + channel["sum_dn"],
                squares + channel["sum_squares_dn"],
            )
            first, histogram = channel["first_bin"], channel["histogram"]
            self._histogram[number, first : first + len(histogram)] += np.array(histogram, dtype=np.int64)

    def add_all(self, channels: pa.Table) -> None:
        """Adds the statistics of many samples. channels: one row a channel, as staged_table.CHANNEL_SCHEMA has it.

        Raises StoreError where they do not fit the encoding.
        """
        for number in range(len(self._moments)):
            of = channels.filter(pc.equal(channels["channel"], number))
            # Python's integers: the sum of some thousand squares may exceed 64 bits
            moments = [sum(of[name].to_pylist()) for name in MOMENTS]
            histograms = of["histogram"].combine_chunks()
            lengths = np.asarray(pc.list_value_length(histograms), dtype=np.int64)
            starts = np.asarray(of["first_bin"], dtype=np.int64) - (np.cumsum(lengths) - lengths)
            bins = np.arange(lengths.sum()) + np.repeat(starts, lengths)
            size = self._histogram.shape[1]
            if bins.size and (bins.min() < 0 or bins.max() >= size):
                raise StoreError(
                    f"staged statistics name histogram bin {bins.max()}, but the encoding has {size} bins. Remove the "
                    "staging folder and build again."
                )
            # whole numbers far under 2^53: weights, which are floating point, add them exactly
            counts = np.bincount(bins, weights=np.asarray(histograms.flatten()), minlength=size)
            self._moments[number] = tuple(a + b for a, b in zip(self._moments[number], moments, strict=True))
            self._histogram[number] += counts.astype(np.int64)

    def rows(self) -> list[Row]:
        """The totals by channel, in the form of channel_statistics."""
        return [_channel_row(*channel) for channel in zip(self._moments, self._histogram, strict=True)]

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Mean, standard deviation and percentiles by channel, in the unit of the array; None without samples."""
        unit = "db" if self._encoding.units == "dB" else "value"
        return {
            label: {
                f"mean_{unit}": self._mean(count, total),
                f"std_{unit}": self._std(count, total, squares),
                **{f"p{p:02d}_{unit}": self._percentile(number, p) for p in (2, 50, 98)},
                "pixels": count,
            }
            for number, (label, (count, total, squares)) in enumerate(zip(self._labels, self._moments, strict=True))
        }

    def _mean(self, count: int, total: int) -> float | None:
        return self._encoding.add_offset + self._encoding.scale_factor * (total / count) if count else None

    def _std(self, count: int, total: int, squares: int) -> float | None:
        # in whole numbers up to the root: nothing cancels
        return self._encoding.scale_factor * math.sqrt(count * squares - total**2) / count if count else None

    def _percentile(self, number: int, percent: int) -> float | None:
        histogram = self._histogram[number]
        if not histogram.any():
            return None
        cumulated = np.concatenate([[0], np.cumsum(histogram)])
        # interp needs increasing abscissae: empty bins repeat a value, of which the last is the right one
        keep = np.append(np.diff(cumulated) > 0, True)
        position = np.interp(percent / 100 * cumulated[-1], cumulated[keep], np.flatnonzero(keep))
        return float(self._encoding.add_offset + self._encoding.scale_factor * position * self._step)


def channel_totals(images: Iterable[ImageArray]) -> dict[str, ChannelTotals]:
    """Empty totals by array."""
    return {image.layout.name: ChannelTotals(image.labels, image.encoding) for image in images}


def normalisation(staged: StagedTable, samples: pd.DataFrame, images: Sequence[ImageArray]) -> dict[str, Any]:
    """What a trainer normalises with: statistics of the training split, of all samples where that is empty.

    samples: row, split and paired.
    """
    train = samples[samples["split"] == "train"]
    chosen = train if len(train) else samples
    wanted, paired = np.zeros((2, staged.rows), dtype=np.bool_)
    wanted[chosen["row"]] = True
    paired[chosen["row"][chosen["paired"].astype(bool)]] = True
    totals = channel_totals(images)
    for array, channels in staged.channels(wanted):
        if array in totals:
            totals[array].add_all(
                channels.filter(pa.array(paired[channels["row"]])) if array == "optical" else channels
            )
    return normalisation_summary(totals, samples=len(chosen), train=bool(len(train)))


def normalisation_summary(totals: Mapping[str, ChannelTotals], *, samples: int, train: bool) -> dict[str, Any]:
    """stats/normalisation.json. totals: by array, over so many samples; train: whether of the training split alone."""
    basis = "train" if train else "all samples, since the training split is empty"
    return {"basis": basis, "samples": samples, **{name: total.summary() for name, total in totals.items()}}


def self_test_summary(recoveries: Iterable[Row], candidates: pd.DataFrame) -> dict[str, Any]:
    """Bias, RMSE and 95th percentile of recovered less injected shifts, in pixels; recoveries sorted by sample.

    Under second_estimator: how far mutual information disagrees. Under band_offset: how far the optical bands lie
    apart. candidates: samples and rejected, of the schema's candidate columns.
    """
    rows = sorted(recoveries, key=lambda row: str(row["sample_id"]))
    errors = np.array([[row["error_row_px"], row["error_col_px"]] for row in rows], dtype=np.float64).reshape(-1, 2)
    pol = np.array([[row["polarisation_row_px"], row["polarisation_col_px"]] for row in rows], dtype=np.float64)
    length = np.hypot(*errors.T)
    measured = np.isfinite(length)
    found = length[measured]
    bias = errors[measured].mean(axis=0) if measured.any() else np.array([np.nan, np.nan])
    pol_length = np.hypot(*pol.reshape(-1, 2).T)
    pol_length = pol_length[np.isfinite(pol_length)]
    return {
        "pairs": len(rows),
        "measured": int(measured.sum()),
        "bias_row_px": finite(bias[0]),
        "bias_col_px": finite(bias[1]),
        "rmse_px": finite(np.sqrt((found**2).mean())) if found.size else None,
        "p95_px": finite(np.percentile(found, 95)) if found.size else None,
        "under_1px_share": finite((found < 1).mean()) if found.size else None,
        "polarisation_rmse_px": finite(np.sqrt((pol_length**2).mean())) if pol_length.size else None,
        "second_estimator": _disagreement(candidates),
        "band_offset": _band_offset(candidates),
        "recoveries": rows,
    }


def _disagreement(candidates: pd.DataFrame) -> dict[str, Any]:
    """Of the pairs that were measured twice: length of the difference, in pixels, and its expected root mean square.

    asked: pairs given to the second estimator; measured: those where its peak was clear. expected_rms_px: what the
    uncertainties of both shifts lead to, were their errors independent; None where no pair states both.
    """
    asked = candidates[candidates["second_shift_status"].notna()]
    clear = asked[asked["second_shift_status"] == "measured"]
    length = floats(clear, "disagreement_px")
    variance = 2 * (floats(clear, "shift_sigma_px") ** 2 + floats(clear, "second_shift_sigma_px") ** 2)
    variance = variance[np.isfinite(variance)]
    return {
        "method": "mutual information",
        "asked": len(asked),
        "measured": len(clear),
        "median_px": finite(np.median(length)) if length.size else None,
        "rms_px": finite(np.sqrt((length**2).mean())) if length.size else None,
        "p95_px": finite(np.percentile(length, 95)) if length.size else None,
        "expected_rms_px": finite(np.sqrt(variance.mean())) if variance.size else None,
    }


def _band_offset(candidates: pd.DataFrame) -> dict[str, Any]:
    length = floats(candidates, "band_offset_px")
    length = length[np.isfinite(length)]
    return {
        "measured": len(length),
        "median_px": finite(np.median(length)) if length.size else None,
        "p95_px": finite(np.percentile(length, 95)) if length.size else None,
    }


def registration_words(test: Mapping[str, Any]) -> list[str]:
    """What the self-test found, as sentences: agreement with another method first, then with itself, then the bands.

    test: stats/self_test.json; that of a store of schema 1.1 lacks the second method and the bands.
    """
    words = [_disagreement_words(test.get("second_estimator"))]
    if test.get("rmse_px") is not None:
        words.append(
            f"Precision, which is agreement with itself: known shifts injected into {counted(test['pairs'], 'pair')} "
            f"came back with an error of {test['rmse_px']:.2f} px RMSE."
        )
    bands = test.get("band_offset") or {}
    if bands.get("median_px") is not None:
        words.append(
            f"The optical bands themselves lie up to {bands['median_px']:.2f} px (median) and {bands['p95_px']:.2f} px "
            "(95 %) apart."
        )
    return words


def _disagreement_words(second: Mapping[str, Any] | None) -> str:
    if not second or not second["asked"]:
        return "No second method measured the pairs of this store: how accurate the registration is was not tested."
    if not second["measured"]:
        return (
            f"A second method, {second['method']}, was given {counted(second['asked'], 'pair')} and found no clear "
            "peak: how accurate the registration is was not tested."
        )
    found = (
        f"Two methods differ by {second['median_px']:.2f} px (median), {second['p95_px']:.2f} px (95 %), "
        f"over {counted(second['measured'], 'pair')}"
    )
    unclear = second["asked"] - second["measured"]
    found += f"; on {unclear:,} more the second, {second['method']}, found no clear peak" if unclear else ""
    if second["expected_rms_px"] is not None:
        found += (
            f". Root mean square: {second['rms_px']:.2f} px, and {second['expected_rms_px']:.2f} px by the "
            "uncertainties that both state"
        )
    return f"{found}. {SHARED_ERRORS}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as 1 pair, 1,200 pairs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count_summary(samples: pd.DataFrame, rejected: pd.DataFrame, *, failed: int) -> dict[str, Any]:
    """Counts that must add up: candidates = accepted + rejected + failed."""
    return {
        "counts": {
            "candidates": len(samples) + len(rejected) + failed,
            "accepted": len(samples),
            "rejected": len(rejected),
            "failed": failed,
            "paired": int(samples["paired"].sum()),
            "unpaired": int((~samples["paired"].astype(bool)).sum()),
        },
        "rejected_by_reason": _counts(rejected["reason"]),
        "unpaired_by_reason": _counts(samples.loc[~samples["paired"].astype(bool), "unpaired_reason"]),
        "by_split": {split: int((samples["split"] == split).sum()) for split in SPLITS},
    }


def site_summary(candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """Shift found and residual left by site, for candidates with an optical partner; the first 200 sites by name.

    The scene's shift and the correction are None where the site's patches do not share one: it has several scene pairs,
    or each patch was corrected on its own.
    """
    paired = candidates[candidates["optical_product"].notna()]
    first = sorted(paired["site"].unique())[:SITE_LIMIT]
    sites = []
    for site, rows in paired[paired["site"].isin(first)].groupby("site", sort=True):
        status = rows["registration_status"].value_counts().sort_index()
        sites.append(
            {
                "site": str(site),
                "patches": len(rows),
                "status": ", ".join(f"{count} {name}" for name, count in status.items()),
                **_shared(rows[list(SCENE_COLUMNS)]),
                **_shared(rows[list(APPLIED_COLUMNS)]),
                "polarisation_spread_px": finite(rows["polarisation_spread_px"].astype(float).median()),
                "residual_px": finite(rows["residual_px"].astype(float).median()),
            }
        )
    return sites


def _shared(rows: pd.DataFrame) -> dict[str, float | None]:
    """The first row, where all are the same; else None in each column."""
    alike = len(rows.drop_duplicates()) == 1
    return {str(name): finite(value) if alike else None for name, value in rows.iloc[0].items()}


def finite(value: float) -> float | None:
    """A float for JSON: None where the value is missing, NaN or infinite."""
    return None if value is None or pd.isna(value) or not np.isfinite(value) else float(value)


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in column.value_counts().sort_index().items()}
