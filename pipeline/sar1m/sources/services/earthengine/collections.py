"""Earth Engine's collections of Sentinel-1 and Sentinel-2: one question a page of scenes, and what the answers say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from types import ModuleType
from typing import Any, Final

from sar1m.core.sphere import boxes_within_world, running_on
from sar1m.sources.scene import SCENE_ID, Asset, Kind, Query, Ring, Scene
from sar1m.sources.sentinel_names import COPERNICUS_ATTRIBUTION, COPERNICUS_LICENCE, parse_s1_name
from sar1m.store.errors import SourceError

NAME: Final = "earthengine"
SAR_COLLECTION: Final = "COPERNICUS/S1_GRD_FLOAT"
OPTICAL_COLLECTION: Final = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_COLLECTION: Final = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
CLOUD_ATTRIBUTION: Final = "cloud mask from Cloud Score+ (Google, CC BY 4.0)"
# Source: Earth Engine's guide to Sentinel-1 preprocessing and its page of the collection.
SAR_PROCESSING: Final = (
    "Google Earth Engine S1_GRD_FLOAT: border noise removed, thermal noise removed, sigma0, terrain corrected, "
    "not flattened; bilinear"
)
PAGE_SCENES: Final = 1000  # Earth Engine refuses over 5000 elements in one answer
MAX_PAGES: Final = 1000
MAX_RING_POINTS: Final = 10_000

_TIME: Final = "system:time_start"
_INDEX: Final = "system:index"
_PROPERTIES: Final[Mapping[Kind, tuple[str, ...]]] = {
    "sar": (_INDEX, _TIME, "orbitProperties_pass", "relativeOrbitNumber_start", "transmitterReceiverPolarisation"),
    "optical": (
        *(_INDEX, _TIME, "PRODUCT_ID", "CLOUDY_PIXEL_PERCENTAGE", "PROCESSING_BASELINE", "SPACECRAFT_NAME"),
        *("SENSING_ORBIT_NUMBER", "DATATAKE_IDENTIFIER"),
    ),
}

Answer = Mapping[str, Any]
Compute = Callable[[Callable[[ModuleType], Any]], object]


def page_expression(ee: ModuleType, query: Query, first: datetime) -> Any:  # noqa: ANN401  ee has no types
    """An Earth Engine expression for up to PAGE_SCENES scenes of a query, the earliest that start at or after a time.

    It asks for properties and footprints alone, and for optical scenes also which of them have a cloud score.
    """
    collection = ee.ImageCollection(SAR_COLLECTION if query.kind == "sar" else OPTICAL_COLLECTION)
    for condition in (*_when_and_where(ee, query, first), *_what(ee, query)):
        collection = collection.filter(condition)
    page = collection.limit(PAGE_SCENES, _TIME)
    names = list(_PROPERTIES[query.kind])
    scenes = page.map(lambda image: ee.Feature(image.geometry()).copyProperties(image, names))
    if query.kind == "sar":
        return ee.Dictionary({"scenes": scenes})
    scores = ee.ImageCollection(CLOUD_COLLECTION)
    for condition in _when_and_where(ee, query, first):
        scores = scores.filter(condition)
    scored = scores.filter(ee.Filter.inList(_INDEX, page.aggregate_array(_INDEX)))
    return ee.Dictionary({"scenes": scenes, "scored": scored.aggregate_array(_INDEX)})


def _when_and_where(ee: ModuleType, query: Query, first: datetime) -> list[Any]:
    boxes = [ee.Geometry.Rectangle(list(box), None, False) for box in boxes_within_world(query.box)]
    where = [ee.Filter.bounds(box) for box in boxes]
    return [
        ee.Filter.date(_milliseconds(first), _milliseconds(query.last)),
        where[0] if len(where) == 1 else ee.Filter.Or(*where),
    ]


def _what(ee: ModuleType, query: Query) -> list[Any]:
    if query.kind == "optical":
        return [ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", 100 * query.max_cloud_frac)]
    polarised = [ee.Filter.listContains("transmitterReceiverPolarisation", name) for name in query.polarisations]
    return [ee.Filter.eq("instrumentMode", "IW"), ee.Filter.eq("resolution_meters", 10), *polarised]


def _milliseconds(moment: datetime) -> int:
    return math.ceil((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))


def search(query: Query, compute: Compute) -> Iterator[Scene]:
    """Scenes of a query in the order of acquisition, then of id, each once.

    compute: asks Earth Engine for the one value that a function of ee describes.
    Each page starts at the same millisecond as the last scene of the page before. Raises SourceError where an answer is
    not what was asked for.
    """
    first, held = query.first, dict[str, Scene]()
    for _ in range(MAX_PAGES):
        scenes = parse_page(compute(partial(page_expression, query=query, first=first)), query.kind)
        fresh = {scene.scene_id: scene for scene in scenes if scene.scene_id not in held}
        if len(scenes) < PAGE_SCENES:
            yield from _in_order({**held, **fresh})
            return
        latest = max(scene.acquired for scene in scenes)
        if latest <= first:
            break
        everything = _in_order({**held, **fresh})
        yield from (scene for scene in everything if scene.acquired < latest)
        held = {scene.scene_id: scene for scene in everything if scene.acquired >= latest}
        first = latest
    raise SourceError(
        f"{NAME}: does not come to an end with its list of scenes around {first:%Y-%m-%d}. Ask for a smaller region or "
        "a shorter time."
    )


def _in_order(scenes: Mapping[str, Scene]) -> list[Scene]:
    return sorted(scenes.values(), key=lambda scene: (scene.acquired, scene.scene_id))


def parse_page(answer: object, kind: Kind) -> list[Scene]:
    """Scenes of one answer to page_expression. Raises SourceError where the answer is something else."""
    listed = answer.get("scenes") if isinstance(answer, dict) else None
    features = listed.get("features") if isinstance(listed, dict) else None
    scored = answer.get("scored", []) if isinstance(answer, dict) else None
    if not isinstance(features, list) or not isinstance(scored, list) or len(features) > PAGE_SCENES:
        raise SourceError(f"{NAME}: answered a search with something else than a list of scenes. Try again later.")
    names = {name for name in scored if isinstance(name, str)}
    return [_scene(feature, kind, names) for feature in features]


def _scene(feature: object, kind: Kind, scored: set[str]) -> Scene:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(feature, dict) or not isinstance(properties, dict):
        raise SourceError(f"{NAME}: lists a scene that is no GeoJSON feature. Try again later.")
    index = properties.get(_INDEX)
    if not isinstance(index, str) or not SCENE_ID.fullmatch(index):
        raise SourceError(f"{NAME}: lists a scene without a usable {_INDEX}: {str(index)[:140]!r}.")
    ring = _ring(feature.get("geometry"), index)
    acquired = _acquired(properties.get(_TIME), index)
    if kind == "sar":
        return _sar_scene(properties, index, ring, acquired)
    return _optical_scene(properties, index, ring, acquired, has_score=index in scored)


def _sar_scene(properties: Answer, index: str, ring: Ring, acquired: datetime) -> Scene:
    named = parse_s1_name(index)
    polarisations = properties.get("transmitterReceiverPolarisation")
    if not isinstance(polarisations, list) or not all(name in ("VV", "VH", "HH", "HV") for name in polarisations):
        raise _wrong(index, "transmitterReceiverPolarisation", polarisations)
    direction = _text(properties, "orbitProperties_pass", index)
    return Scene(
        scene_id=index,
        service=NAME,
        kind="sar",
        acquired=acquired,
        footprint=ring,
        assets=(Asset(name="image", href=f"{SAR_COLLECTION}/{index}"), Asset(name="product", href=index)),
        licence=COPERNICUS_LICENCE,
        provider="Google Earth Engine",
        attribution=_attribution(acquired),
        platform=None if named is None else named.platform,
        orbit_state=None if direction is None else direction.lower(),
        relative_orbit=_whole(properties, "relativeOrbitNumber_start", index),
        datatake=None if named is None else named.datatake,
        polarisations=tuple(polarisations),
        sar_quantity="sigma0",
        processing=SAR_PROCESSING,
    )


def _optical_scene(properties: Answer, index: str, ring: Ring, acquired: datetime, *, has_score: bool) -> Scene:
    assets = [Asset(name="image", href=f"{OPTICAL_COLLECTION}/{index}")]
    product = _text(properties, "PRODUCT_ID", index)
    if product is not None:
        assets.append(Asset(name="product", href=product))
    attribution = _attribution(acquired)
    if has_score:
        assets.append(Asset(name="cs_cdf", href=f"{CLOUD_COLLECTION}/{index}"))
        attribution = f"{attribution}; {CLOUD_ATTRIBUTION}"
    cloudy = properties.get("CLOUDY_PIXEL_PERCENTAGE")
    if cloudy is not None and (not isinstance(cloudy, int | float) or not 0 <= cloudy <= 100):
        raise _wrong(index, "CLOUDY_PIXEL_PERCENTAGE", cloudy)
    platform = _text(properties, "SPACECRAFT_NAME", index)
    return Scene(
        scene_id=index,
        service=NAME,
        kind="optical",
        acquired=acquired,
        footprint=ring,
        assets=tuple(assets),
        licence=COPERNICUS_LICENCE,
        provider="Google Earth Engine",
        attribution=attribution,
        platform=None if platform is None else platform.lower(),
        relative_orbit=_whole(properties, "SENSING_ORBIT_NUMBER", index),
        datatake=_text(properties, "DATATAKE_IDENTIFIER", index),
        processing="Google Earth Engine S2_SR_HARMONIZED",
        cloud_frac=None if cloudy is None else cloudy / 100,
        optical_quantity="reflectance",
        processing_baseline=_text(properties, "PROCESSING_BASELINE", index),
        offset_dn=0,
    )


def _attribution(acquired: datetime) -> str:
    return f"{COPERNICUS_ATTRIBUTION} {acquired.year}"


def _acquired(milliseconds: object, index: str) -> datetime:
    if not isinstance(milliseconds, int | float) or not 0 < milliseconds < 4e12:  # up to the year 2096
        raise _wrong(index, _TIME, milliseconds)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(milliseconds))


def _text(properties: Answer, name: str, index: str) -> str | None:
    value = properties.get(name)
    if value is not None and (not isinstance(value, str) or not SCENE_ID.fullmatch(value)):
        raise _wrong(index, name, value)
    return value


def _whole(properties: Answer, name: str, index: str) -> int | None:
    value = properties.get(name)
    if value is not None and (not isinstance(value, int | float) or not 0 <= value < 1e6):
        raise _wrong(index, name, value)
    return None if value is None else int(value)


def _ring(geometry: object, index: str) -> Ring:
    """Outline of a footprint. Of several parts the largest is taken, so that cover is never overstated."""
    described: Answer = geometry if isinstance(geometry, dict) else {}
    coordinates: Any = described.get("coordinates")
    parts: Any = {"LinearRing": [[coordinates]], "Polygon": [coordinates], "MultiPolygon": coordinates}.get(
        str(described.get("type"))
    )
    try:
        rings = [_running_on(part[0]) for part in parts or ()]
    except (TypeError, IndexError, KeyError, ValueError) as error:
        raise _wrong(index, "geometry", described.get("type")) from error
    if not rings:
        raise _wrong(index, "geometry", described.get("type"))
    return max(rings, key=_extent_deg2)


def _running_on(points: list[list[float]]) -> Ring:
    """A closed ring whose longitudes run on across the antimeridian. Raises ValueError for points that make no ring."""
    if not 3 <= len(points) <= MAX_RING_POINTS:
        raise ValueError("not a ring")
    corners = [(float(point[0]), float(point[1])) for point in points]
    for lon, lat in corners:
        if not (math.isfinite(lon) and abs(lon) <= 360 and abs(lat) <= 90):
            raise ValueError("not degrees")
    lons, lats = zip(*corners, strict=True)
    ring = tuple(zip(running_on(lons).tolist(), lats, strict=True))
    return ring if ring[0] == ring[-1] else (*ring, ring[0])


def _extent_deg2(ring: Ring) -> float:
    lons, lats = zip(*ring, strict=True)
    return float((max(lons) - min(lons)) * (max(lats) - min(lats)))


def _wrong(index: str, name: str, value: object) -> SourceError:
    return SourceError(
        f"{NAME} {index}: its {name} is {str(value)[:80]!r}, which is not what Earth Engine's catalogue describes. The "
        "scene is not used; try again later."
    )
