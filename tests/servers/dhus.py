"""A DHuS mirror on loopback, by the routes that sentinelsat asks: OpenSearch, OData and the files. Basic auth."""

from __future__ import annotations

import base64
import contextlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from servers.base import Asked, Reply, Server, file_reply, reply_json
from servers.delivered import Delivered

USER, PASSWORD = "canary-user-61", "canary-password-62"
_SPACE = UUID(int=1)


def entry_of(product: Delivered, **changes):
    """An entry of the OpenSearch answer; keys as recorded."""
    number = str(uuid5(_SPACE, product.product_id))
    stamp = product.start.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    points = ",".join(f"{lon} {lat}" for lon, lat in product.ring)
    texts = {
        "acquisitiontype": "NOMINAL",
        "filename": f"{product.product_id}.SAFE",
        "gmlfootprint": "<gml:Polygon></gml:Polygon>",
        "format": "SAFE",
        "identifier": product.product_id,
        "instrumentshortname": "SAR-C SAR",
        "sensoroperationalmode": "IW",
        "instrumentname": "Synthetic Aperture Radar (C-band)",
        "swathidentifier": "IW",
        "footprint": f"POLYGON (({points}))",
        "platformidentifier": "2014-016A",
        "orbitdirection": "ASCENDING",
        "polarisationmode": "VV VH",
        "productclass": "S",
        "producttype": "GRD",
        "platformname": "Sentinel-1",
        "size": f"{len(product.content) / 1e6:.2f} MB",
        "status": "ARCHIVED",
        "uuid": number,
    } | changes
    return {
        "title": product.product_id,
        "link": [{"href": f"https://elsewhere.example.com/odata/v1/Products('{number}')/$value"}],
        "id": number,
        "summary": f"Date: {stamp}, Instrument: SAR-C SAR",
        "ondemand": "false",
        "date": [{"name": name, "content": stamp} for name in ("ingestiondate", "beginposition", "endposition")],
        "int": [{"name": "orbitnumber", "content": "39156"}, {"name": "relativeorbitnumber", "content": "117"}],
        "str": [{"name": name, "content": content} for name, content in texts.items()],
    }


@dataclass
class DhusStandIn:
    """products: by id. offline: ids that must be ordered."""

    entries: list = field(default_factory=list)
    products: dict = field(default_factory=dict)
    offline: set = field(default_factory=set)
    declaration: str = ""

    @contextlib.contextmanager
    def serving(self):
        routes = {"/dhus/search": self.search, "/dhus/odata/v1/*": self.odata}
        with Server(routes, max_requests=300) as self.hub, Server({"/*": self.file}, max_requests=300) as self.stranger:
            yield self

    @property
    def url(self) -> str:
        return f"{self.hub.url}/dhus"

    @property
    def environment(self) -> dict[str, str]:
        """What a build needs to reach loopback and to log in; the address stands in area.dhus_url."""
        return {"SAR1M_ALLOW_LOOPBACK": "1", "DHUS_USER": USER, "DHUS_PASSWORD": PASSWORD}

    def add(self, product: Delivered, **changes):
        entry = entry_of(product, **changes)
        self.entries.append(entry)
        self.products[entry["id"]] = product

    def orders(self) -> int:
        return sum(asked.path.endswith("/$value") for asked in self.hub.asked)

    def search(self, asked: Asked) -> Reply:
        if not _known(asked):
            return _unauthorised()
        query = asked.query["q"][0]
        assert 'platformname:"Sentinel-1"' in query
        assert 'footprint:"Intersects(POLYGON' in query
        first, last = re.search(r'beginPosition:\["(.*?)" TO "(.*?)"\]', query).groups()
        found = [
            one for one in self.entries if _instant(first) <= _instant(one["date"][1]["content"]) <= _instant(last)
        ]
        start, rows = int(asked.query["start"][0]), int(asked.query["rows"][0])
        page = found[start : start + rows]
        feed = {"opensearch:totalResults": str(len(found)), "opensearch:startIndex": str(start)}
        if page:
            feed["entry"] = page[0] if len(page) == 1 else page  # as the software does
        return reply_json({"feed": feed})

    def odata(self, asked: Asked) -> Reply:
        if not _known(asked):
            return _unauthorised()
        number = re.search(r"Products\('(.*?)'\)", asked.path)[1]
        product = self.products[number]
        if asked.path.endswith("/$value"):
            return self.value(asked, number)
        milliseconds = int(product.start.timestamp() * 1000)
        points = " ".join(f"{lat},{lon}" for lon, lat in product.ring)
        gml = (
            f'{self.declaration}<gml:Polygon xmlns:gml="http://www.opengis.net/gml"><gml:outerBoundaryIs><gml:LinearRing>'
            f"<gml:coordinates>{points}</gml:coordinates></gml:LinearRing></gml:outerBoundaryIs></gml:Polygon>"
        )
        stamp = f"/Date({milliseconds})/"
        body = {
            "__metadata": {"media_src": f"https://elsewhere.example.com/Products('{number}')/$value"},
            "Id": number,
            "Name": product.product_id,
            "ContentType": "application/octet-stream",
            "ContentLength": str(len(product.content)),
            "CreationDate": stamp,
            "IngestionDate": stamp,
            "Online": number not in self.offline,
            "ContentDate": {"Start": stamp, "End": stamp},
            "Checksum": {"Algorithm": "MD5", "Value": product.md5.upper()},
            "ContentGeometry": gml,
            "Attributes": {"__deferred": {"uri": "x"}},
        }
        return reply_json({"d": body})

    def value(self, asked: Asked, number: str) -> Reply:
        if number in self.offline:
            return Reply(status=202, body=b"", content_type="application/octet-stream")
        return file_reply(asked, self.products[number].content)

    def file(self, asked: Asked) -> Reply:
        return reply_json({}, status=404)


def _known(asked: Asked) -> bool:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return asked.headers.get("authorization") == f"Basic {basic}"


def _unauthorised() -> Reply:
    return Reply(status=401, body=b"<html>no</html>", content_type="text/html")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
