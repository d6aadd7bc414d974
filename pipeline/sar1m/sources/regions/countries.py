"""Country outlines: look-up by name or code, drawing, and the country of a point.

The file beside this module is Natural Earth 1:50m admin-0 countries (public domain, naturalearthdata.com) as packed
in the npm package world-atlas 2.0.2 (ISC), with English names and ISO 3166-1 codes from the npm package
i18n-iso-countries 7.14.0 (MIT). Changes made: lines thinned to 0.01 degrees (about 1 km), coordinates rounded to
0.001, rings cut at the antimeridian and closed over the south pole, everything without an ISO code of its own given
to the code ISO lists it under (Somaliland, Northern Cyprus, Ashmore and Cartier) or left out (Siachen). Overseas
regions that are part of a country stand with it, as in Natural Earth: France includes Guiana and Reunion.
The outlines serve for planning and drawing; they settle no dispute about a border.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import shapely

from sar1m.core.sphere import TURNS_DEG
from sar1m.store.errors import RegionError

_FILE: Final = "natural_earth_countries.topojson"
_LINE_DEG: Final = 0.01  # to which outlines were thinned


@dataclass(frozen=True, kw_only=True)
class Country:
    """One country: English name, ISO 3166-1 codes, other names in use, outline in lon/lat degrees."""

    name: str
    alpha_2: str
    alpha_3: str
    aliases: tuple[str, ...]
    geometry: shapely.MultiPolygon


def _decoded_arcs(topology: dict[str, Any]) -> list[npt.NDArray[np.float64]]:
    """Arcs in degrees, each (n, 2). TopoJSON specification 1.0, section 4.1: positions are deltas of integers."""
    scale, shift = topology["transform"]["scale"], topology["transform"]["translate"]
    return [np.cumsum(np.asarray(arc), axis=0) * scale + shift for arc in topology["arcs"]]


def _ring(indices: list[int], arcs: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Ring of arcs joined end to end; ~i names arc i backwards (TopoJSON 1.0, section 2.1.4)."""
    pieces = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in indices]
    return np.vstack([pieces[0], *(piece[1:] for piece in pieces[1:])])


@cache
def countries() -> tuple[Country, ...]:
    """All countries, sorted by alpha-3. Read once per process (about 0.3 s)."""
    topology = json.loads(files("sar1m.sources.regions").joinpath(_FILE).read_text(encoding="utf-8"))
    arcs = _decoded_arcs(topology)
    found = []
    for item in topology["objects"]["countries"]["geometries"]:
        polygons = [shapely.Polygon(_ring(p[0], arcs), [_ring(hole, arcs) for hole in p[1:]]) for p in item["arcs"]]
        outline = shapely.union_all(polygons)
        names = item["properties"]
        found.append(
            Country(
                name=names["name"],
                alpha_2=names["alpha_2"],
                alpha_3=names["alpha_3"],
                aliases=tuple(names["aliases"]),
                geometry=shapely.MultiPolygon(shapely.get_parts(outline).tolist()),
            )
        )
    return tuple(found)


def plain_name(text: str) -> str:
    """Lower case without accents, punctuation or doubled spaces: how names are compared and labels are made."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.sub(r"[^a-z0-9]+", " ", "".join(c for c in letters if not unicodedata.combining(c))).split())


@cache
def _by_name() -> dict[str, Country]:
    """Countries by every plain name; a code wins over a name, a country's own name over another's alias."""
    index: dict[str, Country] = {}
    for country in countries():
        index.update({plain_name(alias): country for alias in country.aliases})
    for country in countries():
        index[plain_name(country.name)] = country
    for country in countries():
        index.update({country.alpha_2.lower(): country, country.alpha_3.lower(): country})
    return index


def find_country(text: str) -> Country:
    """The country of an English name, alias, alpha-2 or alpha-3 code; case, accents and punctuation do not matter.

    Raises RegionError with the nearest names where there is none.
    """
    index = _by_name()
    key = plain_name(text)
    if key in index:
        return index[key]
    close = difflib.get_close_matches(key, index, n=5, cutoff=0.7)
    names = list(dict.fromkeys(index[near].name for near in close))
    hint = f" Did you mean {' or '.join(names[:3])}?" if names else ""
    raise RegionError(
        f"region {text!r}: no country of that name or ISO code.{hint} Expected sample, simulated:<cells>, "
        "folder:<path>, a country, west,south,east,north in degrees, or a path to a GeoJSON or GeoPackage file."
    )


@cache
def _search_tree() -> tuple[shapely.STRtree, npt.NDArray[np.object_]]:
    outlines = np.asarray([country.geometry for country in countries()], dtype=object)
    shapely.prepare(outlines)
    return shapely.STRtree(shapely.envelope(outlines)), outlines


def country_of(lon: npt.ArrayLike, lat: npt.ArrayLike) -> list[str | None]:
    """Alpha-3 code of the country of each point in degrees, arrays (n,); None at sea and in Siachen.

    A point on a border goes to the first code of the alphabet. Lines are good to about 1 km: near a border or a
    coast the answer may be the neighbour's, or None.
    """
    x, y = np.atleast_1d(np.asarray(lon, dtype=np.float64)), np.atleast_1d(np.asarray(lat, dtype=np.float64))
    tree, outlines = _search_tree()
    point, outline = tree.query(shapely.points(x, y))
    code: npt.NDArray[np.object_] = np.full(x.shape, None, dtype=object)
    for number in np.unique(outline)[::-1]:  # backwards, so that the first code of the alphabet is written last
        near = point[outline == number]
        inside = near[shapely.intersects_xy(outlines[number], x[near], y[near])]
        code[inside] = countries()[number].alpha_3
    return list(code)


def touches_land(west: float, south: float, east: float, north: float) -> bool:
    """Whether a box in degrees meets a country, or comes within 1 km of its thinned outline. west < east, both of
    which may pass +-180 by less than a turn. Islands too small for a map of 1:50m are sea here."""
    tree, outlines = _search_tree()
    for turn in TURNS_DEG:
        box = shapely.box(west + turn, south, east + turn, north)
        near = outlines[tree.query(box.buffer(_LINE_DEG))]
        if any(shapely.dwithin(outline, box, _LINE_DEG) for outline in near):
            return True
    return False
