"""What the STAC extensions that a release declares ask of items and collections, as JSON Schemas of our own.

pystac brings the schemas of the core along and fetches those of extensions from the network, which tests do not have;
no package on PyPI holds them. So their rules are written down here anew, from the extensions' own documents of the
versions named in the addresses, and pystac's validator is given these in their place.
"""

from pystac.validation.stac_validator import JsonSchemaSTACValidator

NUMBER, TEXT = {"type": "number"}, {"type": "string", "minLength": 1}
SHARE = {"type": "number", "minimum": 0, "maximum": 100}
POSITIVE = {"type": "integer", "minimum": 1}
COMMON_NAMES = (
    *("pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075"),
    *("rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12"),
)


def numbers(*lengths):
    return {"type": "array", "items": NUMBER, "oneOf": [{"minItems": n, "maxItems": n} for n in lengths]}


FIELDS = {
    "projection/v2.0.0": {
        "proj:code": {"type": ["string", "null"], "pattern": "^[A-Za-z]+:[^:]+$"},
        "proj:bbox": numbers(4, 6),
        "proj:shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "proj:transform": numbers(6, 9),
    },
    "eo/v2.0.0": {
        "eo:cloud_cover": SHARE,
        "eo:snow_cover": SHARE,
        "eo:common_name": {"enum": list(COMMON_NAMES)},
        "eo:center_wavelength": {"type": "number", "exclusiveMinimum": 0},
        "eo:full_width_half_max": {"type": "number", "exclusiveMinimum": 0},
    },
    "sar/v1.0.0": {
        "sar:instrument_mode": TEXT,
        "sar:product_type": TEXT,
        "sar:frequency_band": {"enum": ["P", "L", "S", "C", "X", "Ku", "K", "Ka"]},
        "sar:center_frequency": NUMBER,
        "sar:polarizations": {
            "type": "array",
            "items": {"enum": ["HH", "VV", "HV", "VH"]},
            "minItems": 1,
            "maxItems": 4,
            "uniqueItems": True,
        },
        "sar:looks_equivalent_number": {"type": "number", "minimum": 0},
    },
    "sat/v1.0.0": {
        "sat:orbit_state": {"enum": ["ascending", "descending", "geostationary"]},
        "sat:relative_orbit": POSITIVE,
        "sat:absolute_orbit": POSITIVE,
    },
    "processing/v1.1.0": {
        "processing:lineage": {"type": "string"},
        "processing:level": {"type": "string"},
        "processing:facility": {"type": "string"},
        "processing:software": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
REQUIRED_OF_ITEMS = {
    "sar/v1.0.0": ["sar:instrument_mode", "sar:frequency_band", "sar:polarizations", "sar:product_type"]
}
ANYWHERE = {"eo/v2.0.0"}  # an asset or a band may hold the field for which it is declared; others: properties


def uri(name):
    return f"https://stac-extensions.github.io/{name}/schema.json"


def schema(name):
    """Known fields of the prefix alone, each of its form, in properties, assets and bands; at least one of them."""
    fields, prefix = FIELDS[name], next(iter(FIELDS[name])).split(":")[0]
    known = {"anyOf": [{"not": {"pattern": f"^{prefix}:"}}, {"enum": list(fields)}]}
    one = {"type": "object", "properties": fields, "propertyNames": known}
    whole = {"allOf": [one, {"properties": {"bands": {"type": "array", "items": one}}}]}
    has = {"anyOf": [{"required": [field]} for field in fields]}
    has_or_band = {"anyOf": [has, {"required": ["bands"], "properties": {"bands": {"contains": has}}}]}
    some_asset = {"not": {"additionalProperties": {"not": has_or_band}}}
    in_properties = {"properties": {"properties": {"allOf": [has, {"required": REQUIRED_OF_ITEMS.get(name, [])}]}}}
    in_assets = [{"required": [key], "properties": {key: some_asset}} for key in ("assets", "item_assets")]
    declared = {"properties": {"stac_extensions": {"contains": {"const": uri(name)}}}}
    forms = {"properties": {key: {"additionalProperties": whole} for key in ("assets", "item_assets")}}
    item = {"allOf": [{"properties": {"properties": whole}}, forms]}
    item["anyOf"] = [in_properties, in_assets[0]] if name in ANYWHERE else [in_properties]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": uri(name),
        **declared,
        "if": {"properties": {"type": {"const": "Feature"}}},
        "then": item,
        "else": {**forms, "anyOf": in_assets},
    }


def validator():
    """pystac's own, with these rules at hand; any other schema it would have to fetch, and fails."""
    made = JsonSchemaSTACValidator()
    made.schema_cache |= {uri(name): schema(name) for name in FIELDS}
    return made
