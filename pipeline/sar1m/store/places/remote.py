"""Buckets and web servers, read through obstore. Attempts, waits and time are bounded (Patience).

Credentials and endpoints come from the environment alone, never from a location:

- s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL; a public bucket needs
  AWS_SKIP_SIGNATURE=true.
- gs: GOOGLE_APPLICATION_CREDENTIALS, GOOGLE_BASE_URL; a public bucket needs GOOGLE_SKIP_SIGNATURE=true.
- az: AZURE_STORAGE_ACCOUNT_NAME and _KEY, AZURE_STORAGE_ENDPOINT; a public container needs AZURE_SKIP_SIGNATURE=true.

obstore continues a broken body where it ended, under the same ETag. It does not read Retry-After; waits that double
stand in for it. It follows redirects, and has no switch for that (0.12). To another host it drops Authorization, which
holds the key's name and the signature, but not x-amz-security-token: an endpoint that redirects elsewhere shows the
session token there. Alone it signs nothing, for that takes the secret key, which is never sent. Give an endpoint that
is trusted, and the bucket's own region, so that there is nothing to redirect. Releases at http(s) are
read by releases/web_place.py, which keeps redirects on the server.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from sar1m.store.errors import ConfigError, MissingError, StoreError
from sar1m.store.places.failures import naming_failures
from sar1m.store.places.place import PIECE_BYTES, ByteRange, Place, checked_name, too_large

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, HTTPStore, RetryConfig, S3Store

    BucketClient = AzureStore | GCSStore | S3Store
    Client = BucketClient | HTTPStore

# obstore is for those whose store is remote: it is imported at the first read.
# What the methods of Place do is described there.
# ruff: noqa: PLC0415, D102

_CONNECT_TIMEOUT_S: Final = 10.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_ENDPOINTS: Final = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    timeout_s: of one attempt, from connecting to the last byte. retries: attempts after the first, with waits that
    double from 0.2 s to 10 s. retry_s: no attempt begins later than this after the first.
    """

    timeout_s: float = 600.0  # a whole shard on a slow line takes its time
    retries: int = 5
    retry_s: float = 240.0


USUAL_PATIENCE: Final = Patience()


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Bytes of a remote file. stamp: 32 bits that change with its ETag (or time of change) and size."""

    content: memoryview
    stamp: int


class RemotePlace(Place):
    """A store on a server, uncached. Connects at the first read. Not usable across fork."""

    def __init__(
        self,
        location: str,
        *,
        patience: Patience | None = None,
        address: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """location: checked, without a slash at its end. address: where to connect, if that is not the location.
        headers: sent with every request."""
        self._location = location
        self._address = address or location
        self._headers = dict(headers or {})
        self._patience = patience or USUAL_PATIENCE
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    @property
    def location(self) -> str:
        return self._location

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A larger file is refused before its body is read."""
        import obstore

        with naming_failures(self.shown(name)):
            answer = obstore.get(self.client(), checked_name(name))
            size = int(answer.meta["size"])
            if size > max_bytes:
                raise too_large(self.shown(name), max_bytes)
            content = bytes(answer.bytes())
        self._check_length(name, len(content), size)
        return content

    def size(self, name: str) -> int | None:
        import obstore

        try:
            with naming_failures(self.shown(name)):
                return int(obstore.head(self.client(), checked_name(name))["size"])
        except MissingError:
            return None

    def stream(self, name: str) -> Iterator[bytes]:
        import obstore

        with naming_failures(self.shown(name)):
            answer = obstore.get(self.client(), checked_name(name))
            for piece in answer.stream(min_chunk_size=PIECE_BYTES):
                yield bytes(piece)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        import obstore

        wanted = ByteRange(name=name, start=start, stop=stop)
        with naming_failures(self.shown(name)):
            content = bytes(obstore.get_range(self.client(), name, start=start, end=stop))
        self._check_length(name, len(content), len(wanted))
        return content

    def listing(self) -> Mapping[str, int] | None:
        import obstore

        if urlsplit(self._address).scheme not in _ENDPOINTS:
            return None
        with naming_failures(self.location):
            return {str(one["path"]): int(one["size"]) for page in obstore.list(self.client()) for one in page}

    def fetch(self, wanted: ByteRange, size: int) -> Fetched:
        """A range of a file that is `size` bytes long by the store's list. StoreError where the server says another
        size."""
        import obstore

        with naming_failures(self.shown(wanted.name)):
            answer = obstore.get(self.client(), wanted.name, options={"range": (wanted.start, wanted.stop)})
            meta = answer.meta
            if meta["size"] != size:
                raise StoreError(
                    f"{self.shown(wanted.name)}: {meta['size']} bytes, but the store's list says {size}. The file was "
                    "changed or cut short: verify the store and copy it again."
                )
            content = memoryview(answer.bytes()).cast("B")
        self._check_length(wanted.name, len(content), len(wanted))
        known_by = f"{size} {meta.get('e_tag') or meta['last_modified'].isoformat()}"
        stamp = int.from_bytes(hashlib.blake2b(known_by.encode(), digest_size=4).digest())
        return Fetched(content=content, stamp=stamp)

    def shown(self, name: str) -> str:
        """A file as messages name it."""
        return f"{self.location}/{name}"

    def client(self) -> Client:
        """obstore's client, for what Place does not offer. Raises ConfigError where none can be made, StoreError after
        a fork."""
        with self._lock:
            if self._process != os.getpid():
                raise StoreError(
                    f"{self.location}: connections do not survive fork. Open the store in the process that reads it, "
                    "or start workers by spawn."
                )
            if self._client is None:
                self._client = _connect(self._address, self._headers, self._patience)
            return self._client

    def _check_length(self, name: str, found: int, expected: int) -> None:
        if found != expected:
            raise StoreError(
                f"{self.shown(name)}: {found} bytes came where {expected} were announced. The file is truncated, or "
                "the server or something before it is broken; nothing of this answer is used."
            )


def _connect(address: str, headers: Mapping[str, str], patience: Patience) -> Client:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store
    except ModuleNotFoundError as error:
        raise ConfigError("remote stores need obstore: pip install 'sar1m[release]' or 'sar1m[training]'") from error
    parts = urlsplit(address)
    endpoint = next((url for name in _ENDPOINTS.get(parts.scheme, ()) if (url := os.environ.get(name))), address)
    client: ClientConfig = {
        "timeout": timedelta(seconds=patience.timeout_s),
        "connect_timeout": timedelta(seconds=min(patience.timeout_s, _CONNECT_TIMEOUT_S)),
        "allow_http": endpoint.startswith("http://"),
        **({"default_headers": dict(headers)} if headers else {}),
    }
    retries: RetryConfig = {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.retry_s),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_WAIT_S),
            "max_backoff": timedelta(seconds=_LONGEST_WAIT_S),
            "base": 2,
        },
    }
    try:
        if parts.scheme not in _ENDPOINTS:
            return HTTPStore(address, client_options=client, retry_config=retries)
        kind = cast("type[BucketClient]", {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[parts.scheme])
        prefix = parts.path.strip("/") or None
        return kind(parts.netloc, prefix=prefix, client_options=client, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{address}: no connection can be set up ({type(error).__name__}). Check the location, and the AWS_*, "
            "GOOGLE_* or AZURE_* variables of the environment."
        ) from None
