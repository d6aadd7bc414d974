"""The client library of Earth Engine, opened once a process, sending everything through our own downloader.

ee takes any HTTP client. Ours is the Fetcher: its limits, budgets, time-outs and retries hold for tokens, discovery,
searches and pixels alike, over all workers. ee's own retries and deadline are then without effect.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from sar1m.io.net.answer import check_media, parse_json
from sar1m.io.net.exchange import Ask, Exchanges
from sar1m.io.net.faults import PassingError
from sar1m.io.net.options import FetchSettings
from sar1m.io.net.retry import persistently
from sar1m.sources.services.earthengine.refusals import refusal, refused
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_json

HIGH_VOLUME_URL: Final = "https://earthengine-highvolume.googleapis.com"
ENDPOINTS: Final = (HIGH_VOLUME_URL, "https://earthengine.googleapis.com")
OAUTH_HOST: Final = "oauth2.googleapis.com"
SCOPES: Final = ("https://www.googleapis.com/auth/earthengine",)
MAX_CONNECTIONS: Final = 40  # Earth Engine's quota page: concurrent requests of a project at the high-volume endpoint
WORKLOAD_TAG: Final = "sar1m"  # under which Google's monitoring shows what a build cost
INSTALL: Final = "pip install 'sar1m[earthengine]'"
KEY_VARIABLES: Final = ("EARTHENGINE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS")
PROJECT_VARIABLES: Final = ("EARTHENGINE_PROJECT", "GOOGLE_CLOUD_PROJECT")
MAX_ANSWER_BYTES: Final = 64 * 2**20

_OWN_STORE: Final = "~/.config/earthengine/credentials"  # where `earthengine authenticate` writes
_PROJECT: Final = re.compile(r"(?:[\w.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]")
_MAX_KEY_BYTES: Final = 65_536

_units: ContextVar[float] = ContextVar("earthengine_units", default=0.0)
_lock: Final = threading.Lock()
_opened: list[tuple[object, ...]] = []  # what ee is initialised with in this process: none or one


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where the credentials lie, and which project is charged. It holds no secret.

    is_key: path is a key file (of a service account, or of gcloud); False where it is ee's own store.
    """

    project: str
    path: Path
    is_key: bool

    @property
    def shown(self) -> str:
        """The account in words, without secrets."""
        kind = "the key file that the environment names" if self.is_key else "the account of `earthengine authenticate`"
        return f"{kind}, project {self.project}"


def is_installed() -> bool:
    """Whether the client library is installed."""
    return importlib.util.find_spec("ee") is not None


def find_account() -> Account:
    """The account that the environment or ee's own store names. Nothing is asked. Raises SourceError that says what to
    do."""
    named = next((variable for variable in KEY_VARIABLES if os.environ.get(variable)), None)
    path = Path(_OWN_STORE if named is None else os.environ[named]).expanduser()
    stored = _read_key(path, named)
    if named is not None and not _is_key(stored):
        raise SourceError(
            f"earthengine: the file that {named} names is no key of a service account, or not whole. Create a JSON key "
            "in the Google Cloud console, or unset it and run: earthengine authenticate"
        )
    if named is None and not stored.get("refresh_token"):
        raise _no_credentials()
    project = next((os.environ[variable] for variable in PROJECT_VARIABLES if os.environ.get(variable)), None)
    project = project or str(stored.get("project_id") or stored.get("project") or "")
    if not _PROJECT.fullmatch(project):
        raise SourceError(
            "earthengine: no project. Set EARTHENGINE_PROJECT to the id of a Google Cloud project that is registered "
            "for Earth Engine (https://code.earthengine.google.com/register)."
        )
    return Account(project=project, path=path, is_key=named is not None)


def _is_key(stored: Mapping[str, Any]) -> bool:
    fields = {
        "service_account": ("client_email", "private_key", "token_uri"),
        "authorized_user": ("client_id", "client_secret", "refresh_token"),
    }.get(str(stored.get("type")), ())
    return bool(fields) and all(isinstance(stored.get(name), str) for name in fields)


def _no_credentials() -> SourceError:
    return SourceError(
        "earthengine: no credentials. Run: earthengine authenticate; or set EARTHENGINE_SERVICE_ACCOUNT_KEY to the "
        "JSON key file of a service account."
    )


def _read_key(path: Path, named: str | None) -> Mapping[str, Any]:
    if named is None and not path.exists():
        return {}
    try:
        stored = read_json(path, error=SourceError, remedy="", max_bytes=_MAX_KEY_BYTES)
    except SourceError:  # it would show where the key lies
        stored = None
    if not isinstance(stored, dict):
        place = "the credentials of `earthengine authenticate`" if named is None else f"the file that {named} names"
        raise SourceError(f"earthengine: {place} cannot be read as JSON. Create it anew.") from None
    return stored


def check_endpoint(url: str) -> str:
    """The URL, where it is one of Google's: tokens go nowhere else.

    A URL on this machine itself passes here; the downloader refuses it unless SAR1M_ALLOW_LOOPBACK is set. Raises
    SourceError.
    """
    parts = urlsplit(url)
    if url not in ENDPOINTS and (parts.hostname != "127.0.0.1" or parts.path or parts.query):
        raise SourceError(
            f"earthengine: {(parts.hostname or '')[:80]!r} is no endpoint of Earth Engine; expected {HIGH_VOLUME_URL}."
        )
    return url


class Transport:
    """The HTTP client that ee is given. Its answers are httplib2's.

    It sends to Earth Engine's endpoint and Google's token server alone, under the limits and budgets of a build.
    """

    def __init__(self, settings: FetchSettings, endpoint: str, project: str) -> None:
        limits = settings.limits
        fewer = limits.model_copy(update={"connections": min(limits.connections, MAX_CONNECTIONS)})
        self._settings = replace(settings, limits=fewer)
        self._exchanges = Exchanges(self._settings)
        self._hosts = {urlsplit(endpoint).netloc, OAUTH_HOST}
        self._project = project

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refused. google-auth copies its transport to ask another host in the background; it does not where copying
        fails."""
        raise TypeError("a transport is not copied")

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_options: object,  # of httplib2: redirects and connections are the downloader's
    ) -> tuple[Any, bytes]:
        """One request, repeated while that may help. Status 401 is returned, so that google-auth asks for a fresh
        token.

        Raises EarthEngineError where Earth Engine refuses, SourceError where the request fails for good, BudgetError
        where a budget is used up.
        """
        httplib2 = importlib.import_module("httplib2")  # comes with earthengine-api
        host = urlsplit(uri).netloc
        if host not in self._hosts:
            raise SourceError(f"earthengine: a request with its credentials was to go to {host[:80]}. It was not sent.")
        # pixels are asked for as they are: what is measured is the limit of the service
        kept = {name: value for name, value in (headers or {}).items() if name.lower() != "accept-encoding"}
        content = body.encode() if isinstance(body, str) else body
        ask = Ask(method=method, url=uri, headers=kept, body=content, cost=_units.get())
        status, head, answer = persistently(self._settings, "earthengine", lambda: self._attempt(ask))
        return httplib2.Response({**head, "status": str(status)}), answer

    def _attempt(self, ask: Ask) -> tuple[int, Mapping[str, str], bytes]:
        with self._exchanges.exchange(ask) as reply:
            content = b"".join(reply.pieces(MAX_ANSWER_BYTES))
        if reply.status == HTTPStatus.OK:
            wants_pixels = urlsplit(ask.url).path.endswith(":computePixels")
            expect = ("application/octet-stream",) if wants_pixels else ("application/json",)
            check_media(reply.address.shown, reply.media_type, expect, content[:512])
            if not wants_pixels:
                _check_json(content, reply.address.shown)
        elif reply.status == HTTPStatus.UNAUTHORIZED:
            content = b'{"error": {"message": "unauthenticated"}}'  # ee quotes it
        else:
            raise refusal(reply, content, self._project)
        return reply.status, reply.headers, content


def _check_json(content: bytes, shown: str) -> None:
    try:
        parse_json(content, shown)
    except SourceError as error:
        raise PassingError(str(error)) from None


@dataclass(frozen=True, eq=False)
class Session:
    """ee, initialised for a project. Expressions are built by functions of ee, since building one can fail too."""

    ee: ModuleType
    project: str

    def value(self, build: Callable[[ModuleType], Any], units: float) -> object:
        """What Earth Engine computes of the expression that build makes, as JSON.

        units: EECU-seconds by our estimate, counted against the budget. Raises EarthEngineError, SourceError,
        BudgetError.
        """
        with _charging(units), _translated(self.project):
            return self.ee.data.computeValue(build(self.ee))

    def pixels(self, build: Callable[[ModuleType], Any], grid: Mapping[str, Any], units: float) -> bytes:
        """A .npy file, unchecked, of the image that build makes on the grid. Units and errors as in value."""
        with _charging(units), _translated(self.project):
            message = {"expression": build(self.ee), "fileFormat": "NPY", "grid": grid}
            return bytes(self.ee.data.computePixels(message))


def open_session(settings: FetchSettings, endpoint: str) -> Session:
    """ee, initialised once in this process for the account of the environment. Raises SourceError that says what to do
    where the library, the credentials or the project are missing or refused."""
    if not is_installed():
        raise SourceError(f"earthengine: its client library is not installed. Run: {INSTALL}")
    account = find_account()
    key = (os.getpid(), check_endpoint(endpoint), account, account.path.stat().st_mtime_ns, settings)
    with _lock:
        import ee  # noqa: PLC0415  an extra, and slow to import

        if _opened != [key]:
            _opened.clear()
            with _translated(account.project):
                _initialise(ee, settings, endpoint, account)
            _opened.append(key)
    return Session(ee, account.project)


def _initialise(ee: Any, settings: FetchSettings, endpoint: str, account: Account) -> None:  # noqa: ANN401  ee has no types
    ee.Reset()
    # ee would ask storage.googleapis.com for a list of deprecated assets, past every limit; it does not where it
    # holds one already.
    ee.deprecation.deprecated_assets = {"": None}
    ee.Initialize(
        credentials=_credentials(ee, account),
        url=endpoint,
        project=account.project,
        http_transport=Transport(settings, endpoint, account.project),
    )
    ee.data.setDefaultWorkloadTag(WORKLOAD_TAG)
    ee.data.resetWorkloadTag()


def _credentials(ee: Any, account: Account) -> Any:  # noqa: ANN401  of google-auth
    """Credentials that hold no token yet: the first request asks for one, through our transport."""
    credentials = importlib.import_module("google.oauth2.credentials")  # comes with earthengine-api
    if not account.is_key:
        return credentials.Credentials(None, **ee.oauth.get_credentials_arguments())
    stored = dict(_read_key(account.path, KEY_VARIABLES[0]))
    try:
        if stored["type"] == "authorized_user":
            return credentials.Credentials.from_authorized_user_info(stored)
        service_account = importlib.import_module("google.oauth2.service_account")
        return service_account.Credentials.from_service_account_info(stored, scopes=list(SCOPES))
    except ValueError:  # its text can quote the key
        raise SourceError(
            "earthengine: the private key of the service account cannot be read. Create a new JSON key in the Google "
            "Cloud console."
        ) from None


@contextmanager
def _charging(units: float) -> Iterator[None]:
    """Counts every request inside with so many EECU-seconds against the budget."""
    token = _units.set(units)
    try:
        yield
    finally:
        _units.reset(token)


@contextmanager
def _translated(project: str) -> Iterator[None]:
    """Turns the errors of ee and google-auth into SourceError. Their texts are left out: they may hold requests and
    tokens."""
    import ee  # noqa: PLC0415  an extra
    from google.auth import exceptions  # noqa: PLC0415  comes with earthengine-api

    errors = importlib.import_module("googleapiclient.errors")  # likewise
    try:
        yield
    except ee.EEException as error:
        raise refused(str(error), project) from None
    except errors.HttpError as error:  # of discovery, which ee does not translate
        raise refused(f"http {error.resp.status}", project) from None
    except exceptions.RefreshError:
        raise refused("unauthenticated", project) from None
    except (errors.Error, exceptions.GoogleAuthError, ValueError, KeyError, TypeError, AttributeError):
        raise SourceError(
            "earthengine: its client library cannot make sense of an answer. Try again later; if it persists, update "
            f"it: {INSTALL}"
        ) from None
