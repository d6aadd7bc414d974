"""Class names as configured: rename, merge, leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sar1m.store.errors import ConfigError
from sarmae.evaluate.datasets.pictures import natural

LEFT_OUT = ""  # as a class name: what carries the label is not used


def named_classes(
    found: Sequence[str], classes: Mapping[str, str], where: object
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of the classes, and the class position of each label that is used.

    found: labels that occur.
    classes: label to name. Labels with the same name are one class. The name LEFT_OUT leaves a label out. Where any
    label gets a name, labels that are not mentioned are left out too; where labels are only left out, the others keep
    theirs.
    where: the dataset, for errors.
    Named classes come in the order of the configuration, others in the order of their names. Raises ConfigError where
    classes mentions a label that does not occur, or fewer than two classes remain.
    """
    names, positions = place_labels(sorted(found, key=natural), classes, where)
    if len(names) < 2:
        raise ConfigError(
            f"{where}: {len(names)} of the two classes that are the least ({', '.join(names) or 'none'}). Check path, "
            "and `classes` where it is set."
        )
    return names, positions


def place_labels(
    found: Sequence[str], classes: Mapping[str, str], where: object
) -> tuple[tuple[str, ...], dict[str, int]]:
    """As named_classes, but one class is enough, and labels that are not mentioned keep the order of `found`."""
    unknown = [label for label in classes if label not in found]
    if unknown:
        raise ConfigError(f"classes: {unknown[0]!r} is no label of {where}. There are: {', '.join(found)}.")
    any_named = any(name != LEFT_OUT for name in classes.values())
    wanted = classes if any_named else {label: label for label in found if label not in classes}
    names = tuple(dict.fromkeys(name for name in wanted.values() if name != LEFT_OUT))
    alike = Counter(name.strip().casefold() for name in names)
    if twins := [name for name in names if alike[name.strip().casefold()] > 1]:
        raise ConfigError(
            f"{where}: the classes {twins[0]!r} and {twins[1]!r} differ in case or spaces alone. Are they one class? "
            "Name all labels in `classes`: the same name makes them one, other names keep them apart."
        )
    if not names:
        raise ConfigError(f"classes: leaves every label of {where} out. There are: {', '.join(found)}.")
    return names, {label: names.index(name) for label, name in wanted.items() if name != LEFT_OUT}


def unused(found: Iterable[str], positions: Mapping[str, int]) -> list[str]:
    """Labels that were left out, in the order of their names."""
    return sorted((label for label in found if label not in positions), key=natural)
