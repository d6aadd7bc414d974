"""A data set repository on the Hugging Face hub as the place of a release.

Files go in bounded commits to main, whose history keeps former versions under their tags. The commit that claims the
repository for a new version takes the former marker away, so that main is complete or says that it is not; the last
commit puts the marker and takes the claim away at once. Every commit names its parent: two publishings at a time
cannot mix. Limits: the hub's pages on repository limits (files a repository, entries a folder), and 128 commits an hour
as seen in practice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # not in its __all__
from typing_extensions import override

from sar1m.releases.hub import HubPlace, HubRepository, hub_api, hub_files, parse_hub
from sar1m.releases.publishing.target import CLAIM_FILE, Closing, Outgoing, Target
from sar1m.store.errors import ConfigError, MissingError, OutputError
from sar1m.store.places.failures import naming_failures
from sar1m.store.places.place import PIECE_BYTES
from sar1m.store.seal_text import MAX_SEAL_BYTES

_MAX_FILES: Final = 100_000  # a repository
_MAX_ENTRIES: Final = 10_000  # a folder
_COMMIT_FILES: Final = 200
_COMMIT_BYTES: Final = 8 * 2**30
_MAX_COMMITS: Final = 100  # a publishing; it stays under 128 an hour with claim and marker


class HubTarget(Target):
    """A repository of the hub. It is made where it does not exist."""

    keeps_history = True

    def __init__(self, location: str, *, private: bool) -> None:
        where = parse_hub(location)
        if where.revision != "main":
            raise ConfigError(f"{location}: a release is published on main; give hf://datasets/{where.repository}.")
        self.location = f"hf://datasets/{where.repository}"
        self._repository = where.repository
        self._private = private
        self._api = hub_api()
        self._head = ""
        disable_progress_bars()

    @override
    def names(self) -> set[str]:
        return set(self._tree())

    @override
    def read(self, name: str) -> bytes:
        place = HubPlace(f"{self.location}@{self._head}")
        return place.read(name, max_bytes=MAX_SEAL_BYTES)

    @override
    def tags(self) -> set[str]:
        refs = self._refs()
        return set() if refs is None else {tag.name for tag in refs.tags}

    @override
    def require_room(self, files: Sequence[Outgoing]) -> None:
        if len(files) >= _MAX_FILES:
            raise OutputError(f"{len(files):,} files; the hub takes under {_MAX_FILES:,}. Raise pack.shard_samples.")
        entries = Counter(str(folder) for folder in _folders(files))
        folder, most = min(entries.items(), key=lambda entry: (-entry[1], entry[0]))
        if most >= _MAX_ENTRIES:
            raise OutputError(
                f"{folder}: {most:,} entries; the hub takes under {_MAX_ENTRIES:,}. Raise pack.shard_samples."
            )

    @override
    def claim(self, content: bytes, stale: Sequence[str]) -> None:
        with naming_failures(self.location):
            self._api.create_repo(self._repository, repo_type="dataset", private=self._private, exist_ok=True)
        there = self._tree()
        operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale if name in there]
        if CLAIM_FILE not in there:
            operations.append(CommitOperationAdd(path_in_repo=CLAIM_FILE, path_or_fileobj=content))
        if operations:
            self._commit(operations, "Begin a release")

    @override
    def holding(self, files: Sequence[Outgoing]) -> set[str]:
        """By the sha256 of large files and git's own digest of small ones."""
        tree = self._tree()
        return {file.name for file in files if _is_right(file, tree)}

    @override
    def send(self, files: Sequence[Outgoing], step: Callable[[], None]) -> None:
        """By commits of bounded size."""
        for number, batch in enumerate(_batches(files), start=1):
            operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path) for file in batch]
            self._commit(operations, f"Files of a release, part {number}: {len(batch)}")
            for _ in batch:
                step()

    @override
    def differing(self, files: Sequence[Outgoing], step: Callable[[], None]) -> list[str]:
        """By the digests that the hub itself took."""
        tree = self._tree()
        for _ in files:
            step()
        return [file.name for file in files if not _is_right(file, tree)]

    @override
    def complete(self, closing: Closing) -> str:
        there = self._tree()
        operations: list[Any] = []
        if not _is_right(closing.marker, there):
            marker = closing.marker
            operations.append(CommitOperationAdd(path_in_repo=marker.name, path_or_fileobj=marker.path))
        if CLAIM_FILE in there:
            operations.append(CommitOperationDelete(path_in_repo=CLAIM_FILE))
        if operations:
            self._commit(operations, f"Complete {closing.tag}")
        if closing.tag not in self.tags():
            with naming_failures(self.location):
                self._api.create_tag(self._repository, tag=closing.tag, revision=self._head, repo_type="dataset")
        return ""

    def _refs(self) -> Any:  # noqa: ANN401 - huggingface_hub's GitRefs; None where there is no repository
        try:
            with naming_failures(self.location):
                return self._api.list_repo_refs(self._repository, repo_type="dataset")
        except MissingError:
            return None

    def _tree(self) -> Mapping[str, Any]:
        """The files of main's head, which is remembered; none where there is no repository."""
        refs = self._refs()
        heads = [] if refs is None else [branch.target_commit for branch in refs.branches if branch.name == "main"]
        if not heads:
            return {}
        self._head = heads[0]
        where = HubRepository(repository=self._repository, revision=self._head)
        return {entry.path: entry for entry in hub_files(self._api, where)}

    def _commit(self, operations: list[Any], message: str) -> None:
        with naming_failures(self.location):
            done = self._api.create_commit(
                self._repository,
                operations,
                commit_message=message,
                repo_type="dataset",
                parent_commit=self._head or None,
            )
        self._head = done.oid


def _batches(files: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    """Files in order, in as many commits as their number and size ask for, at most about _MAX_COMMITS."""
    total = sum(file.size for file in files)
    most_files = max(_COMMIT_FILES, -(-len(files) // _MAX_COMMITS))
    most_bytes = max(_COMMIT_BYTES, -(-total // _MAX_COMMITS))
    batch: list[Outgoing] = []
    size = 0
    for file in files:
        if batch and (len(batch) == most_files or size + file.size > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _folders(files: Sequence[Outgoing]) -> Iterator[PurePosixPath]:
    """The folder of every file and of every folder, once for each of its entries."""
    entries = {path for file in files for path in (PurePosixPath(file.name), *PurePosixPath(file.name).parents)}
    yield from (entry.parent for entry in entries if entry != PurePosixPath())


def _is_right(file: Outgoing, tree: Mapping[str, Any]) -> bool:
    entry = tree.get(file.name)
    if entry is None or entry.size != file.size:
        return False
    if entry.lfs is not None:
        return str(entry.lfs.sha256) == file.sha256
    return bool(entry.blob_id == _git_digest(file.path, file.size))


def _git_digest(path: Path, size: int) -> str:
    """Name of a file's content in git: sha1 of `blob <size>\\0` and the content. Source: Pro Git, Git Objects."""
    sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            sha1.update(piece)
    return sha1.hexdigest()
