"""Configurations, of builds and of training: read from TOML into frozen, validated models, and written back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import ErrorDetails

from sar1m.store import side_files
from sar1m.store.errors import ConfigError


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)  # JSON and digests know no NaN

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: object) -> object:
        side_files.require_storable(value)
        return value


_MAX_BYTES: Final = 2**20  # a configuration has some kB
Model = TypeVar("Model", bound=Section)


def digest_of(value: dict[str, Any]) -> str:
    """blake2b-128 of JSON values, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def to_toml(config: Section) -> str:
    """A configuration as TOML, every key written out, keys in the order of the models."""
    top, tables = [], []
    for key, value in config.model_dump(mode="json", exclude_none=True).items():
        if isinstance(value, dict):
            lines = [f"{k} = {_toml_value(v)}" for k, v in value.items()]
            tables.append("\n".join([f"[{key}]", *lines]))
        else:
            top.append(f"{key} = {_toml_value(value)}")
    return "\n\n".join(["\n".join(top), *tables]) + "\n"


def _toml_value(value: object) -> str:
    """JSON is TOML but for three things: tables are written with =, TOML knows no surrogate pairs, and wants DEL
    escaped."""
    if isinstance(value, dict):
        pairs = (f"{_toml_value(key)} = {_toml_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse(model: type[Model], text: str, *, origin: str, known_keys_only: bool = False) -> Model:
    """A configuration from TOML text. origin names the text in errors. known_keys_only: keys that the model does not
    know are left out, and refused otherwise.

    Raises ConfigError that names the key, what was found, and for an unknown key the valid ones.
    """
    try:
        table = side_files.toml_value(text)
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from error
    try:
        return model.model_validate(_known(model, table) if known_keys_only else table)
    except ValidationError as error:
        raise _refusal(model, error, origin) from error


def _known(model: type[BaseModel], table: dict[str, Any]) -> dict[str, Any]:
    """The entries of a table whose keys the model knows, in its sections too."""
    known = {key: value for key, value in table.items() if key in model.model_fields}
    for key, value in known.items():
        section = model.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(section, type) and issubclass(section, BaseModel):
            known[key] = _known(section, value)
    return known


def read_text(path: Path) -> str:
    """The text of a configuration file. Raises ConfigError where side_files refuses it."""
    remedy = "Give an existing TOML file in UTF-8 to --config."
    return side_files.read_text(path, error=ConfigError, remedy=remedy, max_bytes=_MAX_BYTES)


def find_file(name: str, folders: Iterable[Path]) -> Path:
    """The file of a configuration given by path, or by the name of one that comes with us: the first of folders that
    exists holds them. Raises ConfigError that lists the known names."""
    path = Path(name)
    if path.suffix:
        return path
    candidates = tuple(folders)
    folder = next((folder for folder in candidates if folder.is_dir()), candidates[0])
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in folder.glob("*.toml")))
        raise ConfigError(f"--config {name}: no configuration of that name. Known: {known}; or give a TOML file.")
    return path


def override(config: Model, overrides: Sequence[str]) -> Model:
    """The same with overrides such as grid.patch_px=192. The value of an override is TOML; what is no TOML value is
    taken as text. Raises ConfigError."""
    if not overrides:
        return config
    changed = config.model_dump(mode="json", exclude_none=True)
    for text in overrides:
        _apply(changed, text)
    try:
        return type(config).model_validate(changed)
    except ValidationError as error:
        raise _refusal(type(config), error, "--set") from error


def _apply(changed: dict[str, Any], text: str) -> None:
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(f"--set {text}: expected section.key=value, such as grid.patch_px=192.")
    *sections, key = dotted.strip().split(".")
    table = changed
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {text}: {section} is a value, not a section.")
    try:
        table[key] = side_files.toml_value(f"value = {value}")["value"]
    except ValueError:
        table[key] = value


def _refusal(model: type[Section], error: ValidationError, origin: str) -> ConfigError:
    return ConfigError("\n".join(f"{origin}: {_explain(model, item)}" for item in error.errors()))


def _explain(model: type[Section], item: ErrorDetails) -> str:
    location = ".".join(str(part) for part in item["loc"]) or "(whole file)"
    if item["type"] == "tuple_type":
        return f'{location}: expected a list such as ["VV", "VH"] (found {item["input"]!r})'
    if item["type"] == "model_type":
        return f"{location}: is a section of keys, found the value {item['input']!r}. Set one of its keys instead."
    if item["type"] != "extra_forbidden":
        return f"{location}: {item['msg']} (found {item['input']!r})"
    parent: type[BaseModel] = model
    for part in item["loc"][:-1]:
        annotation = parent.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            parent = annotation
    return f"{location}: unknown key. Valid keys here: {', '.join(sorted(parent.model_fields))}"
