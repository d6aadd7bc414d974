"""Selection as a whole: no row is lost, the order of rows does not matter, and every rule gives its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import BalanceConfig, ScreeningConfig, SplitConfig
from sar1m.core.select import Selection
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.table_columns import REJECTED_COLUMNS, SAMPLE_COLUMNS
from support.candidate_tables import candidate_table, choose, reasons
from support.examples import examples

MESSY = examples(0.2)


def messy_table(seed: int, count: int) -> pd.DataFrame:
    """Candidates of every kind: near each other, repeated, cloudy, wet, unpaired, with missing values."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, max(count // 3, 1), count)
    no_optical = rng.random(count) < 0.2
    water = rng.choice([0.0, 0.6, 0.97, np.nan], count, p=[0.6, 0.2, 0.1, 0.1])
    days = rng.choice([0, 6, 12, 40], count)
    return candidate_table(
        count,
        seed,
        lon=5 + 0.02 * (place % 7) + 0.9 * (place // 7),
        lat=50 + 0.02 * (place % 5),
        patch=[f"p{i}" for i in place],
        sample_id=[f"p{i}_{d}" for i, d in zip(place, days, strict=True)],
        sar_product=[f"s1-{i // 3}-{d}" for i, d in zip(place, days, strict=True)],
        relative_orbit=np.where(rng.random(count) < 0.1, np.nan, place % 3),
        sar_datetime=pd.to_datetime("2024-06-01T00:00:00Z") + pd.to_timedelta(days, unit="D"),
        optical_product=np.where(no_optical, None, "s2"),
        optical_nodata_frac=np.where(no_optical, np.nan, rng.choice([0.0, 0.5], count, p=[0.9, 0.1])),
        cloud_frac=np.where(no_optical, np.nan, rng.random(count) * 0.1),
        dt_hours=np.where(no_optical, np.nan, rng.normal(0, 200, count)),
        residual_px=rng.exponential(0.5, count),
        registration_status=rng.choice(["measured", "scene", "unmeasurable"], count),
        sar_nodata_frac=rng.choice([0.0, 0.02, np.nan], count, p=[0.9, 0.05, 0.05]),
        dynamic_range_db=rng.normal(8, 3, count),
        water_frac=water,
        phash=rng.choice(rng.integers(-(2**63), 2**63, size=max(count // 2, 1)), count),
        land_cover=[{}, {"tree": 1.0}, {"crop": 0.6, "tree": 0.4}] * (count // 3) + [{"crop": 1.0}] * (count % 3),
    )


def identities(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["key"], frame["patch"], strict=True))


def assert_whole(table: pd.DataFrame, selection: Selection) -> None:
    taken, turned_away = identities(selection.samples), identities(selection.rejected)
    assert sorted(taken + turned_away) == sorted(identities(table))


@MESSY
@given(seed=st.integers(0, 10_000), count=st.integers(1, 80), shuffle=st.integers(0, 10_000))
def test_row_order_changes_nothing_and_nothing_is_lost(seed, count, shuffle):
    table = messy_table(seed, count)
    balance = BalanceConfig(max_class_share=0.6)
    straight = choose(table, balance=balance)
    mixed = choose(table.sample(frac=1, random_state=shuffle), balance=balance)
    assert_whole(table, straight)
    pd.testing.assert_frame_equal(straight.samples, mixed.samples)
    pd.testing.assert_frame_equal(straight.rejected, mixed.rejected)
    assert straight.audit == mixed.audit
    assert straight.samples["sample_id"].is_unique


@MESSY
@given(seed=st.integers(0, 10_000), count=st.integers(1, 80))
def test_shares_buffer_and_train_hold_together(seed, count):
    config = BalanceConfig(max_unpaired_share=0.25, max_water_patch_share=0.2)
    samples = choose(messy_table(seed, count), balance=config, split=SplitConfig(val_share=0.2, test_share=0.2)).samples
    assert (~samples["paired"]).sum() <= 0.25 * len(samples)
    assert (samples["water_frac"] >= 0.5).sum() <= 0.2 * len(samples)
    assert (samples.groupby("block")["split"].nunique() == 1).all()
    assert len(samples) == 0 or (samples["split"] == "train").any()


LIMITS = {
    "max_sar_nodata_frac": st.floats(0, 1),
    "min_dynamic_range_db": st.floats(0, 15),
    "max_noise_floor_frac": st.floats(0, 1),
    "max_plateau_frac": st.floats(0, 1),
    "max_optical_plateau_frac": st.floats(0, 1),
    "max_saturated_frac": st.floats(0, 1),
    "max_layover_shadow_frac": st.floats(0, 1),
    "max_water_frac": st.floats(0, 1),
    "max_optical_nodata_frac": st.floats(0, 1),
    "max_cloud_frac": st.floats(0, 1),
    "max_dt_hours": st.floats(0, 400),
    "max_residual_px": st.floats(0.01, 2),
}


@MESSY
@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(LIMITS)), data=st.data())
def test_a_stricter_limit_never_adds_a_sample(seed, name, data):
    """Tested without near-duplicates, of which the second best may replace the best, and before the shares."""
    number = np.arange(60)
    table = messy_table(seed, 60).assign(
        patch=[f"p{i}" for i in number],
        sample_id=[f"p{i}_x" for i in number],
        sar_product=[f"s1-{i}" for i in number],
        phash=candidate_table(60)["phash"],
    )
    one, two = sorted(data.draw(st.tuples(LIMITS[name], LIMITS[name])), reverse=name.startswith("min"))
    for policy in ("unpair", "reject"):
        pairs = [ScreeningConfig(**{name: limit, "on_optical_failure": policy}) for limit in (one, two)]
        whole = SplitConfig(val_share=0, test_share=0)
        strict, loose = (choose(table, screening=config, split=whole).samples for config in pairs)
        assert set(strict["sample_id"]) <= set(loose["sample_id"])
        assert set(strict.loc[strict["paired"], "sample_id"]) <= set(loose.loc[loose["paired"], "sample_id"])


SAR_RULES = [
    ("sar_nodata", "sar_nodata_frac", 0.02, 0.01),
    ("plateau", "plateau_frac", 0.25, 0.2),
    ("dynamic_range", "dynamic_range_db", 2.5, 3.0),
    ("noise_floor", "noise_floor_frac", 0.75, 0.5),
    ("layover_shadow", "layover_shadow_frac", 0.25, 0.2),
    ("water", "water_frac", 0.97, 0.95),
]


@pytest.mark.parametrize(("reason", "column", "measured", "limit"), SAR_RULES)
def test_each_sar_rule_fires_alone_and_names_its_numbers(reason, column, measured, limit):
    table = candidate_table(12)
    table.loc[5, column] = measured
    selection = choose(table)
    assert reasons(selection) == {"p5_S1A": (reason, measured, limit)}
    assert len(selection.samples) == 11


OPTICAL_RULES = [
    ("dt", "dt_hours", -400.0, 360.0),
    ("optical_nodata", "optical_nodata_frac", 0.5, 0.01),
    ("optical_plateau", "optical_plateau_frac", 0.375, 0.3),
    ("saturated", "saturated_frac", 0.03125, 0.02),
    ("cloud", "cloud_frac", 0.0625, 0.05),
    ("residual", "residual_px", 1.5, 1.0),
]


@pytest.mark.parametrize(("reason", "column", "measured", "limit"), OPTICAL_RULES)
def test_each_optical_rule_unpairs_or_rejects(reason, column, measured, limit):
    table = candidate_table(12)
    table.loc[5, column] = measured
    samples = choose(table).samples.set_index("sample_id")
    assert len(samples) == 12
    assert samples["unpaired_reason"].to_dict() == dict.fromkeys(samples.index, "") | {"p5_S1A": reason}
    assert samples.index[~samples["paired"]].tolist() == ["p5_S1A"]
    rejecting = choose(table, screening=ScreeningConfig(on_optical_failure="reject"))
    assert reasons(rejecting) == {"p5_S1A": (reason, abs(measured), limit)}


@pytest.mark.parametrize(
    ("low", "high", "limit"),
    [
        (0.1003, 0.1003, 0.095),  # B10 under an offset of 1000 DN
        (0.0953, 0.1275, 0.095),  # water in four bands under the same
        (-0.0993, -0.0993, -0.05),  # B10 with the offset taken off twice
        (-0.0524, 0.12, -0.05),
    ],
)
def test_an_offset_that_the_pixels_deny_unpairs_before_cloud_and_names_the_floor(low, high, limit):
    table = candidate_table(6)
    floors = ["optical_floor_min", "optical_floor_max"]
    table.loc[2, [*floors, "cloud_frac"]] = [low, high, 0.9999]
    rejecting = choose(table, screening=ScreeningConfig(on_optical_failure="reject"))
    assert reasons(rejecting) == {"p2_S1A": ("radiometric_offset", pytest.approx(low, abs=1e-6), limit)}
    samples = choose(table).samples.set_index("sample_id")
    assert samples["unpaired_reason"]["p2_S1A"] == "radiometric_offset"
    off = ScreeningConfig(max_optical_floor=1.0, min_optical_floor=-1.0, max_cloud_frac=1.0)
    assert choose(table, screening=off).samples["paired"].all()


def test_dark_bright_and_unknown_floors_cost_nothing():
    low = [0.0008, -0.03, 0.1, 0.15, np.nan, 0.0418]  # clear B10; negative L2A; sand; snow; unknown; a savanna
    high = [0.0008, 0.2, 0.35, 0.8, np.nan, 0.1892]
    samples = choose(candidate_table(6, optical_floor_min=low, optical_floor_max=high)).samples
    assert samples["paired"].all()


def test_a_value_on_the_limit_passes_in_the_table_s_float32():
    at_limit = {
        "sar_nodata_frac": 0.01,
        "cloud_frac": 0.05,
        "layover_shadow_frac": 0.2,
        "dynamic_range_db": 3.0,
        "water_frac": 0.95,
        "residual_px": 1.0,
    }
    table = candidate_table(3, **{name: np.full(3, value, dtype=np.float32) for name, value in at_limit.items()})
    samples = choose(table).samples
    assert len(samples) == 3
    assert samples["paired"].all()


@pytest.mark.parametrize("status", ["measured", "scene", "unmeasurable"])
def test_a_low_psr_alone_never_costs_anything(status):
    table = candidate_table(6, registration_psr=0.0, scene_psr=0.0, registration_status=status)
    samples = choose(table, screening=ScreeningConfig(on_optical_failure="reject")).samples
    assert samples["paired"].tolist() == [True] * 6


def test_a_residual_counts_only_where_the_shift_was_measured():
    status = ["measured", "scene", "unmeasurable", None]
    table = candidate_table(4, residual_px=[9.0, np.nan, 9.0, 9.0], registration_status=status)
    samples = choose(table).samples.set_index("sample_id")
    assert samples["unpaired_reason"].to_dict() == {
        "p0_S1A": "residual",
        "p1_S1A": "residual",
        "p2_S1A": "",
        "p3_S1A": "",
    }


@pytest.mark.parametrize("column", ["lon", "lat", "sar_nodata_frac", "dynamic_range_db", "noise_floor_frac"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_must_be_there_is_missed(column, value):
    table = candidate_table(4)
    table.loc[2, column] = value
    assert {name: found[0] for name, found in reasons(choose(table)).items()} == {"p2_S1A": "non_finite"}


@pytest.mark.parametrize("broken", [None, [], [np.nan, -10.0], [None, -10.0]])
def test_an_unreadable_list_is_missed(broken):
    table = candidate_table(4)
    table.at[2, "mean_db"] = broken
    assert {name: found[0] for name, found in reasons(choose(table)).items()} == {"p2_S1A": "non_finite"}


def test_a_patch_without_data_is_called_nodata_though_nothing_could_be_measured():
    table = candidate_table(4)
    table.loc[2, ["sar_nodata_frac", "dynamic_range_db", "noise_floor_frac"]] = [1.0, np.nan, np.nan]
    assert reasons(choose(table)) == {"p2_S1A": ("sar_nodata", 1.0, 0.01)}


def test_a_partner_whose_pixels_were_not_measured_is_left_out():
    samples = choose(candidate_table(2, optical_nodata_frac=[0.0, np.nan])).samples.set_index("sample_id")
    assert samples["unpaired_reason"].to_dict() == {"p0_S1A": "", "p1_S1A": "optical_nodata"}


def test_unknown_masks_and_dates_cost_nothing():
    unknown = ["water_frac", "layover_shadow_frac", "cloud_frac", "snow_frac", "dt_hours", "sar_datetime", "datatake"]
    samples = choose(candidate_table(5, **dict.fromkeys([*unknown, "relative_orbit", "land_cover"]))).samples
    assert samples["paired"].tolist() == [True] * 5


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single(count):
    selection = choose(candidate_table(count))
    added = {"shard", "index"}
    assert list(selection.samples) == [column.name for column in SAMPLE_COLUMNS if column.name not in added]
    assert list(selection.rejected) == [column.name for column in REJECTED_COLUMNS]
    assert selection.audit.samples == (count, 0, 0)
    assert selection.audit.to_json()["least_distance_km"] == dict.fromkeys(("train/val", "train/test", "val/test"))


def test_all_rejected():
    selection = choose(candidate_table(5, dynamic_range_db=0.0))
    assert len(selection.samples) == 0
    assert selection.rejected["reason"].tolist() == ["dynamic_range"] * 5
    assert selection.audit.samples == (0, 0, 0)


def test_missing_columns_are_named():
    with pytest.raises(StoreError, match="cloud_frac, phash"):
        choose(candidate_table(3).drop(columns=["phash", "cloud_frac"]))


def test_packing_order_is_shuffled_once_and_depends_on_the_seed():
    table = candidate_table(200)
    whole = SplitConfig(val_share=0, test_share=0)
    orders = [choose(table, split=whole, seed=seed).samples["key"].tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != sorted(orders[0])
    assert sorted(orders[0]) == sorted(orders[2])


def test_splits_stand_one_after_the_other():
    samples = choose(candidate_table(200), split=SplitConfig(val_share=0.2, test_share=0.2)).samples
    assert samples["split"].drop_duplicates().tolist() == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("east", "buffer_km", "gone"),
    [(9.9, 0.0, False), (9.995, 0.0, True), (9.98, 1.0, True), (9.95, 1.0, False), (9.95, 5.0, True)],
)
def test_an_excluded_place_with_its_buffer(east, buffer_km, gone):
    """The patch begins at 9.985 E on the equator, where 0.01 degrees are 1.112 km."""
    table = candidate_table(2, lon=[10.0, 100.0], lat=[0.0, 0.0])
    table.at[0, "bounds_lonlat"] = [9.985, -0.01, 10.015, 0.01]
    split = SplitConfig(exclude_buffer_km=buffer_km)
    selection = choose(table, split=split, excluded=np.array([[9.0, -1.0, east, 1.0]]))
    found = reasons(selection)
    assert (list(found) == ["p0_S1A"]) is gone
    if gone:
        reason, measured, limit = found["p0_S1A"]
        assert (reason, limit) == ("benchmark_footprint", buffer_km)
        assert measured == pytest.approx(max(9.985 - east, 0) * 111.195, abs=1e-3)


@examples(0.2)
@given(seed=st.integers(0, 1000))
def test_exclusion_agrees_with_asking_every_box_about_every_patch(seed):
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, 120), rng.uniform(-80, 80, 120)
    west, south = rng.uniform(-180, 180, 40), rng.uniform(-80, 79, 40)
    boxes = np.stack([west, south, (west + rng.uniform(0, 40, 40) + 180) % 360 - 180, south + rng.uniform(0, 8, 40)], 1)
    selection = choose(candidate_table(120, lon=lon, lat=lat), excluded=boxes, split=SplitConfig(exclude_buffer_km=0))
    gone = {name for name, found in reasons(selection).items() if found[0] == "benchmark_footprint"}
    expected = set()
    for number, (x, y) in enumerate(zip(lon, lat, strict=True)):
        for w, s, e, n in boxes:
            spans = [(w, e)] if w <= e else [(w, 180.0), (-180.0, e)]
            in_lon = any(x + turn + 0.01 >= a and x + turn - 0.01 <= b for a, b in spans for turn in (-360, 0, 360))
            if in_lon and y + 0.01 >= s and y - 0.01 <= n:
                expected.add(f"p{number}_S1A")
    assert gone == expected


@pytest.mark.parametrize("box", [[0, 10, 5, 5], [0, 0, 500, 5], [0, np.nan, 5, 5], [500_000, 5e6, 600_000, 5.1e6]])
def test_a_box_that_is_none_is_named(box):
    with pytest.raises(ConfigError, match="excluded footprint 1"):
        choose(candidate_table(2), excluded=np.array([[0, 0, 1, 1], box], dtype=np.float64))


def test_the_first_rule_in_order_gives_the_reason():
    table = candidate_table(3, dynamic_range_db=0.0, noise_floor_frac=1.0, cloud_frac=1.0)
    assert {found[0] for found in reasons(choose(table)).values()} == {"dynamic_range"}
