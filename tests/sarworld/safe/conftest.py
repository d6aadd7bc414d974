"""Scenes that several tests use."""

import pytest

from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import Ground, SceneSpec, Signal


@pytest.fixture(scope="session")
def small_scene(tmp_path_factory):
    """The default product with a small image, and all accompanying files."""
    return write_scene(tmp_path_factory.mktemp("small"), SceneSpec(lines=240, samples=300))


@pytest.fixture(scope="session")
def level_scene(tmp_path_factory):
    """Level ground of -12 dB, without speckle."""
    spec = SceneSpec(
        lines=260,
        samples=320,
        ground=Ground(relief_m=0.0, gamma0_db=-12.0),
        signal=Signal(looks=None),
    )
    return write_scene(tmp_path_factory.mktemp("level"), spec)
