"""Conditions on columns: what they select is what DuckDB selects by the same text; other text is refused."""

from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store.errors import ConfigError, RegionError
from sar1m.store.sample_filter import SampleFilter, parse_box
from sar1m.store.where import MAX_LETTERS, MAX_NESTING, Where
from support.examples import examples

DAYS = [datetime(2020, month, 7, 5, 30, tzinfo=UTC) for month in (1, 5, 9)]
COLUMNS = {
    "country": (["PRT", "ESP", "O'Neil", "", None], pa.string(), ["'PRT'", "'ESP'", "'O''Neil'", "''", "'prt'"]),
    "relative_orbit": ([1, 45, 125, None], pa.int32(), ["45", "-3", "44.5", "1", "125.0"]),
    "phash": ([-(2**40), 0, 2**40, None], pa.int64(), ["0", "1e3", "-7"]),
    "enl": ([0.25, 4.5, -1.0, None], pa.float32(), ["4.5", "0", ".25", "-1", "+1e2"]),
    "lat": ([-30.5, 0.0, 38.75, None], pa.float64(), ["38.75", "0", "-30.5"]),
    "sar_datetime": ([*DAYS, None], pa.timestamp("us", tz="UTC"), ["'2020-05-07 05:30:00'", "'2020-06-01'"]),
    "paired": ([True, False, None], pa.bool_(), ["true", "FALSE"]),
}


def table(rows):
    rng = np.random.default_rng(rows)
    return pa.table(
        {
            name: pa.array([values[n] for n in rng.integers(0, len(values), rows)], type=kind)
            for name, (values, kind, _) in COLUMNS.items()
        }
    )


ROWS = table(200)
DATABASE = duckdb.connect(config={"threads": 1, "autoload_known_extensions": False})
# DuckDB needs an extension for times with a zone: it gets the same instants without one.
_TIMES = ROWS.schema.get_field_index("sar_datetime")
NUMBERED = ROWS.set_column(_TIMES, "sar_datetime", ROWS.column(_TIMES).cast(pa.timestamp("us"))).append_column(
    "row", pa.array(range(len(ROWS)))
)
DATABASE.execute("create table samples as select * from NUMBERED")


def one_test(name):
    values = st.sampled_from(COLUMNS[name][2])
    order = st.sampled_from(["=", "<>", "!="] if name == "paired" else ["=", "<>", "!=", "<", "<=", ">", ">="])
    forms = [
        st.builds(lambda sign, value: f"{name} {sign} {value}", order, values),
        st.builds(
            lambda word, some: f"{name} {word} ({', '.join(some)})",
            st.sampled_from(["in", "NOT IN"]),
            st.lists(values, min_size=1, max_size=3),
        ),
        st.sampled_from([f"{name} is null", f"{name} IS NOT NULL"]),
    ]
    if name == "paired":
        forms.append(st.just("paired"))
    else:
        word = st.sampled_from(["between", "not between"])
        forms.append(st.builds(lambda w, a, b: f"{name} {w} {a} and {b}", word, values, values))
    return st.one_of(forms)


CONDITIONS = st.recursive(
    st.sampled_from(sorted(COLUMNS)).flatmap(one_test),
    lambda inner: st.one_of(
        st.builds("({}) and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
        st.builds("not ({})".format, inner),
        st.builds("Not {}".format, inner),
    ),
    max_leaves=6,
)


@given(CONDITIONS)
@examples(2)
def test_a_condition_selects_what_duckdb_selects(text):
    expected = {row for (row,) in DATABASE.sql(f"select row from samples where {text}").fetchall()}  # noqa: S608
    found = np.flatnonzero(Where(text).holds(ROWS).to_numpy(zero_copy_only=False))
    assert set(found.tolist()) == expected


def test_a_fraction_that_float32_cannot_hold_equals_its_own_rounding():
    rows = pa.table({"cloud_frac": pa.array([0.1, 0.2, None], type=pa.float32())})
    assert Where("cloud_frac = 0.1").holds(rows).to_pylist() == [True, False, False]
    assert Where("cloud_frac <= 0.1").holds(rows).to_pylist() == [True, False, False]


REFUSED = {
    "": "expected the name of a column.* at character 1: found the end",
    "contry = 'PRT'": r"no column contry, at character 1: .*Did you mean country\? Columns: country, relative_orbit",
    "country = PRT": r"expected a value, at character 11: found 'PRT'\. Text stands in single quotes",
    'country = "PRT"': "expected a value, at character 11",
    "country == 'PRT'": "expected a value, at character 10",
    "country = 'PRT": "expected a value, at character 11",
    "country = 'PRT' relative_orbit = 4": "expected and, or, or the end, at character 17",
    "relative_orbit = '45'": "relative_orbit is compared with a number, at character 18",
    "country in ('PRT', 45)": "country is compared with text in single quotes, at character 20",
    "paired < true": "paired is compared with true or false",
    "paired = 1": "paired is compared with true or false",
    "sar_datetime > 'May'": "this is no time, at character 16",
    "enl": "enl is not true or false, at character 1",
    "enl = null": "nothing equals null, at character 7.*is null",
    "enl between 1 or 2": "expected and with the upper value of between, at character 15",
    "enl not 4": "expected =, .* behind enl, at character 9",
    "(enl > 4": "closing parenthesis, at character 9: found the end",
    "enl > 4)": "expected and, or, or the end, at character 8",
    "enl > 1e999": "too large, at character 7",
    "relative_orbit = 9223372036854775808": "too large",
    "country in ()": "expected a value, at character 13",
    "land_cover = 'Trees'": "land_cover holds map.* no single value",
    "1 = 1": "expected the name of a column",
    "__import__('os').system('true')": "expected =, .* behind __import__, at character 11",
    "country = 'x'; drop table samples": "expected and, or, or the end, at character 14",
    "lower(country) = 'prt'": "expected =, .* behind lower, at character 6",
    "country = 'PRT' -- all": "expected and, or, or the end",
    "enl > 4\x1b[2J": r"found '\\\\x1b",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text[:30]))
def test_text_that_is_no_condition_is_refused_by_its_place(text):
    rows = ROWS.append_column("land_cover", pa.array([[]] * len(ROWS), type=pa.map_(pa.string(), pa.float32())))
    with pytest.raises(ConfigError, match=REFUSED[text]):
        Where(text).holds(rows)


def test_what_nests_or_runs_on_without_end_is_refused_and_what_may_stand_is_read():
    with pytest.raises(ConfigError, match="levels"):
        Where("(" * (MAX_NESTING + 1) + "paired" + ")" * (MAX_NESTING + 1))
    with pytest.raises(ConfigError, match="characters"):
        Where("paired or " * (MAX_LETTERS // 10) + "paired")
    deep = Where("(" * (MAX_NESTING - 1) + "paired" + ")" * (MAX_NESTING - 1))
    long = Where("paired or " * 900 + "not " * 2 + "paired")
    assert deep.holds(ROWS).equals(long.holds(ROWS))


@given(st.text(max_size=40) | st.lists(st.sampled_from([*"()',=<>-5ex ", "and ", "not ", "enl ", "in"])).map("".join))
@examples(3)
def test_any_text_is_a_condition_or_a_configuration_error(text):
    try:
        Where(text).holds(ROWS)
    except ConfigError as refused:
        shown = str(refused)
        assert shown.isprintable()


def test_a_column_of_a_later_schema_is_empty_in_an_older_store():
    assert not any(Where("plateau_frac < 0.5 or not plateau_frac >= 0.5").holds(ROWS).to_pylist())
    assert all(Where("plateau_frac is null").holds(ROWS).to_pylist())


PLACES = pa.table({"lon": [179.9, -179.9, 0.0, 10.0, -9.0], "lat": [0.0, 0.0, 50.0, 60.0, 38.7]})


@pytest.mark.parametrize(
    ("box", "rows"),
    [
        ("179,-1,-179,1", [0, 1]),
        ("10,-90,0,90", [0, 1, 2, 3, 4]),
        ("170,-1,180,1", [0]),
        ("-10,36,-6,42", [4]),
        ("0,50,10,60", [2, 3]),
        ("-180,-90,180,90", [0, 1, 2, 3, 4]),
    ],
)
def test_a_box_holds_the_centres_within_it_edges_included_also_across_180_degrees(box, rows):
    assert np.flatnonzero(SampleFilter(bbox=parse_box(box)).rows(PLACES)).tolist() == rows


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "0,0,nan,1", "0,0,181,1", "0,10,1,-10", "0,-91,1,1", ""])
def test_what_is_no_box_is_refused(box):
    with pytest.raises(RegionError, match="box "):
        parse_box(box)


@pytest.mark.parametrize("box", ["0,0,1,1", ("0", "west", "1", "1"), (0, None, 1, 1), 7])
def test_a_box_that_holds_no_numbers_is_refused_by_a_typed_error(box):
    with pytest.raises(RegionError, match="four numbers"):
        SampleFilter(bbox=box)


def test_nothing_selected_is_an_error_that_repeats_what_was_asked():
    with pytest.raises(ConfigError, match=r"lat > 80 in the box 0,0,1,1: none of 5 samples"):
        SampleFilter(where="lat > 80", bbox=(0, 0, 1, 1)).rows(PLACES)
