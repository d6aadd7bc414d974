"""Packages of the extra `evaluate`. Pretraining does without them, so they are imported where they are first used."""

from __future__ import annotations

import importlib
from typing import Any

from sar1m.store.errors import ConfigError


def extra_package(module: str, purpose: str) -> Any:  # noqa: ANN401 - few of these packages have types
    """The module of that name. purpose: what needs it, for the error. Raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".", maxsplit=1)[0].replace("_", "-").replace("sklearn", "scikit-learn")
        raise ConfigError(
            f"{purpose} needs the package {package}, which cannot be imported ({error}). "
            "Install it: pip install 'sar1m[evaluate]'."
        ) from error
