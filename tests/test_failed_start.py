"""A start that fails: no network, an address for an output, nothing left behind."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest

from sar1m.io.net import transport
from sar1m.io.net.faults import NoNetworkError, PassingError
from sar1m.store.addresses import Reach
from sar1m.store.durable import local_folder
from sar1m.store.errors import OutputError
from sarmae import cli as trainer

LONGEST_S = transport._PAUSE_S + transport._PATIENCE_S  # from the first failed look-up to the answer
AREA = "177,-20,178,-19"


@pytest.fixture
def offline(monkeypatch):
    """A resolver that knows no name, and the list of what it was asked."""
    asked = []

    def unknown(host, *_args, **_kwargs):
        asked.append((time.monotonic(), host))
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(transport, "_KNOWN", set())
    monkeypatch.setattr(transport, "_PAUSE_S", 0.01)
    return asked


@pytest.mark.parametrize("command", ["plan", "build"])
@pytest.mark.parametrize("sar", ["planetary-computer", "asf"])
def test_without_a_network_that_is_said_at_once_and_no_folder_is_left(command, sar, offline, sar1m, tmp_path):
    out = tmp_path / "new" / "out"
    options = ("--set", f"area.sar={sar}", "--set", "area.optical=planetary-computer")
    code, _, err = sar1m(command, "--region", AREA, "--out", out, *options)
    assert code == 1
    assert "there seems to be no network" in err
    assert len(offline) == 2  # the first look-up, and the one that decides
    assert list(tmp_path.iterdir()) == []


def test_a_resolver_that_never_answers_is_given_up(offline, monkeypatch):
    calls = []

    def silent(host, *_args, **_kwargs):
        calls.append(host)
        if len(calls) == 1:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        time.sleep(2)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr(transport, "_PATIENCE_S", 0.05)
    with pytest.raises(NoNetworkError, match=r"example\.org: the name does not resolve"):
        transport.resolve("example.org", 443, Reach())
    assert LONGEST_S < 5


def test_once_a_name_was_known_a_lost_one_is_asked_again(offline, monkeypatch):
    monkeypatch.setattr(transport, "_KNOWN", {"example.org"})
    with pytest.raises(PassingError, match="does not resolve"):
        transport.resolve("example.com", 443, Reach())


ADDRESSES = ("s3://bucket/x", "gs://bucket", "az://c/x", "hf://datasets/a/b", "https://example.org/x", "file:///tmp/x")


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_folder(address):
    with pytest.raises(OutputError, match="is an address, but this goes to folders") as said:
        local_folder(Path(address))
    assert address.replace("file:///", "file://") in str(said.value)


@pytest.mark.parametrize("path", ["build/x", "/tmp/a:b", "a:b/c", "C:/data", ".", "s3"])
def test_a_path_stays_as_it_is(path):
    assert local_folder(Path(path)) == Path(path)
    assert local_folder(None) is None


COMMANDS = (
    ("release", "s3://b/x", "--version", "1.0.0"),
    ("plan", "--region", "sample", "--out", "s3://b/x"),
    ("simulate", "s3://b/x"),
    ("release", "x", "--version", "1.0.0", "--out", "s3://b/x"),
    ("get", "x", "s3://b/x"),
)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("build", "--region", "sample", "--out", "memory://b/x"), 1, "no build can write to. Give a folder, s3://"),
        (("refilter", "https://b/x"), 1, "no build can write to"),
        (("build", "--region", "sample", "--out", "s3://bucket"), 1, "a whole bucket is no output"),
        (("status", "s3://user:secret@b/x"), 2, "without user, password, query and fragment"),
    ],
)
def test_what_builds_cannot_write_to_is_refused_in_words(command, code, said, sar1m, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, _, err = sar1m(*command)
    assert found == code
    assert said in " ".join(err.split())
    assert "secret" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_refuses_an_address(command, sar1m, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = sar1m(*command)
    assert code == 1
    assert "s3://b/x: is an address" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("pretrain", "--out", "s3://b/x"),
        ("evaluate", "folders:x", "--out", "s3://b/x"),
        ("cache-teacher", "--out", "s3://b/x"),
        ("export", "run", "s3://b/x"),
    ],
)
def test_so_does_the_trainer(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sarmae", *command])
    with pytest.raises(SystemExit) as left:
        trainer.main()
    assert left.value.code == 1
    assert "s3://b/x: is an address" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_box_across_180_says_so(sar1m, offline, tmp_path):
    _, _, err = sar1m("plan", "--region", "177,-20,-178,-19", "--out", tmp_path / "out")
    assert "crosses 180 degrees, since west (177) is over east (-178)" in err
