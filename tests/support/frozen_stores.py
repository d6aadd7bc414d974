"""Stores of former schema versions as the code of their time wrote them, and stores as later versions may write them.

frozen/schema-1.0.tar.xz holds `build`, simulated:1 in patches of 32 px (three samples of train, paired; one rejected),
and `release`, version 1.0.0 of that build, both made by the code of commit 903136b. Pages and thumbnails were replaced
by a line, and both sealed again by the same code, to keep the file small. All of it is simulated: CC0-1.0.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.store.durable import digest_file
from sar1m.store.schema import MARKER_FILE, RELEASE_MARKER_FILE
from sar1m.store.seal import payload_files, write_seal

ARCHIVE = Path(__file__).parent / "frozen/schema-1.0.tar.xz"
SEAL_KEYS = ("manifest_sha256", "marker_sha256", "files")


def thaw(folder: Path) -> tuple[Path, Path]:
    """The build and the release of schema 1.0, unpacked into a folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "build", folder / "release"


def resealed(store: Path, **facts: object) -> Path:
    """The same store, its manifest and marker written anew over what lies there, the marker with other facts."""
    name = MARKER_FILE if (store / MARKER_FILE).is_file() else RELEASE_MARKER_FILE
    marker = json.loads((store / name).read_text())
    kept = {key: value for key, value in marker.items() if key not in SEAL_KEYS}
    names = [file for file in payload_files(store) if file != name]
    write_seal(store, {file: digest_file(store / file) for file in names}, {**kept, **facts}, name)
    return store


def with_things_to_come(store: Path) -> Path:
    """The same store as a later minor version might write it: schema 1.9 with a column, an array, a file and a key of
    the configuration that nobody knows yet."""
    for table in [store / "samples.parquet", *store.rglob("rejected.parquet")]:
        rows = pq.read_table(table)
        pq.write_table(rows.append_column("unheard_of", pa.array(["x"] * len(rows))), table)
    for group in (store / "data").glob("*.zarr"):
        array = group / "unheard_of"
        array.mkdir()
        array.joinpath("zarr.json").write_bytes((group / "enl/zarr.json").read_bytes())
    store.joinpath("stats/unheard_of.json").write_text("{}")
    for config in store.rglob("config.toml"):
        text = config.read_text(encoding="utf-8").replace("[grid]", "[grid]\nunheard_of = 1", 1)
        config.write_text(f'unheard_of = "x"\n\n{text}\n[unheard_section]\nkey = 1\n', encoding="utf-8")
    return resealed(store, schema_version="1.9")
