"""Access tokens of the Copernicus Data Space, shared by the processes of one user on one machine.

An access token lasts 10 minutes, its refresh token 60; every login opens a session, and open sessions are limited
(documentation.dataspace.copernicus.eu/Quotas). Dask restarts workers at will, so tokens kept by each process would
use up the sessions. They are kept in one file instead, mode 0600, in the user's runtime folder (XDG_RUNTIME_DIR: in
memory, gone at logout) or a folder of mode 0700 under the temporary one; never below a build's output, and never the
password. Whoever finds the token old renews it while the others wait at the file's lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, ValidationError

from sar1m.io.net.faults import StatusError
from sar1m.io.net.fetch import Fetcher
from sar1m.sources.services.products.names import parsed
from sar1m.store.errors import SourceError
from sar1m.store.file_lock import flock

CLIENT_ID: Final = "cdse-public"
MARGIN_S: Final = 60.0  # a token is renewed this long before it ends: a request may wait for its turn
MAX_ANSWER_BYTES: Final = 2**18
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
_REFUSED: set[bytes] = set()  # logins that failed in this process: asking again would lock the account


class _Granted(BaseModel):
    """An answer of the identity service (RFC 6749, section 5.1)."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str
    expires_in: float
    refresh_token: str = ""
    refresh_expires_in: float = 0.0


class _Kept(BaseModel):
    """What the file holds; times in seconds since 1970."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access: str = ""
    granted_s: float = 0.0
    access_until_s: float = 0.0
    refresh: str = ""
    refresh_until_s: float = 0.0


@dataclass(frozen=True)
class Identity:
    """The identity service of an account. url: its token endpoint."""

    fetcher: Fetcher
    url: str

    def access_token(self) -> str:
        """A token that stays valid for at least MARGIN_S. Raises SourceError where there is no account or it is
        refused."""
        user, password = cdse_account()
        with _locked(_file(self.url, user)) as descriptor:
            kept, now_s = _read(descriptor), time.time()
            if kept.access_until_s - MARGIN_S > now_s:
                return kept.access
            granted = self._renewed(kept, now_s) or self._login(user, password)
            _write(descriptor, granted, now_s)
            return granted.access_token

    def discard(self, before_s: float) -> None:
        """Forgets the access token where it was granted before a time, because the service has revoked it.

        A token that another process has renewed since then stays, and so does the refresh token.
        """
        user, _ = cdse_account()
        with _locked(_file(self.url, user)) as descriptor:
            kept = _read(descriptor)
            if kept.granted_s <= before_s:
                _keep(descriptor, kept.model_copy(update={"access": "", "access_until_s": 0.0}))

    def _renewed(self, kept: _Kept, now_s: float) -> _Granted | None:
        """A new token by the refresh token; None where there is none, it is too old, or the service has closed the
        session."""
        if kept.refresh_until_s - MARGIN_S <= now_s:
            return None
        try:
            return self._ask({"grant_type": "refresh_token", "refresh_token": kept.refresh})
        except StatusError:
            return None  # a login follows

    def _login(self, user: str, password: str) -> _Granted:
        code = os.environ.get("CDSE_TOTP", "")
        tried = hashlib.blake2b(repr((self.url, user, password, code)).encode()).digest()
        if tried in _REFUSED:
            raise _refused("refused before, not asked again")
        form = {"grant_type": "password", "username": user, "password": password}
        if code:
            form["totp"] = code
        try:
            return self._ask(form)
        except StatusError as error:
            if error.status in (400, 401):
                _REFUSED.add(tried)
            raise _refused(str(error)) from None  # what raised it holds the form

    def _ask(self, form: Mapping[str, str]) -> _Granted:
        body = urlencode({"client_id": CLIENT_ID, **form}).encode()
        answer = self.fetcher.request("POST", self.url, headers=_FORM, body=body, max_bytes=MAX_ANSWER_BYTES)
        return parsed(_Granted, answer.content, "cdse")


def cdse_account() -> tuple[str, str]:
    """User and password from the environment. Raises SourceError where one is missing."""
    user, password = os.environ.get("CDSE_USERNAME", ""), os.environ.get("CDSE_PASSWORD", "")
    if not user or not password:
        raise SourceError(
            "cdse: no account. Set CDSE_USERNAME and CDSE_PASSWORD in the environment of the workers; an account is "
            "free at dataspace.copernicus.eu."
        )
    return user, password


def _refused(found: str) -> SourceError:
    return SourceError(
        f"cdse: no access token: {found.removesuffix('.')}. Check CDSE_USERNAME and CDSE_PASSWORD, and set CDSE_TOTP "
        "to a fresh code where the account has a second factor."
    )


def _file(url: str, user: str) -> Path:
    account = hashlib.blake2b(f"{url}\0{user}".encode(), digest_size=8).hexdigest()
    return _private_folder() / f"cdse-{account}.json"


def _private_folder() -> Path:
    """The folder for tokens, made where it is not there. Raises SourceError where another user could read it or has
    made it."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"sar1m-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise _no_folder(folder, error.strerror or str(error)) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise _no_folder(folder, f"mode {stat.S_IMODE(status.st_mode):o} of user {status.st_uid}")
    return folder


def _no_folder(folder: Path, found: str) -> SourceError:
    return SourceError(
        f"{folder}: tokens cannot be kept there: {found}. Expected a folder of your own with mode 700; set "
        "XDG_RUNTIME_DIR to a folder that is."
    )


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _no_folder(path, error.strerror or str(error)) from error
    try:
        flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> _Kept:
    """What the file holds; nothing where a write was cut short."""
    try:
        return _Kept.model_validate_json(os.pread(descriptor, MAX_ANSWER_BYTES, 0) or b"{}")
    except ValidationError:
        return _Kept()


def _write(descriptor: int, granted: _Granted, now_s: float) -> None:
    kept = _Kept(
        access=granted.access_token,
        granted_s=now_s,
        access_until_s=now_s + granted.expires_in,
        refresh=granted.refresh_token,
        refresh_until_s=now_s + granted.refresh_expires_in,
    )
    _keep(descriptor, kept)


def _keep(descriptor: int, kept: _Kept) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(kept.model_dump()).encode(), 0)
