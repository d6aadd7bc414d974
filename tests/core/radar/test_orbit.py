from dataclasses import replace

import numpy as np
import pytest

from sar1m.core.radar.orbit import check_orbit, positions_at, reach_s
from sar1m.core.radar.product import Orbit
from sar1m.store.errors import SourceError
from support import circular

TIMES_S = np.linspace(-60.0, 90.0, 1201)


@pytest.mark.parametrize(("step_s", "worst_m"), [(10.0, 2e-8), (1.0, 2e-8), (30.0, 1e-5)])
def test_the_closed_form_comes_back(step_s, worst_m):
    state = positions_at(circular.orbit(step_s), TIMES_S)
    position_m, velocity_m_s, acceleration_m_s2 = circular.state_at(TIMES_S)
    np.testing.assert_allclose(state.position_m, position_m, rtol=0, atol=worst_m)
    np.testing.assert_allclose(state.velocity_m_s, velocity_m_s, rtol=0, atol=10 * worst_m)
    np.testing.assert_allclose(state.acceleration_m_s2, acceleration_m_s2, rtol=0, atol=100 * worst_m)


def test_uneven_vectors_are_passed_through():
    time_s = np.array([-20.0, -13.0, -1.0, 4.0, 18.0, 23.0])
    position_m, velocity_m_s, _ = circular.state_at(time_s)
    uneven = Orbit(time_s=time_s, position_m=position_m, velocity_m_s=velocity_m_s, source="annotation")
    state = positions_at(uneven, time_s)
    np.testing.assert_allclose(state.position_m, position_m, rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.velocity_m_s, velocity_m_s, rtol=0, atol=1e-8)


def test_only_the_four_nearest_vectors_count():
    """Displacing vector 8 (20 s) changes the orbit between vectors 6 and 10, where it is one of the four nearest."""
    sound = circular.orbit()
    away_m = np.where(np.arange(16)[:, None] == 8, 1000.0, 0.0)
    displaced = replace(sound, position_m=sound.position_m + away_m)
    time_s = np.linspace(-60.0, 90.0, 1201)
    moved_m = np.abs(positions_at(displaced, time_s).position_m - positions_at(sound, time_s).position_m).max(axis=1)
    inside = (time_s > sound.time_s[6]) & (time_s < sound.time_s[10])
    off_vectors = time_s % 10 != 0
    assert (moved_m[inside & off_vectors] > 1e-3).all()
    assert (moved_m[~inside] < 1e-7).all()


def test_shape_is_kept_and_nan_stays():
    state = positions_at(circular.orbit(), np.array([[0.0, np.nan], [3.0, 4.0]]))
    assert state.position_m.shape == state.velocity_m_s.shape == state.acceleration_m_s2.shape == (2, 2, 3)
    assert np.isnan(state.position_m[0, 1]).all()
    assert np.isfinite(state.position_m[1]).all()


def test_a_sound_orbit_passes():
    check_orbit(circular.orbit(), 0.0, 25.0, "scene")
    check_orbit(circular.orbit(1.0, -2.0, 25.0), 0.0, 25.0, "scene")
    check_orbit(circular.orbit(10.0, 0.0, 30.0), -1.9, 31.9, "scene")


def broken(**changes):
    return replace(circular.orbit(), **changes)


SOUND = circular.orbit()
BENT = np.where(np.arange(16)[:, None] == 7, SOUND.velocity_m_s + 1.0, SOUND.velocity_m_s)
MOVED = np.where(np.arange(16)[:, None] == 7, SOUND.position_m + 20.0, SOUND.position_m)
CASES = {
    "3 state vectors": broken(
        time_s=SOUND.time_s[:3], position_m=SOUND.position_m[:3], velocity_m_s=SOUND.velocity_m_s[:3]
    ),
    "not finite": broken(position_m=np.where(SOUND.position_m == SOUND.position_m[4, 1], np.nan, SOUND.position_m)),
    "vectors 8 and 9 do not rise": broken(time_s=np.where(SOUND.time_s == 30.0, 20.0, SOUND.time_s)),
    "distance from the Earth's centre": broken(position_m=SOUND.position_m / 1000),
    "speed": broken(velocity_m_s=SOUND.velocity_m_s * 1.1),
    "velocity of vector 7": broken(velocity_m_s=BENT),
    "slope of the positions": broken(position_m=MOVED),
    "slope of the positions; at most": broken(velocity_m_s=-SOUND.velocity_m_s),
    "extrapolated": broken(time_s=SOUND.time_s + 63.0),
}


@pytest.mark.parametrize("words", CASES)
def test_wrong_orbits_are_refused(words):
    with pytest.raises(SourceError, match=words) as refusal:
        check_orbit(CASES[words], 0.0, 25.0, "S1A_TEST")
    assert "S1A_TEST" in str(refusal.value)
    assert "annotation" in str(refusal.value)


def test_inertial_velocities_are_refused():
    """An orbit file in an inertial frame differs by the Earth's rotation, up to 490 m/s."""
    inertial = SOUND.velocity_m_s + np.cross(circular.EARTH_TURN, SOUND.position_m)
    with pytest.raises(SourceError, match="velocity"):
        check_orbit(broken(velocity_m_s=inertial), 0.0, 25.0, "S1A_TEST")


def test_reach_is_a_fifth_of_the_spacing():
    assert reach_s(np.array([0.0, 10.0, 20.0, 25.0])) == (-2.0, 26.0)
