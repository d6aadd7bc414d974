"""Where a finished release lies, read by name: a folder, an S3-compatible bucket, an HTTP(S) server, the Hugging Face
hub.

Credentials come from the environment alone: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
AWS_ENDPOINT_URL (AWS_SKIP_SIGNATURE=true for public buckets); HF_TOKEN and HF_ENDPOINT. The clients' own messages hold
signed addresses, so no error of ours quotes or chains them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, urlsplit

from sar1m.store.errors import ConfigError, MissingError, StoreError, UnreachableError
from sar1m.store.seal import NOT_A_FILE

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from obstore.store import ClientConfig, HTTPStore, RetryConfig, S3Store

PIECE_BYTES: Final = 8 * 2**20  # read at a time
HUB_OWN_FILES: Final = frozenset({".gitattributes"})  # that the hub lays beside what one uploads
_CONNECT_TIMEOUT_S, _REQUEST_S, _RETRY_S, _RETRIES = 10.0, 600.0, 240.0, 5  # a shard on a slow line takes its time
_STATUS = re.compile(r"status code: (\d{3})|HTTP (?:status )?(\d{3})|^(\d{3}) ")
_HUB = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w./+-]+))?/?")

# obstore and huggingface_hub are for those whose release is remote.
# ruff: noqa: PLC0415


class Place(Protocol):
    """Read access to the files of one release. Names are relative POSIX paths. Safe for threads.

    Every failure is a StoreError that names the file: MissingError where it is absent, UnreachableError where the
    server is at fault.
    """

    @property
    def location(self) -> str:
        """As the user wrote it."""

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A whole small file; StoreError where it is larger than max_bytes."""

    def stream(self, name: str) -> Iterator[bytes]:
        """A file from its beginning to its end, piece by piece."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop)."""

    def listing(self) -> Mapping[str, int] | None:
        """Size by name of every file that lies there; NOT_A_FILE for what is no regular file. None where the place
        cannot be listed (HTTP servers)."""


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A data set on the hub: owner/name, and a branch, tag or commit."""

    repository: str
    revision: str = "main"


def open_place(location: str | Path) -> Place:
    """The release at a path, s3://bucket/prefix, https://host/path, or hf://datasets/owner/name[@tag].

    Raises ConfigError for another scheme, or where a user, password, query or fragment stands in it. Opens nothing yet.
    """
    text = str(location)
    if "://" not in text:
        return LocalPlace(Path(location))
    if text.startswith("hf://"):
        return _hub_place(text)
    checked_location(text)
    return ObjectPlace(text.rstrip("/"), connect(text.rstrip("/")), listed=text.startswith("s3://"))


class LocalPlace:
    """A release in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._root)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """See Place."""
        with self._naming(name), (self._root / name).open("rb") as stream:
            content = stream.read(min(os.fstat(stream.fileno()).st_size, max_bytes) + 1)
        if len(content) > max_bytes:
            raise _too_large(f"{self._root / name}")
        return content

    def stream(self, name: str) -> Iterator[bytes]:
        """See Place."""
        with self._naming(name), (self._root / name).open("rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """See Place."""
        with self._naming(name), (self._root / name).open("rb") as stream:
            stream.seek(start)
            content = stream.read(stop - start)
        return _whole(content, stop - start, f"{self._root / name}")

    def listing(self) -> Mapping[str, int]:
        """See Place. Links are never followed."""
        sizes: dict[str, int] = {}
        for folder, folders, files in os.walk(self._root):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in [*files, *links]:
                path = Path(folder, name)
                found = path.lstat()
                sizes[path.relative_to(self._root).as_posix()] = (
                    found.st_size if stat.S_ISREG(found.st_mode) else NOT_A_FILE
                )
        return sizes

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise MissingError(f"{self._root / name}: there is no such file.") from None
        except OSError as error:
            raise StoreError(f"{self._root / name}: cannot be read: {error.strerror or error}.") from error


class ObjectPlace:
    """A release behind an object store's or web server's interface. list_sizes: what listing gives where the server's
    own listing is not the way (the hub)."""

    def __init__(
        self,
        location: str,
        client: S3Store | HTTPStore,
        *,
        listed: bool = False,
        list_sizes: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        self.location = location
        self._client = client
        self._listed = listed
        self._list_sizes = list_sizes

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """See Place."""
        import obstore

        with naming(f"{self.location}/{name}"):
            answer = obstore.get(self._client, name)
            if int(answer.meta["size"]) > max_bytes:
                raise _too_large(f"{self.location}/{name}")
            return bytes(answer.bytes())

    def stream(self, name: str) -> Iterator[bytes]:
        """See Place."""
        import obstore

        with naming(f"{self.location}/{name}"):
            answer = obstore.get(self._client, name)
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """See Place."""
        import obstore

        with naming(f"{self.location}/{name}"):
            content = bytes(obstore.get_range(self._client, name, start=start, end=stop))
        return _whole(content, stop - start, f"{self.location}/{name}")

    def listing(self) -> Mapping[str, int] | None:
        """See Place."""
        import obstore

        if self._list_sizes is not None:
            return self._list_sizes()
        if not self._listed:
            return None
        with naming(self.location):
            return {str(one["path"]): int(one["size"]) for page in obstore.list(self._client) for one in page}


def parse_hub(location: str) -> HubRepository:
    """Repository and revision of hf://datasets/owner/name[@revision]. Raises ConfigError for anything else."""
    found = _HUB.fullmatch(location)
    if found is None:
        raise ConfigError(
            f"{location[:60]!r}: expected hf://datasets/owner/name, with @tag behind it to read a version."
        )
    return HubRepository(repository=found[1], revision=found[2] or "main")


def hub_api() -> HfApi:
    """The hub's client for HF_ENDPOINT, or huggingface.co. Raises ConfigError where huggingface_hub is missing."""
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        raise ConfigError("hf:// needs huggingface_hub: pip install 'sar1m[release]'") from error
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


def hub_files(api: HfApi, where: HubRepository) -> Iterator[Any]:
    """Every file of a revision as the hub tells of it: path, size, blob_id, lfs."""
    from huggingface_hub.hf_api import RepoFile

    with naming(f"hf://datasets/{where.repository}@{where.revision}"):
        for entry in api.list_repo_tree(where.repository, recursive=True, revision=where.revision, repo_type="dataset"):
            if isinstance(entry, RepoFile) and entry.path not in HUB_OWN_FILES:
                yield entry


def _hub_place(location: str) -> ObjectPlace:
    from huggingface_hub import get_token

    where, api = parse_hub(location), hub_api()
    base = f"{api.endpoint}/datasets/{where.repository}/resolve/{quote(where.revision, safe='')}"
    token = get_token()
    client = connect(base, {"Authorization": f"Bearer {token}"} if token else {})
    return ObjectPlace(
        location.rstrip("/"), client, list_sizes=lambda: {one.path: int(one.size) for one in hub_files(api, where)}
    )


def checked_location(location: str) -> None:
    """Raises ConfigError unless it is s3://bucket/prefix or http(s)://host/path without user, password, query and
    fragment; shows the scheme alone, since the rest may hold a secret."""
    try:
        parts = urlsplit(location)
        bare = not (parts.username or parts.password or "?" in location or "#" in location or "@" in parts.netloc)
        known = parts.scheme in {"s3", "http", "https"} and bool(parts.hostname)
    except ValueError:
        bare = known = False
    if not (bare and known):
        raise ConfigError(
            f"location {location.split(':', 1)[0]!r}...: expected a path, s3://bucket/prefix, https://host/path or "
            "hf://datasets/owner/name, without user, password, query or fragment. Credentials go into the environment."
        )


def connect(location: str, headers: Mapping[str, str] | None = None) -> S3Store | HTTPStore:
    """obstore's client of an s3:// or http(s):// location. Raises ConfigError where none can be made."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import HTTPStore, S3Store
    except ModuleNotFoundError as error:
        raise ConfigError("remote releases need obstore: pip install 'sar1m[release]'") from error
    parts = urlsplit(location)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    client: ClientConfig = {
        "timeout": timedelta(seconds=_REQUEST_S),
        "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
        "allow_http": parts.scheme == "http" or (parts.scheme == "s3" and endpoint.startswith("http://")),
        **({"default_headers": dict(headers)} if headers else {}),
    }
    retries: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)}
    try:
        if parts.scheme == "s3":
            prefix = parts.path.strip("/") or None
            return S3Store(parts.netloc, prefix=prefix, client_options=client, retry_config=retries)
        return HTTPStore(location, client_options=client, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{location}: no connection can be set up ({type(error).__name__}). Check the location, and the AWS_* "
            "variables of the environment."
        ) from None


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Turns a client's error into one of ours that names the file and, of the server's answer, the status alone."""
    try:
        yield
    except (StoreError, ConfigError):
        raise
    except FileNotFoundError:
        raise MissingError(f"{place}: there is no such file.") from None
    except Exception as error:
        if not _is_clients(error):
            raise
        status = _status(error)
        if status == "404" or type(error).__name__ == "NotFoundError":
            raise MissingError(f"{place}: there is no such file.") from None
        told = f"HTTP status {status}" if status else type(error).__name__
        asked = "Check the credentials in the environment (AWS_*, HF_TOKEN). " if status in {"401", "403"} else ""
        raise UnreachableError(
            f"{place}: the server did not do it: {told}. {asked}Try the same command again."
        ) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from: the clients wrap their own."""
    while error is not None:
        yield error
        error = error.__cause__


def _is_clients(error: Exception) -> bool:
    """Whether it comes from one of the clients' libraries, which are not imported just to ask."""
    families = ("obstore", "huggingface_hub", "httpx", "httpcore", "requests")  # httpx: also by the name httpx2
    kinds = (kind for one in _chain(error) for kind in type(one).__mro__)
    return isinstance(error, (OSError, ValueError)) or any(kind.__module__.startswith(families) for kind in kinds)


def _status(error: Exception) -> str:
    for one in _chain(error):
        code = getattr(getattr(one, "response", None), "status_code", None)
        if code is not None:
            return str(code)
    found = _STATUS.search(str(error))
    return "" if found is None else next(group for group in found.groups() if group)


def _too_large(place: str) -> StoreError:
    return StoreError(f"{place}: larger than such a file can be. Is this a release?")


def _whole(content: bytes, expected: int, place: str) -> bytes:
    if len(content) != expected:
        raise StoreError(f"{place}: {len(content)} bytes came where {expected} were asked for: it is truncated.")
    return content
