"""The page as text: what it says, that it is the same for the same store, and that nothing in it can run or load."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sar1m.config import BuildConfig, ScreeningConfig
from sar1m.page.browser import BROWSER_SAMPLES, choose_positions
from sar1m.page.build_page import render_report
from sar1m.page.charts import Vectors, scatter_figure
from sar1m.page.histograms import Limit, bin_values, histogram_figure, metric_limits
from sar1m.page.previews import Stretch, optical_picture, png_data_uri, release_stretch, sar_picture
from sar1m.page.svg import Axis
from sar1m.page.window import MapWindow, outline_path, window_around
from sar1m.store.errors import StoreError
from support.miniature_store import Recipe, build_store

VOID = {"meta", "link", "img", "input", "br"}
EVIL = "</script><img src=x onerror=alert(1)>\u2028<!--"


class Reader(HTMLParser):
    """Elements with their attributes, texts by element, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closed out of order at {self.getpos()}"

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(text) for tag, text in self.texts.items() if tag not in ("script", "style"))


def page_of(tmp_path: Path, recipe: Recipe | None = None) -> Reader:
    return Reader(render_report(build_store(tmp_path, recipe)))


def browser_content(page: Reader) -> dict:
    return json.loads(page.texts["script"][0])


def test_same_store_same_bytes_wherever_it_lies(tmp_path):
    (tmp_path / "one").mkdir()
    first = build_store(tmp_path / "one")
    second = Path(shutil.copytree(first, tmp_path / "elsewhere" / "two"))
    page = render_report(first)
    assert page == render_report(second)
    assert str(tmp_path) not in page


def test_html_is_well_formed_with_unique_ids_and_words_for_pictures(tmp_path):
    page = page_of(tmp_path)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    for tag, attributes in page.elements:
        if tag == "img":
            assert "alt" in attributes
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true" or "x" in attributes
        if tag in ("select", "input"):
            assert "aria-label" in attributes or page.open == []


def test_nothing_is_loaded_and_only_our_own_script_and_style_may_run(tmp_path):
    page = page_of(tmp_path)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for kind, text in (("style", page.texts["style"][0]), ("script", page.texts["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        assert "style" not in attributes, "inline styles would be blocked"
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    everything = page.texts["style"][0] + page.texts["script"][1]
    assert not re.search(r"https?://|@import|url\((?!#)|fetch\(|XMLHttp|innerHTML", everything)


def test_hostile_texts_stay_texts(tmp_path):
    hostile = {"site": EVIL, "platform": EVIL, "land_cover": {EVIL: 1.0}, "labels": [EVIL], "unpaired_reason": EVIL}
    recipe = Recipe(name="x", site=EVIL, rejected=(EVIL,), overrides=hostile)
    page = page_of(tmp_path, recipe)
    assert page.open == []
    assert not [a for t, a in page.elements if t == "img" and a.get("src") == "x"]
    sample = browser_content(page)["samples"][0]
    assert sample["site"] == EVIL
    assert EVIL in sample["values"]
    assert len(page.texts["script"]) == 2


def test_numbers_and_bad_news_stand_in_the_head(tmp_path):
    words = page_of(tmp_path).words
    assert "3 of 9 candidates (33 %) were rejected" in words
    assert "smaller than the buffer" in words
    assert words.index("differ by 0.31 px (median), 0.48 px (95 %), over 2 pairs") < words.index("0.11 px RMSE")
    assert "on 1 more the second, mutual information, found no clear peak" in words
    assert "0.12 px (median) and 0.40 px (95 %) apart" in words
    assert "broken" in words
    assert "20.5 km" in words
    assert "nothing to compare" in words


def test_a_store_that_no_second_method_measured_says_that_accuracy_was_not_tested(tmp_path):
    store = build_store(tmp_path)
    path = store / "stats/self_test.json"
    later = ("second_estimator", "band_offset")  # schema 1.2
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in later}))
    words = Reader(render_report(store)).words
    assert "how accurate the registration is was not tested" in words
    assert "0.11 px RMSE" in words
    assert "Two methods differ" not in words


def test_rejected_are_listed_by_reason_and_never_cut_silently(tmp_path):
    page = page_of(tmp_path, Recipe(rejected=("water",) * 33 + ("cloud",)))
    words = re.sub(r"\s+", " ", page.words)
    assert "33 rejected, showing 20 of 33" in words
    assert "1 rejected, showing 1 of 1" in words
    assert "0.99" in words
    assert "0.95" in words


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(rejected=()), "No candidate was rejected."),
        (Recipe(splits=("train",), unpaired=(), rejected=()), "1 of 1 within the 1 px circle."),
        (
            Recipe(splits=("train", "val"), unpaired=(0, 1)),
            "2 samples without an optical partner",
        ),
        (Recipe(splits=(), unpaired=()), "The store holds no samples to show."),
        (Recipe(splits=(), unpaired=(), rejected=()), "The store holds no samples to show."),
        (Recipe(measured=False), "not measured on any of 9 patches"),
        (Recipe(pols=("VV",)), "SAR in grey"),
    ],
)
def test_empty_and_odd_stores_still_make_a_page(tmp_path, recipe, said):
    page = page_of(tmp_path, recipe)
    assert page.open == []
    assert re.search(said, re.sub(r"\s+", " ", page.words))
    assert "nan" not in page.words.lower()


def test_unmeasured_metrics_have_no_empty_frame(tmp_path):
    nothing = np.array([np.nan, np.nan])
    figure = histogram_figure(name="enl", title="", accepted=nothing, rejected=nothing, limit=None)
    assert figure.svg is None
    assert "not measured on any of 4" in figure.note
    assert scatter_figure("a", "b", Vectors(row_px=nothing, col_px=nothing, kind=["scene"] * 2)).svg is None


def test_pixels_that_are_missing_are_an_error_not_a_black_picture(tmp_path):
    store = build_store(tmp_path)
    shutil.rmtree(store / "data" / "train.zarr" / "sar" / "c")
    with pytest.raises(StoreError, match=r"patch_\d+_S1A: sar holds no data"):
        render_report(store)


@pytest.mark.parametrize("name", ["samples.parquet", "rejected.parquet", "stats/summary.json", "data/val.zarr"])
def test_a_missing_file_is_named(tmp_path, name):
    store = build_store(tmp_path)
    path = store / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(StoreError, match=re.escape(Path(name).name)):
        render_report(store)


def test_unpaired_samples_have_no_optical_picture_and_a_reason(tmp_path):
    samples = browser_content(page_of(tmp_path))["samples"]
    alone = [sample for sample in samples if not sample["paired"]]
    assert [sample["id"] for sample in alone] == ["patch_001_S1A"]
    assert alone[0]["optical"] is None
    assert alone[0]["why"] == "cloud"
    assert all(sample["optical"].startswith("data:image/png;base64,") for sample in samples if sample["paired"])


def test_browser_choice_is_spread_and_does_not_depend_on_the_order_of_rows():
    count = 5000
    numbers = np.arange(count)
    table = pd.DataFrame(
        {
            "sample_id": [f"s{n:05d}" for n in numbers],
            "split": np.where(numbers < 4980, "train", np.where(numbers < 4990, "val", "test")),
            "site": [f"site {n % 7}" for n in numbers],
            "paired": numbers % 50 != 0,
        }
    )
    chosen = table.iloc[choose_positions(table)]
    assert len(chosen) == BROWSER_SAMPLES == chosen["sample_id"].nunique()
    assert chosen["split"].value_counts().to_dict() == {"train": 40, "val": 10, "test": 10}
    assert chosen["site"].nunique() == 7
    assert (~chosen["paired"]).any()
    turned = table.iloc[::-1].reset_index(drop=True)
    assert list(turned.iloc[choose_positions(turned)]["sample_id"]) == list(chosen["sample_id"])


def test_histogram_counts_everything_once_and_cuts_at_the_limit():
    random = np.random.default_rng(3)
    accepted, rejected = random.uniform(0, 1, 500), random.uniform(0, 2, 300)
    binned = bin_values(accepted, rejected, Limit(value=1.0, side="above", effect="rejected"))
    assert binned.accepted.sum() == 500
    assert binned.rejected.sum() == 300
    assert np.abs(binned.edges - 1.0).min() < 1e-9
    assert binned.accepted[binned.edges[:-1] >= 1 - 1e-9].sum() == 0
    assert binned.clipped == 0


def test_a_far_outlier_is_counted_in_the_end_bin_and_said():
    values = np.append(np.linspace(0, 1, 999), 1e6)
    figure = histogram_figure(name="enl", title="", accepted=values, rejected=np.empty(0), limit=None)
    assert "beyond the axis" in figure.note
    binned = bin_values(values, np.empty(0), None)
    assert binned.edges[-1] < 2
    assert binned.accepted.sum() == 1000


@pytest.mark.parametrize(("side", "shaded"), [("above", 1), ("below", 1), ("beyond", 2)])
def test_the_side_a_limit_turns_away_is_shaded(side, shaded):
    figure = histogram_figure(
        name="m",
        title="",
        accepted=np.linspace(-3, 3, 50),
        rejected=np.empty(0),
        limit=Limit(value=2.0, side=side, effect="rejected"),
    )
    assert figure.svg.count('class="beyond"') == shaded
    boxes = [float(x) for x in re.findall(r'class="beyond" x="([\d.]+)"', figure.svg)]
    assert (min(boxes) == 44) == (side != "above"), "what lies below begins at the left end of the axis"


def test_limits_follow_the_configuration():
    config = BuildConfig(screening=ScreeningConfig(max_cloud_frac=0.33, on_optical_failure="reject"))
    limits = metric_limits(config)
    assert limits["cloud_frac"] == Limit(value=0.33, side="above", effect="rejected")
    assert limits["dynamic_range_db"].side == "below"
    assert limits["registration_psr"].effect == "not counted as measured", "a low peak alone rejects nothing"


def test_scatter_says_what_lies_beyond_and_how_many_are_drawn():
    random = np.random.default_rng(5)
    row_px = random.normal(scale=0.2, size=2000)
    row_px[0] = 40.0
    vectors = Vectors(row_px=row_px, col_px=np.zeros(2000), kind=["measured"] * 2000)
    figure = scatter_figure("a", "b", vectors)
    assert "Showing 600 of 2,000" in figure.note
    assert "1 beyond the frame" in figure.note
    assert figure.svg.count('class="dot measured"') == 600


@pytest.mark.parametrize("seed", range(5))
def test_axis_ticks_are_round_inside_and_many_enough(seed):
    random = np.random.default_rng(seed)
    low = random.normal() * 10.0 ** random.integers(-3, 5)
    axis = Axis(lo=low, hi=low + 10.0 ** random.uniform(-4, 5), start=0, end=1)
    ticks = axis.ticks(5)
    assert 2 <= len(ticks) <= 6
    assert all(axis.lo - 1e-6 * abs(low) <= value <= axis.hi + 1e-6 * abs(axis.hi) for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


def test_map_window_crosses_the_antimeridian():
    lon = np.array([179.5, -179.5, 178.0])
    window = window_around(lon, np.array([-17.0, -16.5, -18.0]), 1000.0)
    x = window.x(lon)
    assert window.lon_1 - window.lon_0 < 10
    assert x[2] < x[0] < x[1]
    assert ((x > 0) & (x < 1000)).all()
    assert "M" in outline_path(window, thinned_px=0.5, least_px=1.0), "Fiji lies on both sides"


def test_map_keeps_angles_and_puts_north_up():
    window = MapWindow(lon_0=10, lon_1=12, lat_0=59.5, lat_1=60.5, width=1000)
    assert window.height == pytest.approx(1000, rel=0.01), "at 60 degrees a degree of longitude is half as long"
    assert window.y(np.array([60.5])) == pytest.approx(0)


def test_many_samples_are_gathered_into_few_marks(tmp_path, monkeypatch):
    monkeypatch.setattr("sar1m.page.coverage.MAP_MARKS", 20)
    page = render_report(build_store(tmp_path, Recipe(splits=("train",) * 40 + ("val",) * 2, unpaired=(), rejected=())))
    assert "42 samples are gathered into" in page
    near = Recipe(splits=("train",) * 40, unpaired=(), rejected=(), overrides={"lon": 5.0, "lat": 52.0})
    (tmp_path / "near").mkdir()
    page = render_report(build_store(tmp_path / "near", near))
    assert "40 samples are gathered into 1 marks" in page
    assert page.count('class="mark train" transform') == 1


@pytest.mark.parametrize(
    ("p50", "p98", "white"),
    [
        pytest.param(0.07, 0.22, 0.22, id="land"),
        pytest.param(0.07, 0.73, 0.3, id="land with some snow"),
        pytest.param(0.7, 0.95, 0.95, id="snow alone"),
        pytest.param(0.2, 0.9, 0.4, id="bright desert with cloud"),
    ],
)
def test_some_snow_does_not_darken_the_pictures_of_land(p50, p98, white):
    band = {"p02_value": 0.02, "p50_value": p50, "p98_value": p98}
    summary = {"polarisations": ["VV"], "optical_quantity": "reflectance"}
    stretch = release_stretch({"optical": {"B04": band}}, summary)
    assert stretch.optical == pytest.approx((0.02, white))


def test_pictures_show_no_data_as_transparent_and_hold_the_stretch():
    stretch = Stretch(sar_db=((-20.0, 0.0), (-30.0, -10.0)), ratio_db=(0.0, 20.0), optical=(0.0, 0.2), gamma=1.0)
    sar_db = np.full((2, 8, 8), -10.0, dtype=np.float32)
    sar_db[1] = -25.0
    sar_db[0, 0, 0] = np.nan
    rgb, valid = sar_picture(sar_db, stretch)
    assert rgb[4, 4].tolist() == [128, 64, 191]
    assert not valid[0, 0]
    assert valid.sum() == 63
    raw = base64.b64decode(png_data_uri(rgb, valid).removeprefix("data:image/png;base64,"))
    image = np.array(Image.open(io.BytesIO(raw)).convert("RGBA"))
    assert image[0, 0, 3] == 0
    assert image[4, 4].tolist() == [128, 64, 191, 255]


def test_optical_picture_finds_red_green_and_blue_by_name():
    stretch = Stretch(sar_db=(), ratio_db=None, optical=(0.0, 1.0), gamma=1.0)
    values = np.stack([np.full((4, 4), share, dtype=np.float32) for share in (0.2, 0.4, 0.6, 0.8)])
    rgb, _ = optical_picture(values, ["B02", "B03", "B04", "B08"], stretch)
    assert rgb[0, 0].tolist() == [153, 102, 51]


def test_outlines_lie_where_samples_of_the_same_place_would():
    from_west, south, to_east, north = (
        -24.546,
        63.393,
        -13.495,
        66.566,
    )  # Iceland's ends; the file is good to about 0.1 degrees
    window = MapWindow(lon_0=-26, lon_1=-12, lat_0=62.5, lat_1=67.5, width=1000)
    points = re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", outline_path(window, thinned_px=0.5, least_px=20))
    x, y = np.array(points, dtype=float).T
    assert [x.min(), x.max()] == pytest.approx(window.x(np.array([from_west, to_east])).tolist(), abs=8)
    assert [y.min(), y.max()] == pytest.approx(window.y(np.array([north, south])).tolist(), abs=8)
