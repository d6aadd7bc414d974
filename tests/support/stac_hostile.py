"""What a catalogue may say of a radar item that nothing must come of, by name."""

# Addresses that nothing may be fetched from.
FOREIGN = {
    "other host",
    "look-alike",
    "user",
    "vsi",
    "file",
    "plain http",
    "upwards",
    "signed",
    "line break",
    "no text",
}
HOSTILE = {
    "huge id": lambda item: item.update(id="A" * 5000),
    "path as id": lambda item: item.update(id="../../etc/passwd"),
    "no properties": lambda item: item.update(properties=None),
    "NaN": lambda item: item["geometry"]["coordinates"][0].__setitem__(1, [float("nan"), 45.0]),
    "out of the world": lambda item: item["geometry"]["coordinates"][0].__setitem__(1, [858740.0, 1384510.0]),
    "no area": lambda item: item["geometry"].update(coordinates=[[[1, 1], [1, 1], [1, 1], [1, 1]]]),
    "a point": lambda item: item.update(geometry={"type": "Point", "coordinates": [1, 1]}),
    "deep": lambda item: item.update(geometry={"type": "Polygon", "coordinates": [[[[[1]]]]]}),
    "long ring": lambda item: item["geometry"].update(coordinates=[[[15 + n * 1e-5, 45.0] for n in range(10_001)]]),
    "other host": lambda item: item["assets"]["vv"].update(href="https://evil.example/vv.tif"),
    "look-alike": lambda item: item["assets"]["vv"].update(
        href="https://sentinel1euwestrtc.blob.core.windows.net.evil.example/vv.tif"
    ),
    "user": lambda item: item["assets"]["vv"].update(href="https://127.0.0.1@evil.example/vv.tif"),
    "vsi": lambda item: item["assets"]["vv"].update(href="/vsicurl/http://169.254.169.254/latest/meta-data"),
    "file": lambda item: item["assets"]["vv"].update(href="file:///etc/passwd"),
    "plain http": lambda item: item["assets"]["vv"].update(href="http://sentinel1euwestrtc.blob.core.windows.net/a/b"),
    "upwards": lambda item: item["assets"]["vv"].update(href="https://127.0.0.1/a/../../b.tif"),
    "signed": lambda item: item["assets"]["vv"].update(href=item["assets"]["vv"]["href"] + "?sig=x"),
    "line break": lambda item: item["assets"]["vv"].update(href="https://127.0.0.1/a\r\nX-Evil: 1"),
    "no assets": lambda item: item.pop("assets"),
    "first day": lambda item: item["properties"].update(start_datetime="0001-01-01T00:00:00+05:00"),
    "no text": lambda item: item["assets"]["vv"].update(href=["https://127.0.0.1/a.tif"]),
    "year": lambda item: item["properties"].update(start_datetime="0001-01-01T00:00:00Z"),
    "no time": lambda item: item["properties"].update(start_datetime="yesterday"),
    "time as number": lambda item: item["properties"].update(start_datetime=7),
    "track": lambda item: item["properties"].update({"sat:relative_orbit": 1e9}),
    "control characters": lambda item: item["properties"].update({"sat:orbit_state": "\x1b[31mred"}),
}
