"""Land-cover products by their class numbers: which numbers are water, whatever language the names are in.

A product is recognised by the texts around a raster (collection, asset, title) or by the name that a user gives it. For
other maps the classes' own names decide. Where neither says which class is water, the share of water is unknown, not 0.
Source of numbers: ESA WorldCover Product User Manual v2.0; Impact Observatory / Esri 10 m land cover, 9 and 10 classes;
CORINE Land Cover nomenclature, Copernicus Land Monitoring Service (grid codes 1 to 44, level 3 codes 111 to 523); Brown
et al. 2022, Dynamic World; Buchhorn et al. 2020, CGLS-LC100 collection 3; NLCD legend of the MRLC; ESA CCI land cover
product user guide v2; MCD12Q1 user guide, IGBP; GlobeLand30 v2020; Zhang et al. 2021, GLC_FCS30.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sar1m.store.errors import SourceError

Names = tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """A product. names: number and name of each class. water: numbers of sea, lakes and rivers.

    marks: parts of collection or asset names by which the product is recognised, lower case, letters and digits alone.
    """

    name: str
    marks: tuple[str, ...]
    names: Names
    water: frozenset[int]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _listed(text: str) -> Names:
    """Names of a text such as `1=water 2=bare_ground`."""
    pairs = (part.partition("=") for part in text.split())
    return tuple((int(number), name.replace("_", " ")) for number, _, name in pairs)


_CORINE: Final = (  # level 3 code of each grid code from 1 on, and its name
    "111=continuous_urban_fabric 112=discontinuous_urban_fabric 121=industrial_or_commercial_units "
    "122=road_and_rail_networks 123=port_areas 124=airports 131=mineral_extraction_sites 132=dump_sites "
    "133=construction_sites 141=green_urban_areas 142=sport_and_leisure_facilities 211=non-irrigated_arable_land "
    "212=permanently_irrigated_land 213=rice_fields 221=vineyards 222=fruit_trees_and_berry_plantations "
    "223=olive_groves 231=pastures 241=annual_with_permanent_crops 242=complex_cultivation_patterns "
    "243=agriculture_with_natural_vegetation 244=agro-forestry_areas 311=broad-leaved_forest 312=coniferous_forest "
    "313=mixed_forest 321=natural_grasslands 322=moors_and_heathland 323=sclerophyllous_vegetation "
    "324=transitional_woodland-shrub 331=beaches,_dunes,_sands 332=bare_rocks 333=sparsely_vegetated_areas "
    "334=burnt_areas 335=glaciers_and_perpetual_snow 411=inland_marshes 412=peat_bogs 421=salt_marshes 422=salines "
    "423=intertidal_flats 511=water_courses 512=water_bodies 521=coastal_lagoons 522=estuaries 523=sea_and_ocean"
)
_CORINE_NAMES: Final = _listed(_CORINE)

WORLDCOVER: Final = ClassTable(
    name="worldcover",
    marks=("worldcover",),
    names=(
        (10, "Tree cover"),
        (20, "Shrubland"),
        (30, "Grassland"),
        (40, "Cropland"),
        (50, "Built-up"),
        (60, "Bare / sparse vegetation"),
        (70, "Snow and ice"),
        (80, "Permanent water bodies"),
        (90, "Herbaceous wetland"),
        (95, "Mangroves"),
        (100, "Moss and lichen"),
    ),
    water=frozenset({80}),
)
# TerraMesh numbers the classes of io-lulc without gaps. Checked on three chips: coast (water, trees, bare ground,
# rangeland), Jutland (crops, trees, built area), savanna (crops, rangeland).
TERRAMESH: Final = ClassTable(
    name="terramesh",
    marks=("terramesh",),
    names=_listed(
        "1=water 2=trees 3=flooded_vegetation 4=crops 5=built_area 6=bare_ground 7=snow_and_ice 8=clouds 9=rangeland"
    ),
    water=frozenset({1}),
)
TABLES: Final = (
    WORLDCOVER,
    TERRAMESH,
    ClassTable(
        name="io-lulc",
        marks=("iolulc", "esrilulc", "esrilandcover", "impactobservatory"),
        names=_listed(
            "1=water 2=trees 3=grass 4=flooded_vegetation 5=crops 6=scrub 7=built_area 8=bare_ground 9=snow_and_ice "
            "10=clouds 11=rangeland"
        ),
        water=frozenset({1}),
    ),
    ClassTable(
        name="corine",
        marks=("corine", "clc1990", "clc2000", "clc2006", "clc2012", "clc2018"),
        names=(
            *((number, name) for number, (_, name) in enumerate(_CORINE_NAMES, start=1)),
            (48, "no data"),
            *_CORINE_NAMES,
        ),
        water=frozenset({40, 41, 42, 43, 44, 511, 512, 521, 522, 523}),
    ),
    ClassTable(
        name="dynamic-world",
        marks=("dynamicworld",),
        names=_listed(
            "0=water 1=trees 2=grass 3=flooded_vegetation 4=crops 5=shrub_and_scrub 6=built 7=bare 8=snow_and_ice"
        ),
        water=frozenset({0}),
    ),
    ClassTable(
        name="cgls-lc100",
        marks=("cgls", "lc100", "copernicusgloballandcover"),
        names=_listed(
            "20=shrubs 30=herbaceous_vegetation 40=cropland 50=built-up 60=bare_or_sparse_vegetation 70=snow_and_ice "
            "80=permanent_water_bodies 90=herbaceous_wetland 100=moss_and_lichen 111=closed_evergreen_needle_forest "
            "112=closed_evergreen_broad_forest 113=closed_deciduous_needle_forest 114=closed_deciduous_broad_forest "
            "115=closed_mixed_forest 116=closed_forest,_other 121=open_evergreen_needle_forest "
            "122=open_evergreen_broad_forest 123=open_deciduous_needle_forest 124=open_deciduous_broad_forest "
            "125=open_mixed_forest 126=open_forest,_other 200=oceans_and_seas"
        ),
        water=frozenset({80, 200}),
    ),
    ClassTable(
        name="nlcd",
        marks=("nlcd", "nationallandcoverdatabase"),
        names=_listed(
            "11=open_water 12=perennial_ice_and_snow 21=developed,_open_space 22=developed,_low_intensity "
            "23=developed,_medium_intensity 24=developed,_high_intensity 31=barren_land 41=deciduous_forest "
            "42=evergreen_forest 43=mixed_forest 51=dwarf_scrub 52=shrub_and_scrub 71=grassland 72=sedge 73=lichens "
            "74=moss 81=pasture_and_hay 82=cultivated_crops 90=woody_wetlands 95=emergent_herbaceous_wetlands"
        ),
        water=frozenset({11}),
    ),
    ClassTable(
        name="cci-lc",
        marks=("ccilc", "ccilandcover", "c3slc"),
        names=_listed(
            "10=cropland,_rainfed 11=herbaceous_cropland 12=tree_or_shrub_cropland 20=cropland,_irrigated "
            "30=mosaic_cropland 40=mosaic_natural_vegetation 50=broadleaved_evergreen_trees "
            "60=broadleaved_deciduous_trees 61=broadleaved_deciduous_closed 62=broadleaved_deciduous_open "
            "70=needleleaved_evergreen_trees 71=needleleaved_evergreen_closed 72=needleleaved_evergreen_open "
            "80=needleleaved_deciduous_trees 81=needleleaved_deciduous_closed 82=needleleaved_deciduous_open "
            "90=mixed_leaf_trees 100=mosaic_tree_and_shrub 110=mosaic_herbaceous 120=shrubland 121=evergreen_shrubland "
            "122=deciduous_shrubland 130=grassland 140=lichens_and_mosses 150=sparse_vegetation 151=sparse_trees "
            "152=sparse_shrubs 153=sparse_herbaceous 160=flooded_trees,_fresh 170=flooded_trees,_saline "
            "180=flooded_shrub_or_herbaceous 190=urban_areas 200=bare_areas 201=consolidated_bare "
            "202=unconsolidated_bare 210=water_bodies 220=snow_and_ice"
        ),
        water=frozenset({210}),
    ),
    ClassTable(
        name="igbp",
        marks=("igbp", "mcd12q1"),
        names=_listed(
            "1=evergreen_needleleaf_forest 2=evergreen_broadleaf_forest 3=deciduous_needleleaf_forest "
            "4=deciduous_broadleaf_forest 5=mixed_forest 6=closed_shrubland 7=open_shrubland 8=woody_savanna 9=savanna "
            "10=grassland 11=wetland 12=cropland 13=urban_and_built-up 14=cropland_mosaic 15=snow_and_ice 16=barren "
            "17=water_bodies"
        ),
        water=frozenset({17}),
    ),
    ClassTable(
        name="globeland30",
        marks=("globeland30",),
        names=_listed(
            "10=cultivated_land 20=forest 30=grassland 40=shrubland 50=wetland 60=water_bodies 70=tundra "
            "80=artificial_surfaces 90=bare_land 100=snow_and_ice"
        ),
        water=frozenset({60}),
    ),
)
_BY_NAME: Final = {table.name: table for table in TABLES}
_WATER_WORDS: Final = _words(
    "water waters waterbody waterbodies watercourse watercourses sea seas ocean oceans lake lakes river rivers lagoon "
    "lagoons estuary estuaries reservoir reservoirs"
)
# "Tree cover, flooded, saline water" is forest, "no water" is land, "sea ice" is ice
_OTHER_WORDS: Final = _words(
    "no non not without land flooded forest forests tree trees shrub shrubs vegetation herbaceous vegetated crop crops "
    "cropland wetland wetlands marsh marshes ice snow cloud clouds shadow shadows sand treatment"
)


def named_table(name: str) -> ClassTable | None:
    """The table that a user means by its name, in any case; None where there is none of that name."""
    return _BY_NAME.get(_joined(name))


def product_with(names: Names) -> ClassTable | None:
    """The table with just these numbers and names; None where there is none."""
    return next((table for table in TABLES if table.names == names), None)


def table_names() -> str:
    """The names of the tables, for messages."""
    return ", ".join(_BY_NAME)


def is_water(label: str) -> bool:
    """Whether the name of a class says open water, and nothing that stands in it or on it."""
    words = set(_joined(label).split("-"))
    return bool(words & _WATER_WORDS) and not words & _OTHER_WORDS


def classes_of(
    listed: Sequence[tuple[int, Sequence[str]]], around: Iterable[str], where: str
) -> tuple[Names, tuple[int, ...] | None]:
    """Number and name of each class, and the numbers that are water; None where that is unknown.

    listed: number and all names of each class as the description has them; may be empty for a known product.
    around: texts by which the product may be recognised.
    Raises SourceError where there are neither names nor a known product, where texts point to several products, and
    where the names contradict the product's numbers.
    """
    table = _recognised(around, where)
    by_word = {number for number, labels in listed if any(is_water(label) for label in labels)}
    names = tuple((number, labels[0]) for number, labels in listed)
    if table is None:
        if not names:
            raise SourceError(
                f"{where}: land cover without names of its classes. Name each (STAC: classification:classes with value "
                f"and name), or say which product it is: {table_names()}."
            )
        return names, tuple(sorted(by_word)) or None
    if by_word and by_word != table.water & {number for number, _ in listed}:
        raise SourceError(
            f"{where}: its classes {sorted(by_word)} are called water, but in {table.name} water is "
            f"{sorted(table.water)}. Correct the names of the classes or the name of the product."
        )
    return names or table.names, tuple(sorted(table.water))


def _recognised(around: Iterable[str], where: str) -> ClassTable | None:
    text = " ".join(_joined(one).replace("-", "") for one in around)
    found = [table for table in TABLES if any(mark in text for mark in table.marks)]
    if len(found) > 1:
        raise SourceError(
            f"{where}: its texts name several products: {', '.join(table.name for table in found)}. Name one."
        )
    return found[0] if found else None


def _joined(text: str) -> str:
    """Words in lower case, joined by hyphens: OpenWater, open_water and `open water` are one."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return "-".join(re.findall(r"[^\W_]+", apart.lower()))
