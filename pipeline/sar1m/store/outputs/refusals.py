"""What a bucket refuses, as errors that name the object, what the service said and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sar1m.store.errors import MissingError, OutputError, UnreachableError
from sar1m.store.places.failures import naming_failures

_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")  # letters of the service's own list, never a secret
_REMEDIES: Final = (
    ("NoSuchBucket", "Create the bucket, or give another place as OUT."),
    ("Quota|Storage.*Full|XMinioStorageFull|InsufficientCapacity", "Free room in the bucket or raise its quota."),
    ("AccessDenied|Forbidden|40[13]", "Its user needs to list, read, write and delete there; check the credentials."),
    ("SlowDown|50[034]|429|time", "Wait for the service, or use fewer workers."),
)


@contextmanager
def naming_refusals(shown: str, done: str) -> Iterator[None]:
    """Turns an error of obstore into an OutputError; a MissingError where an object is not there.

    shown: the object in the message. done: what was to be done with it, such as written. What obstore raises on a
    condition (AlreadyExistsError, PreconditionError) passes.
    """
    from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415 - with the first request

    said = ""
    try:
        with naming_failures(shown):
            try:
                yield
            except (AlreadyExistsError, PreconditionError) as error:
                raise _ConditionError(error) from None
            except Exception as error:
                code = _CODE.search(str(error))
                said = "" if code is None else code[1]
                raise
    except _ConditionError as condition:
        raise condition.error from None
    except MissingError:
        if said != "NoSuchBucket":
            raise
        raise _refusal(shown, done, "NoSuchBucket") from None
    except UnreachableError as error:
        reason = str(error).removeprefix(f"{shown}: ").split(". ", 1)[0]
        raise _refusal(shown, done, f"{reason}{said and f', {said}'}") from None


class _ConditionError(Exception):
    """Carries an error past naming_failures."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _refusal(shown: str, done: str, reason: str) -> OutputError:
    remedy = next((remedy for signs, remedy in _REMEDIES if re.search(signs, reason)), "")
    return OutputError(
        f"{shown}: cannot be {done}: {reason}. {remedy} Then run the same command again: nothing finished is "
        "lost.".replace(".  ", ". ")
    )
