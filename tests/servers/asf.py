"""Alaska Satellite Facility on loopback: search, Earthdata login, data pool and the store that it sends on to."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field
from datetime import datetime

from sar1m.sources.services.products.asf import AsfEndpoints
from servers.base import Asked, Reply, Server, file_reply, reply_json
from servers.delivered import Delivered

USER, PASSWORD, TOKEN = "canary-user-71", "canary-password-72", "canary-token-73"


def feature_of(product: Delivered, url: str, **changes):
    """A feature as the interface's GeoJSON has it."""
    properties = {
        "beamModeType": "IW",
        "browse": None,
        "bytes": len(product.content),
        "centerLat": 47.3,
        "centerLon": 11.5,
        "faradayRotation": None,
        "fileID": f"{product.product_id}-GRD_HD",
        "fileName": f"{product.product_id}.zip",
        "flightDirection": "ASCENDING",
        "frameNumber": 150,
        "granuleType": "SENTINEL_1A_FRAME",
        "groupID": "S1A_IWDV_0149_0154_039156_117",
        "insarStackId": None,
        "md5sum": product.md5,
        "offNadirAngle": None,
        "orbit": 39156,
        "pathNumber": 117,
        "pgeVersion": "003.31",
        "platform": "Sentinel-1A",
        "pointingAngle": None,
        "polarization": "VV+VH",
        "processingDate": product.start.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "processingLevel": "GRD_HD",
        "sceneName": product.product_id,
        "sensor": "C-SAR",
        "startTime": product.start.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "stopTime": product.start.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "url": url,
    } | changes
    ring = [[lon, lat] for lon, lat in product.ring]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


@dataclass
class AsfStandIn:
    """features: of the catalogue; contents: bytes by file name. taken: tokens that the pool takes."""

    features: list = field(default_factory=list)
    contents: dict = field(default_factory=dict)
    taken: tuple = (TOKEN,)

    @contextlib.contextmanager
    def serving(self):
        with contextlib.ExitStack() as stack:
            self.catalogue = stack.enter_context(Server({"/services/search/param": self.search}, max_requests=200))
            routes = {("POST", "/api/users/find_or_create_token"): self.token, "/oauth/authorize": self.login_page}
            self.login = stack.enter_context(Server(routes, max_requests=200))
            self.pool = stack.enter_context(Server({"/GRD_HD/SA/*": self.product}, max_requests=200))
            self.store = stack.enter_context(Server({"/*": self.file}, max_requests=200))
            yield self

    @property
    def endpoints(self) -> AsfEndpoints:
        return AsfEndpoints(
            search=f"{self.catalogue.url}/services/search/param",
            login=self.login.url,
            pool=(f"127.0.0.1:{self.pool.port}",),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a build needs to find this service and to log in."""
        return {
            "SAR1M_ALLOW_LOOPBACK": "1",
            "SAR1M_ASF_SEARCH_URL": self.endpoints.search,
            "SAR1M_ASF_LOGIN_URL": self.endpoints.login,
            "SAR1M_ASF_POOL_URL": self.pool.url,
            "EARTHDATA_USERNAME": USER,
            "EARTHDATA_PASSWORD": PASSWORD,
        }

    def add(self, product: Delivered, **changes):
        url = f"{self.pool.url}/GRD_HD/SA/{product.product_id}.zip"
        self.features.append(feature_of(product, url, **changes))
        self.contents[f"{product.product_id}.zip"] = product.content

    def search(self, asked: Asked) -> Reply:
        told = {name: values[0] for name, values in asked.query.items()}
        assert (told["platform"], told["processingLevel"], told["output"]) == ("SENTINEL-1", "GRD_HD", "geojson")
        assert told["intersectsWith"].startswith("POLYGON((")
        first, last = (_instant(told[name]) for name in ("start", "end"))
        found = [one for one in self.features if first <= _instant(one["properties"]["startTime"]) <= last]
        found.sort(key=lambda one: one["properties"]["startTime"], reverse=True)
        return Reply(
            body=reply_json({"type": "FeatureCollection", "features": found[: int(told["maxResults"])]}).body,
            content_type="application/geojson; charset=utf-8",
        )

    def token(self, asked: Asked) -> Reply:
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {basic}":
            return reply_json({"error": "invalid_credentials"}, status=401)
        return reply_json({"access_token": TOKEN, "token_type": "Bearer", "expiration_date": "01/22/2027"})

    def login_page(self, asked: Asked) -> Reply:
        return Reply(body=b"<html>Earthdata Login</html>", content_type="text/html")

    def product(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.taken:
            return Reply(status=302, headers={"Location": f"{self.login.url}/oauth/authorize?client_id=x"})
        name = asked.path.rpartition("/")[2]
        return Reply(status=303, headers={"Location": f"{self.store.url}/{name}?X-Amz-Signature=canary-signature-74"})

    def file(self, asked: Asked) -> Reply:
        if "authorization" in asked.headers:  # as S3 does: one way to authenticate, not two
            return Reply(
                status=400, body=b"<Error><Code>InvalidArgument</Code></Error>", content_type="application/xml"
            )
        return file_reply(asked, self.contents[asked.path.lstrip("/")], content_type="binary/octet-stream")


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
