"""What the names of rules mean, in words. A rule that is not listed here keeps its name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

REASON_WORDS: Final = MappingProxyType(
    {
        "no_optical": "the source has no optical scene",
        "dt": "optical scene too far off in time",
        "optical_nodata": "optical data missing",
        "optical_plateau": "one number over much of the optical patch: a fill value",
        "saturated": "too many optical values over what ground reflects",
        "radiometric_offset": "an offset of 1000 DN is left, or was taken off twice",
        "residual": "optical still displaced after correction",
        "non_finite": "numbers missing",
        "benchmark_footprint": "inside an excluded footprint",
        "sar_nodata": "SAR data missing",
        "plateau": "one number over much of the SAR patch: a fill value",
        "dynamic_range": "too little contrast",
        "noise_floor": "too many pixels at the noise floor",
        "layover_shadow": "layover or radar shadow",
        "water": "almost only water",
        "duplicate_product": "same acquisition twice",
        "duplicate_orbit": "same place and orbit again within days",
        "duplicate_hash": "looks like another sample",
        "class_share": "more of a class than its quota",
        "ecoregion_share": "more of an ecoregion than its quota",
        "water_patch_share": "more water patches than their quota",
        "unpaired_share": "more patches without partner than their quota",
        "split_buffer": "in the gap between splits",
        "same_in_other_build": "the same pixels in another build",
        "superseded_by_other_build": "newer pixels of the same sample in another build",
        "recipe_only": "optical pixels stay with their provider; a recipe makes them",
    }
)


def reason_words(rule: str) -> str:
    """What a rule means, with its name in brackets, as tables and configurations have it."""
    return f"{REASON_WORDS[rule]} ({rule})" if rule in REASON_WORDS else rule
