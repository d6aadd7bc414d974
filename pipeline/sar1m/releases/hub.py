"""Releases on the Hugging Face hub, beside the places that every store may lie at.

HF_TOKEN and HF_ENDPOINT come from the environment. huggingface_hub is imported on first use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from sar1m.releases.web_place import WebPlace
from sar1m.store.errors import ConfigError
from sar1m.store.places.failures import naming_failures
from sar1m.store.places.opening import WEB, checked_location, open_place
from sar1m.store.places.place import Place
from sar1m.store.places.remote import RemotePlace

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# ruff: noqa: PLC0415

HUB_OWN_FILES: Final = frozenset({".gitattributes"})  # that the hub puts beside what one uploads
_HUB = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w./+-]+))?/?")


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """A data set on the hub: owner/name, and a branch, tag or commit."""

    repository: str
    revision: str = "main"


class HubPlace(RemotePlace):
    """One revision of a data set on the hub. Files come over https, the listing from the hub's own interface."""

    def __init__(self, location: str) -> None:
        from huggingface_hub import get_token

        self._where, self._api, token = parse_hub(location), hub_api(), get_token()
        revision = quote(self._where.revision, safe="")
        super().__init__(
            location.rstrip("/"),
            address=f"{self._api.endpoint}/datasets/{self._where.repository}/resolve/{revision}",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    def listing(self) -> Mapping[str, int]:
        """Size in bytes of every file of the revision by its name."""
        return {one.path: int(one.size) for one in hub_files(self._api, self._where)}


def open_release(location: str | Path) -> Place:
    """The release at a location of open_place, or at hf://datasets/owner/name[@tag].

    Raises ConfigError for another location, or where huggingface_hub is missing.
    """
    text = str(location)
    if text.startswith("hf://"):
        return HubPlace(text)
    return WebPlace(checked_location(text)) if urlsplit(text).scheme in WEB else open_place(location)


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
    """Every file of a revision as the hub describes it: path, size, blob_id, lfs."""
    from huggingface_hub.hf_api import RepoFile

    with naming_failures(f"hf://datasets/{where.repository}@{where.revision}"):
        for entry in api.list_repo_tree(where.repository, recursive=True, revision=where.revision, repo_type="dataset"):
            if isinstance(entry, RepoFile) and entry.path not in HUB_OWN_FILES:
                yield entry
