"""A plan as a Parquet file: what `sar1m plan` writes and `build --plan` takes.

One row a work item, in their order, then one row a cell that takes no scene, with the reason. Rows may be taken out
before a build; what a build reads of a row is the cell, the two scenes, the covers and the reason, the other columns
are for people. Prices are what the row adds: what a scene costs once stands in the first row that uses it, so that
columns add up to the whole.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.config import BuildConfig
from sar1m.core.grid import cell_names, in_order, parse_cell_name
from sar1m.core.utm import IntArray
from sar1m.records import BlockPixels, Candidate
from sar1m.sources.area.pricing import PRICE_COLUMNS, RowPrices
from sar1m.sources.area.scene_plan import PLAN_VERSION, AreaPlan, plan_digest
from sar1m.sources.area.source import AreaSource
from sar1m.sources.failures import PlanFailures
from sar1m.sources.scene import Scene, scene_from_text, scene_to_text
from sar1m.store.durable import write_durably
from sar1m.store.errors import ConfigError, RegionError, SourceError
from sar1m.store.side_files import json_value, require_regular
from sar1m.store.version import __version__

METADATA_KEY: Final = b"sar1m_plan"
ROWS_A_GROUP: Final = 65_536
_TEXTS: Final = pa.dictionary(pa.int32(), pa.string())
SCHEMA: Final = pa.schema(
    [
        ("item_id", pa.string()),
        ("cell", pa.string()),
        ("sar_scene", _TEXTS),
        ("optical_scene", _TEXTS),
        ("dt_hours", pa.float32()),
        ("sar_cover", pa.float32()),
        ("optical_cover", pa.float32()),
        ("reason", _TEXTS),
        *((name, pa.float64()) for name in PRICE_COLUMNS),
        ("sar_json", _TEXTS),
        ("optical_json", _TEXTS),
    ]
)
_NEEDED: Final = ("cell", "sar_cover", "optical_cover", "reason", "sar_json", "optical_json")
# Of signed addresses: Azure, S3, Google, and what other services call them.
_SECRET_KEYS: Final = frozenset(
    ["sig", "signature", "token", "access_token", "api_key", "apikey", "key", "password", "awsaccesskeyid"]
)


@dataclass(frozen=True)
class PlanTableSource:
    """The work items of a plan file, read from the services that the plan was made with.

    area: the same region and services.
    """

    path: Path
    area: AreaSource

    @property
    def reader(self) -> AreaSource:
        """What reads the pixels, so that a store is the same with a plan and without one."""
        return self.area

    @property
    def remarks(self) -> list[str]:
        return self.area.remarks

    @property
    def failures(self) -> PlanFailures:
        return self.area.failures

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """Work items of the plan, in the order of AreaSource. Raises ConfigError and SourceError as read_plan_table
        does."""
        services = (self.area.sar.name, self.area.optical.name if self.area.optical else None)
        plan = read_plan_table(self.path, config)
        if plan.services != services or plan.region != self.area.region.label:
            raise ConfigError(
                f"{self.path}: plans {plan.region} by {_named(plan.services)}, this build is of "
                f"{self.area.region.label} by {_named(services)}. Give the plan's region and services, or plan again."
            )
        return self.area.candidates_of(plan, config)

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """The pixels of one work item, as AreaSource reads them."""
        return self.area.read(candidate, config)


def _named(services: tuple[str, str | None]) -> str:
    return f"{services[0]} and {services[1] or 'no optical service'}"


def write_plan_table(path: Path, plan: AreaPlan, prices: RowPrices, config: BuildConfig) -> None:
    """Writes a plan with its prices. The same plan always gives the same bytes.

    Raises SourceError where a scene's address carries a signature or a password, OutputError where the disk refuses.
    """
    texts = [_checked_text(scene) for scene in plan.scenes]
    stated = {
        "plan_version": PLAN_VERSION,
        "plan_digest": plan_digest(config),
        "region": plan.region,
        "services": plan.services,
        "searches": plan.searches,
        "found": plan.found,
        "sar1m": __version__,
    }
    buffer = io.BytesIO()
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(stated, sort_keys=True).encode()})
    limit = 2**28  # texts of scenes are long: beyond the usual 1 MiB the writer would repeat them row by row
    with pq.ParquetWriter(buffer, schema, compression="zstd", dictionary_pagesize_limit=limit) as writer:
        for start in range(0, plan.cell.size, ROWS_A_GROUP):
            writer.write_table(_items(plan, prices, texts, slice(start, start + ROWS_A_GROUP)).cast(schema))
        writer.write_table(_cells_left_out(plan).cast(schema))
    write_durably(path, [buffer.getvalue()])


def _checked_text(scene: Scene) -> str:
    for asset in scene.assets:
        address = urlsplit(asset.href)
        filled = {key.lower() for key, value in parse_qsl(address.query) if not value.startswith("{")}
        keys = {key.removeprefix("x-amz-").removeprefix("x-goog-") for key in filled}
        if keys & _SECRET_KEYS or "@" in address.netloc:
            raise SourceError(
                f"{scene.service} {scene.scene_id}: the address of {asset.name} carries a signature or a password. A "
                "service must give plain addresses; nothing was written."
            )
    return scene_to_text(scene)


def _items(plan: AreaPlan, prices: RowPrices, texts: list[str], rows: slice) -> pa.Table:
    sar, optical = plan.sar[rows], plan.optical[rows]
    cells = plan.cell[rows]
    names = cell_names(plan.row[cells], plan.column[cells])
    ids = [scene.scene_id for scene in plan.scenes]
    columns: dict[str, Any] = {
        "item_id": [f"{ids[scene]}_{cell}" for scene, cell in zip(sar.tolist(), names, strict=True)],
        "cell": names,
        "sar_scene": _repeated(sar, ids),
        "optical_scene": _repeated(optical, ids),
        "dt_hours": pa.array(plan.dt_hours[rows].astype(np.float32), from_pandas=True),
        "sar_cover": pa.array(plan.sar_cover[rows]),
        "optical_cover": pa.array(plan.optical_cover[rows], from_pandas=True),
        "reason": pa.array(plan.reason[rows].tolist()).dictionary_encode(),
        **{name: prices.columns[name][rows] for name in PRICE_COLUMNS},
        "sar_json": _repeated(sar, texts),
        "optical_json": _repeated(optical, texts),
    }
    return pa.table(columns)


def _repeated(numbers: IntArray, texts: list[str]) -> pa.DictionaryArray:
    """Texts by number as a dictionary array, null for -1. Each text is stored once."""
    used = np.unique(numbers[numbers >= 0])
    indices = pa.array(np.searchsorted(used, numbers).astype(np.int32), mask=numbers < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array([texts[one] for one in used.tolist()], type=pa.string()))


def _cells_left_out(plan: AreaPlan) -> pa.Table:
    numbers = np.flatnonzero(plan.cell_reason != "taken")
    columns: dict[str, Any] = {field.name: pa.nulls(numbers.size, field.type) for field in SCHEMA}
    columns["cell"] = pa.array(cell_names(plan.row[numbers], plan.column[numbers]), type=pa.string())
    columns["reason"] = pa.array(plan.cell_reason[numbers].tolist(), type=pa.string()).dictionary_encode()
    return pa.table(columns, schema=SCHEMA)


def read_plan_table(path: Path, config: BuildConfig) -> AreaPlan:
    """The plan in a file that write_plan_table wrote.

    Raises ConfigError where the file is no plan, has another version, or was planned with another configuration;
    SourceError where its rows are damaged.
    """
    table, stated = _opened(path)
    if stated.get("plan_version") != PLAN_VERSION:
        raise ConfigError(
            f"{path}: a plan of version {stated.get('plan_version')} (sar1m {stated.get('sar1m')}); this sar1m "
            f"{__version__} reads version {PLAN_VERSION}. Plan again."
        )
    if stated.get("plan_digest") != plan_digest(config):
        raise ConfigError(
            f"{path}: planned with another configuration: [area], [grid], pixels.optical_bands or safe.quantity "
            "differ. Build with the configuration of the plan, or plan again."
        )
    try:
        return _plan_of(table, stated, path)
    except (RegionError, KeyError, TypeError, ValueError, IndexError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path}: a damaged plan ({error}). Plan again.") from error


def _opened(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    require_regular(path, error=ConfigError, remedy="Give the table that `sar1m plan --to` wrote.")
    try:
        opened = pq.ParquetFile(path)
        stated = json_value((opened.schema_arrow.metadata or {})[METADATA_KEY])
        return opened.read(columns=list(_NEEDED)), stated
    except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
        raise ConfigError(
            f"{path}: not a plan that `sar1m plan` wrote ({type(error).__name__}). Plan again."
        ) from error


def _plan_of(table: pa.Table, stated: dict[str, Any], path: Path) -> AreaPlan:
    names = table["cell"].to_pylist()
    place = np.asarray([parse_cell_name(name) for name in names], dtype=np.int64).reshape(-1, 2)
    row, column = in_order(place[:, 0], place[:, 1])
    cell = np.searchsorted(_position(row, column), _position(place[:, 0], place[:, 1]))
    reason = np.asarray(table["reason"].to_pylist(), dtype=object)
    used = table["sar_json"].is_valid().to_numpy()
    (sar_texts, sar), (optical_texts, optical) = (_numbered(table[name]) for name in ("sar_json", "optical_json"))
    scenes = [scene_from_text(text, str(path)) for text in (*sar_texts, *optical_texts)]
    in_time = sorted(range(len(scenes)), key=lambda number: (scenes[number].acquired, scenes[number].scene_id))
    rank = np.append(np.argsort(np.asarray(in_time, dtype=np.int64), kind="stable"), -1)
    optical = np.where(optical < 0, -1, optical + len(sar_texts))
    cell_reason = np.full(row.size, "taken", dtype=object)
    cell_reason[cell[~used]] = reason[~used]
    services = stated["services"]
    covers = {name: table[name].to_numpy().astype(np.float32)[used] for name in ("sar_cover", "optical_cover")}
    return AreaPlan(
        region=stated["region"],
        services=(services[0], services[1]),
        row=row,
        column=column,
        cell_reason=cell_reason,
        scenes=tuple(scenes[number] for number in in_time),
        cell=cell[used],
        sar=rank[sar[used]],
        optical=rank[optical[used]],
        reason=reason[used],
        searches=stated["searches"],
        found=stated["found"],
        **covers,
    )


def _position(row: IntArray, column: IntArray) -> IntArray:
    """A number for each cell that rises from south to north, then from west to east."""
    return row * 8192 + column


def _numbered(texts: pa.ChunkedArray) -> tuple[list[str], IntArray]:
    """Distinct texts, and the number of each row's, -1 where there is none."""
    encoded = texts.cast(_TEXTS).unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no rows at all
        return [], np.empty(0, dtype=np.int64)
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
