"""Configurations: what is written is what is read, every key counts, every mistake is named."""

import math
import re
import tomllib
from datetime import date
from typing import Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import (
    CONFIG_FOLDERS,
    SAFE_PLACES,
    BuildConfig,
    Section,
    SplitConfig,
    load_config,
    parse_config,
    resolve_config,
)
from sar1m.store.errors import ConfigError

SHAPING = {"seed", "grid", "pixels", "registration", "safe", "simulated"}
PLACES = {("safe", key) for key in SAFE_PLACES}  # where inputs stand; their bytes enter by another way
SHIPPED = sorted(next(folder for folder in CONFIG_FOLDERS if folder.is_dir()).glob("*.toml"))


def sections():
    return {
        name: field.annotation
        for name, field in BuildConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


ALL_KEYS = [(None, name) for name in BuildConfig.model_fields if name not in sections()] + [
    (section, key) for section, model in sections().items() for key in model.model_fields
]


def bounds(field):
    """Least and largest value, whether each is left out, and the step."""
    found = {
        name: getattr(part, name)
        for part in field.metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(part, name, None) is not None
    }
    low, high = found.get("gt", found.get("ge")), found.get("lt", found.get("le"))
    return low, high, "gt" in found, "lt" in found, found.get("multiple_of", 1)


def values_of(field):
    """Any valid value of a field, from its type and bounds alone."""
    kind = field.annotation
    low, high, above, below, step = bounds(field)
    simple = {bool: st.booleans(), date: st.dates(date(2014, 4, 1), date(2030, 1, 1))}
    if kind in simple:
        return simple[kind]
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is int:
        return st.integers(-(-low // step), (2**63 if high is None else high) // step).map(lambda n: n * step)
    if kind is float:
        edges = {"exclude_min": above, "exclude_max": below and high is not None}
        return st.floats(low, high, allow_nan=False, allow_infinity=False, **edges)
    if get_origin(kind) is tuple and get_origin(get_args(kind)[0]) is Literal:
        return st.lists(st.sampled_from(get_args(get_args(kind)[0])), unique=True).map(tuple)
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
    lists = st.lists(text, max_size=4).map(tuple)
    names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
    return {str: names, tuple[str, ...]: lists, str | None: st.none() | text}[kind]


def models(model):
    fields = {
        name: models(field.annotation) if name in sections() else values_of(field)
        for name, field in model.model_fields.items()
    }
    drawn = st.fixed_dictionaries(fields)
    if model is SplitConfig:
        drawn = drawn.filter(lambda keys: keys["val_share"] + keys["test_share"] < 1)
    return drawn


CONFIGS = models(BuildConfig).map(BuildConfig.model_validate)


@given(CONFIGS)
def test_what_is_written_is_read_back(config):
    read = parse_config(config.to_toml(), origin="written")
    assert read == config
    assert read.digest() == config.digest()
    assert read.pixel_digest() == config.pixel_digest()


def other_value(section, key):
    """A valid value of a key that is not its default."""
    model = BuildConfig if section is None else sections()[section]
    field, default = model.model_fields[key], model.model_fields[key].default
    kind = field.annotation
    if kind is bool:
        return not default
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != default)
    if kind in (int, float):
        _, high, _, _, step = bounds(field)
        up = default + (step if kind is int else 0.015625)
        return up if high is None or up <= high else default / 2
    if kind is date:
        return default.replace(year=default.year + 1).isoformat()
    if get_origin(kind) is tuple:
        (choice, _) = get_args(kind)
        return [get_args(choice)[0] if get_origin(choice) is Literal else "B8A"]
    return "another"


@pytest.mark.parametrize(("section", "key"), ALL_KEYS)
def test_every_key_changes_the_digest_and_only_shaping_ones_the_pixels(section, key):
    value = other_value(section, key)
    changed = BuildConfig.model_validate({key: value} if section is None else {section: {key: value}})
    assert changed.digest() != BuildConfig().digest()
    shaping = (section or key) in SHAPING and (section, key) not in PLACES
    assert (changed.pixel_digest() != BuildConfig().pixel_digest()) is shaping
    assert parse_config(changed.to_toml(), origin="written") == changed


def test_digests_do_not_depend_on_the_order_of_keys():
    one = parse_config("[grid]\npatch_px = 64\nhalo_px = 8\n[pack]\nseed = 1\n", origin="a")
    two = parse_config("[pack]\nseed = 1\n[grid]\nhalo_px = 8\npatch_px = 64\n", origin="b")
    assert one.digest() == two.digest()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "[grid]\npatch = 64\n",
            r"mine\.toml: grid\.patch: unknown key\. Valid keys here: gsd_m, halo_px, layout, p",
        ),
        (
            "[grids]\npatch_px = 64\n",
            r"mine\.toml: grids: unknown key\. Valid keys here: area, balance, download, grid, name, pack, p",
        ),
        ("colour = 3\n", r"mine\.toml: colour: unknown key\. Valid keys here: area, balance, "),
        ("[grid]\npatch_px = 100\n", r"mine\.toml: grid\.patch_px: .*multiple of 16 \(found 100\)"),
        ("[grid]\npatch_px = 'wide'\n", r"mine\.toml: grid\.patch_px: .*integer.*\(found 'wide'\)"),
        ("grid = 3\n", r"mine\.toml: grid: is a section of keys, found the value 3"),
        ("[pixels]\nprofile = 'best'\n", r"mine\.toml: pixels\.profile: .*'training' or 'archive' \(found 'best'\)"),
        ("[split]\nval_share = 0.6\ntest_share = 0.5\n", r"mine\.toml: split: .*is 1\.1; it must stay under 1"),
        ("[grid]\ngsd_m = nan\n", r"mine\.toml: grid\.gsd_m: .*\(found nan\)"),
        ("[screening]\nmax_dt_hours = inf\n", r"mine\.toml: screening\.max_dt_hours: .*finite.*\(found inf\)"),
        ("name = '../up'\n", r"mine\.toml: name: .*\(found '\.\./up'\)"),
        ("[area]\nsar = 'a'\n[split]\nexclude_footprints = \"a\\u0000b\"\n", r"mine\.toml: holds the text 'a\\x00b'"),
        ("[grid\n", r"mine\.toml: is not valid TOML: .*line 1"),
    ],
)
def test_a_mistake_names_file_key_and_finding(tmp_path, text, found):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=found):
        load_config(path)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config("[grid]\npatch_px = 100\nhalo = 1\n[pack]\nseed = -1\n", origin="mine")
    assert [line.split(" ")[1] for line in str(caught.value).splitlines()] == [
        "grid.patch_px:",
        "grid.halo:",
        "pack.seed:",
    ]


@pytest.mark.parametrize(("content", "found"), [(None, "there is no such file"), (b"\xff\xfe", "is UTF-16 text")])
def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path, content, found):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"mine\.toml: {found}"):
        resolve_config(str(path), [])


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"--config smaple: .*Known: chips, sample, sar1m"):
        resolve_config("smaple", [])


def test_overrides_of_every_type():
    config = resolve_config(
        "sar1m",
        [
            "grid.patch_px=64",
            "screening.max_cloud_frac = 0.5",
            "screening.max_dt_hours=48",  # a whole number for a real one
            "pixels.profile=archive",  # text needs no quotes
            'pixels.compression="none"',
            'pixels.optical_bands=["B08", "B03"]',
            "simulated.speckle_correlation=false",
            "split.exclude_footprints=eval/sites.geojson",
            "name=mine",
            "seed=7",
        ],
    )
    assert (config.grid.patch_px, config.seed, config.name) == (64, 7, "mine")
    assert (config.screening.max_cloud_frac, config.screening.max_dt_hours) == (0.5, 48.0)
    assert (config.pixels.profile, config.pixels.compression) == ("archive", "none")
    assert config.pixels.optical_bands == ("B08", "B03")
    assert config.simulated.speckle_correlation is False
    assert config.split.exclude_footprints == "eval/sites.geojson"
    untouched = load_config(next(path for path in SHIPPED if path.stem == "sar1m"))
    assert (config.grid.halo_px, config.balance) == (untouched.grid.halo_px, untouched.balance)


@given(st.floats(0, 1), st.integers(0, 2**40))
def test_overrides_keep_numbers_exactly(share, seed):
    config = resolve_config("sample", [f"balance.max_unpaired_share={share!r}", f"pack.seed={seed}"])
    assert (config.balance.max_unpaired_share, config.pack.seed) == (share, seed)


def test_the_last_override_of_a_key_wins():
    assert resolve_config("sample", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("grid.patch_px", r"--set grid\.patch_px: expected section\.key=value, such as grid\.patch_px=192"),
        ("=3", r"--set =3: expected section\.key=value"),
        ("name.first=x", r"--set name\.first=x: name is a value, not a section"),
        ("grid.patch_px=wide", r"--set: grid\.patch_px: .*\(found 'wide'\)"),
        ("grid=3", r"--set: grid: is a section of keys, found the value 3"),
        ("screening.max_cloud=1", r"--set: screening\.max_cloud: unknown key\. Valid keys here: max_cloud_frac"),
        ("threshold.cloud=1", r"--set: threshold: unknown key\. Valid keys here: area, balance"),
        ("screening.max_cloud_frac=nan", r"--set: screening\.max_cloud_frac: .*\(found nan\)"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override, found):
    with pytest.raises(ConfigError, match=found):
        resolve_config("sample", [override])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# \w.*\n", text), "the first line says what it is for"
    assert re.search(r"--region|REGION=", text), "and somewhere how it is used"
    config = load_config(path)
    assert parse_config(config.to_toml(), origin="written") == config
    for name in tomllib.loads(text).keys() & sections().keys():
        assert sections()[name].__doc__


def test_defaults_lie_within_their_own_bounds():
    for section, key in ALL_KEYS:
        model = BuildConfig if section is None else sections()[section]
        low, high, *_ = bounds(model.model_fields[key])
        default = model.model_fields[key].default
        assert low is None or default >= low
        assert high is None or default <= high
        assert not isinstance(default, float) or math.isfinite(default)
