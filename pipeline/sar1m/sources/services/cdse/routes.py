"""How products of the Copernicus Data Space are searched for and fetched, and where a listed one stands on that route.

The Data Space keeps each GRD product twice (documentation.dataspace.copernicus.eu, Sentinel-1; names, layout and hrefs
of items: github.com/eu-cdse/eometadatatool, sentinel-1-grd-cog): the original, and an edition ..._COG under another
name with the same pixels and tables in cloud-optimised measurements. The STAC catalogue lists the COG editions alone;
originals older than a year may lie off line, COG editions do not. So STAC and S3 take these, OData with the zipper the
originals, and one build holds to one edition.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from sar1m.sources.services.products.names import COG, version
from sar1m.store.errors import SourceError

BUCKET: Final = "eodata"
_UUID: Final = re.compile(r"[0-9A-Fa-f-]{36}")
_FOLDER: Final = re.compile(
    rf"/{BUCKET}(?P<above>(?:/[A-Za-z0-9_-]{{1,64}}){{1,12}})/(?P<product>[A-Z0-9_]{{1,120}})\.SAFE/?"
)
_IPF: Final = re.compile(r"\d{3}\.\d{2}")


@dataclass(frozen=True, kw_only=True)
class CdseRoute:
    """How products are searched for and fetched.

    search, access: as in AreaConfig.
    polarisations: those that a build reads. By S3 nothing else is fetched, except the co-polarised image where
    mask_border is set: the border is found in it.
    """

    search: Literal["odata", "stac"] = "odata"
    access: Literal["zipper", "s3"] = "zipper"
    polarisations: tuple[str, ...] = ("VV", "VH")
    mask_border: bool = True

    @property
    def cog(self) -> bool:
        """Whether COG editions are taken, as the module explains."""
        return self.search == "stac" or self.access == "s3"

    def fetched(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a product's polarisations that S3 access fetches. available: co-polarised first."""
        wanted = {*self.polarisations, *(available[:1] if self.mask_border else ())}
        return tuple(name for name in available if name in wanted)


@dataclass(frozen=True, kw_only=True)
class ProductPlace:
    """Where a catalogue says that a product is.

    uuid: of OData. s3_path: such as /eodata/Sentinel-1/SAR/.../NAME.SAFE or s3://eodata/...; both empty where the
    catalogue does not give them.
    """

    product_id: str
    uuid: str
    s3_path: str


AddressOf = Callable[[ProductPlace], str]


def zipper_address(product: ProductPlace, download: str) -> str:
    """The address of a product's zip, below download whatever host the catalogue names. Raises SourceError."""
    if not _UUID.fullmatch(product.uuid):
        raise SourceError(
            f"cdse {product.product_id}: the catalogue gives no id that the zipper knows. Its answer is not used."
        )
    return f"{download}/Products({product.uuid})/$value"


def s3_address(product: ProductPlace, endpoint: str) -> str:
    """The address of a product's folder, below endpoint, without a slash at its end.

    Raises SourceError where the stated path is not a folder of this product in the bucket.
    """
    matched = _FOLDER.fullmatch(product.s3_path.removeprefix("s3:/"))
    if matched is None or matched["product"] != product.product_id:
        raise SourceError(
            f"cdse {product.product_id}: the catalogue says it stands at {product.s3_path[:140]!r}; expected "
            f"/{BUCKET}/.../{product.product_id}.SAFE. Its answer is not used."
        )
    return f"{endpoint}/{BUCKET}{matched['above']}/{product.product_id}.SAFE"


def prefix_of(address: str, endpoint: str, product_id: str) -> str:
    """The prefix of a product's keys in the bucket, from an address that s3_address made.

    Raises SourceError for any other address: addresses come from plan files, which anybody can change.
    """
    path = urlsplit(address).path
    if s3_address(ProductPlace(product_id=product_id, uuid="", s3_path=path), endpoint) != address:
        raise SourceError(
            f"cdse {product_id}: planned at {address.partition('?')[0][:140]!r}, not below {endpoint}. Plan the build "
            "again with the area.cdse_access that it is to use."
        )
    return path.removeprefix(f"/{BUCKET}/") + "/"


def ipf_of(stated: object, product_id: str) -> str:
    """The processor version in a catalogue's answer, empty where it is none.

    For a COG edition it may be the version of the converter, such as 01.00, which says nothing of the processing.
    """
    text = version(stated)
    return "" if product_id.endswith(COG) and not _IPF.fullmatch(text) else text
