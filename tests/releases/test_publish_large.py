"""Publishing objects so large that they go in parts: whole or absent, resumed, read back, nothing left behind."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest

from sar1m.releases.publishing.bucket import PART_BYTES
from sar1m.releases.publishing.leftovers import abort_uploads
from sar1m.releases.publishing.steps import publish
from sar1m.releases.publishing.target import PublishOptions
from sar1m.releases.verification import verify_release
from sar1m.store.errors import StoreError
from sar1m.store.places.remote import Patience
from sar1m.store.schema import RELEASE_MARKER_FILE
from servers.bucket import CANARY
from support.tiny_releases import CARD, Killer, Silence, contents, put, seal_release

LARGE = "data/train.zarr/sar/c/9/0/0/0"
PARTS = 2


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Of its data nothing but the large file: with it the first phase begins."""
    root = tmp_path_factory.mktemp("large") / "release"
    put(root / LARGE, np.random.default_rng(4).bytes((PARTS - 1) * PART_BYTES + 77))
    put(root / "README.md", CARD)
    put(root / "LICENSE", b"terms\n")
    seal_release(root, name="tiny", version="1.0.0")
    return root


@pytest.fixture
def sent(bucket):
    class Sent:
        """Publishes; gives the requests, and the uploads that the bucket still waits for."""

        server = bucket

        def __call__(self, release, prefix):
            watch = Silence()
            publish(release, f"s3://releases/{prefix}", PublishOptions(), watch)
            return watch

        def waiting(self, prefix):
            uploads = bucket._backend.buckets["releases"].multiparts.values()
            return [upload.key_name for upload in uploads if upload.key_name.startswith(f"{prefix}/")]

    return Sent()


def test_a_large_object_goes_in_parts_and_is_read_back(release, sent):
    before = len(sent.server.requests)
    sent(release, "whole")
    asked = [method for method, path in sent.server.requests[before:] if path.endswith(LARGE)]
    assert asked.count("PUT") == PARTS
    assert asked[-1] == "GET"  # the check
    there = sent.server.objects("whole/")
    assert hashlib.sha256(there[LARGE]).digest() == hashlib.sha256((release / LARGE).read_bytes()).digest()
    assert there.keys() == contents(release).keys()
    assert sent.waiting("whole") == []
    assert verify_release("s3://releases/whole", Silence()).faults == ()


@pytest.mark.parametrize("after", [True, pytest.param(False, marks=pytest.mark.long)])
def test_killed_among_the_parts_nothing_is_visible_and_the_next_run_leaves_no_parts(release, sent, after):
    prefix = f"killed-{after}"
    killer = Killer(sent.server, lambda: len(sent.server.requests))
    points = iter(range(3, 20))
    while not sent.waiting(prefix):  # the first request after which an upload in parts is under way
        assert killer.run(release, f"s3://releases/{prefix}", next(points), after=after) == -9
    there = sent.server.objects(f"{prefix}/")
    assert LARGE not in there
    assert RELEASE_MARKER_FILE not in there
    watch = sent(release, prefix)
    assert watch.notes == []
    assert sent.server.objects(f"{prefix}/") == contents(release)
    assert sent.waiting(prefix) == []


def test_uploads_of_others_are_left_alone(release, sent):
    keys = ["beside/of-another", f"beside2/{LARGE}"]
    for key in keys:
        sent.server._backend.create_multipart_upload(
            bucket_name="releases", key_name=key, metadata={}, storage_type="STANDARD", tags=[], acl=None,
            sse_encryption=None, kms_key_id=None,
        )  # fmt: skip
    sent(release, "beside")
    assert sent.waiting("beside") + sent.waiting("beside2") == keys


def test_a_large_object_that_arrived_damaged_goes_again(release, sent):
    spoilt = []

    def spoil_once(number, done):
        method, path = sent.server.requests[number - 1]
        if (
            done
            and method == "POST"
            and path.endswith(LARGE)
            and LARGE in sent.server.objects("spoilt/")
            and not spoilt
        ):
            spoilt.append(path)
            sent.server.spoil(f"spoilt/{LARGE}")

    sent.server.on_request = spoil_once
    assert sent(release, "spoilt").notes == [f"1 files arrived damaged and are sent again: {LARGE}"]
    assert spoilt
    assert sent.server.objects("spoilt/") == contents(release)


def test_a_server_that_keeps_refusing_parts_leaves_no_object(release, sent, monkeypatch):
    monkeypatch.setattr("sar1m.store.places.remote.USUAL_PATIENCE", Patience(retries=0))
    monkeypatch.setattr(sent.server, "_application", refusing_parts(sent.server._application))
    with pytest.raises(StoreError, match="HTTP status 503"):
        sent(release, "refused")
    assert LARGE not in sent.server.objects("refused/")
    monkeypatch.undo()


def refusing_parts(application):
    def answer(environ, start_response):
        if environ["REQUEST_METHOD"] == "PUT" and "partNumber=" in environ["QUERY_STRING"]:
            start_response("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        return application(environ, start_response)

    return answer


def test_a_release_is_complete_although_leftovers_could_not_be_looked_for(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKCANARY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    said = abort_uploads("s3://releases/x", {LARGE})
    assert "were not removed (EndpointConnectionError)" in said
    assert "lifecycle rule" in said
    assert CANARY not in said
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    assert "pip install 'sar1m[s3]'" in abort_uploads("s3://releases/x", {LARGE})
