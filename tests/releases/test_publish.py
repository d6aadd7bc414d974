"""Publishing to folders and S3: order, resuming after kills, checks of what arrived, nothing written over."""

from __future__ import annotations

import shutil
from functools import partial

import pytest

from sar1m.releases.portions import Portion, get
from sar1m.releases.publishing.steps import publish
from sar1m.releases.publishing.target import CLAIM_FILE, PublishOptions
from sar1m.releases.verification import verify_release
from sar1m.store.errors import ConfigError, OutputError, StoreError, UnreachableError
from sar1m.store.places.remote import Patience
from sar1m.store.schema import MANIFEST_FILE, RELEASE_MARKER_FILE
from servers.bucket import CANARY
from support.campaigns import campaign
from support.crash_runner import PowerLoss, interrupted
from support.tiny_releases import Killer, Silence, contents, few_files, put, survive_kills, tiny_release

DRY, REAL = PublishOptions(dry_run=True), PublishOptions()


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("publish") / "release")


def sent(release, target, options=REAL):
    return publish(release, str(target), options, Silence())


def test_a_published_folder_is_the_release_and_verifies(release, tmp_path):
    summary = sent(release, tmp_path / "there/v1")
    assert contents(tmp_path / "there/v1") == contents(release)
    assert (summary.kept, summary.already_complete, summary.title) == (0, False, "tiny v1.0.0")
    assert verify_release(tmp_path / "there/v1", Silence()).faults == ()
    again = sent(release, tmp_path / "there/v1")
    assert (again.sent, again.already_complete) == ((), True)


def test_data_goes_before_metadata_and_the_manifest_before_the_marker(release, bucket):
    summary = sent(release, "s3://releases/order")
    kinds = [0 if name.startswith("data/") else 2 if name == MANIFEST_FILE else 1 for name in summary.sent]
    assert kinds == sorted(kinds)
    assert set(kinds) == {0, 1, 2}
    puts = [path.removeprefix("/releases/order/") for method, path in bucket.requests if method == "PUT"]
    puts = [name for name in puts if not name.startswith("/")]
    assert puts[0] == CLAIM_FILE
    assert puts[-2:] == [MANIFEST_FILE, RELEASE_MARKER_FILE]
    assert bucket.objects("order/") == contents(release)


def test_a_dry_run_says_what_would_go_and_writes_nothing(release, tmp_path, bucket):
    before = len(bucket.requests)
    for target in (tmp_path / "new", "s3://releases/dry"):
        plan = sent(release, target, DRY)
        assert set(plan.sent) == contents(release).keys() - {RELEASE_MARKER_FILE}
        assert plan.sent_bytes == sum(len(content) for name, content in contents(release).items() if "COMP" not in name)
        assert plan.dry_run
    assert not (tmp_path / "new").exists()
    assert {method for method, _ in bucket.requests[before:]} == {"GET"}


def test_only_a_release_that_verifies_is_published(release, tmp_path):
    spoilt = shutil.copytree(release, tmp_path / "spoilt")
    put(spoilt / "LICENSE", b"other\n")
    with pytest.raises(StoreError, match=r"1 faults: LICENSE: content differs"):
        sent(spoilt, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("holds", "message"),
    [
        ({"thesis.pdf": b"x"}, r"holds thesis\.pdf, which is no release made by sar1m"),
        ({CLAIM_FILE: b"{}", "README.md": b"x"}, "another release is being published there"),
        ({RELEASE_MARKER_FILE: b"{}"}, "damaged"),
    ],
)
def test_what_lies_at_a_target_is_not_written_over(release, tmp_path, holds, message):
    for name, content in holds.items():
        put(tmp_path / "there" / name, content)
    for options in (DRY, REAL):
        with pytest.raises(OutputError, match=message):
            sent(release, tmp_path / "there", options)
    assert contents(tmp_path / "there") == holds


def test_another_version_at_a_folder_or_prefix_is_refused(release, tmp_path, bucket):
    newer = tiny_release(tmp_path / "newer", version="1.1.0", seed=1)
    for target in (tmp_path / "there", "s3://releases/versions"):
        sent(release, target)
        with pytest.raises(OutputError, match=r"holds tiny v1\.0\.0, and what was published is not written over"):
            sent(newer, target)
    assert contents(tmp_path / "there") == contents(release) == bucket.objects("versions/")


@pytest.mark.parametrize("inside", ["", "data/copy", ".."])
def test_a_release_is_not_published_onto_itself(release, inside):
    with pytest.raises(OutputError, match="is, holds or lies in the release"):
        sent(release, release / inside)


@pytest.mark.parametrize(
    "target", ["ftp://h/x", "https://h/canary", "s3://releases", "s3://releases/", "s3://u:canary@b/x"]
)
def test_what_is_no_target_is_refused(release, target, bucket):
    with pytest.raises(ConfigError) as caught:
        sent(release, target)
    assert "canary" not in str(caught.value)


def test_what_arrived_damaged_is_sent_again_and_the_check_reads_every_byte(release, bucket):
    spoilt = []

    def spoil_once(number, done):
        method, path = bucket.requests[number - 1]
        if done and method == "PUT" and path.endswith("README.md") and not spoilt:
            spoilt.append(path)
            bucket.spoil("damaged/README.md")

    bucket.on_request = spoil_once
    watch = Silence()
    publish(release, "s3://releases/damaged", REAL, watch)
    assert spoilt
    assert watch.notes == ["1 files arrived damaged and are sent again: README.md"]
    assert bucket.objects("damaged/") == contents(release)


def test_a_target_that_keeps_damaging_is_never_complete(release, bucket):
    def spoil(number, done):
        method, path = bucket.requests[number - 1]
        if done and method == "PUT" and path.endswith("README.md"):
            bucket.spoil("worn/README.md")

    bucket.on_request = spoil
    with pytest.raises(StoreError, match=r"README\.md differ there from what was sent, twice"):
        sent(release, "s3://releases/worn")
    assert RELEASE_MARKER_FILE not in bucket.objects("worn/")
    bucket.on_request = None
    sent(release, "s3://releases/worn")
    assert bucket.objects("worn/") == contents(release)


def test_a_damaged_missing_or_added_object_is_found_by_remote_verification(release, bucket):
    sent(release, "s3://releases/rot")
    assert verify_release("s3://releases/rot", Silence()).faults == ()
    name = "data/train.zarr/sar/c/1/0/0/0"
    bucket.spoil(f"rot/{name}")
    (fault,) = verify_release("s3://releases/rot", Silence()).faults
    assert (fault.path, fault.found) == (name, "content differs from its sha256")
    bucket.change({"rot/more": b"x", "rot/LICENSE": None})
    found = {fault.path: fault.found for fault in verify_release("s3://releases/rot", Silence()).faults}
    assert found == {name: "content differs from its sha256", "more": "not in the manifest", "LICENSE": "missing"}


def test_credentials_show_nowhere(release, bucket, monkeypatch, caplog):
    from sar1m.releases.publishing.bucket import BucketTarget  # noqa: PLC0415 - obstore is for remote targets

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("sar1m.store.places.remote.USUAL_PATIENCE", Patience(retries=0))
    target = BucketTarget("s3://releases/x")
    with pytest.raises(UnreachableError) as caught:
        sent(release, "s3://releases/x")
    everything = repr(target.__dict__) + repr(caught.value) + str(caught.value.__cause__) + caplog.text
    assert CANARY not in everything
    assert "AKCANARY" not in everything
    assert "Signature" not in everything


@pytest.mark.parametrize("kills", [4, *campaign(20)])
def test_killed_at_random_requests_it_ends_complete(tmp_path, bucket, kills):
    release = few_files(tmp_path / "release")
    numbers = iter(range(100))
    killer = Killer(bucket, lambda: len(bucket.requests))
    targets = survive_kills(
        killer,
        release,
        kills,
        most=40,
        fresh=lambda: f"s3://releases/killed-{next(numbers)}",
        look=lambda target: bucket.objects(target.removeprefix("s3://releases/") + "/"),
    )
    assert targets < kills  # some kills hit the same target: what one left, the next took up


def test_what_arrived_is_not_sent_again(tmp_path, bucket):
    release = few_files(tmp_path / "release")
    killer = Killer(bucket, lambda: len(bucket.requests))
    assert killer.run(release, "s3://releases/again", 8, after=True) == -9
    there = bucket.objects("again/")
    before = len(bucket.requests)
    summary = sent(release, "s3://releases/again")
    assert 0 < summary.kept == len(there.keys() - {CLAIM_FILE})
    puts = [path for method, path in bucket.requests[before:] if method == "PUT"]
    assert len(puts) == len(summary.sent) + 2  # claim and marker
    assert not set(summary.sent) & there.keys()


def test_what_lies_there_with_the_right_size_alone_is_sent_again(tmp_path, bucket):
    release = few_files(tmp_path / "release")
    assert Killer(bucket, lambda: len(bucket.requests)).run(release, "s3://releases/size", 12, after=True) == -9
    name = next(name for name in bucket.objects("size/") if name.startswith("data/"))
    bucket.change({f"size/{name}": bytes((release / name).stat().st_size)})
    watch = Silence()
    assert name in publish(release, "s3://releases/size", REAL, watch).sent
    assert watch.notes == []
    assert bucket.objects("size/") == contents(release)


@pytest.mark.parametrize("every", [37, *campaign(11), pytest.param(1, marks=pytest.mark.long)])
def test_a_folder_interrupted_between_two_changes_goes_on(tmp_path, every):
    """A publishing dies before a change of the file system; then the same command again."""
    release = few_files(tmp_path / "release")
    point = 0
    while interrupted(partial(sent, release, tmp_path / str(point)), point):
        there = tmp_path / str(point)
        if (there / RELEASE_MARKER_FILE).exists():
            assert contents(there).items() >= contents(release).items()
        sent(release, there)
        assert contents(there) == contents(release)
        point += every
    assert point > 50


@pytest.mark.parametrize("way", ["publish", "get"])
def test_a_power_loss_never_leaves_a_marker_without_its_bytes(tmp_path, monkeypatch, way):
    """R2, with every write that was not synced dropped, at every sync."""
    release = few_files(tmp_path / "release")
    (tmp_path / "there").mkdir()
    losses = PowerLoss(tmp_path / "there", monkeypatch)
    if way == "publish":
        sent(release, tmp_path / "there")
    else:
        get(str(release), tmp_path / "there", Portion(), Silence())
    marked = [state for state in losses.states if RELEASE_MARKER_FILE in state]
    assert len(losses.states) > 30
    assert marked
    assert all(state.items() >= contents(release).items() for state in marked)
