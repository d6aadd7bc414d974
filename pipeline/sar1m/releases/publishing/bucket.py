"""An S3-compatible bucket as the place of a release.

Every object carries the sha256 of what was sent as metadata: by it and the size an interrupted publishing knows what
need not go again. The check before completion does not believe it: it reads every byte back. Files over PART_BYTES go
in parts; interrupted, such an object is absent and goes again from its beginning, and what parts it left are removed
before the release is called complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

import obstore
from obstore.store import S3Store
from typing_extensions import override

from sar1m.releases.publishing.leftovers import abort_uploads
from sar1m.releases.publishing.target import CLAIM_FILE, Closing, Outgoing, Target
from sar1m.store.durable import FileDigest, digest_pieces
from sar1m.store.errors import ConfigError, MissingError, StoreError, UnreachableError
from sar1m.store.places.failures import naming_failures
from sar1m.store.places.opening import checked_location
from sar1m.store.places.remote import RemotePlace
from sar1m.store.seal_text import MAX_SEAL_BYTES

_DIGEST: Final = "sha256"  # name of the metadata
PART_BYTES: Final = 16 * 2**20
_AT_ONCE: Final = 4  # files; and parts of each


class BucketTarget(Target):
    """A prefix of a bucket. Credentials and endpoint come from the environment, see sar1m.store.places.remote."""

    keeps_history = False

    def __init__(self, location: str) -> None:
        self.location = checked_location(location)
        if self.location.count("/") < 3:
            raise ConfigError(f"{location}: a whole bucket is no target. Give s3://bucket/prefix.")
        self._place = RemotePlace(self.location)
        self._client = cast("S3Store", self._place.client())

    @override
    def names(self) -> set[str]:
        return set(self._place.listing() or ())

    @override
    def read(self, name: str) -> bytes:
        return self._place.read(name, max_bytes=MAX_SEAL_BYTES)

    def tags(self) -> set[str]:
        """None: a prefix has no history."""
        return set()

    @override
    def require_room(self, files: Sequence[Outgoing]) -> None:
        """There is no limit to keep."""

    @override
    def claim(self, content: bytes, stale: Sequence[str]) -> None:
        with naming_failures(f"{self.location}/{CLAIM_FILE}"):
            obstore.put(self._client, CLAIM_FILE, content)
            for name in stale:
                obstore.delete(self._client, name)

    @override
    def holding(self, files: Sequence[Outgoing]) -> set[str]:
        """By size and the digest that the object carries."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return {file.name for file, held in zip(files, pool.map(self._is_held, files), strict=True) if held}

    @override
    def send(self, files: Sequence[Outgoing], step: Callable[[], None]) -> None:
        """An object appears whole or not at all; large ones go in parts."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(self._put, files):
                step()

    @override
    def differing(self, files: Sequence[Outgoing], step: Callable[[], None]) -> list[str]:
        """By reading them back."""
        wrong = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for file, right in zip(files, pool.map(self._reads_back, files), strict=True):
                if not right:
                    wrong.append(file.name)
                step()
        return wrong

    @override
    def complete(self, closing: Closing) -> str:
        large = closing.large_names(PART_BYTES)
        said = abort_uploads(self.location, large) if large else ""
        self._put(closing.marker)
        with naming_failures(f"{self.location}/{CLAIM_FILE}"):
            obstore.delete(self._client, CLAIM_FILE)
        return said

    def _put(self, file: Outgoing) -> None:
        with naming_failures(f"{self.location}/{file.name}"):
            obstore.put(
                self._client,
                file.name,
                file.path,
                attributes={_DIGEST: file.sha256},
                chunk_size=PART_BYTES,
                max_concurrency=_AT_ONCE,
            )

    def _is_held(self, file: Outgoing) -> bool:
        try:
            with naming_failures(f"{self.location}/{file.name}"):
                found = obstore.get(self._client, file.name, options={"head": True})
                return found.meta["size"] == file.size and found.attributes.get(_DIGEST) == file.sha256
        except MissingError:
            return False

    def _reads_back(self, file: Outgoing) -> bool:
        try:
            return digest_pieces(self._place.stream(file.name)) == FileDigest(sha256=file.sha256, size=file.size)
        except UnreachableError:
            raise
        except StoreError:
            return False
