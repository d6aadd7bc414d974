"""One measurement in a process of its own; the last line of output is its JSON.

python -m versioned_stores.one_run write LABEL TARGET RELEASE RELEASE
python -m versioned_stores.one_run read LABEL TARGET RELEASE RELEASE SECONDS
python -m versioned_stores.one_run damage LABEL TARGET RELEASE RELEASE SCRATCH
python -m versioned_stores.one_run foreign LABEL FOLDER RELEASE
python -m versioned_stores.one_run references TARGET NUMBER
python -m versioned_stores.one_run direct RELEASE SECONDS          (with sarmae, without icechunk)
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from versioned_stores.timing import Rates, ReadRows, measure


def write(label: str, target: str, *releases: str) -> list[dict[str, Any]]:
    """Figures of each version."""
    from versioned_stores import layouts  # noqa: PLC0415 - without icechunk, direct works too

    versions = [layouts.Version.read(Path(release)) for release in releases]
    return [vars(one) for one in layouts.write(layouts.BY_LABEL[label], Path(target), versions)]


def read(label: str, target: str, seconds: str) -> dict[str, Any]:
    """Of the newest version, through zarr-python."""
    from versioned_stores import layouts  # noqa: PLC0415

    def open_it() -> tuple[ReadRows, int]:
        arrays = layouts.open_arrays(layouts.BY_LABEL[label], Path(target), 1)

        def rows(numbers: np.ndarray) -> object:
            if len(numbers) == 1:
                return [array[int(numbers[0])] for array in arrays.values()]
            if np.all(np.diff(numbers) == 1):
                return [array[int(numbers[0]) : int(numbers[-1]) + 1] for array in arrays.values()]
            return [array.oindex[numbers] for array in arrays.values()]

        return rows, int(arrays["sar"].shape[0])

    return measure(open_it, float(seconds)).told()


def damage(label: str, release: str, scratch: str) -> dict[str, Any]:
    """By kind of damage, what zarr-python makes of it."""
    from versioned_stores import layouts  # noqa: PLC0415
    from versioned_stores.damage import try_all  # noqa: PLC0415

    return try_all(layouts.BY_LABEL[label], layouts.Version.read(Path(release)), Path(scratch))


def foreign(folder: str, release: str) -> dict[str, str]:
    """Which readers find the first sample of the release in a folder."""
    from versioned_stores import layouts  # noqa: PLC0415
    from versioned_stores.foreign import try_readers  # noqa: PLC0415

    return try_readers(Path(folder), 0, layouts.Version.read(Path(release)).pixels["sar"][0])


def references(target: str, number: str) -> dict[str, Any]:
    """What a repository of so many chunks costs to commit and to open, its chunks all in one file."""
    import icechunk  # noqa: PLC0415
    import zarr  # noqa: PLC0415

    folder = Path(target)
    folder.mkdir(parents=True)
    (folder / "pixels").write_bytes(np.arange(4096, dtype=np.uint16).tobytes())
    prefix = f"file://{folder.absolute()}/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(str(folder.absolute())))
    )
    access: dict[str, Any] = {"config": config, "authorize_virtual_chunk_access": {prefix: None}}
    storage = icechunk.local_filesystem_storage(str(folder / "repository"))
    repo = icechunk.Repository.create(storage, **access)
    session = repo.writable_session("main")
    zarr.create_array(
        session.store, name="sar", shape=(int(number), 4096), chunks=(1, 4096), dtype="u2", compressors=None
    )
    start = time.perf_counter()
    specs = [icechunk.VirtualChunkSpec([i, 0], f"{prefix}pixels", 0, 8192) for i in range(int(number))]
    session.store.set_virtual_refs("/sar", specs)
    session.commit("all")
    commit_s = time.perf_counter() - start
    start = time.perf_counter()
    array: Any = zarr.open_array(
        icechunk.Repository.open(storage, **access).readonly_session("main").store, path="sar", mode="r"
    )
    opened_s = time.perf_counter() - start
    array[int(number) // 2]
    first_s = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (folder / "repository/manifests").iterdir())
    return {"commit_s": commit_s, "open_s": opened_s, "first_read_s": first_s, "manifest_bytes": size}


def direct(release: str, seconds: str) -> dict[str, Any]:
    """Our own reader, in one thread."""
    from sarmae.stream.opening import open_store  # noqa: PLC0415

    def open_it() -> tuple[ReadRows, int]:
        store = open_store(release)
        index = store.index
        optical = index.optical
        if optical is None:
            raise ValueError("no optical array")

        def rows(numbers: np.ndarray) -> object:
            sar = np.empty((len(numbers), *index.sar.sample_shape), dtype=index.sar.dtype)
            partners = np.empty((len(numbers), *optical.sample_shape), dtype=optical.dtype)
            if store.reader.read_into(numbers, np.arange(len(numbers)), sar, partners):
                raise ValueError("a sample could not be read")
            return sar, partners

        return rows, len(index)

    rates: Rates = measure(open_it, float(seconds))
    return rates.told()


def versions_of() -> dict[str, str]:
    """Of the libraries that are compared."""
    return {name: version(name) for name in ("icechunk", "zarr", "numcodecs", "xarray", "tensorstore", "rasterio")}


def main() -> None:
    """Does what the first word says."""
    verb, *words = sys.argv[1:]
    verbs = {
        "write": write, "read": read, "damage": damage, "foreign": foreign, "references": references,
        "direct": direct, "versions": versions_of,
    }  # fmt: skip
    print(json.dumps(verbs[verb](*words)))


if __name__ == "__main__":
    main()
