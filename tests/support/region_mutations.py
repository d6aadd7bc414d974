"""Damaged and hostile region and ecoregion files."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas
import shapely

from sar1m.sources.regions.polygon_file import read_named_polygons
from sar1m.sources.regions.region import cell_indices, parse_region
from support.json_mutations import damaged_bytes, damaged_json

HOLED = shapely.Polygon([(10, 40), (12, 40), (12, 42), (10, 42)], [[(10.5, 40.5), (11, 40.5), (11, 41), (10.5, 41)]])
AREAS = [HOLED, shapely.MultiPolygon([shapely.box(14, 40, 15, 41), shapely.box(16, 40, 17, 41)])]
STATEMENTS = (
    "DELETE FROM gpkg_contents",
    "DELETE FROM gpkg_geometry_columns",
    "DROP TABLE gpkg_spatial_ref_sys",
    "DROP TABLE mutant",
    "DELETE FROM mutant",
    "UPDATE gpkg_contents SET table_name = 'none'",
    "UPDATE gpkg_contents SET table_name = char(7) || 'evil'",
    "UPDATE gpkg_contents SET min_x = 'x', max_x = 1e999",
    "UPDATE gpkg_contents SET srs_id = 99999",
    "UPDATE gpkg_contents SET data_type = 'tiles'",
    "UPDATE gpkg_geometry_columns SET srs_id = -1",
    "UPDATE gpkg_geometry_columns SET srs_id = 32633",
    "UPDATE gpkg_geometry_columns SET geometry_type_name = 'POINT'",
    "UPDATE gpkg_geometry_columns SET geometry_type_name = char(27)",
    "UPDATE gpkg_geometry_columns SET column_name = 'none'",
    "UPDATE gpkg_spatial_ref_sys SET definition = 'GEOGCS[['",
    "UPDATE gpkg_spatial_ref_sys SET definition = '/vsicurl/http://169.254.169.254/'",
    "UPDATE gpkg_spatial_ref_sys SET definition = 'LOCAL_CS[\"here\"]', organization = 'NONE'",
    "UPDATE mutant SET geom = NULL",
    "UPDATE mutant SET geom = 'text'",
    "UPDATE mutant SET geom = x''",
    "UPDATE mutant SET geom = zeroblob(30000000)",
    "UPDATE mutant SET geom = substr(geom, 1, 20)",
    "UPDATE mutant SET name = NULL",
    "UPDATE mutant SET name = char(27) || '[31m'",
    "UPDATE mutant SET name = hex(zeroblob(200000))",
    "ALTER TABLE mutant RENAME COLUMN geom TO shape",
    "ALTER TABLE mutant RENAME COLUMN name TO other",
    "PRAGMA user_version = 99999",
    "PRAGMA application_id = 0",
    (
        "DROP TABLE mutant; CREATE VIEW mutant AS WITH RECURSIVE t(fid) AS (SELECT 1 UNION ALL SELECT fid + 1 FROM t) "
        "SELECT fid, x'' AS geom, 'a' AS name FROM t"
    ),
    "CREATE TRIGGER t AFTER INSERT ON mutant BEGIN DELETE FROM mutant; END",
    "CREATE VIRTUAL TABLE v USING fts5(a)",
)


@dataclass(frozen=True)
class RegionSubject:
    """A file of a kind, damaged and read as a region or as ecoregions."""

    source: Path
    named: bool

    def damage(self, rng: random.Random, folder: Path) -> tuple[Callable[[], None], str, tuple[str, ...]]:
        path = folder / "mutant" / self.source.name
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(self.source.parent, path.parent)
        done = self._damage(rng, path)

        def read() -> None:
            if self.named:
                polygons, names = read_named_polygons(path, "name")
                assert len(polygons) == len(names) > 0
            else:
                cell_indices(parse_region(str(path)).geometry)

        return read, f"{path.suffix} {done}", (str(path),)

    def _damage(self, rng: random.Random, path: Path) -> str:
        if path.suffix == ".geojson":
            content, done = damaged_json(rng, path.read_bytes())
            path.write_bytes(content)
            return done
        if path.suffix == ".gpkg" and rng.random() < 0.5:
            return statement(rng, path)
        siblings = sorted(path.parent.iterdir())
        victim = rng.choice(siblings)
        if len(siblings) > 1 and rng.random() < 0.1:
            victim.unlink()
            return f"without {victim.suffix}"
        content, done = damaged_numbers(rng, victim.read_bytes())
        victim.write_bytes(content)
        return f"{victim.suffix} {done}"


def statement(rng: random.Random, path: Path) -> str:
    wanted = rng.choice((*STATEMENTS, "damaged geometry", "damaged geometry"))
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA trusted_schema = 1")
        for name, count in (("ST_IsEmpty", 1), ("ST_MinX", 1), ("ST_MaxX", 1), ("ST_MinY", 1), ("ST_MaxY", 1)):
            base.create_function(name, count, lambda *_: 0)  # what the index's triggers call
        if wanted == "damaged geometry":
            for number, content in base.execute("SELECT fid, geom FROM mutant").fetchall():
                changed = bytearray(content)
                for _ in range(rng.choice((1, 3))):
                    changed[rng.randrange(min(len(changed), 90))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
                base.execute("UPDATE mutant SET geom = ? WHERE fid = ?", (bytes(changed), number))
        else:
            base.executescript(wanted)
    base.close()
    return wanted[:60]


def damaged_numbers(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """damaged_bytes, or a count or an offset of the header with another value."""
    if len(content) < 200 or rng.random() < 0.6:
        return damaged_bytes(rng, content) if content.isascii() else flipped(rng, content)
    changed, at = bytearray(content), rng.randrange(len(content) // 8) // 4 * 4
    value = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, rng.getrandbits(32)))
    changed[at : at + 4] = value.to_bytes(4, rng.choice(("big", "little")))
    return bytes(changed), f"number at {at}"


def flipped(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))], "cut"
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 50, 500))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed), "flip"


def subject(name: str, *, named: bool) -> Callable[[Path], RegionSubject]:
    def make(scratch: Path) -> RegionSubject:
        folder = scratch / f"whole-{name}-{named}"
        folder.mkdir(parents=True)
        path = folder / name
        table = geopandas.GeoDataFrame({"name": ["one", "two"]}, geometry=AREAS, crs=4326)
        if path.suffix == ".geojson":
            told = json.loads(table.to_json())
            told["crs"] = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
            path.write_text(json.dumps(told))
        else:
            table.to_file(path, layer="mutant")
        return RegionSubject(path, named)

    return make


REGION_SUBJECTS = (
    *(subject("area.geojson", named=named) for named in (False, True)),
    *(subject("area.gpkg", named=named) for named in (False, True)),
    subject("area.shp", named=True),
)
