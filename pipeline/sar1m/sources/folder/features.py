"""STAC items as files hold them: *.json of type Feature or FeatureCollection, anywhere below a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sar1m.sources.failures import Failing
from sar1m.store.errors import SourceError, printable
from sar1m.store.side_files import read_json

LONGEST_NAME: Final = 128  # of an item that cannot be used, in the list of failures
_MAX_ITEM_BYTES: Final = 2**24
_BEGINNING_BYTES: Final = 2**16
_WHOLE_ITEM: Final = "Write or fetch the STAC item again."


def stac_features(root: Path, failing: Failing) -> list[tuple[Path, dict[str, Any]]]:
    """STAC items below root with the files that hold them, in the order of file names. Other JSON is left alone.

    failing: sets a damaged item aside by the name of its file.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    for path in sorted(root.rglob("*.json")):
        with failing(printable(path.stem)[:LONGEST_NAME]):
            found += [(path, feature) for feature in _features(path)]
    return found


def _features(path: Path) -> Iterator[dict[str, Any]]:
    try:
        document = read_json(path, error=SourceError, remedy=_WHOLE_ITEM, max_bytes=_MAX_ITEM_BYTES)
    except SourceError:
        if _meant_as_item(path):
            raise
        return
    if isinstance(document, dict) and document.get("type") == "Feature" and "assets" in document:
        yield document
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        features = document.get("features")
        found = features if isinstance(features, list) else []
        yield from (f for f in found if isinstance(f, dict) and "assets" in f)


def _meant_as_item(path: Path) -> bool:
    """Whether a file that is no JSON begins like a STAC item."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        beginning = stream.read(_BEGINNING_BYTES)
    return b'"stac_version"' in beginning or b'"assets"' in beginning
