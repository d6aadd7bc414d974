"""Builds that several tests of releases take."""

from types import SimpleNamespace

import pytest

from support.made_releases import make_build


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """large: 4 cells; other: 3 cells of another world; part: one cell of large, pixel for pixel; noisy: the same sample
    ids under more speckle."""
    folder = tmp_path_factory.mktemp("builds")
    return SimpleNamespace(
        large=make_build(folder / "large", 4),
        other=make_build(folder / "other", 3, "seed=2"),
        part=make_build(folder / "part", 1),
        noisy=make_build(folder / "noisy", 1, "simulated.enl=3"),
    )
