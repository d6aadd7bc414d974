"""The remote side of a store: S3-compatible buckets and HTTP(S) servers, by obstore.

Attempts, waits and time are bounded (CacheConfig). obstore takes up a broken body where it ended, under the same ETag;
it does not read Retry-After, the doubling waits stand in for it. Credentials and endpoint of S3 come from the
environment alone: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL; public
buckets want AWS_SKIP_SIGNATURE=true. obstore's own texts hold URLs, so no error of ours quotes or chains them.

Redirects are followed, and obstore has no switch for that (0.12). To another host the client drops Authorization,
which holds the key's name and the signature, but not x-amz-security-token: an endpoint that redirects elsewhere shows
the session token there. Alone it signs nothing, for that takes the secret key, which is never sent. Give an
AWS_ENDPOINT_URL that is trusted, and the bucket's own AWS_REGION, so that there is nothing to redirect.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import HTTPStore, S3Store

from sar1m.store.errors import ConfigError, MissingError, StoreError, UnreachableError
from sarmae.stream.objects import ByteRange, CacheConfig

if TYPE_CHECKING:
    from obstore.store import BackoffConfig, ClientConfig, RetryConfig

_CONNECT_TIMEOUT_S = 10.0
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0
_STATUS = re.compile(r"status code: (\d{3})")
_REASONS = (  # of obstore's texts, what a user can act on
    ("RangeNotSupported", "the server ignores Range and would send the whole file"),
    ("NotPartial", "the server ignores Range and would send the whole file"),
    ("UnexpectedRange", "the server sent other bytes than those asked for"),
    ("MissingContentLength", "the server does not say how long its answer is"),
    ("TimedOut", "no answer in time"),
    ("Timeout", "no answer in time"),
    ("error sending request", "no connection, or no answer in time"),
    ("body error", "the answer breaks off, or goes on from a changed file"),
)


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Bytes of a remote file. stamp: 32 bits that change with its ETag (or time of change) and size."""

    content: memoryview
    stamp: int


class Origin:
    """A remote store, uncached. Safe for threads, not across fork. Every failure is a StoreError naming the file."""

    def __init__(self, location: str, config: CacheConfig) -> None:
        self.location = location
        self._config = config
        self._client: HTTPStore | S3Store | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A whole file of at most max_bytes; a larger one is refused before its body is read."""
        with self._naming(name):
            answer = obstore.get(self._connected(), name)
            size = int(answer.meta["size"])
            if size > max_bytes:
                raise StoreError(f"{self._place(name)}: {size} bytes; at most {max_bytes} are expected of such a file.")
            content = bytes(answer.bytes())
        self._check_length(name, len(content), size)
        return content

    def size(self, name: str) -> int | None:
        """The file's size in bytes, None where there is none such."""
        with self._naming(name):
            try:
                return int(obstore.head(self._connected(), name)["size"])
            except (FileNotFoundError, NotFoundError):
                return None

    def fetch(self, wanted: ByteRange, size: int) -> Fetched:
        """A range of a file that is `size` bytes long by the store's list; StoreError where the server says else."""
        with self._naming(wanted.name):
            answer = obstore.get(self._connected(), wanted.name, options={"range": (wanted.start, wanted.stop)})
            meta = answer.meta
            if meta["size"] != size:
                raise StoreError(
                    f"{self._place(wanted.name)}: {meta['size']} bytes, but the store's list says {size}. The file was "
                    "changed or cut short: verify the store and copy it again."
                )
            content = memoryview(answer.bytes()).cast("B")
        self._check_length(wanted.name, len(content), wanted.stop - wanted.start)
        known_by = f"{size} {meta.get('e_tag') or meta['last_modified'].isoformat()}"
        return Fetched(
            content=content, stamp=int.from_bytes(hashlib.blake2b(known_by.encode(), digest_size=4).digest())
        )

    def _connected(self) -> HTTPStore | S3Store:
        with self._lock:
            if self._process != os.getpid():
                raise StoreError(
                    f"{self.location}: connections do not survive fork. Open the store in the process that reads it, "
                    "or start workers by spawn."
                )
            if self._client is None:
                self._client = _connect(self.location, self._config)
            return self._client

    def _place(self, name: str) -> str:
        return f"{self.location}/{name}"

    def _check_length(self, name: str, found: int, expected: int) -> None:
        if found != expected:
            raise StoreError(
                f"{self._place(name)}: {found} bytes came where {expected} were announced. The server or something "
                "before it is broken; nothing of this answer is used."
            )

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotFoundError):
            raise MissingError(
                f"{self._place(name)}: there is no such file. Check the location, and that the copy of the store is "
                "complete."
            ) from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise UnreachableError(
                f"{self._place(name)}: access refused ({_reason(error)}). Credentials come from the environment: "
                "AWS_ACCESS_KEY_ID and so on, or AWS_SKIP_SIGNATURE=true for a public bucket."
            ) from None
        except (BaseError, OSError, ValueError) as error:
            raise UnreachableError(
                f"{self._place(name)}: cannot be fetched after at most {self._config.retries + 1} attempts: "
                f"{_reason(error)}. What is cached stays good; start again when the server answers."
            ) from None


def checked_location(location: str) -> str:
    """An s3://bucket/prefix or http(s)://host/path without credentials, query and fragment, no slash at the end.
    ConfigError otherwise, which shows the scheme alone: the rest may be a secret."""
    try:
        parts = urlsplit(location)
        bare = not (parts.username or parts.password or "?" in location or "#" in location or "@" in parts.netloc)
        known = parts.scheme in {"s3", "http", "https"} and bool(parts.hostname)
    except ValueError:
        bare = known = False
    if not (bare and known):
        raise ConfigError(
            f"location {location.split(':', 1)[0]!r}...: expected a path, file:///path, s3://bucket/prefix or "
            "http(s)://host/path, without user, password, query and fragment; credentials go into the environment."
        )
    return location.rstrip("/")


def _connect(location: str, config: CacheConfig) -> HTTPStore | S3Store:
    parts = urlsplit(location)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    plain = parts.scheme == "http" or (parts.scheme == "s3" and endpoint.startswith("http://"))
    client: ClientConfig = {
        "timeout": timedelta(seconds=config.timeout_s),
        "connect_timeout": timedelta(seconds=min(config.timeout_s, _CONNECT_TIMEOUT_S)),
        "allow_http": plain,
    }
    backoff: BackoffConfig = {
        "init_backoff": timedelta(seconds=_FIRST_WAIT_S),
        "max_backoff": timedelta(seconds=_LONGEST_WAIT_S),
        "base": 2,
    }
    retries: RetryConfig = {
        "max_retries": config.retries,
        "retry_timeout": timedelta(seconds=4 * config.timeout_s),
        "backoff": backoff,
    }
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


def _reason(error: Exception) -> str:
    text = str(error)
    status = _STATUS.search(text)
    if status is not None:
        return f"HTTP status {status[1]}"
    return next((reason for sign, reason in _REASONS if sign in text), type(error).__name__)
