"""A tile service of a picture that is known everywhere: brightness as a function of longitude and latitude."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from servers.base import Asked, Reply

TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def brightness(lon, lat):
    """Red, green and blue 0..255, last axis, of points in degrees: three smooth waves of 700 to 1,100 m, in different
    directions, so that every shift shows. A whole number of waves goes round the Earth: 180 is as good as -180."""
    waves = [(900.0, 0.3), (700.0, 1.7), (1100.0, 2.6)]  # length at the equator in metres, direction
    phases = [
        2 * math.pi * (round(40_075_017 / length * math.cos(a)) * np.asarray(lon) / 360.0)
        + 2 * math.pi * 110_574.0 * np.asarray(lat) * math.sin(a) / length
        for length, a in waves
    ]
    return np.stack([127.5 + 90.0 * np.sin(phase) for phase in phases], axis=-1)


def tile_lonlat(zoom, col, row, side):
    """Centres of a tile's pixels, by the textbook formula for a tile's north-west corner (OpenStreetMap wiki)."""
    x = col + (np.arange(side) + 0.5) / side
    y = row + (np.arange(side) + 0.5) / side
    lon = x / 2**zoom * 360.0 - 180.0
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / 2**zoom))))
    return np.broadcast_arrays(lon[None, :], lat[:, None])


def encode(pixels, kind="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def bomb(side=20_000):
    """A PNG of that many black pixels a side in 1 bit each, whole and in some 200 kB."""
    rows = zlib.compress(bytes((1 + side // 8) * side), 1)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@dataclass
class TileRoute:
    """Answers /z/x/y.ext below a prefix. missing: (z, x, y) answered by missing_status. spoilt: (z, x, y) to a Reply
    that is sent instead. key: what the query must hold as key. tms: rows counted from the south."""

    side: int = 256
    kind: str = "PNG"
    picture: object = brightness
    missing: set = field(default_factory=set)
    missing_status: int = 404
    spoilt: dict = field(default_factory=dict)
    key: str | None = None
    tms: bool = False
    served: list = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply:
        found = re.search(r"/(\d+)/(\d+)/(\d+)(?:\.\w+)?$", asked.path)
        numbers = found.groups() if found else [asked.query[name][0] for name in ("z", "x", "y")]
        zoom, col, row = map(int, numbers)
        if self.key is not None and asked.query.get("key") != [self.key]:
            return Reply(status=403, body=b"no", content_type="text/plain")
        row = 2**zoom - 1 - row if self.tms else row
        if (zoom, col, row) in self.missing or not (0 <= col < 2**zoom and 0 <= row < 2**zoom):
            return Reply(
                status=self.missing_status,
                body=b"" if self.missing_status == 204 else b"none",
                content_type="text/plain",
            )
        self.served.append((zoom, col, row))
        if (zoom, col, row) in self.spoilt:
            return self.spoilt[zoom, col, row]
        colours = self.picture(*tile_lonlat(zoom, col, row, self.side))
        return Reply(body=encode(np.rint(colours).astype(np.uint8), self.kind), content_type=TYPES[self.kind])
