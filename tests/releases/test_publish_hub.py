"""Publishing to a fake hub: commits, tags, versions that follow each other, kills, and reading back by hf://."""

from itertools import pairwise

import huggingface_hub
import pytest

from sar1m.releases.portions import Portion, get
from sar1m.releases.publishing import hub as hub_module
from sar1m.releases.publishing.steps import publish
from sar1m.releases.publishing.target import CLAIM_FILE, PublishOptions
from sar1m.releases.verification import verify_release
from sar1m.store.errors import ConfigError, OutputError, StoreError, UnreachableError
from sar1m.store.schema import MANIFEST_FILE, RELEASE_MARKER_FILE
from servers.hub import HubServer
from support.campaigns import campaign
from support.tiny_releases import Killer, Silence, contents, few_files, survive_kills, tiny_release

# huggingface_hub hands files to its HTTP client in a way that this one calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CANARY = "hf_canary_token_17"
TARGET = "hf://datasets/someone/tiny"


@pytest.fixture
def hub(monkeypatch):
    with HubServer(token=CANARY) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("hub") / "release")


def sent(release, target=TARGET, **options):
    return publish(release, target, PublishOptions(**options), Silence())


def stored(repository):
    return {name: content for name, content in repository.tree.items() if name != ".gitattributes"}


def test_a_release_on_the_hub_is_tagged_whole_and_verifies(release, hub):
    summary = sent(release)
    repository = hub.repositories["someone/tiny"]
    assert stored(repository) == contents(release)
    assert repository.tags == {"v1.0.0": repository.commits[-1][0]}
    assert len(summary.sent) == len(contents(release)) - 1
    for revision in ("", "@v1.0.0", "@main"):
        found = verify_release(TARGET + revision, Silence())
        assert (found.faults, found.listed, found.title) == ((), True, "tiny v1.0.0")
    assert hub.cdn.asked
    assert hub.authorised_cdn == []
    before = len(repository.commits)
    assert sent(release).already_complete
    assert len(repository.commits) == before


def test_no_commit_before_the_last_looks_complete(release, hub):
    sent(release)
    trees = [tree for _, tree in hub.repositories["someone/tiny"].commits]
    assert [RELEASE_MARKER_FILE in tree for tree in trees] == [False] * (len(trees) - 1) + [True]
    assert [CLAIM_FILE in tree for tree in trees] == [False, *[True] * (len(trees) - 2), False]
    assert [MANIFEST_FILE in tree for tree in trees].count(True) == 2
    data_complete = [sum(name.startswith("data/") for name in tree) for tree in trees]
    first_card = next(number for number, tree in enumerate(trees) if "README.md" in tree)
    assert data_complete[first_card] == data_complete[first_card - 1] == data_complete[-1]


def test_commits_are_bounded(release, hub, monkeypatch):
    monkeypatch.setattr(hub_module, "_COMMIT_FILES", 5)
    sent(release)
    trees = [tree for _, tree in hub.repositories["someone/tiny"].commits]
    grown = [len(after.keys() - before.keys()) for before, after in pairwise(trees)]
    assert max(grown) == 5
    monkeypatch.setattr(hub_module, "_MAX_COMMITS", 2)
    del hub.repositories["someone/tiny"]
    sent(release)
    assert len(hub.repositories["someone/tiny"].commits) < len(trees)


def test_a_dry_run_makes_no_repository(release, hub):
    plan = sent(release, dry_run=True)
    assert set(plan.sent) == contents(release).keys() - {RELEASE_MARKER_FILE}
    assert hub.repositories == {}


def test_a_newer_version_follows_and_the_older_stays_under_its_tag(tmp_path, hub):
    old, new = (few_files(tmp_path / version, version=version) for version in ("1.0.0", "1.1.0"))
    sent(old)
    repository = hub.repositories["someone/tiny"]
    at = len(repository.commits)
    summary = sent(new)
    assert stored(repository) == contents(new)
    assert summary.kept == 9  # the same seed: all but what names the version, and the manifest
    assert all(not (RELEASE_MARKER_FILE in tree and CLAIM_FILE in tree) for _, tree in repository.commits)
    assert [RELEASE_MARKER_FILE in tree for _, tree in repository.commits[at:]] == [False] * (
        len(repository.commits) - at - 1
    ) + [True]
    assert verify_release(f"{TARGET}@v1.0.0", Silence()).title == "tiny v1.0.0"
    assert verify_release(f"{TARGET}@v1.1.0", Silence()).faults == ()
    with pytest.raises(OutputError, match=r"version 1\.0\.0 was published there and a version never changes"):
        sent(old)


def test_a_version_never_changes(tmp_path, hub):
    sent(few_files(tmp_path / "a"))
    other = few_files(tmp_path / "b", seed=1)
    with pytest.raises(OutputError, match="a version never changes"):
        sent(other)
    older = few_files(tmp_path / "c", version="0.9.0")
    with pytest.raises(OutputError, match=r"holds tiny v1\.0\.0, which tiny v0\.9\.0 does not follow"):
        sent(older)
    hub.repositories["someone/tiny"].tags.clear()
    with pytest.raises(OutputError, match="without its tag"):
        sent(few_files(tmp_path / "d", version="2.0.0"))
    assert stored(hub.repositories["someone/tiny"]) == contents(tmp_path / "a")


def test_somebody_elses_repository_is_left_alone(release, hub):
    hub._create({"organization": "someone", "name": "tiny"})
    hub.repositories["someone/tiny"].commit({"thesis.pdf": b"x"})
    with pytest.raises(OutputError, match=r"holds thesis\.pdf, which is no release made by sar1m"):
        sent(release)


def test_a_blob_that_the_hub_damaged_is_found_and_no_marker_set(release, hub):
    def spoil(content):
        return content[:-1] + bytes([content[-1] ^ 1])

    hub.spoil_upload = spoil
    with pytest.raises(StoreError, match="differ there from what was sent, twice"):
        sent(release)
    assert RELEASE_MARKER_FILE not in hub.repositories["someone/tiny"].tree


def test_a_file_that_changed_on_the_hub_is_found_by_remote_verification(release, hub):
    sent(release)
    repository = hub.repositories["someone/tiny"]
    name = "data/train.zarr/sar/c/0/0/0/0"
    content = bytearray(repository.tree[name])
    content[7] ^= 1
    tree = {**repository.tree, name: bytes(content), "more": b"x"}
    del tree["LICENSE"]
    repository.commit(tree)
    found = {fault.path: fault.found for fault in verify_release(TARGET, Silence()).faults}
    assert found == {name: "content differs from its sha256", "more": "not in the manifest", "LICENSE": "missing"}
    assert verify_release(f"{TARGET}@v1.0.0", Silence()).faults == ()


def test_two_publishings_at_a_time_cannot_mix(tmp_path, hub):
    release = few_files(tmp_path / "release")

    def interfere(number, done):
        repository = hub.repositories.get("someone/tiny")
        if done and repository and CLAIM_FILE in repository.tree and "intruder" not in repository.tree:
            repository.commit({**repository.tree, "intruder": b"x"})

    hub.on_request = interfere
    with pytest.raises(UnreachableError, match="HTTP status 412"):
        sent(release)
    hub.on_request = None
    assert RELEASE_MARKER_FILE not in hub.repositories["someone/tiny"].tree


@pytest.mark.parametrize("kills", [3, *campaign(20)])
def test_killed_at_random_requests_it_ends_complete(tmp_path, hub, kills):
    release = few_files(tmp_path / "release")

    def look(target):
        repository = hub.repositories.get(target.removeprefix("hf://datasets/"))
        return {} if repository is None else stored(repository)

    killer = Killer(hub, lambda: len(hub.server.asked))
    names = (f"hf://datasets/someone/killed-{number}" for number in range(100))
    survive_kills(killer, release, kills, most=24, fresh=lambda: next(names), look=look)
    for repository in hub.repositories.values():
        assert repository.tags == {"v1.0.0": repository.commits[-1][0]}


def test_what_was_uploaded_before_a_kill_is_not_uploaded_again(tmp_path, hub):
    release = few_files(tmp_path / "release")
    assert Killer(hub, lambda: len(hub.server.asked)).run(release, TARGET) == 0
    assert len(hub.uploads) == len(set(hub.uploads)) > 5


def test_the_hubs_limits_are_told_beforehand(release, hub, monkeypatch):
    monkeypatch.setattr(hub_module, "_MAX_ENTRIES", 5)
    with pytest.raises(OutputError, match=r"data/\w+\.zarr: \d+ entries; the hub takes under 5"):
        sent(release)
    monkeypatch.setattr(hub_module, "_MAX_FILES", 20)
    with pytest.raises(OutputError, match=r"\d+ files; the hub takes under 20"):
        sent(release)
    assert hub.repositories == {}


def test_a_wrong_token_is_named_as_such_and_shows_nowhere(release, hub, monkeypatch, caplog):
    monkeypatch.setenv("HF_TOKEN", "hf_canary_wrong_18")
    with pytest.raises(UnreachableError, match=r"HTTP status 401. Check the credentials") as caught:
        sent(release)
    everything = (
        str(caught.value)
        + repr(caught.value.__cause__)
        + caplog.text
        + repr(vars(hub_module.HubTarget(TARGET, private=False)))
    )
    assert "canary" not in everything


def test_a_release_comes_back_from_the_hub_byte_for_byte(release, hub, tmp_path):
    sent(release)
    summary = get(f"{TARGET}@v1.0.0", tmp_path / "here", Portion(), Silence())
    assert contents(tmp_path / "here") == contents(release)
    assert summary.left_out == 0


@pytest.mark.parametrize("target", ["hf://datasets/tiny", "hf://someone/tiny", "hf://datasets/someone/tiny@v1"])
def test_targets_on_the_hub_are_repositories(release, target):
    with pytest.raises(ConfigError):
        sent(release, target)
