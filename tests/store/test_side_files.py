"""The one reader of side files: every kind of strange file is refused by name, at once; JSON means what Python's means.

The oracles are the operating system (what a name leads to), RFC 8259 and its neighbours by Python's json, and the
written limits.
"""

import contextlib
import json
import os
import socket
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store import side_files
from sar1m.store.errors import ConfigError, SourceError
from support.hang_guard import hang_guard


def pipe(path):
    os.mkfifo(path)


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def sparse(path):
    with path.open("wb") as stream:
        stream.truncate(2**40)


STRANGE_FILES = {
    "nothing": (lambda path: None, "there is no such file"),
    "below_a_file": (lambda path: path.parent.touch(), "there is no such file"),
    "pipe": (pipe, "is a pipe; a regular file expected"),
    "socket": (bound_socket, "is a socket; a regular file expected"),
    "folder": (lambda path: path.mkdir(), "is a folder; a regular file expected"),
    "zeros": (lambda path: path.symlink_to("/dev/zero"), "is a device; a regular file expected"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), "is a device; a regular file expected|cannot be read"),
    "link_to_a_pipe": (lambda path: (pipe(f"{path}.fifo"), path.symlink_to(f"{path}.fifo")), "is a pipe"),
    "link_to_itself": (lambda path: path.symlink_to(path), "cannot be read: Too many levels"),
    "terabyte": (sparse, r"holds 1099511627776 bytes; at most \d+ are read"),
}


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_a_name_that_leads_to_no_small_regular_file_is_refused_at_once(tmp_path, kind):
    make, found = STRANGE_FILES[kind]
    path = tmp_path / ("plain/x" if kind == "below_a_file" else "x")
    make(path)
    for read in (side_files.read_bytes, side_files.read_text, side_files.read_json, side_files.read_table):
        with hang_guard(cpu_s=5, stuck_s=20), pytest.raises(SourceError, match=rf"{path}: ({found}).* Do this\.$"):
            read(path, error=SourceError, remedy="Do this.")
    if kind != "terabyte":
        with hang_guard(cpu_s=5, stuck_s=20), pytest.raises(SourceError, match=found):
            side_files.require_regular(path, error=SourceError, remedy="Do this.")


def test_a_file_that_grows_while_it_is_read_and_one_without_a_size_are_read_to_the_limit(tmp_path):
    """/proc files state 0 bytes; what they hold counts."""
    with pytest.raises(ConfigError, match="holds more than 3 bytes"):
        side_files.read_bytes(side_files.Path("/proc/self/status"), error=ConfigError, remedy="", max_bytes=3)
    (tmp_path / "full").write_bytes(b"abc")
    assert side_files.read_bytes(tmp_path / "full", error=ConfigError, remedy="", max_bytes=3) == b"abc"


def test_a_path_is_named_without_its_control_characters(tmp_path):
    with pytest.raises(ConfigError) as caught:
        side_files.read_text(tmp_path / "a\x1b[2J\nb", error=ConfigError, remedy="Look.")
    assert str(caught.value).endswith(r"a\x1b[2J\nb: there is no such file. Look.")
    with pytest.raises(ConfigError, match=r"a\\x00b: holds a NUL character"):
        side_files.read_text(tmp_path / "a\0b", error=ConfigError, remedy="Look.")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[1]".encode("utf-16"), "is UTF-16 text; UTF-8 expected"),
        (b"\xff\xfe\0\0[\0\0\0", "is UTF-32 text"),
        (b'["\xe9"]', r"is not UTF-8 text \(byte 2 is 0xe9\)"),
        (b'["\xed\xa0\x80"]', "is not UTF-8 text"),
        (b"[1,\n2\0]", r"holds a NUL character \(line 2\)"),
        (b"", "is not JSON"),
        (b"[1]]", "is not JSON"),
        (b"[" * 65 + b"]" * 65, "nests deeper than 64 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "nests deeper than 64 levels"),
        (b'{"a":' * 100_000, "nests deeper than 64 levels"),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, "nests deeper than 64 levels"),
        (b"[18446744073709551616]", "holds the integer 18446744073709551616; at most 64 bits"),
        (b"[-9223372036854775809]", "holds the integer -9223372036854775809; at most 64 bits"),
        (b"1" + b"0" * 5_000, r"holds the integer 1000+\.\.\.; at most 64 bits"),
        (b'[{"a": 1, "b": 2, "a": 3}]', "holds the name 'a' twice in one object"),
        (b'["a\\u0000b"]', r"holds the text 'a\\x00b'"),
        (b'{"\\uD800": 1}', r"holds the text '\\ud800'"),
    ],
)
def test_json_that_no_reader_should_meet_is_refused_with_the_reason(content, found):
    with hang_guard(cpu_s=5), pytest.raises(ValueError, match=found):
        side_files.json_value(content)


def test_json_of_more_lists_than_memory_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(side_files, "MAX_CONTAINERS", 1_000)
    assert len(side_files.json_value(b"[" + b"[]," * 998 + b"[]]")) == 999
    with pytest.raises(ValueError, match="holds 1001 lists and objects; at most 1000"):
        side_files.json_value(b"[" + b"[]," * 999 + b"[]]")


def test_what_the_limits_allow_is_read(tmp_path):
    deep = b"[" * 64 + b"]" * 64
    assert side_files.json_value(deep) == json.loads(deep)
    assert side_files.json_value(b'["' + b"[{" * 500 + b'\\"]"]') == ["[{" * 500 + '"]']
    assert side_files.json_value(b"[18446744073709551615, -9223372036854775808]") == [2**64 - 1, -(2**63)]
    assert side_files.json_value(b'\xef\xbb\xbf["\\ud83d\\udef0", "\\\\u0000"]') == ["\U0001f6f0", "\\u0000"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.sampled_from('[]{}"\\,: a')), inner, max_size=4),
    max_leaves=40,
)  # fmt: skip


@given(JSON, st.booleans())
def test_every_json_value_of_python_is_read_as_it_was_written(value, ascii_only):
    assert side_files.json_value(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.integers(0, 40), st.integers(0, 40), st.text(st.sampled_from('[]{}"\\ a'), max_size=90))
def test_depth_is_that_of_the_value_whatever_its_texts_hold(lists, objects, text):
    value = text
    for _ in range(objects):
        value = {text: value}
    for _ in range(lists):
        value = [value, text]
    content = json.dumps(value).encode()
    if lists + objects <= side_files.MAX_DEPTH:
        assert side_files.json_value(content) == value
    else:
        with pytest.raises(ValueError, match="nests deeper"):
            side_files.json_value(content)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a = [\n", "is not valid TOML: .*end of document"),
        ("a = " + "[" * 100_000, "nests deeper"),
        ("a = " + "[" * 65 + "]" * 65, "nests deeper"),
        ("a = " + "{a=" * 100_000, "nests deeper"),
        (".".join("a" * 30_000) + " = 1", "nests deeper"),
        ("[" + " . ".join(['"\\""'] * 30_000) + "]", "nests deeper"),
        ("a = 1" + "0" * 25, "holds an integer of 84 bits"),
        ("a = 1" + "0" * 5_000, "Exceeds the limit"),
        ("a = [-0x" + "f" * 100_000 + "]", "holds an integer of 400000 bits|is not valid"),
        ('a = "\\u0000"', r"holds the text '\\x00'"),
        ('a = "\\ud800"', "is not valid TOML"),
        ('m = "' + "a" * 500_000, "is not valid TOML"),
        ("m = " + '"\\' * 100_000, "is not valid TOML"),
    ],
)
def test_toml_that_would_stop_or_stall_a_reader_is_refused(text, found):
    with hang_guard(cpu_s=5), pytest.raises(ValueError, match=found):
        side_files.toml_value(text)


def test_toml_of_every_day_is_read():
    text = (
        'name = "x"\n[a.b]\nmeans = ['
        + "1.5, " * 2_000
        + ']\n[[c]]\nday = 2021-01-01\nhost = "a.b.c.d.e.f"\nyes = true\nmost = 0xffffffffffffffff\n'
    )
    value = side_files.toml_value(text)
    assert value["a"]["b"]["means"] == [1.5] * 2_000
    assert value["c"][0]["day"].year == 2021


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a,b\n"x,y\nc,d\n', r"is not CSV: unexpected end of data \(line 3\)"),
        ('a,b\n"x"y,z\n', r"is not CSV: .*expected after '\"' \(line 2\)"),
        ("a,b\n" + "x" * 131_073, "is not CSV: field larger than field limit"),
    ],
)
def test_csv_whose_quotes_do_not_hold_is_refused(tmp_path, text, found):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SourceError, match=rf"a\.csv: {found}.* Mend it\.$"):
        side_files.read_table(tmp_path / "a.csv", error=SourceError, remedy="Mend it.")


def test_rows_of_csv_carry_their_line_whatever_ends_it(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n"c\nd","e""f"\rg,')
    rows = side_files.read_table(tmp_path / "a.csv", error=SourceError, remedy="")
    assert rows == [(1, ["a", "b"]), (4, ["c\nd", 'e"f']), (5, ["g", ""])]


@given(st.binary(max_size=200) | st.text(st.sampled_from(string.printable + "\0é"), max_size=80).map(str.encode))
def test_no_bytes_at_all_raise_anything_but_a_value_error(content):
    for parse in (
        side_files.json_value,
        lambda one: side_files.toml_value(side_files.text_of(one)),
        lambda one: list(side_files.csv_rows(side_files.text_of(one))),
    ):
        with contextlib.suppress(ValueError):
            parse(content)
