"""From what a user gives as OUT to the output it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sar1m.store.errors import OutputError
from sar1m.store.outputs.bucket import BucketOutput
from sar1m.store.outputs.folder import FolderOutput
from sar1m.store.outputs.output import Output
from sar1m.store.places.opening import BUCKETS, checked_location

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")


def open_output(location: str | Path) -> Output:
    """The output at a path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix. Opens nothing yet.

    Raises OutputError for every other address and for a whole bucket, ConfigError where a user, password, query or
    fragment stands in it.
    """
    address = _ADDRESS.match(str(location))
    if address is None:
        return FolderOutput(Path(location))
    if isinstance(location, Path) or address[1].lower() not in BUCKETS:
        raise OutputError(
            f"{address[1]}://...: is an address that no build can write to. Give a folder, s3://bucket/prefix, "
            "gs://bucket/prefix or az://container/prefix."
        )
    checked = checked_location(str(location))
    if checked.count("/") < 3:
        raise OutputError(f"{checked}: a whole bucket is no output. Give {checked}/prefix.")
    return BucketOutput(checked)
