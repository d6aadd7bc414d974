"""All contenders by label; each family's libraries are imported only where one of its own is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the parent process asks for names alone and may lack torch
    from loader_peers.common import Contender

FAMILIES = {
    "ours": "loader_peers.ours",
    "mds": "loader_peers.mds",
    "lit": "loader_peers.lit",
    "wds": "loader_peers.wds",
    "arrays": "loader_peers.arrays",
    "pictures": "loader_peers.pictures",
}


def contenders(family: str) -> dict[str, Contender]:
    """Of one family, limits included. Raises ImportError where its library is not installed."""
    if family == "mds":  # MosaicML Streaming imports torchvision, of which nothing is used here
        importlib.import_module("sarmae.torchvision_shim").repair_torchvision()
    module = importlib.import_module(FAMILIES[family])
    found = (*module.CONTENDERS, *getattr(module, "LIMIT_CONTENDERS", ()))
    return {contender.label: contender for contender in found}
