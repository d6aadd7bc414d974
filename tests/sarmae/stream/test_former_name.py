"""The loader's former name, which published cards show, still works and says what to write instead."""

import importlib
import subprocess
import sys

import pytest

from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings


def test_the_former_name_of_the_loader_works_with_a_warning():
    sys.modules.pop("sarmae.data.stream", None)
    with pytest.warns(DeprecationWarning, match="write `from sarmae import LoaderSettings, ShardLoader`"):
        former = importlib.import_module("sarmae.data.stream")
    assert former.ShardLoader is ShardLoader
    assert former.LoaderSettings is LoaderSettings


def test_the_warning_names_the_line_of_the_user():
    code = "from sarmae.data.stream import ShardLoader"
    run = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert "<string>:1: DeprecationWarning: sarmae.data.stream is the former name" in run.stderr
