"""Folders and zips: which members are read, and the limits on XML."""

import os
import stat
import warnings
import zipfile

import pytest

from sar1m.io.safe import archive
from sar1m.io.safe.archive import open_archive
from sar1m.io.safe.product import read_product
from sar1m.io.safe.xml import parse_xml
from sar1m.store.errors import SourceError
from support.safe_factory import SafeRecipe, safe_members, write_members, write_safe, write_safe_zip

RECIPE = SafeRecipe(polarisations=("VV",))
ROOT = f"{RECIPE.name}.SAFE"


def zip_with(path, *entries, members=None):
    """The product as a zip, and after it further entries (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names given twice
        for name, content in (members or safe_members(RECIPE)).items():
            opened.writestr(f"{ROOT}/{name}", content)
        for name, content in entries:
            opened.writestr(name, content)
    return path


def entry(name, **attributes):
    made = zipfile.ZipInfo(name)
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made


def test_folder_and_zip_show_the_same_members(tmp_path):
    folder = write_safe(tmp_path, RECIPE)
    (folder / "annotation/rfi").mkdir()
    (folder / "annotation/rfi/rfi-s1a.xml").write_text("<rfi/>")
    (folder / "preview.png").write_bytes(b"x")
    packed = write_safe_zip(tmp_path / "p.zip", RECIPE)
    with open_archive(folder) as first, open_archive(packed) as second:
        assert first.root == second.root == ROOT
        assert sorted(first.members) == sorted(second.members) == sorted(safe_members(RECIPE))
        for name, content in safe_members(RECIPE).items():
            assert first.read(name) == second.read(name) == content
            assert first.members[name].size == second.members[name].size == len(content)
            assert first.members[name].crc32 is None


@pytest.mark.parametrize(
    "name",
    ["../x.xml", "/etc/x", f"{ROOT}/annotation/../../x", f"{ROOT}/annotation\\x.xml", "C:/x", f"{ROOT}//x", "a\nb"],
)
def test_names_that_leave_the_product_are_refused(tmp_path, name):
    with pytest.raises(SourceError, match=r"p\.zip: holds a member named .* may point outside the product"):
        read_product(zip_with(tmp_path / "p.zip", (name, b"evil")))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (entry(f"{ROOT}/manifest.safe"), "manifest.safe.: is there twice"),
        (entry(f"{ROOT}/annotation/a.xml", external_attr=(stat.S_IFLNK | 0o777) << 16), "a link or a special file"),
        (entry(f"{ROOT}/measurement/a.tiff", external_attr=(stat.S_IFIFO | 0o666) << 16), "a link or a special file"),
        (entry(f"{ROOT}/annotation/a.xml", compress_type=zipfile.ZIP_LZMA), "packed by method 14, not deflate"),
        (entry("S1A_OTHER.SAFE/manifest.safe"), "holds 2 products"),
    ],
)
def test_entries_of_other_kinds_are_refused(tmp_path, made, message):
    with pytest.raises(SourceError, match=message):
        read_product(zip_with(tmp_path / "p.zip", (made, b"<x/>")))


def test_encrypted_members_are_refused(tmp_path):
    path = zip_with(tmp_path / "p.zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"manifest\.safe\): is encrypted"):
        read_product(path)


def test_links_in_a_folder_are_refused(tmp_path):
    folder = write_safe(tmp_path, RECIPE)
    (folder / "manifest.safe").rename(tmp_path / "elsewhere")
    (folder / "manifest.safe").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"manifest\.safe: a link or a special file"):
        read_product(folder)


def test_a_bomb_is_refused_by_its_ratio_before_it_is_inflated(tmp_path):
    members = safe_members(RECIPE)
    members[f"annotation/{RECIPE.stem('VV')}.xml"] = b" " * 20 * 2**20
    with pytest.raises(SourceError, match=r"announces 20971520 bytes from \d+; expected at most"):
        read_product(zip_with(tmp_path / "p.zip", members=members))


def test_a_bomb_that_lies_about_its_size_is_stopped_while_it_flows(tmp_path, monkeypatch):
    """The directory states 30 bytes. Unpacking stops there, and the checksum fails."""
    members = safe_members(RECIPE)
    name = f"annotation/{RECIPE.stem('VV')}.xml"
    members[name] = b" " * 20 * 2**20
    path = zip_with(tmp_path / "p.zip", members=members)
    content = path.read_bytes().replace((20 * 2**20).to_bytes(4, "little"), (30).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot be read \(BadZipFile: Bad CRC-32"):
        read_product(path)
    monkeypatch.setattr(archive, "MAX_XML_RATIO", 10**9)
    with (
        open_archive(zip_with(path, members=members)) as opened,
        pytest.raises(SourceError, match="announces 20971520"),
    ):
        opened.read(name, 1000)


def test_a_folder_member_is_read_up_to_its_limit(tmp_path):
    folder = write_safe(tmp_path, RECIPE)
    with open_archive(folder) as opened, pytest.raises(SourceError, match=r"manifest\.safe: more than 100 bytes"):
        opened.read("manifest.safe", 100)


def test_a_flipped_byte_fails_the_checksum(tmp_path):
    path = write_safe_zip(tmp_path / "p.zip", RECIPE, method=zipfile.ZIP_STORED)
    content = path.read_bytes()
    assert content.count(b"<pass>Ascending</pass>") == 1
    path.write_bytes(content.replace(b"<pass>Ascending</pass>", b"<pass>ascending</pass>"))
    with pytest.raises(SourceError, match="Bad CRC-32"):
        read_product(path)


def test_a_directory_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for index in range(12_000):
            opened.writestr(f"{ROOT}/{index:0100d}", b"")
    with pytest.raises(SourceError, match="its directory claims 2628000 bytes"):
        read_product(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_zip_is_refused(tmp_path, content):
    path = tmp_path / "p.zip"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"p\.zip: (cannot be opened as a zip|holds 0 products)"):
        read_product(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.zip")
    with pytest.raises(SourceError, match="not a regular file"):
        read_product(tmp_path / "p.zip")
    folder = write_members(tmp_path / ROOT, safe_members(RECIPE))
    (folder / "manifest.safe").unlink()
    os.mkfifo(folder / "manifest.safe")
    with pytest.raises(SourceError, match="a link or a special file"):
        read_product(folder)


# ---- XML ----

LAUGHS = b'<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><r>&b;</r>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS, r"declares a document type or entities \(DTDForbidden\)"),
        (b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>', r"declares a document type or entities"),
        (b"", "is empty"),
        (b"<r>", "not well-formed XML: no element found"),
        ("<r/>".encode("utf-16"), "is not UTF-8 text"),
        (b'<?xml version="1.0" encoding="utf-7"?><r/>', "is not UTF-8 text"),
        (b"<r>\xff</r>", "not well-formed XML"),
        (b"<a>" * 100 + b"</a>" * 100, "not well-formed XML: elements lie more than 64 deep"),
        (b"<r>" + b"<a/>" * 600_000 + b"</r>", "has 600002 tags"),
        (
            b"<r " + b" ".join(b"a%d=''" % index for index in range(65)) + b"/>",
            "has an element of more than 64 attributes",
        ),
        (b"<r xmlns:x='" + b"u" * 300 + b"'/>", "declares a namespace of an absurd length"),
    ],
)
def test_xml_that_would_cost_or_reach_too_much_is_refused(content, message):
    with pytest.raises(SourceError, match=f"^a file: {message}"):
        parse_xml(content, "a file")


def test_real_shapes_of_xml_pass():
    root = parse_xml(
        b'\n<?xml version="1.0"?>'.strip() + b"<r xmlns:x='urn:x'><x:a count='2'> 1 2\n</x:a></r>", "a file"
    )
    assert root.numbers("{*}a").tolist() == [1.0, 2.0]
    with pytest.raises(SourceError, match=r"^a file: r/b: found none; expected one"):
        root.text("b")


def test_a_list_of_numbers_is_bounded():
    root = parse_xml(b"<r><a>" + b"1 " * 1_100_000 + b"</a></r>", "a file")
    with pytest.raises(SourceError, match="a file: r/a: found 2200000 characters"):
        root.numbers("a")


def test_reading_a_zip_leaves_no_open_file(tmp_path):
    path = write_safe_zip(tmp_path / "p.zip", RECIPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        read_product(path)
        with pytest.raises(SourceError):
            read_product(zip_with(tmp_path / "q.zip", ("../x", b"")))
