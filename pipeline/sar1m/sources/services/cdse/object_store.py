"""The object store of the Copernicus Data Space: requests signed with a user's keys, and listings of folders.

Interfaces: documentation.dataspace.copernicus.eu, APIs, S3 (endpoint, bucket, region, keys); AWS Signature Version 4;
Amazon S3 API, ListObjectsV2. Bytes go through the downloader like all others: botocore signs and asks nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final
from urllib.parse import quote, urlsplit

from sar1m.io.net.faults import PassingError
from sar1m.io.net.fetch import Fetcher
from sar1m.io.net.retry import persistently
from sar1m.io.net.transport import silence_loggers
from sar1m.io.safe.xml import XmlNode, parse_xml
from sar1m.sources.services.cdse.routes import BUCKET
from sar1m.store.errors import SourceError

REGION: Final = "default"
MAX_OBJECTS: Final = 1_000  # of one listing; a product has some thirty
MAX_LISTING_BYTES: Final = 2**20
_XML: Final = ("application/xml", "text/xml")
_WITHIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,160}(?:/[A-Za-z0-9_.-]{1,160}){0,8}/?")
_MD5: Final = re.compile(r"\"?([0-9A-Fa-f]{32})\"?")
_NOT_INSTALLED: Final = "cdse: its S3 signer is not installed: pip install 'sar1m[s3]'"


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object. md5: hexadecimal, None where the ETag is no MD5 (of an object that was stored in parts)."""

    size: int
    md5: str | None


@dataclass(frozen=True)
class S3Auth:
    """Signs a GET of one host[:port] in the region of the store.

    It holds no key: keys are read from the environment where a request is signed.
    """

    host: str

    def __call__(self, url: str) -> Mapping[str, str]:
        """The headers that sign a request; none for other hosts. Raises SourceError where there are no keys or botocore
        is not installed."""
        if urlsplit(url).netloc != self.host:
            return {}
        access, secret = s3_keys()
        silence_loggers()  # botocore would log what it signs
        try:
            from botocore.auth import S3SigV4Auth  # noqa: PLC0415  an extra
            from botocore.awsrequest import AWSRequest  # noqa: PLC0415
            from botocore.credentials import Credentials  # noqa: PLC0415
        except ImportError as error:
            raise SourceError(f"{_NOT_INSTALLED}.") from error
        request = AWSRequest(method="GET", url=url)
        S3SigV4Auth(Credentials(access, secret), "s3", REGION).add_auth(request)
        return dict(request.headers.items())


def s3_keys() -> tuple[str, str]:
    """Access key and secret key from the environment. AWS_ACCESS_KEY_ID is not looked at: it may belong to another
    service, which this one should not learn of. Raises SourceError where one is missing."""
    access, secret = os.environ.get("CDSE_S3_ACCESS_KEY", ""), os.environ.get("CDSE_S3_SECRET_KEY", "")
    if not access or not secret:
        raise SourceError(
            "cdse: no keys for S3. Set CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY in the environment of the workers; "
            "they are made at eodata-s3keysmanager.dataspace.copernicus.eu with an account of the Data Space."
        )
    return access, secret


def s3_usable() -> tuple[bool, str]:
    """Whether S3 can be used from here, and one line that says with what, or what to do."""
    if find_spec("botocore") is None:
        return False, _NOT_INSTALLED
    try:
        s3_keys()
    except SourceError as error:
        return False, str(error)
    return True, "S3 keys from CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY"


def list_folder(fetcher: Fetcher, endpoint: str, prefix: str, auth: S3Auth) -> dict[str, StoredObject]:
    """Objects below a prefix that ends in a slash, by the rest of their keys. Keys that stand for folders are left out.

    Raises SourceError where there are none, the answer is not a whole listing, or a key could leave the folder.
    """
    url = f"{endpoint}/{BUCKET}?list-type=2&max-keys={MAX_OBJECTS}&prefix={quote(prefix, safe='')}"
    name = f"cdse: the listing of {prefix}"

    def attempt() -> XmlNode:
        answer = fetcher.request("GET", url, auth=auth, expect=_XML, max_bytes=MAX_LISTING_BYTES)
        try:
            return parse_xml(answer.content, name)
        except SourceError as error:
            raise PassingError(str(error)) from None  # cut off: the answer states neither its length nor a checksum

    return read_listing(persistently(fetcher.settings, name, attempt), prefix)


def read_listing(root: XmlNode, prefix: str) -> dict[str, StoredObject]:
    """Objects of a listing, by the rest of their keys. Raises SourceError as list_folder does."""
    name = root.file
    if root.element.tag.rpartition("}")[2] != "ListBucketResult" or root.flag("{*}IsTruncated"):
        raise SourceError(f"{name} is no listing, or holds more than {MAX_OBJECTS} objects. It is not used.")
    found: dict[str, StoredObject] = {}
    for row in root.all("{*}Contents"):
        within, stored = _stored(row, prefix)
        if within in found:
            raise row.wrong(f"{within!r} twice", "every key once", "{*}Key")
        if not within.endswith("/") and within:
            found[within] = stored
    if not found:
        raise SourceError(f"{name} is empty: the product is not there, or not on line. Order it, or plan again.")
    return found


def _stored(row: XmlNode, prefix: str) -> tuple[str, StoredObject]:
    key = row.text("{*}Key")
    within = key.removeprefix(prefix)
    plain = not within or (_WITHIN.fullmatch(within) is not None and not {".", ".."} & set(within.split("/")))
    if not key.startswith(prefix) or not plain:
        raise row.wrong(f"{key[:140]!r}, which may leave its folder", f"a plain name below {prefix}", "{*}Key")
    md5 = _MD5.fullmatch(row.text("{*}ETag"))
    size = row.whole("{*}Size", 0)
    return within, StoredObject(size=size, md5=None if md5 is None else md5[1].lower())
