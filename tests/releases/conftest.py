"""Builds that several tests of releases take."""

import shutil
from types import SimpleNamespace

import pytest

from support.made_releases import make_build
from support.once import once


@pytest.fixture(scope="session")
def built(tmp_path_factory, small_build):
    """large: 4 cells; other: 3 cells of another world; part: one cell of large, pixel for pixel; noisy: the same sample
    ids under more speckle."""

    def make(folder):
        make_build(folder / "other", 3, "seed=2")
        make_build(folder / "part", 1)
        make_build(folder / "noisy", 1, "simulated.enl=3")
        return folder

    own = shutil.copytree(once(tmp_path_factory, "release-builds", make), tmp_path_factory.mktemp("builds") / "made")
    shutil.copytree(small_build, own / "large")
    return SimpleNamespace(**{name: own / name for name in ("large", "other", "part", "noisy")})
