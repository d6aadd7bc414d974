"""The Copernicus Data Space on loopback: catalogues, identity, download and object store, each on a port of its own."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import parse_qs
from uuid import UUID, uuid5

from sar1m.sources.services.cdse.service import CdseEndpoints
from servers.base import Asked, Reply, Server, file_reply, reply_json
from servers.cdse_cog import FOLDER, cog_edition, item_of, item_page, members_of
from servers.cdse_store import S3_ACCESS, S3_SECRET, ObjectStore
from servers.delivered import Delivered
from servers.stac import CONFORMS

USER, PASSWORD = "canary-user-81", "canary-password-82"
ACCESS, REFRESH = "canary-access-83", "canary-refresh-84"
_SPACE = UUID(int=0)


def product_uuid(name: str) -> str:
    return str(uuid5(_SPACE, name))


def row_of(product: Delivered, **changes):
    """A product as OData tells it with $expand=Attributes; keys as in the recorded answer."""
    stamp = product.start.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    told = {
        "origin": "ESA",
        "orbitDirection": "ASCENDING",
        "relativeOrbitNumber": 117,
        "processorVersion": "003.31",
        "polarisationChannels": "VV&VH",
        "productType": "IW_GRDH_1S",
    } | changes.pop("attributes", {})
    return {
        "@odata.mediaContentType": "application/octet-stream",
        "Id": product_uuid(product.product_id),
        "Name": f"{product.product_id}.SAFE",
        "ContentType": "application/octet-stream",
        "ContentLength": len(product.content),
        "OriginDate": stamp,
        "PublicationDate": stamp,
        "ModificationDate": stamp,
        "Online": True,
        "EvictionDate": "9999-12-31T23:59:59.999999Z",
        "S3Path": f"/eodata/Sentinel-1/SAR/IW_GRDH_1S/2021/08/09/{product.product_id}.SAFE",
        "Checksum": [
            {"Value": product.md5, "Algorithm": "MD5", "ChecksumDate": stamp},
            {"Value": "0" * 64, "Algorithm": "BLAKE3", "ChecksumDate": stamp},
        ],
        "ContentDate": {"Start": stamp, "End": stamp},
        "Footprint": "",
        "GeoFootprint": {"type": "Polygon", "coordinates": [[list(point) for point in product.ring]]},
        "Attributes": [{"Name": name, "Value": value, "ValueType": "String"} for name, value in told.items()],
        "Assets": [],
    } | changes


@dataclass
class CdseStandIn:
    """rows: of the catalogue; contents: bytes by product name. lifetime_s of access tokens. sessions: logins so far."""

    rows: list = field(default_factory=list)
    contents: dict = field(default_factory=dict)
    lifetime_s: float = 600.0
    refresh_works: bool = True
    redirect_to: str = ""
    sessions: int = 0
    refreshes: int = 0
    items: list = field(default_factory=list)
    page_items: int = 2
    store: ObjectStore = field(default_factory=ObjectStore)
    _valid: dict = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def serving(self):
        with contextlib.ExitStack() as stack:
            self.catalogue = stack.enter_context(Server({"/odata/v1/Products": self.search}, max_requests=200))
            self.identity = stack.enter_context(Server({("POST", "/token"): self.token}, max_requests=200))
            self.zipper = stack.enter_context(Server({"/odata/v1/Products*": self.product}, max_requests=200))
            self.objects = stack.enter_context(Server({"/*": self.store}, max_requests=2000))
            self.stac = stack.enter_context(Server({"/v1*": self.stac_api}, max_requests=200))
            self.stranger = stack.enter_context(Server({"/*": self.elsewhere}, max_requests=200))
            yield self

    @property
    def endpoints(self) -> CdseEndpoints:
        return CdseEndpoints(
            catalogue=f"{self.catalogue.url}/odata/v1",
            download=f"{self.zipper.url}/odata/v1",
            stac=f"{self.stac.url}/v1",
            s3=self.objects.url,
            identity=f"{self.identity.url}/token",
            download_hosts=(f"127.0.0.1:{self.zipper.port}",),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a build needs to find this service and to log in."""
        return {
            "SAR1M_ALLOW_LOOPBACK": "1",
            "SAR1M_CDSE_CATALOGUE_URL": self.endpoints.catalogue,
            "SAR1M_CDSE_DOWNLOAD_URL": self.endpoints.download,
            "SAR1M_CDSE_IDENTITY_URL": self.endpoints.identity,
            "SAR1M_CDSE_STAC_URL": self.endpoints.stac,
            "SAR1M_CDSE_S3_URL": self.endpoints.s3,
            "CDSE_USERNAME": USER,
            "CDSE_PASSWORD": PASSWORD,
            "CDSE_S3_ACCESS_KEY": S3_ACCESS,
            "CDSE_S3_SECRET_KEY": S3_SECRET,
        }

    def add(self, product: Delivered, **changes):
        self.rows.append(row_of(product, **changes))
        self.contents[product.product_id] = product.content

    def add_cog(self, product: Delivered) -> Delivered:
        """The COG edition of a product, in both catalogues, behind the zipper and in the object store."""
        made = cog_edition(product)
        path = f"{FOLDER}/{made.product_id}.SAFE"
        kind = {"productType": "IW_GRDH_1S-COG", "processorVersion": "01.00"}
        self.add(made, attributes=kind, S3Path=f"/eodata/{path}")
        self.items.append(item_of(made, product_uuid(made.product_id)))
        self.store.objects |= {f"{path}/{name}": content for name, content in members_of(made).items()}
        self.store.objects |= {f"{path}/": b"", f"{path}/preview/quick-look.png": b"not wanted"}
        return made

    def revoke(self):
        """Access tokens end before their time; refresh tokens hold."""
        self._valid.clear()

    def stac_api(self, asked: Asked) -> Reply:
        root = self.endpoints.stac
        if asked.path == "/v1/search":
            return item_page(asked, self.items, root, self.page_items)
        link = {"rel": "search", "href": f"{root}/search", "type": "application/geo+json", "method": "POST"}
        kinds = {"type": "Catalog", "id": "cdse-stac", "description": "x", "stac_version": "1.1.0"}
        return reply_json(kinds | {"conformsTo": CONFORMS[:-1], "links": [{"rel": "root", "href": root}, link]})

    def search(self, asked: Asked) -> Reply:
        condition = asked.query["$filter"][0]
        first = _instant(re.search(r"ContentDate/Start ge (\S+)", condition)[1])
        last = _instant(re.search(r"ContentDate/Start lt (\S+)", condition)[1])
        assert "OData.CSC.Intersects(area=geography'SRID=4326;POLYGON((" in condition
        kind = re.search(r"Value eq '(IW_GRDH_1S(?:-COG)?)'", condition)[1]
        found = [row for row in self.rows if first <= _instant(row["ContentDate"]["Start"]) < last]
        found = [
            row for row in found if {"Name": "productType", "Value": kind, "ValueType": "String"} in row["Attributes"]
        ]
        top = int(asked.query["$top"][0])
        body = {"@odata.context": "$metadata#Products(Attributes())", "value": found[:top]}
        if len(found) > top:
            body["@odata.nextLink"] = "http://127.0.0.1:9/never-followed"
        return reply_json(body)

    def token(self, asked: Asked) -> Reply:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        with self._lock:
            if form["grant_type"] == "refresh_token":
                if not self.refresh_works or not form["refresh_token"].startswith(REFRESH):
                    return reply_json({"error": "invalid_grant"}, status=400)
                self.refreshes += 1
            elif (form["username"], form["password"]) == (USER, PASSWORD):
                self.sessions += 1
            else:
                told = {"error": "invalid_grant", "error_description": f"Invalid user credentials {form['password']}"}
                return reply_json(told, status=401)
            access = f"{ACCESS}-{self.sessions}-{self.refreshes}"
            self._valid[access] = time.time() + self.lifetime_s
        lasting = {"refresh_token": f"{REFRESH}-{self.sessions}", "refresh_expires_in": 3600}
        return reply_json({"access_token": access, "expires_in": self.lifetime_s, "token_type": "Bearer", **lasting})

    def product(self, asked: Asked) -> Reply:
        bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if self._valid.get(bearer, 0.0) < time.time():
            return reply_json({"detail": f"Expired signature {bearer}"}, status=401)
        if self.redirect_to and "again" not in asked.query:
            return Reply(status=302, headers={"Location": f"{self.redirect_to}{asked.path}?again=1"})
        return self.file(asked)

    def elsewhere(self, asked: Asked) -> Reply:
        return self.file(asked)

    def file(self, asked: Asked) -> Reply:
        by_uuid = {product_uuid(name): content for name, content in self.contents.items()}
        number = re.search(r"Products\((.*?)\)", asked.path)[1]
        return file_reply(asked, by_uuid[number], content_type="application/zip")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
