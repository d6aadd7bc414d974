"""A release of a few small samples, sealed like a real one, and the ways to look at it and to spoil it."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.io.zarr_groups import ImageArray, group_files
from sar1m.releases.publishing.steps import publish
from sar1m.releases.publishing.target import PublishOptions
from sar1m.store.chunks import encode_chunk
from sar1m.store.durable import FileDigest
from sar1m.store.schema import MANIFEST_FILE, RELEASE_MARKER_FILE, ArrayLayout, optical_encoding, sar_encoding
from sar1m.store.seal_text import manifest_bytes, marker_bytes
from sar1m.store.shard_index import shard_name, shard_pieces
from support.hang_guard import STUCK_S

CARD = b"---\nlicense: cc-by-4.0\npretty_name: tiny\n---\n# tiny\n"
SLOTS = 4


class Silence:
    """A Watch that remembers its notes."""

    def __init__(self):
        self.notes = []

    def stage(self, title, total):
        return contextlib.nullcontext(lambda: None)

    def note(self, text):
        self.notes.append(text)


def tiny_release(root: Path, *, version="1.0.0", seed=0, samples=None, hashes=None) -> Path:
    """samples: number by split. hashes: pixel hash by sample_id where it is not to follow from seed."""
    rng = np.random.default_rng(seed)
    rows = []
    for split, count in (samples or {"train": 7, "val": 2}).items():
        table = pd.DataFrame(
            {
                "sample_id": [f"{split}-{number}" for number in range(count)],
                "split": split,
                "paired": True,
                "enl": np.float32(4.0),
                "land_cover": [{} for _ in range(count)],
                "lon": np.linspace(0, 1, count),
                "lat": np.linspace(5, 6, count),
            }
        )
        rows.append(table)
        _write_split(root / f"data/{split}.zarr", table, rng)
    _write_tables(root, pd.concat(rows, ignore_index=True), seed, hashes or {})
    put(root / "README.md", CARD)
    put(root / "LICENSE", b"terms\n")
    put(root / "report/index.html", b"<html></html>")
    put(root / "stats/normalisation.json", b"{}\n")
    seal_release(root, name="tiny", version=version)
    return root


def _write_split(group, table, rng):
    encodings = {"sar": sar_encoding("training", "gamma0"), "optical": optical_encoding("training", "reflectance")}
    images = [
        ImageArray(
            layout=ArrayLayout(
                name=name,
                dims=("sample", dim, "y", "x"),
                sample_shape=(len(labels), 8, 8),
                dtype=encodings[name].dtype,
                shard_samples=SLOTS,
            ),
            encoding=encodings[name],
            compression="blosc-lz4",
            labels=labels,
        )
        for name, dim, labels in (("sar", "pol", ("VV", "VH")), ("optical", "band", ("B04",)))
    ]
    for name, content in group_files(images, table, {"split": group.stem}).items():
        put(group / name, content)
    for image in images:
        pixels = rng.integers(1, 250, size=(len(table), *image.layout.sample_shape)).astype(image.layout.dtype)
        chunks = [encode_chunk(one, "blosc-lz4") for one in pixels]
        for shard in range(-(-len(chunks) // SLOTS)):
            some = iter(chunks[shard * SLOTS : (shard + 1) * SLOTS])
            put(group / shard_name(image.layout.name, shard), b"".join(shard_pieces(some, slots=SLOTS)))


def _write_tables(root, table, seed, hashes):
    ids = table["sample_id"].tolist()

    def digests(array):
        return [hashes.get(one, hashlib.sha256(f"{array} {seed} {one}".encode()).hexdigest()[:32]) for one in ids]

    lock = {"sample_id": ids, "sar_hash": digests("sar"), "optical_hash": digests("optical")}
    shards = (table.groupby("split", sort=False).cumcount() // SLOTS).tolist()
    for name, columns in (
        ("samples.parquet", {"sample_id": ids, "split": table["split"].tolist(), "shard": shards}),
        ("provenance/lock.parquet", {**lock, "pixel_hash": digests("all")}),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        put(root / name, sink.getvalue().to_pybytes())


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def seal_release(root: Path, **facts) -> None:
    """Manifest and marker over what lies there now."""
    own = {MANIFEST_FILE, RELEASE_MARKER_FILE}
    digests = {
        name: FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in contents(root).items()
        if name not in own
    }
    manifest = manifest_bytes(digests)
    sizes = {name: digest.size for name, digest in digests.items()}
    put(root / MANIFEST_FILE, manifest)
    put(root / RELEASE_MARKER_FILE, marker_bytes(facts, manifest, sizes))


def contents(root: Path) -> dict[str, bytes]:
    """Every file's bytes by name."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def few_files(root: Path, *, version="1.0.0", seed=0) -> Path:
    """A sealed folder of ten files and no meaning, for what is tried many times."""
    rng = np.random.default_rng(seed)
    for number in range(5):
        put(root / f"data/train.zarr/sar/c/{number}/0/0/0", rng.bytes(300 + 40 * number))
    put(root / "data/train.zarr/zarr.json", b"{}")
    put(root / "README.md", CARD)
    put(root / "LICENSE", b"terms\n")
    put(root / f"stats/only-in-{version}.json", b"{}\n")
    put(root / "samples.parquet", rng.bytes(90))
    seal_release(root, name="tiny", version=version)
    return root


class Killer:
    """Publishes in processes of their own, which die at chosen requests of a server of this process.

    server has on_request, called as (number, done); requests counts what it was asked so far. The processes come from a
    fork server, which has imported everything and started no thread yet: obstore's do not survive a fork.
    """

    def __init__(self, server, requests):
        self._server, self._requests = server, requests
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["sar1m.releases.publishing.steps", "sar1m.releases.publishing.bucket", "sar1m.releases.publishing.hub"]
        )

    def run(self, release, target, point=None, *, after=False) -> int:
        """Exit code of a publishing that dies at its point-th request, before or after that is worked on; -9 where it
        did."""
        before, started, pid = self._requests(), threading.Event(), []

        def kill(number, done):
            if number - before == point and done == after:
                started.wait(STUCK_S)
                os.kill(pid[0], signal.SIGKILL)

        self._server.on_request = kill
        child = self._context.Process(target=publish_alone, args=(dict(os.environ), release, str(target)))
        child.start()
        pid.append(child.pid)
        started.set()
        child.join(STUCK_S)
        self._server.on_request = None
        return child.exitcode


def publish_alone(environment, release, target):
    """In a child of the fork server, whose environment is that of its first use."""
    import huggingface_hub  # noqa: PLC0415 - of the child alone

    os.environ.update(environment)
    huggingface_hub.constants.HF_HUB_DISABLE_XET = True
    publish(release, target, PublishOptions(), Silence())


def survive_kills(killer, release, kills, most, fresh, look) -> int:
    """Publishes again and again, each time killed at a random request, until so many have died; each target ends
    complete. most: requests that a kill may wait for. fresh: gives a new target; look: its files by
    name. Returns the number of targets used."""
    rng = np.random.default_rng(20)
    wanted = contents(release)
    targets, target, died = 1, fresh(), 0
    while died < kills:
        point, after = int(rng.integers(1, most)), bool(rng.integers(2))
        code = killer.run(release, target, point, after=after)
        assert code in {0, -signal.SIGKILL}, code
        there = look(target)
        if RELEASE_MARKER_FILE in there:
            assert {name: there.get(name) for name in wanted} == wanted
        if code == 0:
            assert there == wanted
            targets, target = targets + 1, fresh()
        else:
            died += 1
    assert killer.run(release, target) == 0
    assert look(target) == wanted
    return targets
