"""Builds into a bucket: the bytes of a disk, whatever is interrupted or refused; one build at a time; no secrets."""

from __future__ import annotations

import io
import pickle
import time
import zipfile

import pytest

from sar1m.building import BuildRequest, build, refilter
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from sar1m.stages.pack import ShardTask
from sar1m.store.errors import LockedError, OutputError, StoreError
from sar1m.store.outputs import bucket_lock
from sar1m.store.outputs.bucket import BucketOutput
from sar1m.store.outputs.folder import FolderOutput
from sar1m.store.outputs.opening import open_output
from sar1m.store.seal import verify
from servers.bucket import CANARY
from support.bucket_builds import BuildKiller, digest_in
from support.campaigns import campaign
from support.crash_runner import REGION, SMALL_BUILD, Silence, run_build, tree_digest
from support.dask_processes import DaskProcesses
from support.hang_guard import STUCK_S

CONFIG = parse_config(SMALL_BUILD, origin="small")
HERE = WorkersSettings(workers=0)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setenv("SAR1M_STORAGE_TIMEOUT_S", "20")


def test_a_bucket_holds_the_bytes_of_a_disk_and_the_same_command_has_nothing_to_do(bucket, small_build):
    run_build("s3://releases/whole")
    assert digest_in(bucket, "whole") == tree_digest(small_build)
    assert verify(open_output("s3://releases/whole")) == []
    left = {name.split("/")[1] for name in bucket.objects("whole/") if name.startswith("staging/")}
    assert "pack" not in left  # what was copied into place is not kept twice
    assert "build-log/lock.json" not in bucket.objects("whole/")
    before = len(bucket.requests)
    assert build(BuildRequest(region=REGION, out="s3://releases/whole", config=CONFIG, workers=HERE), Silence())
    assert [path for method, path in bucket.requests[before:] if "/data/" in path] == []  # nothing is read or written


def near_the_ends(requests):
    """In phase 1, while shards are packed, while they are copied into place."""
    return [12, requests // 2, requests - 12]


def spread_out(requests):
    return range(5, requests + 1, 45)


def every(requests):
    return range(1, requests + 1)


@pytest.mark.parametrize("after", [False, *campaign(True)])
@pytest.mark.parametrize(
    "points", [near_the_ends, *(pytest.param(one, marks=pytest.mark.long) for one in (spread_out, every))]
)
def test_killed_at_any_request_it_goes_on_to_the_same_bytes(points, after, bucket, small_build):
    killer, prefix = BuildKiller(bucket), f"kill-{after}"
    before = len(bucket.requests)
    assert killer.run(f"s3://releases/{prefix}") == 0
    requests = len(bucket.requests) - before
    assert requests > 100
    for point in points(requests):
        address = f"s3://releases/{prefix}-{point}"
        assert killer.run(address, point, after=after) == -9
        there = bucket.objects(f"{prefix}-{point}/")
        assert "BUILD_COMPLETE.json" not in there or verify(open_output(address)) == []
        assert killer.run(address) == 0
        assert digest_in(bucket, f"{prefix}-{point}") == tree_digest(small_build)
        assert not [name for name in bucket.objects(f"{prefix}-{point}/") if "pack/" in name or "lock.json" in name]


@pytest.mark.parametrize(
    ("status", "method", "part", "said"),
    [
        (
            403,
            "PUT",
            "/blocks-",
            r"staging/blocks-\w+/\w\w/\w+\.zip: cannot be written: .*403.*, AccessDenied\. Its user needs",
        ),
        *campaign((507, "PUT", "/blocks-", r"zip: cannot be written: .*507.*QuotaExceeded\. Free room")),
        *campaign((403, "GET", "list-type", r"s3://releases/\S+: cannot be listed: .*AccessDenied")),
        *campaign((404, "GET", "list-type", r"s3://releases/\S+: cannot be listed: NoSuchBucket\. Create the bucket")),
        *campaign((403, "PUT", "samples.parquet", r"samples\.parquet: cannot be written: .*AccessDenied")),
    ],
)
def test_what_the_bucket_refuses_ends_the_build_by_name_and_the_next_one_goes_on(
    status,
    method,
    part,
    said,
    bucket,
    small_build,
):
    prefix = f"refused-{status}-{method}-{len(part)}"  # without the part itself, which is looked for in every path
    bucket.fault = lambda _number, asked, path: status if asked == method and part in path else None
    began = time.monotonic()
    with pytest.raises(OutputError, match=said) as failure:
        run_build(f"s3://releases/{prefix}")
    assert time.monotonic() - began < STUCK_S
    assert CANARY not in str(failure.value)
    bucket.fault = None
    run_build(f"s3://releases/{prefix}")
    assert digest_in(bucket, prefix) == tree_digest(small_build)


def test_a_bucket_that_asks_to_slow_down_now_and_then_gives_the_same_bytes(bucket, small_build):
    bucket.fault = lambda number, _method, _path: 503 if number % 7 == 0 else None
    run_build("s3://releases/stutter")
    bucket.fault = None
    assert digest_in(bucket, "stutter") == tree_digest(small_build)


@pytest.mark.campaign
@pytest.mark.parametrize("fault", ["cut", 6.0])
def test_answers_that_break_off_or_come_too_late_end_by_name_and_the_same_command_goes_on(
    fault, bucket, small_build, monkeypatch
):
    monkeypatch.setenv("SAR1M_STORAGE_TIMEOUT_S", "4")
    bucket.fault = lambda _number, method, path: fault if method == "GET" and "plan.json" not in path else None
    with pytest.raises((OutputError, StoreError), match=f"s3://releases/broken-{fault}"):
        run_build(f"s3://releases/broken-{fault}")
    monkeypatch.setenv("SAR1M_STORAGE_TIMEOUT_S", "20")
    bucket.fault = None
    run_build(f"s3://releases/broken-{fault}")
    assert digest_in(bucket, f"broken-{fault}") == tree_digest(small_build)


def test_answers_that_break_off_now_and_then_cost_no_build(bucket, monkeypatch, small_build):
    monkeypatch.setenv("SAR1M_STORAGE_TIMEOUT_S", "20")
    bucket.fault = lambda number, method, _path: "cut" if method == "GET" and number % 5 == 0 else None
    run_build("s3://releases/torn")
    bucket.fault = None
    assert digest_in(bucket, "torn") == tree_digest(small_build)


@pytest.mark.campaign
def test_a_bucket_that_answers_503_for_ever_ends_the_build_in_bounded_time(bucket, monkeypatch):
    monkeypatch.setenv("SAR1M_STORAGE_TIMEOUT_S", "5")
    bucket.fault = lambda _number, method, path: 503 if method == "PUT" and "staging/" in path else None
    with pytest.raises(OutputError, match=r"cannot be written: .*503.*Wait for the service"):
        run_build("s3://releases/slow")


def test_a_second_build_is_told_who_is_at_work(bucket):
    with open_output("s3://releases/held").lock():
        said = r"s3://releases/held: another build works here \(process \d+ on \S+, last sign of life \d+ s ago\)"
        with pytest.raises(LockedError, match=said):
            run_build("s3://releases/held")
    with open_output("s3://releases/held").lock():
        pass


def test_a_lock_of_another_machine_is_free_once_it_lapsed_and_its_former_holder_stops(bucket, monkeypatch):
    monkeypatch.setattr(bucket_lock, "_process_of", lambda _number: {})  # nothing is known of the holder
    first, second = (open_output("s3://releases/lapse") for _ in range(2))
    with first.lock():
        monkeypatch.setattr(bucket_lock, "LAPSE_S", 0.0)
        with second.lock():
            monkeypatch.setattr(bucket_lock, "LATE_S", 0.0)
            monkeypatch.setattr(bucket_lock, "LAPSE_S", 120.0)
            with pytest.raises(LockedError, match="another build took over"):
                first.write("a", [b"late"])
            second.write("a", [b"in time"])
    assert bucket.objects("lapse/")["a"] == b"in time"


def test_a_service_that_ignores_conditions_is_refused(bucket, monkeypatch):
    out = open_output("s3://releases/careless")
    put = bucket_lock.BucketLock._put
    monkeypatch.setattr(bucket_lock.BucketLock, "_put", lambda self, _condition: put(self, "overwrite"))
    with pytest.raises(OutputError, match="ignores the condition If-None-Match"), out.lock():
        pass


def test_what_goes_to_workers_holds_no_secret(bucket):
    out = open_output("s3://releases/graph")
    assert out.size("x") is None  # it is connected
    staging = out.below("staging")
    task = ShardTask(staging=staging, packed=out.below("staging/pack/1"), name="x", slots=1, entries=(None,))
    for sent in (out, staging, task):
        pickled = pickle.dumps(sent)
        assert CANARY.encode() not in pickled
        assert b"AKCANARY" not in pickled
    assert pickle.loads(pickle.dumps(staging)).location == "s3://releases/graph/staging"  # noqa: S301 - our own


def test_refilter_packs_a_bucket_anew_as_a_disk(bucket, tmp_path):
    strict = CONFIG.model_copy(update={"screening": CONFIG.screening.model_copy(update={"max_cloud_frac": 0.0})})
    run_build("s3://releases/again")
    refilter("s3://releases/again", strict, HERE, Silence())
    build(BuildRequest(region=REGION, out=tmp_path, config=strict, workers=HERE), Silence())
    assert digest_in(bucket, "again") == tree_digest(tmp_path)


@pytest.mark.campaign
def test_two_workers_without_a_shared_disk_give_the_same_bytes(bucket, tmp_path, small_build):
    """Each runs in a folder of its own with its own folder for temporary files."""
    with DaskProcesses() as dask:
        dask.start_scheduler()
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            dask.start_worker(folder=tmp_path / name, TMPDIR=str(tmp_path / name))
        settings = WorkersSettings(scheduler=dask.address, patience_s=STUCK_S)
        request = BuildRequest(region=REGION, out="s3://releases/shared", config=CONFIG, workers=settings)
        build(request, Silence())
    assert digest_in(bucket, "shared") == tree_digest(small_build)


def test_reading_in_an_object_is_reading_in_a_file(bucket, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(5):
            archive.writestr(f"part-{number}", bytes([number]) * 300_000)
    for out in (open_output("s3://releases/files"), FolderOutput(tmp_path)):
        out.write_once("a/b.zip", buffer.getvalue())
        out.write_once("a/b.zip", buffer.getvalue())  # who comes second changes nothing
        with out.open("a/b.zip") as stream, zipfile.ZipFile(stream) as archive:
            assert [archive.read(f"part-{number}")[0] for number in (4, 0, 2)] == [4, 0, 2]
            assert archive.testzip() is None
        with pytest.raises(StoreError, match=r"b\.zap: there is no such"):
            out.open("a/b.zap")
        assert out.digest("a/b.zip") == out.write("a/c.zip", [buffer.getvalue()])
        assert out.entries() == {"a"}
        out.remove("a/b.zip", "none")
        assert dict(out.listing()) == {"a/c.zip": len(buffer.getvalue())}
        out.remove("a")
        assert dict(out.listing()) == {}


@pytest.mark.parametrize("address", ["memory://x/y", "s3://bucket", "https://example.org/x", "file:///tmp/x"])
def test_other_addresses_and_whole_buckets_are_no_output(address):
    with pytest.raises(OutputError, match="Give"):
        open_output(address)
    assert isinstance(open_output("gs://bucket/x/"), BucketOutput)
