"""Earth Engine on 127.0.0.1, for the real client library: discovery, tokens, search, pixels of a simulated world."""

from __future__ import annotations

import copy
import functools
import io
import json
import threading
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import parse_qs

import numpy as np

from sar1m.records import RasterGrid
from sarworld.optics import Sun
from sarworld.radar import View
from sarworld.world import WorldSpec, build_world, cover_with_clouds, view_optical, view_radar
from servers.base import Asked, Reply, Server, reply_json
from servers.earthengine_algebra import Algebra, AlgebraError, Band, Element, to_json

SAR = "COPERNICUS/S1_GRD_FLOAT"
OPTICAL = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
LIMIT_BYTES = 48 * 2**20
INCIDENCE_DEG = 38.25
NO_DATA_COLS, OUTSIDE_COLS = 5, 8  # masked by the image itself, and beyond its footprint: left and right


def milliseconds(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def box_ring(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def sar_scene(index, box, **more):
    """An entry of the catalogue. more: gain, gaps, off_lattice; other keys become properties."""
    name = index.split("_")
    properties = {
        "system:index": index,
        "system:time_start": milliseconds(name[4]),
        "instrumentMode": name[1],
        "resolution_meters": 10,
        "orbitProperties_pass": "DESCENDING",
        "relativeOrbitNumber_start": 7,
        "transmitterReceiverPolarisation": ["VV", "VH"] if name[3] == "1SDV" else ["VV"],
    }
    return _entry(SAR, properties, box, more)


def optical_scene(index, box, *, scored=True, **more):
    properties = {
        "system:index": index,
        "system:time_start": milliseconds(index[:15]),
        "PRODUCT_ID": f"S2A_MSIL2A_{index[:15]}_N0509_R080_{index[-6:]}_{index[16:31]}",
        "CLOUDY_PIXEL_PERCENTAGE": 7.5,
        "PROCESSING_BASELINE": "05.09",
        "SPACECRAFT_NAME": "Sentinel-2A",
        "SENSING_ORBIT_NUMBER": 80,
        "DATATAKE_IDENTIFIER": f"GS2A_{index[:15]}_039123_N05.09",
    }
    return _entry(OPTICAL, properties, box, {"scored": scored, **more})


def _entry(collection, properties, box, more):
    own = {key: more.pop(key) for key in ("gain", "gaps", "off_lattice", "scored") if key in more}
    ring = {"type": "Polygon", "coordinates": [box_ring(*box)]}
    return {"collection": collection, "properties": {**properties, **more}, "geometry": ring, **own}


class Ground:
    """The simulated world on a grid: over canvas where one is given (beyond it is no data), else a world of its own for
    every grid that is asked for."""

    def __init__(self, seed=1, canvas=None):
        self.seed = seed
        self.canvas = canvas

    def power(self, grid):
        """(VV, VH), linear, with speckle."""
        return self._on(grid)[0]

    def digital(self, grid):
        """B02, B03, B04, B08 as whole DN."""
        return self._on(grid)[1]

    def cloud(self, grid):
        return self._on(grid)[2]

    def water(self, grid):
        return self._on(grid)[3]

    def outside(self, grid):
        return self._on(grid)[4]

    def _on(self, grid):
        layers = _world_layers(self.seed, self.canvas or grid)
        if self.canvas is None:
            return (*layers, np.zeros((grid.rows, grid.cols), bool))
        row = round((self.canvas.top_m - grid.top_m) / grid.gsd_m)
        col = round((grid.left_m - self.canvas.left_m) / grid.gsd_m)
        inside = [np.arange(grid.rows) + row, np.arange(grid.cols) + col]
        clipped = [np.clip(i, 0, n - 1) for i, n in zip(inside, (self.canvas.rows, self.canvas.cols), strict=True)]
        out_rows, out_cols = (i != c for i, c in zip(inside, clipped, strict=True))
        cut = [layer[..., clipped[0][:, None], clipped[1][None, :]] for layer in layers]
        return (*cut, out_rows[:, None] | out_cols[None, :])


@functools.lru_cache(maxsize=4)
def _world_layers(seed, grid):
    name = f"{grid.epsg}_{grid.left_m:.0f}_{grid.top_m:.0f}"
    spec = WorldSpec(seed=seed, name=name, rows=grid.rows, cols=grid.cols, gsd_m=grid.gsd_m)
    world, sun = build_world(spec, max_shift_px=0.0), Sun(zenith_deg=35.0, azimuth_deg=140.0)
    radar = view_radar(world, View(incidence_deg=INCIDENCE_DEG, look_azimuth_deg=282.0))
    clouds = cover_with_clouds(spec, sun, cloudy=True)
    reflectance = view_optical(world, sun, (0.0, 0.0), clouds)
    power = radar.measured(spec, looks=4.4, correlated=True).astype(np.float32)
    return power, np.rint(np.clip(reflectance, 0, 6) * 1e4), clouds.mask, world.water()


class EarthEngine(Server):
    """`with EarthEngine(scenes, ground) as server:`. faults: by the end of a path, functions (asked, reply) -> reply
    that are used up one a request. token: what requests must bring; reject_token() makes it a new one."""

    def __init__(self, scenes=(), ground=None, *, project="sar1m-test-project", max_requests=2000):
        super().__init__(max_requests=max_requests)
        self.scenes = list(scenes)
        self.ground = ground or Ground()
        self.project = project
        self.token = "canary-access-token-0"  # noqa: S105  a canary
        self.faults: dict[str, list] = {}
        self._serial = threading.Lock()
        api = f"/v1alpha/projects/{project}"
        self.routes = {
            ("GET", "/$discovery/rest"): self._discovery,
            ("POST", "/token"): self._grant,
            ("GET", f"{api}/algorithms"): self._algorithms,
            ("POST", f"{api}/value:compute"): self._compute_value,
            ("POST", f"{api}/image:computePixels"): self._compute_pixels,
        }

    def count(self, end):
        return sum(path.endswith(end) for path in self.paths())

    def forget(self):
        """Counts from here on."""
        self.asked.clear()

    def reject_token(self):
        self.token = f"canary-access-token-{int(self.token[-1]) + 1}"

    def answer(self, asked):
        reply = self._authorised(asked)
        for end, faults in self.faults.items():
            if asked.path.endswith(end) and faults:
                return faults.pop(0)(asked, reply)
        return reply

    def _authorised(self, asked):
        if asked.path != "/token" and asked.headers.get("authorization") != f"Bearer {self.token}":
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        try:
            return super().answer(asked)
        except AlgebraError as error:
            return google_error(400, "INVALID_ARGUMENT", str(error))

    def _grant(self, asked: Asked) -> Reply:
        form = parse_qs(asked.body.decode())
        if form.get("grant_type", [""])[0] not in ("urn:ietf:params:oauth:grant-type:jwt-bearer", "refresh_token"):
            return reply_json({"error": "unsupported_grant_type"}, status=400)
        return reply_json({"access_token": self.token, "expires_in": 3599, "token_type": "Bearer"})

    def _discovery(self, asked: Asked) -> Reply:
        document = json.loads((files("ee") / "tests/cloud_api_discovery_document.json").read_bytes())
        return reply_json({**document, "rootUrl": f"{self.url}/", "baseUrl": f"{self.url}/"})

    def _algorithms(self, asked: Asked) -> Reply:
        return Reply(body=(files("ee") / "tests/algorithms.json").read_bytes())

    def _compute_value(self, asked: Asked) -> Reply:
        return reply_json({"result": to_json(self._algebra(None).evaluate(asked.json()["expression"]))})

    def _compute_pixels(self, asked: Asked) -> Reply:
        message = asked.json()
        assert message["fileFormat"] == "NPY"
        grid = _grid(message["grid"])
        with self._serial:
            image = self._algebra(grid).evaluate(message["expression"])
        layout = np.dtype([(name, band.dtype) for name, band in image.bands.items()])
        if layout.itemsize * grid.rows * grid.cols > LIMIT_BYTES:
            raise AlgebraError(f"Total request size must be less than or equal to {LIMIT_BYTES} bytes.")
        pixels = np.empty((grid.rows, grid.cols), layout)
        for name, band in image.bands.items():
            pixels[name] = band.sent(pixels.shape)
        return Reply(body=npy(pixels), content_type="application/octet-stream")

    def _algebra(self, grid):
        return Algebra(lambda asset_id: self._load(asset_id, grid), self._collection)

    def _collection(self, name):
        found = [e for e in self.scenes if e["collection"] == (OPTICAL if name == CLOUD else name)]
        if name == CLOUD:
            found = [entry for entry in found if entry["scored"]]
        return [Element(copy.deepcopy(entry["properties"]), entry["geometry"]) for entry in found]

    def _load(self, asset_id, grid):
        collection, _, index = asset_id.rpartition("/")
        entry = next((e for e in self.scenes if e["properties"]["system:index"] == index), None)
        known = entry and (entry["collection"] == collection or (collection == CLOUD and entry["scored"]))
        if not known:
            raise AlgebraError(
                f"Image.load: Image asset '{asset_id}' not found (does not exist or caller does not have access)."
            )
        planes = {SAR: self._sar_planes, OPTICAL: self._optical_planes, CLOUD: self._cloud_planes}[collection](grid)
        masked, outside = gaps(self.ground, entry, grid)
        gain = entry.get("gain", 1.0)
        bands = {
            name: Band(
                np.where(outside, 0, plane * (gain if name[0] in "VB" else 1)), np.where(masked, 0.0, 1), outside
            )
            for name, plane in planes.items()
        }
        return Element(entry["properties"], entry["geometry"], bands, entry.get("off_lattice", False))

    def _sar_planes(self, grid):
        power = self.ground.power(grid)
        return {"VV": power[0], "VH": power[1], "angle": np.full(power.shape[1:], INCIDENCE_DEG)}

    def _optical_planes(self, grid):
        digital = dict(zip(("B2", "B3", "B4", "B8"), self.ground.digital(grid), strict=True))
        classes = np.where(self.ground.water(grid), 6, 4)
        classes[:3] = 11
        return {**digital, "B5": digital["B4"] + 100, "SCL": np.where(self.ground.cloud(grid), 9, classes)}

    def _cloud_planes(self, grid):
        score = np.where(self.ground.cloud(grid), 0.31, 0.9)
        score[-4:] = 0.60  # just clear
        return {"cs": score, "cs_cdf": score}


def gaps(ground, entry, grid):
    """Masked pixels, and those outside the footprint, where an entry has gaps; both (rows, cols)."""
    masked = np.zeros((grid.rows, grid.cols), bool)
    outside = ground.outside(grid).copy()
    if entry.get("gaps"):
        masked[:, :NO_DATA_COLS] = True
        outside[:, -OUTSIDE_COLS:] = True
    return masked, outside


def npy(pixels) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels, allow_pickle=pixels.dtype.hasobject)
    return stream.getvalue()


def google_error(status, word, message):
    return reply_json({"error": {"code": status, "status": word, "message": message}}, status=status)


def _grid(message):
    affine, size = message["affineTransform"], message["dimensions"]
    assert affine["scaleX"] == -affine["scaleY"]
    assert affine["shearX"] == affine["shearY"] == 0
    return RasterGrid(
        epsg=int(message["crsCode"].removeprefix("EPSG:")),
        left_m=affine["translateX"],
        top_m=affine["translateY"],
        gsd_m=affine["scaleX"],
        rows=size["height"],
        cols=size["width"],
    )
