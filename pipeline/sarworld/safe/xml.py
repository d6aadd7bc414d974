"""XML trees, and numbers in the formats of Sentinel-1 annotations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt

Leaf = tuple[str, str | int]


def node(name: str, /, *content: Element | Leaf, **attributes: str) -> Element:
    """An element with children, given as elements or as (name, text) pairs."""
    element = Element(name, attributes)
    for child in content:
        if isinstance(child, tuple):
            SubElement(element, child[0]).text = str(child[1])
        else:
            element.append(child)
    return element


def listing(name: str, items: Iterable[Element]) -> Element:
    """A list element with its count."""
    children = list(items)
    return node(name, *children, count=str(len(children)))


def numbers(name: str, values: npt.ArrayLike, form: str) -> Element:
    """A vector with its count. form: format of each number; d for whole numbers."""
    flat = np.asarray(values).ravel().tolist()
    element = Element(name, {"count": str(len(flat))})
    element.text = " ".join(f"{value:{form}}" for value in flat)
    return element


def exact(value: float) -> str:
    """A number with 16 digits."""
    return f"{value:.15e}"


def moment(epoch: datetime, seconds: float = 0.0) -> str:
    """UTC time to the microsecond. seconds: after the epoch."""
    return f"{(epoch + timedelta(microseconds=round(seconds * 1e6))).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"


def xml_bytes(root: Element) -> bytes:
    """The document, indented, in UTF-8."""
    indent(root)
    text = tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()
