"""The metadata files of a finished store, each read whole and used only where its digest holds.

So one flipped bit in a zarr.json or in a small array is found before anything is made of it. Shards are too large for
that: each of their chunks has its own checksum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sar1m.store.errors import StoreError
from sar1m.store.places.place import ByteRange, Place
from sar1m.store.schema import PARTIAL_FILE
from sar1m.store.seal import REMEDY, require_seal
from sar1m.store.seal_text import MARKERS, parse_object

MAX_JSON_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class SealedFiles:
    """Files of a store with the sizes and digests of its seal.

    digest: of the manifest. sizes: bytes by name of what is there. sha256: by name; of a part of a release, of all
    files of the whole one.
    """

    place: Place
    digest: str
    sizes: Mapping[str, int]
    sha256: Mapping[str, str]

    def shown(self, name: str) -> str:
        """A file as messages name it."""
        return f"{self.place.location}/{name}"

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A whole file. StoreError where the store has none, it is larger than max_bytes, or it was changed."""
        size = self.sizes.get(name)
        if size is None or name not in self.sha256:
            raise StoreError(self.absent(name))
        if size > max_bytes:
            raise StoreError(f"{self.shown(name)}: {size} bytes, at most {max_bytes} expected of such a file. {REMEDY}")
        for _ in range(2):  # of a remote store, a damaged copy may lie in the cache
            content = self.place.read(name, max_bytes=size)
            if hashlib.sha256(content).hexdigest() == self.sha256[name]:
                return content
            self.place.forget(ByteRange(name=name, start=0, stop=max(size, 1)))
        raise StoreError(f"{self.shown(name)}: damaged: its content differs from its sha256. {REMEDY}")

    def leaves_out(self, name: str) -> bool:
        """Whether a file is of the release that this is a part of, and not of the part."""
        return name in self.sha256 and name not in self.sizes

    def absent(self, name: str) -> str:
        """The message about a file that sizes does not name."""
        if self.leaves_out(name):
            return (
                f"{self.shown(name)}: left out of this copy, which is a part of a release ({PARTIAL_FILE}). Get the "
                "rest into the same folder with `sar1m get`."
            )
        return f"{self.shown(name)}: no such file in the store's manifest. {REMEDY}"

    def prefetch(self, names: Iterable[str]) -> None:
        """Brings those of the files that the store has into reach at once: of a remote store, in one round trip instead
        of one each. StoreError as of Objects.prefetch."""
        there = {name: size for name in names if (size := self.sizes.get(name))}
        self.place.prefetch([ByteRange(name=name, start=0, stop=size) for name, size in there.items()])

    def read_json(self, name: str) -> dict[str, Any]:
        """A file that holds one JSON object, of at most 1 MiB. StoreError as `read`, and for other content."""
        content = self.read(name, max_bytes=MAX_JSON_BYTES)
        try:
            return parse_object(content)
        except ValueError as error:
            raise StoreError(f"{self.shown(name)}: {error}. {REMEDY}") from error


def open_sealed(place: Place) -> SealedFiles:
    """The sealed files of a build, a release or a part of one. StoreError where the location holds no finished store,
    its seal was damaged, or its schema is of another major version, or of none."""
    seal = require_seal(place, MARKERS)
    if "schema_version" not in seal.marker:
        raise StoreError(f"{place.location}/{seal.marker_file}: states no schema version. {REMEDY}")
    return SealedFiles(place=place, digest=seal.marker["manifest_sha256"], sizes=seal.sizes, sha256=seal.sha256)
