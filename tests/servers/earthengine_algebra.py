"""The little of Earth Engine's algebra that our requests use, evaluated on arrays: so a test sees what they mean."""

# ruff: noqa: A002, A006, N803  arguments are called as Earth Engine calls them
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import maximum_filter


class AlgebraError(Exception):
    """What Earth Engine answers with 400."""


@dataclass
class Band:
    """values, mask 0..1 and what lies outside the footprint, (rows, cols) or scalars. dtype: as it would be sent."""

    values: np.ndarray
    mask: np.ndarray
    outside: np.ndarray
    dtype: str = "<f8"

    def sent(self, shape):
        """Masked pixels are sent as zeros, as Earth Engine does."""
        shown = np.where((self.mask > 0) & ~self.outside, self.values, 0)
        return np.broadcast_to(shown, shape).astype(self.dtype)


@dataclass
class Element:
    """An image (bands by name) or a feature, with its properties."""

    properties: dict = field(default_factory=dict)
    geometry: dict | None = None
    bands: dict[str, Band] = field(default_factory=dict)
    off_lattice: bool = False


class Algebra:
    """Evaluates expressions. load(asset_id): Element with bands. collection(id): list of Elements without."""

    def __init__(self, load, collection):
        self._load = load
        self._collection = collection

    def evaluate(self, expression):
        self._values = expression["values"]
        return self._value(self._values[expression["result"]], {})

    def _value(self, node, scope):  # noqa: PLR0911  one a kind of node
        ((kind, content),) = node.items()
        if kind == "constantValue":
            return content
        if kind == "valueReference":
            return self._value(self._values[content], scope)
        if kind == "argumentReference":
            return scope[content]
        if kind == "arrayValue":
            return [self._value(item, scope) for item in content["values"]]
        if kind == "dictionaryValue":
            return {key: self._value(item, scope) for key, item in content["values"].items()}
        if kind == "functionDefinitionValue":
            (name,) = content["argumentNames"]
            return lambda value: self._value(self._values[content["body"]], {**scope, name: value})
        arguments = {key: self._value(item, scope) for key, item in content["arguments"].items()}
        return self._call(content["functionName"], arguments)

    def _call(self, name, a):
        if name == "Image.load":
            return self._load(a["id"])
        if name == "ImageCollection.load":
            return self._collection(a["id"])
        function = FUNCTIONS.get(name)
        if function is None:
            raise AlgebraError(f"{name}: the stand-in for Earth Engine does not know this function.")
        return function(**a)


def _each(image, change):
    bands = {name: change(band) for name, band in image.bands.items()}
    return Element(image.properties, image.geometry, bands, image.off_lattice)


def _pairs(image, other):
    """Bands of two images: one with one, or the only one of the second with each."""
    others = list(other.bands.values())
    if len(others) not in (1, len(image.bands)):
        raise AlgebraError("Image: the band counts do not match.")
    return zip(image.bands.items(), others * (len(image.bands) if len(others) == 1 else 1), strict=True)


def select(input, bandSelectors, newNames=None):
    missing = [name for name in bandSelectors if name not in input.bands]
    if missing:
        raise AlgebraError(f"Image.select: Pattern '{missing[0]}' did not match any bands.")
    chosen = zip(newNames or bandSelectors, bandSelectors, strict=True)
    return Element(input.properties, input.geometry, {new: input.bands[old] for new, old in chosen}, input.off_lattice)


def resample(image, mode):
    """Off its own lattice an interpolated pixel beside a masked one is a mixture, with a mask between 0 and 1."""
    assert mode in ("bilinear", "bicubic")
    if not image.off_lattice:
        return image

    def blend(band):
        near = maximum_filter(((band.mask == 0) | band.outside).astype(np.uint8), size=3).astype(bool)
        edge = near & (band.mask > 0) & ~band.outside
        return Band(np.where(edge, band.values / 2, band.values), np.where(edge, 0.5, band.mask), band.outside)

    return _each(image, blend)


def mask(image):
    return _each(image, lambda b: Band(b.mask, np.ones_like(b.mask), b.outside))


def update_mask(image, mask):
    bands = {
        name: Band(b.values, b.mask * (other.values != 0) * (other.mask > 0), b.outside | other.outside, b.dtype)
        for (name, b), other in _pairs(image, mask)
    }
    return Element(image.properties, image.geometry, bands, image.off_lattice)


def unmask(input, value, sameFootprint=True):
    bands = {}
    for (name, b), other in _pairs(input, value):
        fill = (b.mask == 0) | (b.outside & (not sameFootprint))
        outside = b.outside if sameFootprint else np.zeros_like(b.outside)
        bands[name] = Band(np.where(fill, other.values, b.values), np.where(fill, 1.0, b.mask), outside)
    return Element(input.properties, input.geometry, bands, input.off_lattice)


def _binary(operation):
    def run(image1, image2):
        bands = {
            name: Band(operation(b.values, other.values), b.mask * other.mask, b.outside | other.outside)
            for (name, b), other in _pairs(image1, image2)
        }
        return Element(image1.properties, image1.geometry, bands, image1.off_lattice)

    return run


def _cast(dtype):
    def run(value):
        def change(b):
            whole = np.dtype(dtype).kind in "iu"
            limits = np.iinfo(dtype) if whole else None
            values = np.clip(np.trunc(b.values), limits.min, limits.max) if whole else b.values
            return Band(values, b.mask, b.outside, dtype)

        return _each(value, change)

    return run


def constant(value):
    return Element(bands={"constant": Band(np.float64(value), np.float64(1), np.bool_(False))})


def add_bands(dstImg, srcImg):
    assert not set(dstImg.bands) & set(srcImg.bands)
    return Element(dstImg.properties, dstImg.geometry, {**dstImg.bands, **srcImg.bands}, dstImg.off_lattice)


def clamp(input, low, high):
    return _each(input, lambda b: Band(np.clip(b.values, low, high), b.mask, b.outside))


def round_values(value):
    return _each(value, lambda b: Band(np.rint(b.values), b.mask, b.outside))


# ---- collections: lists of elements ----


def limit(collection, limit, key, ascending=True):
    assert ascending
    return sorted(collection, key=lambda element: element.properties[key])[:limit]


def copy_properties(destination, source, properties):
    copied = {name: source.properties[name] for name in properties if name in source.properties}
    return Element({**destination.properties, **copied}, destination.geometry)


def intersects(leftField, rightValue):
    assert leftField == ".all"
    west, south, east, north = rightValue.geometry

    def holds(element):
        ring = np.asarray(element.geometry["coordinates"][0])
        (left, bottom), (right, top) = ring.min(axis=0), ring.max(axis=0)
        return any(left + turn < east and right + turn > west for turn in (-360, 0, 360)) and (
            bottom < north and top > south
        )

    return holds


def list_contains(leftField=None, rightValue=None, leftValue=None, rightField=None):
    if leftField is not None:
        return lambda element: rightValue in element.properties.get(leftField, ())
    return lambda element: element.properties[rightField] in leftValue


def rectangle(coordinates, geodesic):
    west, south, east, north = coordinates
    assert not geodesic
    assert -180 <= west < east <= 180
    return (west, south, east, north)


FUNCTIONS = {
    "Image.select": select,
    "Image.resample": resample,
    "Image.mask": mask,
    "Image.updateMask": update_mask,
    "Image.unmask": unmask,
    "Image.constant": constant,
    "Image.addBands": add_bands,
    "Image.clamp": clamp,
    "Image.round": round_values,
    "Image.gte": _binary(lambda x, y: (x >= y) * 1.0),
    "Image.lt": _binary(lambda x, y: (x < y) * 1.0),
    "Image.divide": _binary(np.divide),
    "Image.toFloat": _cast("<f4"),
    "Image.toUint16": _cast("<u2"),
    "Image.toByte": _cast("|u1"),
    "Image.geometry": lambda feature: feature.geometry,
    "Collection.filter": lambda collection, filter: [element for element in collection if filter(element)],
    "Collection.limit": limit,
    "Collection.map": lambda collection, baseAlgorithm: [baseAlgorithm(element) for element in collection],
    "AggregateFeatureCollection.array": lambda collection, property: [e.properties[property] for e in collection],
    "Feature": lambda geometry: Element(geometry=geometry),
    "Element.copyProperties": copy_properties,
    "DateRange": lambda start, end: (start, end),
    "GeometryConstructors.Rectangle": rectangle,
    "Filter.dateRangeContains": lambda leftValue, rightField: (
        lambda element: leftValue[0] <= element.properties[rightField] < leftValue[1]
    ),
    "Filter.intersects": intersects,
    "Filter.listContains": list_contains,
    "Filter.equals": lambda leftField, rightValue: lambda element: element.properties.get(leftField) == rightValue,
    "Filter.greaterThan": lambda leftField, rightValue: lambda element: element.properties[leftField] > rightValue,
    "Filter.not": lambda filter: lambda element: not filter(element),
    "Filter.or": lambda filters: lambda element: any(one(element) for one in filters),
}


def to_json(value):
    """As value:compute writes it."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], Element):
        features = [
            {"type": "Feature", "geometry": e.geometry, "id": e.properties["system:index"], "properties": e.properties}
            for e in value
        ]
        return {"type": "FeatureCollection", "columns": {}, "features": features}
    return value
