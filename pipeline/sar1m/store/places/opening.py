"""From a location that a user writes to the place it means. Locations are checked here, and nothing is opened yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sar1m.store.addresses import STATED_BY_USER, check_url
from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import Place
from sar1m.store.places.remote import Patience, RemotePlace

BUCKETS: Final = frozenset({"s3", "gs", "az"})
WEB: Final = frozenset({"http", "https"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")


def open_place(location: str | Path, patience: Patience | None = None) -> Place:
    """The place at a path, file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or
    http(s)://host/path.

    patience: how long a server is waited for; None for the usual. Raises ConfigError for another scheme, and where a
    user, password, query or fragment stands in the location. Opens nothing yet: the first read shows what is there.
    """
    text = str(location)
    if is_remote(text):
        return RemotePlace(checked_location(text), patience=patience)
    return FolderPlace(_file_path(text) if _SCHEME.match(text) else Path(location))


def is_remote(location: str) -> bool:
    """Whether a location is read over a network."""
    scheme = _SCHEME.match(location)
    return scheme is not None and scheme[1].lower() != "file"


def checked_location(location: str) -> str:
    """The location of a bucket or web server, without the slash at its end.

    Raises ConfigError where it holds a user, password, query or fragment, or is of another scheme. The message shows
    the scheme alone: the rest may be a secret.
    """
    if not _is_plain(location):
        raise ConfigError(
            f"location {location.split(':', 1)[0]!r}...: expected a path, file:///path, s3://bucket/prefix, "
            "gs://bucket/prefix, az://container/prefix or https://host/path (releases: also hf://datasets/owner/name), "
            "without user, password, query and fragment. Credentials go into the environment."
        )
    return location.rstrip("/")


def _is_plain(location: str) -> bool:
    """Whether it names a bucket or a web server and holds nothing that could be a secret."""
    if "?" in location or "#" in location:
        return False
    try:
        parts = urlsplit(location)
        if parts.scheme in WEB:
            check_url(location, STATED_BY_USER)
            return True
    except (SourceError, ValueError):
        return False
    return parts.scheme in BUCKETS and _BUCKET.fullmatch(parts.netloc) is not None


def _file_path(location: str) -> Path:
    parts = urlsplit(location)
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment or not parts.path:
        raise ConfigError(f"{location!r}: a file URL is written file:///path, and means a path of this machine.")
    return Path(unquote(parts.path))
