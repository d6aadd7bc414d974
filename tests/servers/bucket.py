"""moto's S3 on the loopback, which counts requests, kills who makes them, and misbehaves."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

CANARY = "canary-s3-secret-91"
CODES = {403: "AccessDenied", 404: "NoSuchBucket", 503: "SlowDown", 507: "QuotaExceeded"}


class Bucket:
    """moto's S3 behind a count of requests. on_request: see hub.HubServer. objects: content by key.

    fault: (number, method, path?query) -> status of an error, "cut" for half an answer, seconds to wait first, or None.
    """

    def __init__(self):
        from moto.backends import get_backend  # noqa: PLC0415 - a second that other tests need not wait
        from moto.server import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415
        from werkzeug.serving import make_server  # noqa: PLC0415

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.requests = []
        self.on_request = self.fault = None
        self._application = DomainDispatcherApplication(create_backend_app)
        self._backend = get_backend("s3")["123456789012"]["global"]
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._backend.reset()  # it is this process's one: other tests leave their buckets
        self._backend.create_bucket("releases", "us-east-1")

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._backend.reset()

    def _count(self, environ, start_response):
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        number = len(self.requests)
        if self.on_request:
            self.on_request(number, False)
        asked = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
        fault = self.fault and self.fault(number, environ["REQUEST_METHOD"], asked)
        if isinstance(fault, int):
            body = b"<Error><Code>%s</Code></Error>" % CODES[fault].encode()
            start_response(f"{fault} X", [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
            return [body]
        time.sleep(fault if isinstance(fault, float) else 0)
        answer = list(self._application(environ, start_response))
        if fault == "cut":
            answer = [b"".join(answer)[: len(b"".join(answer)) // 2]]
        if self.on_request:
            self.on_request(number, True)
        return answer

    def objects(self, prefix):
        keys = self._backend.buckets["releases"].keys
        return {name.removeprefix(prefix): keys[name].value for name in keys if name.startswith(prefix)}

    def change(self, contents):
        """Puts or (None) removes objects."""
        for key, content in contents.items():
            if content is None:
                self._backend.delete_object("releases", key)
            else:
                self._backend.put_object("releases", key, content)

    def spoil(self, key):
        """Turns a bit of an object, behind the back of its metadata."""
        found = self._backend.buckets["releases"].keys[key]
        content = bytearray(found.value)
        content[len(content) // 2] ^= 1
        found.value = bytes(content)


@pytest.fixture(scope="module")
def bucket_server():
    pytest.importorskip("moto.server", reason="moto's S3 server is not installed: pip install 'moto[server]'")
    server = Bucket()
    yield server
    server.close()


@pytest.fixture
def bucket(bucket_server, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {"ENDPOINT_URL": bucket_server.url, "ACCESS_KEY_ID": "AKCANARY", "SECRET_ACCESS_KEY": CANARY}
    for name, value in {"REGION": "us-east-1", **values}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield bucket_server
    bucket_server.on_request = bucket_server.fault = None
