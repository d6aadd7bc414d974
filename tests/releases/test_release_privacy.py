"""What must not leave does not: planted words are found wherever they stand, and our own releases hold none."""

import shutil

import pandas as pd
import pytest

from sar1m.io.tables import parquet_bytes, read_table
from sar1m.releases.privacy import findings_in, own_secrets, require_private
from sar1m.store.errors import OutputError
from sar1m.store.table_columns import SAMPLE_COLUMNS, Column
from support.made_releases import contents, release, reseal

CANARY = "canary-7a-planted"
HOME = "/ho" + "me/somebody"  # in two parts: our own files name no home
MAIL = "somebody" + "@example.org"


@pytest.fixture(scope="module")
def root(built, tmp_path_factory):
    return release([built.part], tmp_path_factory.mktemp("private") / "r").root


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "r")


def found(folder, name, secrets=None):
    return [one.found for one in findings_in(folder, name, secrets or {CANARY: "a canary"})]


def test_our_releases_hold_nothing_of_their_maker(built, tmp_path, monkeypatch):
    monkeypatch.setenv("SAR1M_TILES_KEY", CANARY)
    monkeypatch.setenv("CDSE_PASSWORD", "canary-of-a-password")
    made = release([built.large], tmp_path / "r", canaries=("canary-of-the-call",)).root
    everything = b"".join(contents(made).values())
    for word in (CANARY, "canary-of-a-password", "canary-of-the-call", str(tmp_path), str(built.large)):
        assert word.encode() not in everything
    names = sorted(contents(made))
    assert [one for name in names for one in findings_in(made, name, own_secrets([built.large, made]))] == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"made in {HOME}/sar1m", "a home folder"),
        ("/ro" + "ot/work/build", "a home folder"),
        ("C:" + r"\Users\somebody", "a home folder"),
        (f"ask {MAIL} for it", "an e-mail address"),
        ("AKIA" + "ABCDEFGHIJKLMNOP", "a token"),
        ("hf_" + "a" * 34, "a token"),
        ("ghp_" + "B" * 36, "a token"),
        ("Bearer " + "abcdefghij.klmnopqrst", "a token"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "a token"),
        ("https://x.org/a?X-Amz-Signature=" + "0123456789abcdef", "a signed address"),
        ("https://x.org/a.tif?sig=" + "0123456789abcdef", "a signed address"),
        (CANARY, "a canary"),
    ],
)
def test_planted_words_are_found_in_text_and_tables(root, copy, text, kind):
    (copy / "provenance/environment.txt").write_text(f"numpy==2\n{text}\n")
    assert found(copy, "provenance/environment.txt") == [kind]
    for column, value in (("site", text), ("flags", ["fine", text]), ("land_cover", {text: 1.0})):
        table = read_table(root / "samples.parquet")
        table.at[0, column] = value
        (copy / "samples.parquet").write_bytes(parquet_bytes(table, SAMPLE_COLUMNS))
        assert found(copy, "samples.parquet") == [kind]


def test_innocent_text_is_not_found(copy):
    (copy / "README.md").write_text(
        "sar1m @ 1.0, `pip install x==1`, https://example.org/home/page?x=1&key=short, user@host, a/home/b, 10.5@VV, "
        f"<img src='data:image/png;base64,{HOME}/AKIAABCDEFGHIJKLMNOP'>"
    )
    assert found(copy, "README.md") == []


def test_unknown_files_and_columns_are_found(copy):
    number = Column(name="a", type="int64", unit="", description="a")
    for name in ("notes.md", "data/train.zarr/sar/notes", "provenance/build-log.jsonl", "splits/all.parquet"):
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes(pd.DataFrame({"a": [1]}), [number]))
        assert "a file that has no place in a release" in found(copy, name)
    extra = Column(name="operator", type="string", unit="", description="who pressed the button")
    table = read_table(copy / "samples.parquet").assign(operator="me")
    (copy / "samples.parquet").write_bytes(parquet_bytes(table, [*SAMPLE_COLUMNS, extra]))
    assert found(copy, "samples.parquet") == ["column 'operator' is not allow-listed"]


def test_a_finding_is_named_but_never_repeated(copy):
    (copy / "README.md").write_text(f"{MAIL} {CANARY}")
    with pytest.raises(OutputError, match=r"README\.md: an e-mail address; README\.md: a canary") as caught:
        require_private(copy, ["README.md"], {CANARY: "a canary"})
    assert MAIL not in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_canary_in_a_build_stops_the_release(built, tmp_path):
    build = shutil.copytree(built.part, tmp_path / "b", ignore=shutil.ignore_patterns("staging"))
    table = read_table(build / "samples.parquet").assign(processing=f"made in {HOME}/secret")
    (build / "samples.parquet").write_bytes(parquet_bytes(table, SAMPLE_COLUMNS))
    reseal(build)
    with pytest.raises(OutputError, match=r"samples\.parquet: a home folder"):
        release([build], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_own_secrets_are_the_environments_and_the_folders(tmp_path):
    secrets = own_secrets([tmp_path], {"A_TOKEN": "long-enough", "A_KEY": "short", "PLAIN": "nothing-secret"})
    assert set(secrets) == {"long-enough", str(tmp_path)}
