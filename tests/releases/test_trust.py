"""Whose a release is: digests and signatures of its manifest, made and checked by ssh-keygen itself."""

import json
import shutil
import subprocess

import pytest

from sar1m.releases.make import ReleaseRequest, make_release
from sar1m.releases.portions import Portion, get
from sar1m.releases.trust import NAMESPACE, Trust, sign
from sar1m.releases.verification import verify_release
from sar1m.store.durable import digest_file
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.sample_filter import SampleFilter
from sar1m.store.schema import MANIFEST_FILE, RELEASE_MARKER_FILE, SIGNATURE_FILE
from sar1m.store.seal import require_seal
from sar1m.store.seal_text import RELEASE_MARKERS, marker_bytes
from servers.base import Reply
from servers.objects import PREFIX, folder_server
from support.tiny_releases import Silence, contents, put, seal_release, tiny_release

WHO = "publisher@example.org"
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Private keys ours and other; the file of allowed signers names ours for WHO."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name]
        subprocess.run(command, check=True)
    public = (folder / "ours.pub").read_text()
    (folder / "signers").write_text(f'{WHO} namespaces="{NAMESPACE}" {public}')
    return folder


@pytest.fixture
def release(tmp_path):
    """Named and numbered as real ones are, in the arrays' attributes too."""
    root = tiny_release(tmp_path / "release")
    for meta in (root / "data").glob("*.zarr/zarr.json"):
        content = json.loads(meta.read_text())
        content["attributes"] |= {"name": "tiny", "version": "1.0.0"}
        meta.write_text(json.dumps(content))
    seal_release(root, name="tiny", version="1.0.0", schema_version="1.1")
    return root


def trusting(keys, **given):
    return Trust(**{"signer": WHO, "allowed_signers": keys / "signers", **given})


def faults(root, trust):
    return {fault.path: fault.found for fault in verify_release(root, Silence(), trust=trust).faults}


@needs_ssh
def test_ssh_keygen_alone_checks_a_signed_release(release, keys):
    sign(release, keys / "ours")
    command = ["ssh-keygen", "-Y", "verify", "-f", keys / "signers", "-I", WHO, "-n", "sar1m-release"]
    manifest = (release / MANIFEST_FILE).read_bytes()
    subprocess.run([*command, "-s", release / SIGNATURE_FILE], input=manifest, check=True, capture_output=True)
    subprocess.run(["sha256sum", "--quiet", "-c", MANIFEST_FILE], cwd=release, check=True)
    assert faults(release, trusting(keys)) == {}
    assert faults(release, Trust()) == {}


@needs_ssh
def test_a_signature_of_ssh_keygen_alone_is_taken(release, keys):
    command = ["ssh-keygen", "-Y", "sign", "-q", "-f", keys / "ours", "-n", "sar1m-release", release / MANIFEST_FILE]
    subprocess.run(command, check=True, capture_output=True)
    assert faults(release, trusting(keys)) == {}


def change_release(root):
    """Another file under a new manifest and marker: whole in itself."""
    signature = (root / SIGNATURE_FILE).read_bytes()
    (root / SIGNATURE_FILE).unlink()
    put(root / "LICENSE", b"do as you like\n")
    seal_release(root, name="tiny", version="1.0.0", schema_version="1.1")
    put(root / SIGNATURE_FILE, signature)


def rename(root):
    """The marker, which the manifest does not cover, under another version."""
    seal = require_seal(FolderPlace(root), RELEASE_MARKERS)
    put(root / RELEASE_MARKER_FILE, marker_bytes({**seal.marker, "version": "2.0.0"}, seal.manifest_bytes, seal.sizes))


FORGED = {
    "another key": (
        lambda root, keys: sign(root, keys / "other"),
        SIGNATURE_FILE,
        "not a signature of the manifest by",
    ),
    "another content": (lambda root, keys: change_release(root), SIGNATURE_FILE, "not a signature of the manifest"),
    "another version": (lambda root, keys: rename(root), RELEASE_MARKER_FILE, r"says tiny v2\.0\.0, its arrays"),
    "no signature": (lambda root, keys: (root / SIGNATURE_FILE).unlink(), SIGNATURE_FILE, "is not signed"),
    "no real one": (lambda root, keys: put(root / SIGNATURE_FILE, b"x"), SIGNATURE_FILE, "not a signature"),
}


@needs_ssh
@pytest.mark.parametrize("kind", FORGED)
def test_what_the_publisher_did_not_sign_is_named_and_not_fetched(release, keys, tmp_path, kind):
    sign(release, keys / "ours")
    forge, path, words = FORGED[kind]
    forge(release, keys)
    found = faults(release, trusting(keys))
    assert found.keys() == {path}
    with pytest.raises(StoreError, match=words):
        get(str(release), tmp_path / "copy", Portion(), Silence(), trusting(keys))
    assert not (tmp_path / "copy").exists()
    assert faults(release, Trust()) == {}


@needs_ssh
def test_another_purpose_or_person_is_not_the_signer(release, keys, tmp_path):
    sign(release, keys / "ours")
    for line in (WHO.replace("publisher", "else"), f'{WHO} namespaces="git"'):
        (tmp_path / "signers").write_text(f"{line} {(keys / 'ours.pub').read_text()}")
        assert faults(release, trusting(keys, allowed_signers=tmp_path / "signers")).keys() == {SIGNATURE_FILE}


@needs_ssh
def test_the_signature_comes_along_in_every_part_and_to_every_place(sar1m, release, keys, tmp_path):
    sign(release, keys / "ours")
    options = ["--signer", WHO, "--allowed-signers", keys / "signers"]
    with folder_server(release) as server:
        assert sar1m("get", f"{server.url}{PREFIX}", tmp_path / "copy", *options)[0] == 0
        assert sar1m("verify", f"{server.url}{PREFIX}", *options)[0] == 0
    assert contents(tmp_path / "copy") == contents(release)
    get(str(release), tmp_path / "val", Portion(split="val"), Silence())
    assert sar1m("publish", release, tmp_path / "there")[0] == 0
    for place in ("val", "there"):
        code, out, err = sar1m("verify", tmp_path / place, *options)
        assert (code, f"Publisher: signed by {WHO}." in out) == (0, True), err


@needs_ssh
def test_a_part_by_samples_of_a_signed_release_is_bound_to_its_signer(built, keys, tmp_path):
    request = ReleaseRequest(version="1.0.0", check_builds=False, sign=keys / "ours")
    make_release([built.part], tmp_path / "release", request, Silence())
    before = contents(tmp_path / "release")
    assert make_release([built.part], tmp_path / "release", request, Silence()).nothing_to_do
    assert contents(tmp_path / "release") == before
    portion = Portion(samples=SampleFilter(where="paired"))
    get(str(tmp_path / "release"), tmp_path / "part", portion, Silence(), trusting(keys))
    assert faults(tmp_path / "part", trusting(keys)) == {}
    sign(tmp_path / "release", keys / "other")
    shutil.copy(tmp_path / "release" / SIGNATURE_FILE, tmp_path / "part/provenance/release" / SIGNATURE_FILE)
    assert f"provenance/release/{SIGNATURE_FILE}" in faults(tmp_path / "part", trusting(keys))


def test_a_manifest_is_pinned_by_its_digest(sar1m, release, tmp_path):
    right = digest_file(release / MANIFEST_FILE).sha256
    code, out, _ = sar1m("get", release, tmp_path / "copy", "--manifest-sha256", right.upper())
    assert (code, "its manifest is the one given" in " ".join(out.split())) == (0, True)
    assert sar1m("verify", tmp_path / "copy", "--manifest-sha256", right)[0] == 0
    wrong = "0" * 64
    code, _, err = sar1m("get", release, tmp_path / "other", "--manifest-sha256", wrong)
    assert (code, f"sha256 {right}" in " ".join(err.split())) == (1, True)
    assert not (tmp_path / "other").exists()
    assert sar1m("verify", release, "--manifest-sha256", wrong)[0] == 1
    assert sar1m("verify", release, "--manifest-sha256", "abc")[0] == 2


def test_allowed_signers_alone_check_nothing_and_are_refused(sar1m, release, tmp_path):
    for command in (["verify", release], ["get", release, tmp_path / "copy"]):
        code, _, err = sar1m(*command, "--allowed-signers", tmp_path / "signers")
        assert (code, "without --signer no signature is checked" in " ".join(err.split())) == (2, True)


def test_without_ssh_keygen_or_keys_it_is_said_what_is_missing(sar1m, monkeypatch, release, tmp_path):
    if shutil.which("ssh-keygen"):
        with pytest.raises(ConfigError, match=r"no such file\. Give --allowed-signers"):
            Trust(signer=WHO, allowed_signers=tmp_path / "none")
        with pytest.raises(ConfigError, match=r"no such file\. Give a key"):
            sign(release, tmp_path / "none")
        put(tmp_path / "key", b"no key")
        with pytest.raises(ConfigError, match="ssh-keygen does not sign with it"):
            sign(release, tmp_path / "key")
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in (["verify", release, "--signer", WHO], ["release", release, "--version", "1.0.0", "--sign", "k"]):
        code, _, err = sar1m(*command)
        assert (code, "apt-get install openssh-client" in " ".join(err.split())) == (2, True)


def test_a_server_that_hides_what_is_not_there_gives_an_unsigned_release(release, tmp_path):
    def answer(asked, right):
        return Reply(status=403) if asked.path.endswith(".sig") else right

    with folder_server(release, answer) as server:
        server.fault = answer
        get(f"{server.url}{PREFIX}", tmp_path / "copy", Portion(), Silence())
    assert contents(tmp_path / "copy") == contents(release)
