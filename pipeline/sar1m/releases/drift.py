"""Whether the archive's geolocation changed: the shift between radar and optical images by platform, track and time.

One value for each acquisition of the radar: the patches of a scene pair share the errors of both images, and the
scene pairs of one data take those of its orbit. It is the displacement of the radar image against the optical one,
along the flight and away from the radar, so that a fault of timing or of range has one sign on ascending and on
descending passes. Tracks are taken for due north and due south, where they run 8 to 14 degrees aside.

What stands in the table is the shift as it was measured, before any correction. Displacements differ from place to
place (heights, forest, what the optical image's own processing left); such differences between tracks are not changes
and are taken out (core.drift).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.core.drift import Change, Contrast, centre_and_sigma, find_changes, joined
from sar1m.core.table import F64, I64, Bool, Strings
from sar1m.records import KNOWN_SHIFT
from sar1m.releases.hub import open_release
from sar1m.store.errors import StoreError
from sar1m.store.schema import SAMPLES_FILE
from sar1m.store.seal import require_seal
from sar1m.store.seal_text import MARKERS

FALSE_ALARMS: Final = 0.01
LEAST_ACQUISITIONS: Final = 16
_TRACK_ACQUISITIONS: Final = 6  # of the median track, from which tracks are compared each with itself
_OWN_STEPS: Final = 20  # acquisitions from which a track is asked for changes of its own
_MOST_MONTHS: Final = 48  # at which a change is looked for; of more, evenly spaced ones
_TRACK_MONTHS: Final = 8  # the same on a track alone
_MAX_TABLE_BYTES: Final = 2**32
_IPF: Final = re.compile(r"\bIPF (\d{1,3}\.\d{1,3})\b", re.ASCII)
_FACTORS: Final = ("orbit_state", "platform", "processor", "baseline", "month", "track")
_ASKED: Final = {"platform": "platform", "processor": "processor", "baseline": "optical processing baseline"}
_COLUMNS: Final = (
    "sample_id",
    "sar_product",
    "platform",
    "orbit_state",
    "relative_orbit",
    "datatake",
    "sar_datetime",
    "processing",
    "provider",
    "optical_product",
    "processing_baseline",
    "gsd_m",
    "shift_row_px",
    "shift_col_px",
    "registration_status",
)
_SIGMA: Final = "shift_sigma_px"  # from schema 1.2 on


@dataclass(frozen=True, kw_only=True)
class Level:
    """The acquisitions of one platform, processor, baseline, month, track or orbit direction.

    along_px, away_px: median displacement of the radar image along the flight and away from the radar. sigma_px: one
    standard deviation of either.
    """

    factor: str
    level: str
    acquisitions: int
    patches: int
    along_px: float
    away_px: float
    sigma_px: float


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """acquisitions, scene_pairs, patches: that were used; patches_without: without measured shift, date or direction.

    compared: what an acquisition is compared with: its track, or its orbit direction where tracks have too few.
    visible_px: see core.drift.DriftResult. false_alarms: chance that a table without any change gives one.
    """

    places: tuple[str, ...]
    acquisitions: int
    scene_pairs: int
    patches: int
    patches_without: int
    compared: str
    contrasts: int
    false_alarms: float
    scatter_px: float
    visible_px: float
    levels: tuple[Level, ...]
    changes: tuple[Change, ...]

    @property
    def verdict(self) -> str:
        """One line."""
        asked = f"{self.acquisitions:,} acquisitions, {self.contrasts:,} questions, false alarms {self.false_alarms:g}"
        if not self.changes:
            return f"No change found ({asked}; a step of {self.visible_px:.2f} px over half of them would show)."
        first = self.changes[0]
        along_px, away_px = first.step_px
        return (
            f"CHANGE {first.name}: {along_px:+.2f} px along the flight, {away_px:+.2f} px away from the radar, sigma "
            f"{first.sigma_px:.2f} px, p {first.p:.3f} ({asked})."
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values, complete."""
        return {**asdict(self), "verdict": self.verdict}

    def lines(self, most: int = 24) -> Iterator[str]:
        """For a terminal: what was read, a table with at most so many levels of a kind, changes, the verdict last."""
        yield (
            f"{self.patches:,} patches of {self.scene_pairs:,} scene pairs in {self.acquisitions:,} acquisitions; "
            f"{self.patches_without:,} patches without measured shift, date or direction. Compared within each "
            f"{self.compared}."
        )
        yield f"{'':<34}{'acquisitions':>13}{'along px':>10}{'away px':>10}{'sigma px':>10}"
        for factor in _FACTORS:
            levels = [level for level in self.levels if level.factor == factor]
            for level in levels[:most]:
                yield (
                    f"{factor + ' ' + level.level:<34}{level.acquisitions:>13,}{level.along_px:>+10.3f}"
                    f"{level.away_px:>+10.3f}{level.sigma_px:>10.3f}"
                )
            if len(levels) > most:
                yield f"{factor} ... and {len(levels) - most:,} more (all of them: --json)"
        for change in self.changes:
            along_px, away_px = change.step_px
            step = f"{along_px:+.3f} {away_px:+.3f} px, sigma {change.sigma_px:.3f}, p {change.p:.3f}"
            yield f"changed {change.name}: {step}"
            if change.alike:
                yield f"    or, by the same acquisitions: {'; '.join(change.alike[:4])}"
        yield self.verdict


def drift(places: Sequence[str], *, false_alarms: float = FALSE_ALARMS) -> DriftReport:
    """The report over builds and releases, in folders or at addresses (hub.open_release). Samples that several of them
    hold count once.

    Raises StoreError where one is not finished or damaged, where pixel sizes differ, or where there are too few
    acquisitions to say anything.
    """
    tables = [_samples(place) for place in places]
    samples = pd.concat(tables, ignore_index=True).drop_duplicates("sample_id")
    used = _measured(samples)
    pixels = sorted(set(used["gsd_m"].astype(float).round(3)))
    if len(pixels) > 1:
        raise StoreError(f"{', '.join(places)}: pixels of {pixels} m. Shifts in pixels are compared at one size alone.")
    pairs = used.groupby(["acquisition", "pair"], sort=True)[["along_px", "away_px", _SIGMA]].median()
    one = used.groupby("acquisition", sort=True)[["platform", "orbit_state", "track", "processor", "baseline", "month"]]
    acquisitions = one.first().join(pairs.groupby("acquisition")[["along_px", "away_px", _SIGMA]].median())
    acquisitions["patches"] = used.groupby("acquisition").size()
    if len(acquisitions) < LEAST_ACQUISITIONS:
        raise StoreError(
            f"{', '.join(places)}: {len(acquisitions)} acquisitions with a measured shift, date and orbit direction; "
            f"at least {LEAST_ACQUISITIONS} are needed to see a change. Give more stores."
        )
    compared, strata = _strata(acquisitions)
    values = acquisitions[["along_px", "away_px"]].to_numpy(dtype=np.float64)
    found = find_changes(values, strata, _contrasts(acquisitions), false_alarms=false_alarms)
    return DriftReport(
        places=tuple(places),
        acquisitions=len(acquisitions),
        scene_pairs=len(pairs),
        patches=len(used),
        patches_without=len(samples) - len(used),
        compared=compared,
        contrasts=found.contrasts,
        false_alarms=false_alarms,
        scatter_px=found.scatter_px,
        visible_px=found.visible_px,
        levels=tuple(_levels(acquisitions, found.scatter_px)),
        changes=found.changes,
    )


def _samples(location: str) -> pd.DataFrame:
    """The columns that are needed of a store's table of samples, checked against the store's manifest."""
    place = open_release(location)
    seal = require_seal(place, MARKERS)
    shown = f"{place.location}/{SAMPLES_FILE}"
    content = place.read(SAMPLES_FILE, max_bytes=_MAX_TABLE_BYTES)
    if hashlib.sha256(content).hexdigest() != seal.sha256.get(SAMPLES_FILE):
        raise StoreError(f"{shown}: differs from the manifest. Check the store with `sar1m verify`.")
    try:
        names = set(pq.read_schema(io.BytesIO(content)).names)
        wanted = [*_COLUMNS, *({_SIGMA} & names)]
        table = pq.read_table(io.BytesIO(content), columns=wanted).to_pandas()
        return table.reindex(columns=[*_COLUMNS, _SIGMA]).astype({_SIGMA: np.float64})
    except (KeyError, pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{shown}: cannot be read as a table of samples ({type(error).__name__}: {error}).") from error


def _measured(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples with a known shift, a date and an orbit direction, with what the report groups by."""
    shifts = samples[["shift_row_px", "shift_col_px"]].to_numpy(dtype=np.float64)
    known = np.isfinite(shifts).all(axis=1) & samples["registration_status"].isin(KNOWN_SHIFT).to_numpy()
    known &= samples["sar_datetime"].notna().to_numpy()
    known &= samples["orbit_state"].isin(["ascending", "descending"]).to_numpy()
    used, shifts = samples[known], shifts[known]
    north = np.where(used["orbit_state"] == "ascending", 1.0, -1.0)  # flies north and looks east, or the reverse
    platform = used["platform"].fillna("-").astype(str)
    taken = used["datatake"].where(used["datatake"].notna(), used["sar_product"]).astype(str)
    track = used["relative_orbit"].map(lambda number: "-" if pd.isna(number) else f"{int(number):03d}")
    return used.assign(
        along_px=north * shifts[:, 0],  # optical content below the radar's: the radar's lies north of it
        away_px=-north * shifts[:, 1],
        platform=platform,
        acquisition=platform + " " + taken + " " + used["sar_datetime"].dt.strftime("%Y-%m-%d"),
        pair=used["sar_product"].astype(str) + " " + used["optical_product"].astype(str),
        track=used["orbit_state"].astype(str) + " " + track,
        processor=[_processor(*both) for both in zip(used["processing"], used["provider"], strict=True)],
        baseline=used["processing_baseline"].fillna("-").astype(str),
        month=used["sar_datetime"].dt.strftime("%Y-%m"),
    )


def _processor(processing: object, provider: object) -> str:
    """The processor's version where the record of the processing names it, else who delivered the pixels."""
    found = _IPF.search(str(processing))
    return f"IPF {found[1]}" if found else str(provider)[:40]


def _strata(acquisitions: pd.DataFrame) -> tuple[str, I64]:
    """What acquisitions are compared within, and its number for each."""
    counts = acquisitions.groupby("track").size()
    many = float(np.median(counts)) >= _TRACK_ACQUISITIONS
    column = "track" if many else "orbit_state"
    numbers = pd.factorize(acquisitions[column], sort=True)[0].astype(np.int64)
    return ("track" if many else "orbit direction"), numbers


def _contrasts(acquisitions: pd.DataFrame) -> list[Contrast]:
    """The questions: each platform, processor and baseline against the others, and each month on against those before
    it: over everything, for each orbit direction, and months also for each platform and each track."""
    every: Bool = np.ones(len(acquisitions), dtype=np.bool_)
    questions: list[Contrast] = []
    for factor, words in _ASKED.items():
        levels = acquisitions[factor].to_numpy()
        known = sorted(set(levels))
        if len(known) > 1:
            questions += [Contrast(name=f"{words} {one}", side=levels == one, among=every) for one in known]
    months = acquisitions["month"].to_numpy()
    steps = _steps(months, every)
    questions += steps
    asked = list(questions)
    for direction in ("ascending", "descending"):
        among = (acquisitions["orbit_state"] == direction).to_numpy()
        if among.any() and not among.all():
            asked += [joined(question, among, direction) for question in questions]
    for factor, least, most in (("platform", 1, _MOST_MONTHS), ("track", _OWN_STEPS, _TRACK_MONTHS)):
        levels = acquisitions[factor].to_numpy()
        for level in sorted(set(levels)):
            among = levels == level
            if not among.all() and among.sum() >= least:
                asked += [joined(step, every, f"{factor} {level}") for step in _steps(months, among, most)]
    return asked


def _steps(months: Strings, among: Bool, most: int = _MOST_MONTHS) -> list[Contrast]:
    """Each month of some acquisitions on, but the first, against those before it; at most so many, evenly spaced."""
    known = sorted(set(months[among]))[1:]
    every = max(-(-len(known) // most), 1)
    return [Contrast(name=f"from {month} on", side=months >= month, among=among) for month in known[::every]]


def _levels(acquisitions: pd.DataFrame, scatter_px: float) -> Iterator[Level]:
    values: F64 = acquisitions[["along_px", "away_px"]].to_numpy(dtype=np.float64)
    stated: F64 = acquisitions[_SIGMA].to_numpy(dtype=np.float64)
    patches = acquisitions["patches"].to_numpy()
    for factor in _FACTORS:
        groups: Mapping[Any, Any] = acquisitions.groupby(factor, sort=True).indices
        for level, rows in groups.items():
            centre, sigma_px = centre_and_sigma(values[rows], scatter_px)
            known = stated[rows][np.isfinite(stated[rows])]
            floor_px = float(np.sqrt(np.sum(known**2))) / len(known) if len(known) else 0.0
            yield Level(
                factor=factor,
                level=str(level),
                acquisitions=len(rows),
                patches=int(patches[rows].sum()),
                along_px=float(centre[0]),
                away_px=float(centre[1]),
                sigma_px=max(sigma_px, floor_px),
            )
