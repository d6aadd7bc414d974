"""What a person calls from Python. The command line calls the same functions.

    import sar1m

    sar1m.build("sample", "build/sample")
    store = sar1m.open("build/sample")
    store.split("train").sar  # an xarray.DataArray: (sample, pol, y, x), decibels

The names are offered by `sar1m` itself and imported on first use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sar1m.audit.channels import SarUnit
from sar1m.audit.item import pair_work
from sar1m.audit.run import AuditRequest, AuditSummary, audit
from sar1m.building import BuildRequest, BuildSummary
from sar1m.building import build as run_build
from sar1m.config import BuildConfig, resolve_config
from sar1m.flow import WorkersSettings
from sar1m.io.tables import read_table
from sar1m.records import FailedItem
from sar1m.releases.commands import is_release, seal_of
from sar1m.releases.make import ReleaseRequest, ReleaseSummary, make_release
from sar1m.releases.verification import verify_release
from sar1m.sources.dispatch import open_area, open_source
from sar1m.sources.regions.region import Region, cells_of, parse_region
from sar1m.stages.choose import choice_digest
from sar1m.stages.plan import make_plan
from sar1m.stages.shares import parse_share
from sar1m.store.chunk_checksums import QuickComparison
from sar1m.store.durable import local_folder, nothing_left_behind
from sar1m.store.errors import ConfigError, OutputError
from sar1m.store.outputs.opening import open_output
from sar1m.store.places.opening import BUCKETS, open_place
from sar1m.store.places.place import Place
from sar1m.store.printer import Printer
from sar1m.store.progress import Watch
from sar1m.store.schema import DATA_DIR, MARKER_FILE, SAMPLES_FILE
from sar1m.store.seal import StoreFault, read_marker
from sar1m.store.seal import verify as find_faults
from sar1m.store.settings import override
from sar1m.terminal import TerminalWatch

ADDRESSES = tuple(f"{scheme}://" for scheme in sorted(BUCKETS))  # of what a build can be written to

if TYPE_CHECKING:
    import pandas as pd
    import xarray
    from distributed import Client

    from sar1m.sources.area.pricing import Totals


@dataclass(frozen=True, kw_only=True)
class PlanSummary:
    """What a build would consist of.

    work_items: blocks.
    paired: how many of them have an optical partner.
    patches: at most, of patch_px by patch_px pixels.
    remarks: what was left out and why.
    failed: products that cannot be planned; a build sets them aside by name.
    totals: what an area of the Earth costs, None for other regions.
    """

    region: str
    work_items: int
    paired: int
    patches: int
    patch_px: int
    remarks: tuple[str, ...]
    failed: tuple[FailedItem, ...] = ()
    totals: Totals | None = None


@dataclass(frozen=True, kw_only=True)
class OpenStore:
    """A finished build or release in a folder. facts: its completion marker (counts, splits, files)."""

    place: Path
    facts: Mapping[str, Any]

    def split(self, name: str = "train") -> xarray.Dataset:
        """The samples of one split, read on access.

        name: train, val or test. Returns sar (sample, pol, y, x) in decibels, optical (sample, band, y, x) in
        reflectance, NaN where there is no data, and small arrays by sample. Raises ConfigError where the store has no
        such split.
        """
        import xarray  # noqa: PLC0415 - other commands do without

        path = self.place / DATA_DIR / f"{name}.zarr"
        if not (path / "zarr.json").is_file():
            there = sorted(folder.stem for folder in (self.place / DATA_DIR).glob("*.zarr"))
            raise ConfigError(f"{self.place}: has no split {name!r}. It has: {', '.join(there)}.")
        dataset: xarray.Dataset = xarray.open_zarr(path, consolidated=False)
        return dataset

    def samples(self) -> pd.DataFrame:
        """The table of samples, one row a sample in the order of the splits' arrays; columns: sar1m.store.schema."""
        return read_table(self.place / SAMPLES_FILE)


def build(  # noqa: PLR0913 - one argument an option, as on the command line
    region: str,
    out: str | Path | None = None,
    *,
    config: str | BuildConfig | None = None,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    scheduler: str | None = None,
    client: Client | None = None,
    cluster: str | Path | None = None,
    patience_s: float = 60.0,
    plan: str | Path | None = None,
    items: str | None = None,
    finish: bool = False,
    strict: bool = False,
    watch: Watch | None = None,
) -> BuildSummary:
    """Builds a dataset, or goes on with one that was interrupted.

    region: sample; safe:PATH; folder:PATH; simulated:CELLS; a country; west,south,east,north; or a polygon file.
    out: output folder, or s3://bucket/prefix (gs://, az://); build/<region> by default.
    config: a configuration, a TOML file, or a name in pipeline/configs; sar1m by default, sample for the sample.
    overrides: "key=value" each, as in "screening.max_cloud_frac=0.1".
    workers: local processes; one a core by default, 0 for this process alone. A share has 0 by default.
    scheduler: address of a running Dask scheduler instead; tls:// by the certificates of Dask's own configuration.
    client: a distributed.Client instead, of dask-jobqueue, Dask Gateway, Coiled, the Kubernetes operator or any other.
    cluster: a TOML file instead, of what to ask a batch system for by dask-jobqueue, see sar1m.flow.job_queue.
    patience_s: how long to wait for a scheduler or workers that are gone.
    plan: a table that `plan` wrote, for areas of the Earth.
    items: "3/64" prepares the third of 64 shares of the blocks and no more. Shares run in any order, side by side, on
    any machine that sees the output folder; areas of the Earth need a plan.
    finish: makes the store from what all shares have prepared.
    strict: the first product or block that fails ends the build; else it is set aside by name.
    watch: who is shown the progress; a bar on standard error by default.

    Returns how the build ended; items that failed are named in it. Raises RegionError, ConfigError, SourceError,
    OutputError or LockedError where nothing could be done, WorkersError where the workers are lost for good,
    UnfinishedError where the store was to be finished and blocks are not prepared yet.
    """
    place = parse_region(region)
    share = None if items is None else parse_share(items)
    queue = None if cluster is None else Path(cluster)
    if share and workers is None:
        workers = 0
    where = WorkersSettings(scheduler=scheduler, client=client, cluster=queue, workers=workers, patience_s=patience_s)
    request = BuildRequest(
        region=region,
        out=output_folder(out, place),
        config=configuration(config, overrides, place),
        workers=where,
        plan=None if plan is None else Path(plan),
        strict=strict,
        share=share,
        finish=finish,
    )
    return run_build(request, watch or _progress())


def plan(
    region: str,
    out: str | Path | None = None,
    *,
    config: str | BuildConfig | None = None,
    overrides: Sequence[str] = (),
    to: str | Path | None = None,
    mbit: float = 200.0,
    strict: bool = False,
    watch: Watch | None = None,
) -> PlanSummary:
    """What a build would consist of and cost. Reads no pixel; areas of the Earth are searched at their services.

    region, out, config, overrides, strict, watch: as for `build`.
    to: a Parquet file for the plan of an area, which `build` takes. mbit: speed of the line, Mbit/s.

    Raises as `build` does, and ConfigError where the plan costs more than [download] allows.
    """
    place = parse_region(region)
    settings = configuration(config, overrides, place)
    choice_digest(settings)  # a build would refuse what its files of polygons hold: so does its plan
    folder = local_folder(Path(output_folder(out, place))) or Path()
    with nothing_left_behind(folder, keep="staging"):
        if place.kind == "area":
            return _plan_area(place, settings, folder, None if to is None else Path(to), mbit, watch or _progress())
        source = open_source(place, settings, folder)
        offered = source.candidates(settings)
        planned, candidates = make_plan(place.label, offered, settings, source.failures, strict=strict)
    return PlanSummary(
        region=place.label,
        work_items=len(planned.items),
        paired=sum(candidate.optical is not None for candidate in candidates.values()),
        patches=planned.patches,
        patch_px=settings.grid.patch_px,
        remarks=tuple(source.remarks),
        failed=planned.failed,
    )


def _plan_area(
    place: Region, settings: BuildConfig, out: Path, to: Path | None, mbit: float, watch: Watch
) -> PlanSummary:
    # Services bring clients and a compiler that the other functions need not load.
    from sar1m.sources.area.plan_table import write_plan_table  # noqa: PLC0415
    from sar1m.sources.area.pricing import Pace, price_rows, require_within, summary, total  # noqa: PLC0415

    cells = len(cells_of(place))
    most = cells * settings.grid.patches_per_side**2
    watch.note(f"{place.label}: {cells:,} cells of 10 km, up to {most:,} patches per date.")
    source = open_area(place, settings, out)
    found = source.plan(settings)
    prices = price_rows(found, source.sar, source.optical, settings)
    totals = total(found, prices, settings, Pace(mbit=mbit, workers=os.cpu_count() or 1))
    remarks = tuple(found.remarks(settings.area.scenes_per_cell))
    for line in (*remarks, *summary(totals)):
        watch.note(line)
    require_within(totals, settings.download)
    if to is not None:
        write_plan_table(to, found, prices, settings)
        watch.note(f"written: {to}")
    return PlanSummary(
        region=place.label,
        work_items=totals.blocks,
        paired=totals.paired_blocks,
        patches=totals.patches,
        patch_px=settings.grid.patch_px,
        remarks=remarks,
        totals=totals,
    )


def open(place: str | Path) -> OpenStore:  # noqa: A001 - `sar1m.open`, beside `xarray.open_zarr`
    """A finished build or release in a folder.

    Raises OutputError where the folder holds neither, StoreError where its completion marker is damaged.
    """
    if "://" in str(place):
        raise OutputError(
            f"{place}: is an address; a folder expected. `sar1m info` says what a build there holds and how to open it."
        )
    folder = Path(place)
    if is_release(folder):
        return OpenStore(place=folder, facts=seal_of(folder).marker)
    marker = read_marker(folder)
    if marker is None:
        raise OutputError(f"{folder}: no {MARKER_FILE} here: not a finished store. Finish it with `sar1m build`.")
    return OpenStore(place=folder, facts=marker)


def verify(place: str | Path, *, quick: bool = False, watch: Watch | None = None) -> list[StoreFault]:
    """Compares every byte of a finished build or release with its manifest.

    place: a folder, or the address of a published release. quick: of shards only the index and the checksum at the end
    of each chunk are read and compared with the checksums by sample (store/chunk_checksums.py). Returns the faults,
    each with path and finding; an empty list where all is well. Raises StoreError where there is nothing to verify.
    """
    shown = watch or _progress()
    if is_build(str(place)):
        return verify_build(open_place(place), shown, QuickComparison() if quick else None)
    return list(verify_release(place, shown, quick=QuickComparison() if quick else None).faults)


def is_build(place: str) -> bool:
    """Whether a folder holds no release, or an address a finished build."""
    if "://" not in place:
        return not is_release(Path(place))
    return place.startswith(ADDRESSES) and open_place(place).size(MARKER_FILE) is not None


def verify_build(out: Path | Place, watch: Watch, quick: QuickComparison | None = None) -> list[StoreFault]:
    """The faults of a build: files that are changed, missing, added or truncated."""
    marker = read_marker(out)
    with watch.stage("verify", 0 if marker is None else len(marker["files"])) as step:
        return find_faults(out, lambda _name: step(), quick)


def release(  # noqa: PLR0913 - one argument an option, as on the command line
    builds: Iterable[str | Path],
    version: str,
    out: str | Path | None = None,
    *,
    name: str = "sar-1m",
    previous: str | Path | None = None,
    recipes: bool = False,
    published: date | None = None,
    url: str | None = None,
    sign: str | Path | None = None,
    watch: Watch | None = None,
) -> ReleaseSummary:
    """Makes a release of one or many builds, or goes on with one that was interrupted.

    builds: folders of finished builds, in any order. version: MAJOR.MINOR.PATCH.
    out: releases/<name>-v<version> by default. previous: folder of the release that this one follows.
    recipes: leaves out pixels that may not be passed on and ships how to make them.
    published, url: day and address of publication, for citation and catalogues.
    sign: a key of ssh-keygen by which the manifest is signed.

    Raises ConfigError, OutputError or StoreError, see sar1m.releases.make.
    """
    request = ReleaseRequest(
        version=version,
        name=name,
        previous=None if previous is None else Path(previous),
        recipes=recipes,
        published=published,
        url=url,
        sign=None if sign is None else Path(sign),
    )
    folder = Path("releases") / f"{name}-v{version}" if out is None else Path(out)
    return make_release([Path(place) for place in builds], folder, request, watch or _progress())


def audit_pairs(  # noqa: PLR0913 - one argument an option, as on the command line
    place: str | Path,
    out: str | Path = "audit",
    *,
    limit_px: float = 1.0,
    search_px: int = 16,
    sar_unit: SarUnit = "auto",
    optical_bands: Sequence[int] | None = None,
    write: str | Path | None = None,
    resample: bool = False,
    workers: int | None = None,
    watch: Watch | None = None,
) -> AuditSummary:
    """Measures how well SAR and optical pictures lie on each other, of pairs that others made.

    place: a folder of pictures (pairs by their names, a pairs.json, STAC items, a scenes.csv), a tar, or a store or
        release, also behind an address.
    out: folder for the table and the page; an audit that was interrupted goes on there.
    limit_px: how far off a measured pair may lie. search_px: the largest shift that is searched, 8 to 64.
    sar_unit: db, linear or amplitude; auto: as the files say or look.
    optical_bands: numbers from 1 of the optical bands in the order of wavelength.
    write: a folder for the measured pairs, cut to what overlaps. resample: moves them by the fraction of a pixel too.
    workers: local processes; one a core by default, 0 for this process alone.
    watch: who is shown the progress; a bar on standard error by default.

    Returns the verdict, and the table by pairs(): a row a pair, also of those that could not be read, with the cause.
    Raises SourceError where the place holds no pair, ConfigError for what cannot be asked for, OutputError where the
    output cannot be written, StoreError for a store that is damaged.
    """
    request = AuditRequest(
        place=str(place),
        out=local_folder(Path(out)) or Path("audit"),
        work=pair_work(search_px, sar_unit, optical_bands, resample=resample),
        limit_px=limit_px,
        write_to=None if write is None else local_folder(Path(write)),
        workers=workers,
    )
    return audit(request, watch or _progress())


def configuration(given: str | BuildConfig | None, overrides: Sequence[str], place: Region) -> BuildConfig:
    """The configuration of a build: as given, or the default of the region's kind; with its overrides."""
    if isinstance(given, BuildConfig):
        return override(given, list(overrides))
    return resolve_config(given or ("sample" if place.kind == "sample" else "sar1m"), list(overrides))


def output_folder(out: str | Path | None, place: Region) -> str | Path:
    """The output of a region: as given, or build/<region>. Raises OutputError where no build can write there."""
    if out is None:
        return Path("build") / place.label
    open_output(out)
    return out


def _progress() -> Watch:
    return TerminalWatch(Printer(stderr=True))
