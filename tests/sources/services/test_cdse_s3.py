"""The object store of the Data Space: signed requests, files checked against the manifest, folders put together."""

# ruff: noqa: F811 - fixtures are imported from cdse_world

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
import threading
import traceback
from dataclasses import replace
from datetime import timedelta

import boto3
import pytest

from sar1m.io.net import download_cache as cache_module
from sar1m.sources.scene import scene_to_text
from sar1m.sources.services.cdse import object_store, product_objects
from sar1m.sources.services.cdse.object_store import S3Auth
from sar1m.sources.services.cdse.routes import CdseRoute
from sar1m.store.errors import BudgetError, SourceError
from servers.base import Reply
from servers.cdse import PASSWORD, USER
from servers.cdse_cog import FOLDER, manifest_of, members_of
from servers.cdse_store import S3_ACCESS, S3_SECRET
from servers.delivered import everything_below, read_from_disk, same_pixels
from servers.faults import Faulty, once
from support.cdse_world import account, only, service_of, stand_in  # noqa: F401  fixtures
from support.hang_guard import STUCK_S

BY_S3 = CdseRoute(search="stac", access="s3")


@pytest.fixture
def stored(stand_in, delivered):
    """The stand-in with the COG edition in its store, and that edition."""
    return stand_in, stand_in.add_cog(delivered)


@pytest.fixture
def opened(stored, delivered, tmp_path):
    """Service and scene by S3."""
    service = service_of(stored[0], delivered, tmp_path / "net", BY_S3)
    return service, only(service)


def keys_asked(stand_in):
    return [asked.path.partition(".SAFE/")[2] for asked in stand_in.objects.asked]


def spoil(stand_in, made, name, content):
    stand_in.store.objects[f"{FOLDER}/{made.product_id}.SAFE/{name}"] = content


def image_of(made, polarisation="vv"):
    return next(name for name in members_of(made) if name.endswith(".tiff") and f"-{polarisation}-" in name)


def test_a_block_is_the_one_from_disk_and_each_file_comes_once(stored, opened, delivered, tmp_path):
    grid, from_disk = read_from_disk(delivered, tmp_path / "scratch")
    (stand_in, made), (service, scene) = stored, opened
    read = []
    workers = [pickle.loads(pickle.dumps(service)) for _ in range(3)]  # noqa: S301 - our own bytes
    threads = [
        threading.Thread(target=lambda worker=worker: read.append(worker.read_sar(scene, grid, delivered.config)))
        for worker in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK_S)
    assert [same_pixels(each, from_disk) for each in read] == [True] * 3
    assert sorted(keys_asked(stand_in)) == sorted(["", *members_of(made)])
    assert stand_in.store.refused == []
    assert not stand_in.identity.asked
    assert not stand_in.zipper.asked
    assert not (tmp_path / "net" / "measurements").exists()  # nothing is inflated beside what came
    assert service.requests_a_product == len(stand_in.objects.asked)
    price = service.price(scene, None, delivered.config)
    assert (price.shared_bytes, price.bytes) == (len(made.content), 0)


@pytest.mark.parametrize(
    ("asked", "border", "came"), [(("VV",), True, {"vv"}), (("VH",), True, {"vv", "vh"}), (("VH",), False, {"vh"})]
)
def test_polarisations_that_nobody_asked_for_stay_there(stored, delivered, tmp_path, asked, border, came):
    stand_in, _ = stored
    route = replace(BY_S3, polarisations=asked, mask_border=border)
    service = service_of(stand_in, delivered, tmp_path / "net", route)
    config = delivered.config.model_copy(
        update={
            "area": delivered.config.area.model_copy(update={"polarisations": asked}),
            "safe": delivered.config.safe.model_copy(update={"mask_border_noise": border}),
        }
    )
    service = replace(service, safe=config.safe)
    grid, whole = read_from_disk(delivered, tmp_path / "scratch")
    scene = only(service)
    found = service.read_sar(scene, grid, config)
    if border:
        assert (found.sar[0] == whole.sar[("VV", "VH").index(asked[0])])[~(found.sar[0] != found.sar[0])].all()
    images = {key.split("-")[3] for key in keys_asked(stand_in) if key.startswith("measurement/")}
    assert images == came
    assert len(stand_in.objects.asked) == 2 + 4 * len(came)
    assert service.price(scene, grid, config).shared_bytes == len(stand_in.contents[scene.scene_id]) * len(came) / 2


def test_a_wrong_secret_is_refused_and_said_without_it(opened, stored, monkeypatch):
    (stand_in, _), (service, scene) = stored, opened
    for variable, shown, problem in (
        ("CDSE_S3_SECRET_KEY", "canary-wrong-93", "SignatureDoesNotMatch"),
        ("CDSE_S3_ACCESS_KEY", "CANARYWRONG94", "InvalidAccessKeyId"),
    ):
        right = {"CDSE_S3_SECRET_KEY": S3_SECRET, "CDSE_S3_ACCESS_KEY": S3_ACCESS}[variable]
        monkeypatch.setenv(variable, shown)
        with pytest.raises(SourceError, match=r"refuses the S3 keys \(403\)") as caught:
            service.product(scene)
        monkeypatch.setenv(variable, right)
        assert stand_in.store.refused.pop() == problem
        text = "".join(traceback.format_exception(caught.value))
        assert "CDSE_S3_SECRET_KEY" in text
        assert all(canary not in text for canary in (shown, S3_SECRET, S3_ACCESS))
    stand_in.store.skew = timedelta(hours=1)
    with pytest.raises(SourceError, match=r"this machine's clock"):
        service.product(scene)
    assert stand_in.store.refused == ["RequestTimeTooSkewed"]


def test_missing_keys_and_a_missing_signer_are_said(opened, stored, monkeypatch):
    service, scene = opened
    assert service.usable() == (True, "S3 keys from CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY; 4 downloads at once")
    monkeypatch.delenv("CDSE_PASSWORD")  # not needed here
    assert service.usable()[0]
    monkeypatch.setattr(object_store, "find_spec", lambda name: None)
    assert service.usable() == (False, "cdse: its S3 signer is not installed: pip install 'sar1m[s3]'")
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "botocore.auth", None)
        with pytest.raises(SourceError, match=r"pip install 'sar1m\[s3\]'"):
            service.product(scene)
    monkeypatch.undo()
    monkeypatch.delenv("CDSE_S3_SECRET_KEY", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of another service")
    with pytest.raises(SourceError, match=r"Set CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY"):
        service.product(scene)
    assert len(stored[0].objects.asked) == 0


def test_signatures_are_for_the_store_alone():
    assert S3Auth("store.example.org")("https://other.example.org/eodata") == {}


def test_the_stand_in_is_a_store_to_the_real_client(stored):
    """So what refuses or takes our signatures refuses and takes boto3's."""
    stand_in, made = stored
    keys = {"aws_access_key_id": S3_ACCESS, "aws_secret_access_key": S3_SECRET, "region_name": "default"}
    client = boto3.client("s3", endpoint_url=stand_in.objects.url, **keys)
    prefix = f"{FOLDER}/{made.product_id}.SAFE/"
    listed = client.list_objects_v2(Bucket="eodata", Prefix=prefix)["Contents"]
    assert {row["Key"].removeprefix(prefix) for row in listed} > set(members_of(made))
    body = client.get_object(Bucket="eodata", Key=f"{prefix}manifest.safe")["Body"].read()
    assert body == members_of(made)["manifest.safe"]
    stand_in.store.secret = "another"  # noqa: S105
    with pytest.raises(Exception, match="SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket="eodata", Prefix=prefix)


def objects_alone(route, stand_in):
    """A listing has no checksum: what a flipped bit makes of it is refused, not mended."""
    return lambda asked: stand_in.store(asked) if "prefix" in asked.query else route(asked)


@pytest.mark.parametrize(
    "kind",
    ["too_many", "server_error", "cut_with_length", "cut_without_length", "html_with_200", "reset", "etag_changed"],
)
def test_what_passes_is_waited_for(stored, opened, kind):
    (stand_in, made), (service, scene) = stored, opened
    stand_in.objects.routes["/*"] = once(kind, stand_in.store)
    folder = service.product(scene)
    assert {name: (folder / name).read_bytes() for name in members_of(made)} == members_of(made)


def test_no_bad_file_is_accepted_under_faults_of_all_kinds(stored, delivered, tmp_path):
    (stand_in, made), happened = stored, {}
    kinds = ("too_many", "server_error", "cut_with_length", "html_as_bytes", "flipped_bit", "reset", "range_ignored")
    for seed in range(6):
        faulty = Faulty(stand_in.store, 0.4, kinds, seed, happened)
        stand_in.objects.routes["/*"] = objects_alone(faulty, stand_in)
        service = service_of(stand_in, delivered, tmp_path / str(seed), BY_S3, attempts=12)
        folder = service.product(only(service))
        assert {name: (folder / name).read_bytes() for name in members_of(made)} == members_of(made)
    assert set(happened) == set(kinds)


def test_what_the_manifest_does_not_say_is_not_believed(stored, delivered, tmp_path):
    """Whatever the listing says of it: here sizes and ETags fit the wrong bytes."""
    stand_in, made = stored
    members, image = members_of(made), image_of(made)
    flipped = bytearray(members[image])
    flipped[-1] ^= 1
    manifest = members["manifest.safe"]
    other = members_of(delivered)["manifest.safe"]
    cases = {
        r"its md5 is": {image: bytes(flipped)},
        r"is stored with \d+ bytes": {image: members[image] + b"x"},
        r"is no TIFF": {image: b"junk", "manifest.safe": manifest_of(members | {image: b"junk"})},
        r"not well-formed|is damaged": {"manifest.safe": manifest[:-200]},
        r"is stored with no bytes": {"manifest.safe": other},
        r"is not one of md5": {"manifest.safe": re.sub(rb">[0-9a-f]{32}<", b">00<", manifest)},
        r"every file once": {"manifest.safe": manifest.replace(b"-vh-", b"-vv-").replace(b"-002-", b"-001-")},
        r"its folder has no manifest": {"manifest.safe": None},
    }
    for number, (expected, changed) in enumerate(cases.items()):
        for name, content in (members | changed).items():
            spoil(stand_in, made, name, content)
            if content is None:
                del stand_in.store.objects[f"{FOLDER}/{made.product_id}.SAFE/{name}"]
        service = service_of(stand_in, delivered, tmp_path / str(number), BY_S3, attempts=2)
        with pytest.raises(SourceError, match=expected):
            service.product(only(service))
        assert not list((tmp_path / str(number)).rglob("*.SAFE"))


def test_another_product_in_the_folder_is_refused(stored, delivered, tmp_path):
    stand_in, made = stored
    other = replace(made, product_id=made.product_id.replace("049F13", "049F14"))
    for name, content in members_of(made).items():
        spoil(stand_in, other, name, content)
    service = service_of(stand_in, delivered, tmp_path / "net", BY_S3)
    scene = only(service)
    href = scene.asset("product").href.replace("049F13", "049F14")
    forged = replace(scene, scene_id=other.product_id, assets=(replace(scene.assets[0], href=href),))
    with pytest.raises(SourceError, match=r"Files of two products are mixed"):
        service.product(forged)
    assert not list((tmp_path / "net" / "products").rglob("*.SAFE"))
    elsewhere = replace(scene, assets=(replace(scene.assets[0], href=f"{stand_in.stranger.url}/eodata/a/x.SAFE"),))
    with pytest.raises(SourceError):
        service.product(elsewhere)  # a plan file that was tampered with
    assert not stand_in.stranger.asked
    with pytest.raises(SourceError, match=r"is not online"):
        service.product(replace(scene, online=False))


@pytest.mark.parametrize(
    "name", ["../../../../etc/cron.d/x", "measurement/../../x", "/etc/passwd", "a\\b", "a//b", "a b", "./a", "é"]
)
def test_keys_that_would_leave_the_folder_are_refused(stored, opened, tmp_path, name):
    (stand_in, made), (service, scene) = stored, opened
    spoil(stand_in, made, name, b"x")
    with pytest.raises(SourceError, match=r"which may leave its folder"):
        service.product(scene)
    assert len(stand_in.objects.asked) == 1


def test_listings_that_are_none_are_refused(stored, opened, monkeypatch):
    (stand_in, _), (service, scene) = stored, opened
    with monkeypatch.context() as patch:
        patch.setattr(object_store, "MAX_OBJECTS", 3)
        with pytest.raises(SourceError, match=r"holds more than 3 objects"):
            service.product(scene)
    stand_in.store.objects.clear()
    with pytest.raises(SourceError, match=r"is empty: the product is not there, or not on line"):
        service.product(scene)
    for body in (b"", b"<a/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"<ListBucketResult/>"):
        stand_in.objects.routes["/*"] = lambda asked, body=body: Reply(body=body, content_type="application/xml")
        with pytest.raises(SourceError, match=r"cdse: the listing of"):
            service.product(scene)


def test_other_checksums_of_a_manifest_are_verified_too(stored, opened):
    """An MD5 that is called by another name, as items of the catalogue do, and a real SHA3-256."""
    (stand_in, made), (service, scene) = stored, opened
    members = members_of(made)
    manifest = members["manifest.safe"].replace(b'"MD5"', b'"SHA3-256"')
    for name, content in members.items():
        if "-vh-" in name:
            md5 = hashlib.md5(content).hexdigest()  # noqa: S324 - what manifests state
            manifest = manifest.replace(md5.encode(), hashlib.sha3_256(content).hexdigest().encode())
    spoil(stand_in, made, "manifest.safe", manifest)
    folder = service.product(scene)
    assert (folder / image_of(made, "vh")).read_bytes() == members[image_of(made, "vh")]


def test_objects_that_came_in_parts_have_no_md5_and_are_checked_all_the_same(stored, opened):
    (stand_in, made), (service, scene) = stored, opened
    stand_in.store.etags = dict.fromkeys(stand_in.store.objects, f"{'0' * 32}-7")
    folder = service.product(scene)
    assert {name: (folder / name).read_bytes() for name in members_of(made)} == members_of(made)


def test_the_budget_ends_before_it_is_passed(stored, delivered, tmp_path):
    stand_in, _ = stored
    service = service_of(stand_in, delivered, tmp_path / "net", BY_S3, max_gb=3e-4, attempts=1)
    with pytest.raises(BudgetError, match=r"download\.max_gb"):
        service.product(only(service))
    assert stand_in.objects.bytes_sent + stand_in.stac.bytes_sent <= 3e5


def test_a_folder_takes_no_room_and_goes_with_what_the_cache_drops(stored, opened, delivered, tmp_path, monkeypatch):
    (stand_in, made), (service, scene) = stored, opened
    folder = service.product(scene)
    image = folder / image_of(made)
    assert image.stat().st_nlink == 2
    before = len(stand_in.objects.asked)
    assert service.product(scene) == folder
    assert len(stand_in.objects.asked) == before  # not even listed again
    later = stand_in.add_cog(delivered.renamed(product_id=f"{delivered.product_id[:-4]}0001", start=delivered.start))
    href = scene.asset("product").href.replace(scene.scene_id, later.product_id)
    second = replace(scene, scene_id=later.product_id, assets=(replace(scene.assets[0], href=href),))
    for whole in (tmp_path / "net" / "cache" / "whole").rglob("*.tiff"):
        whole.unlink()
    monkeypatch.setattr(product_objects, "LEASE_S", -1.0)
    service.product(second)
    assert folder.exists()  # this process still holds it
    monkeypatch.setattr(cache_module, "_KEPT_OPEN", 0)
    for path in list(cache_module.process_leases()._held):
        os.close(cache_module.process_leases()._held.pop(path))
    third = stand_in.add_cog(delivered.renamed(product_id=f"{delivered.product_id[:-4]}0002", start=delivered.start))
    href = href.replace(later.product_id, third.product_id)
    service.product(replace(second, scene_id=third.product_id, assets=(replace(scene.assets[0], href=href),)))
    assert not folder.exists()
    assert service.product(scene) == folder  # and comes again


def test_no_secret_is_anywhere(stored, opened, tmp_path, caplog, delivered):
    caplog.set_level(logging.DEBUG)
    (stand_in, _), (service, scene) = stored, opened
    auth = service.auth()
    headers = auth(f"{stand_in.endpoints.s3}/eodata/x")
    assert S3_ACCESS in headers["Authorization"]
    service.product(scene)
    shown = [repr(service), repr(auth), scene_to_text(scene), caplog.text, str(service.usable())]
    shown += [str(pickle.dumps(service)), str(pickle.dumps(auth))]
    stand_in.store.secret = "another"  # noqa: S105 - so that it refuses, and quotes what we sent
    other = service_of(stand_in, delivered, tmp_path / "other", BY_S3, attempts=1)
    with pytest.raises(SourceError) as caught:
        other.product(scene)
    shown += traceback.format_exception(caught.value, chain=True)
    seen = "\n".join(shown).encode() + everything_below(tmp_path / "net", tmp_path / "other")
    signature = headers["Authorization"].rpartition("=")[2]
    for canary in (USER, PASSWORD, S3_ACCESS, S3_SECRET, signature):
        assert canary.encode() not in seen
