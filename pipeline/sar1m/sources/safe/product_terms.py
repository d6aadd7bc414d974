"""The terms a SAFE product may be used under: those of Copernicus, or those that a file beside the product states.

`<product id>.terms.toml` beside the SAFE folder or the zip, for products that others than Copernicus made:

    licence = "CC-BY-4.0"
    attribution = "(c) ..."    # may be left out
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from sar1m.core.radar.product import GrdProduct
from sar1m.sources.sentinel_names import COPERNICUS_ATTRIBUTION, COPERNICUS_LICENCE
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_text, toml_value

TERMS_SUFFIX: Final = ".terms.toml"

_REMEDY: Final = "Expected licence and attribution, both text; attribution may be left out."


class ProductTerms(BaseModel):
    """licence: its SPDX name where it has one. attribution: what users must print, "" where nothing is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    licence: str = Field(min_length=1, max_length=200)
    attribution: str = Field(default="", max_length=1000)


def product_terms(path: Path, product: GrdProduct) -> ProductTerms:
    """The terms of the product at path. Raises SourceError where the file beside it is not as described above."""
    beside = path.parent / f"{product.product_id}{TERMS_SUFFIX}"
    if not beside.exists():
        attribution = f"{COPERNICUS_ATTRIBUTION} {product.start.year}"
        return ProductTerms(licence=COPERNICUS_LICENCE, attribution=attribution)
    try:
        return ProductTerms.model_validate(toml_value(read_text(beside, error=SourceError, remedy=_REMEDY)))
    except ValueError as error:
        raise SourceError(f"{beside}: does not state the terms of a product: {error}. {_REMEDY}") from error
