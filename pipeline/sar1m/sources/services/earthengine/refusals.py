"""What Earth Engine's refusals mean and what to do about each. Their own text is never passed on: it can repeat the
request and what is secret in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sar1m.io.net.exchange import Reply
from sar1m.io.net.faults import PassingError, is_passing
from sar1m.io.net.retry import retry_after_s
from sar1m.store.errors import SourceError
from sar1m.store.side_files import json_value


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One kind of refusal. pattern: found in Google's text, in lower case. advice: what to do; may hold {project}."""

    pattern: str
    meaning: str
    advice: str


class EarthEngineError(SourceError):
    """Earth Engine refused. kind: which refusal, such as quota, not_registered, permission, credentials."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type[EarthEngineError], tuple[str, str]]:
        return type(self), (str(self), self.kind)


# Patterns: texts that users of earthengine-api report in its issues and Google's pages on access, quotas and errors.
REFUSALS: Final[dict[str, Refusal]] = {
    "not_registered": Refusal(
        pattern="not signed up|is not registered",
        meaning="the project {project} is not registered for Earth Engine",
        advice="Register it at https://code.earthengine.google.com/register, or set EARTHENGINE_PROJECT to another.",
    ),
    "api_disabled": Refusal(
        pattern="has not been used in project|it is disabled|service_disabled",
        meaning="the Earth Engine API is not switched on in the project {project}",
        advice="Enable earthengine.googleapis.com in the Google Cloud console, and wait a few minutes.",
    ),
    "no_project": Refusal(
        pattern="no project found",
        meaning="no project is charged",
        advice="Set EARTHENGINE_PROJECT to the id of a registered Google Cloud project.",
    ),
    "too_many": Refusal(
        pattern="too many|per minute|per second|concurren|rate limit",
        meaning="too many requests at once, again and again",
        advice="Set download.connections and download.requests_per_s lower; other programs may use the same project.",
    ),
    "quota": Refusal(
        pattern="custom quota|eecu|quota exceeded|exceeded .{0,60}quota|restricted mode",
        meaning="the compute quota of the project {project} is used up",
        advice="Wait for its reset (daily limits: tomorrow; noncommercial tiers: next month), or raise it in the "
        "Google Cloud console. What is already built is kept: run the same command again then.",
    ),
    "credentials": Refusal(
        pattern="unauthenticated|invalid_grant|invalid authentication|http 401",
        meaning="the credentials are expired, revoked or wrong",
        advice="Run: earthengine authenticate --force; or give a new key file of the service account.",
    ),
    "permission": Refusal(
        pattern="permission|does not have|forbidden|access denied|http 403",
        meaning="the account may not use the project {project}",
        advice="Grant it the roles Earth Engine Resource Viewer and Service Usage Consumer, check that the project is "
        "registered at https://code.earthengine.google.com/register, and wait a few minutes.",
    ),
    "too_large": Refusal(
        pattern="memory limit|timed out|total request size|must be less than or equal to|too large",
        meaning="a block is too much for one request",
        advice="Set grid.patches_per_side lower.",
    ),
    "missing": Refusal(
        pattern="not found|http 404",
        meaning="an image or a project does not exist there, or may not be seen",
        advice="Plan the build again; check that the project {project} exists.",
    ),
    "unavailable": Refusal(
        pattern="internal error|backend|unavailable|deadline|http 5",
        meaning="the service is not available",
        advice="Run the same command again later.",
    ),
}
# Its text also says that permission may be missing.
_IMAGE_MISSING: Final = re.compile(r"asset .{0,400}not found", re.DOTALL)
_LASTING: Final = ("quota", "too_large")  # though they may come with a status that passes
_MAX_TEXT: Final = 20_000


def refusal_kind(text: str) -> str:
    """The kind of a refusal, recognised by Google's text; `other` where it is none of the known kinds."""
    lower = text[:_MAX_TEXT].lower()
    if _IMAGE_MISSING.search(lower):
        return "missing"
    return next((kind for kind, refusal in REFUSALS.items() if re.search(refusal.pattern, lower)), "other")


def refused(text: str, project: str) -> EarthEngineError:
    """The error for a refusal, recognised by its text. The text itself is left out."""
    kind = refusal_kind(text)
    refusal = REFUSALS.get(kind)
    if refusal is None:
        return EarthEngineError(
            "earthengine: refused what was asked, for a reason that is not known here. Check the project "
            f"{project} and its quotas in the Google Cloud console, and try again.",
            kind,
        )
    meaning, advice = (part.format(project=project) for part in (refusal.meaning, refusal.advice))
    return EarthEngineError(f"earthengine: {meaning}. {advice}", kind)


def refusal(reply: Reply, content: bytes, project: str) -> Exception:
    """The error for an HTTP status other than 200: PassingError where asking again may help, else EarthEngineError."""
    text = f"{_said(content)} http {reply.status}"
    kind = refusal_kind(text)
    if is_passing(reply.status) and kind not in _LASTING:
        return PassingError(f"answered {reply.status}", retry_after_s(reply.headers.get("retry-after")))
    # Google's token server says with 400 what an expired or revoked account is
    is_token = reply.address.target.partition("?")[0] == "/token"
    return refused("unauthenticated" if is_token else text, project)


def _said(content: bytes) -> str:
    try:
        error = json_value(content[:_MAX_TEXT])["error"]
        return error if isinstance(error, str) else f"{error['status']} {error['message']}"
    except (ValueError, KeyError, TypeError):
        return ""
