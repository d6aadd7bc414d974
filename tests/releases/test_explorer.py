"""The page of a release without a browser: what its parts hold against the table, whatever the names are."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from sar1m.page.previews import PreviewReader, release_stretch
from sar1m.page.reasons import reason_words
from sar1m.page.store_contents import METRIC_COLUMNS
from sar1m.releases.explorer import outlines, rows, thumbnails
from sar1m.releases.explorer.encoding import coded, packed, repeated, script_part
from sar1m.releases.explorer.explorer_page import SCRIPTS, explorer_files, loading_lines, page_files
from sar1m.releases.privacy import findings_in, own_secrets
from sar1m.store.errors import StoreError
from sar1m.store.places.folder import FolderPlace
from support.explorer_tables import made_facts, made_pictures, made_samples
from support.made_releases import lock_of
from support.release_facts import small_facts, small_release

EVIL = "</script><img src=x onerror=alert(1)>&'\"\u2028"


@pytest.fixture
def facts(tmp_path_factory):
    return small_facts(tmp_path_factory)


@pytest.fixture(scope="module")
def table():
    return made_samples(2500)


@pytest.fixture(scope="module")
def page(table, tmp_path_factory):
    return page_files(made_facts(tmp_path_factory.mktemp("made"), table), made_pictures(table, 100))


def part(files, name):
    """What a script hands over, as a browser would read it."""
    text = files[f"report/{name}.js"].decode()
    head = "(self.explorerParts??=[]).push("
    assert text.startswith(head)
    named, value = json.loads(text[len(head) : -len(");\n")])
    assert named == name
    return value


def parts(files, series):
    return [part(files, name[7:-3]) for name in sorted(files) if name.startswith(f"report/{series}-")]


def unpacked(column):
    kinds = {"f4": "<f4", "u1": "<u1", "u2": "<u2", "u4": "<u4", "i4": "<i4"}
    return np.frombuffer(base64.b64decode(column["bytes"].partition(";base64,")[2]), kinds[column["kind"]])


def texts(column):
    return np.array(column["names"], dtype=object)[unpacked(column["codes"])].tolist()


def metrics(files):
    return {name: unpacked(column) for part in parts(files, "metrics") for name, column in part.items()}


def facets(files):
    return {facet["name"]: texts(facet) for facet in part(files, "core")["facets"]}


def settings(files):
    found = re.search(rb'<script type="application/json" id="settings">(.*?)</script>', files["report/index.html"])
    return json.loads(found[1])


# ---- columns ----


def test_the_core_is_the_table(page, table):
    core = part(page, "core")
    assert core["count"] == len(table)
    assert core["ids"] == table["sample_id"].tolist()
    assert unpacked(core["index"]).tolist() == table["index"].tolist()
    assert np.array_equal(unpacked(core["lon"]), table["lon"].to_numpy(np.float32))
    assert np.array_equal(unpacked(core["lat"]), table["lat"].to_numpy(np.float32))
    for name in ("sar_product", "optical_product"):
        assert texts(core["products"][name]) == table[name].tolist()
    assert texts(core["dates"]) == table["sar_datetime"].dt.strftime("%Y-%m-%d").tolist()


def test_facets_say_of_every_sample_what_the_table_says(page, table):
    found = facets(page)
    assert found["split"] == table["split"].tolist()
    assert [name.endswith(f"({code})") for name, code in zip(found["country"], table["country"], strict=True)].count(
        False
    ) == 0
    assert "Germany (DEU)" in found["country"]
    assert found["year"] == table["sar_datetime"].dt.year.astype(str).tolist()
    assert set(found["mode"]) == {"IW"}
    assert found["class"] == [max(cover, key=cover.get) for cover in table["land_cover"]]
    partner = ["with optical partner" if p else f"none: {reason_words(w)}" for p, w in _partners(table)]
    assert found["partner"] == partner


def _partners(table):
    return zip(table["paired"], table["unpaired_reason"], strict=True)


def test_metrics_are_the_tables_to_the_last_bit(page, table):
    found = metrics(page)
    measured = [column.name for column in METRIC_COLUMNS if table[column.name].notna().any()]
    assert found.keys() == {*measured, "mean_db VV", "mean_db VH"}
    for name in measured:
        assert np.array_equal(found[name], table[name].to_numpy(np.float32), equal_nan=True)
    vh = np.array(table["mean_db"].tolist())[:, 1].astype(np.float32)
    assert np.array_equal(found["mean_db VH"], vh)
    shown = {metric["name"]: metric for metric in part(page, "core")["metrics"]}
    assert shown["snow_frac"]["known"] == 0
    assert shown["enl"]["known"] == table["enl"].notna().sum()
    assert (shown["enl"]["least"], shown["enl"]["most"]) == (table["enl"].min(), table["enl"].max())


def test_rows_hold_everything_else(page, table):
    found = parts(page, "rows")
    assert len(found) == 3
    for number in (0, 999, 1000, 2499):
        here, row = found[number // 1000], table.iloc[number]
        at = number % 1000
        shown = {name: here[name][0][here[name][1][at]] for name in here if name != "land_cover"}
        assert shown["sar_product"] == row["sar_product"]
        assert shown["optical_product"] == row["optical_product"]
        assert shown["sar_datetime"] == row["sar_datetime"].strftime("%Y-%m-%d %H:%M:%S UTC")
        assert (shown["licence_sar"], shown["ecoregion"]) == ("CC0-1.0", "–")
        assert dict(here["land_cover"][at]) == {
            name: round(100 * share, 1) for name, share in row["land_cover"].items()
        }


def test_packing_and_coding_round_trip():
    values = np.array([1.5, np.nan, -np.inf], np.float32)
    assert np.array_equal(unpacked(packed(values, "f4")), values, equal_nan=True)
    names = [f"name {n % 300}" for n in range(1000)]
    assert coded(names)["codes"]["kind"] == "u2"
    assert texts(coded(names)) == names
    distinct, numbers = repeated(["b", "a", "b"])
    assert (distinct, numbers) == (["b", "a"], [0, 1, 0])
    assert texts(coded([])) == []


# ---- pictures ----


def test_pictures_are_the_samples_own(facts):
    files = explorer_files(facts)
    core, drawn = part(files, "core"), [pair for part in parts(files, "pictures") for pair in part]
    numbers = unpacked(core["pictured"])
    assert numbers.tolist() == list(range(len(facts.samples)))
    reader = PreviewReader(FolderPlace(facts.root), release_stretch(facts.normalisation, facts.summary))
    for number, (_, row) in zip(numbers, facts.samples.iterrows(), strict=True):
        shown = drawn[number]
        assert (shown[1] is not None) == row["paired"]
        for uri, whole in zip(shown, reader.pictures(row), strict=True):
            if uri is not None:
                # lossy: means of 8 x 8 pixels agree, and with no other sample's
                error = np.abs(blocks(picture(uri)) - blocks(whole[0])).mean()
                assert error < 6
    assert settings(files)["pictured"] == len(facts.samples)


def blocks(rgb):
    return rgb.astype(float).reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))


def picture(uri):
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.array(image)


def test_a_webp_shows_what_was_drawn_and_no_data_as_nothing():
    colours = np.kron(np.array([[[200, 40, 40], [40, 40, 200]]]), np.ones((64, 32, 1))).astype(np.uint8)
    valid = np.ones((64, 64), bool)
    back = picture("data:image/webp;base64," + base64.b64encode(thumbnails.webp((colours, valid))).decode())
    assert np.abs(back[:, 4:28].astype(int) - colours[:, 4:28]).max() < 16
    valid[:32] = False
    with Image.open(io.BytesIO(thumbnails.webp((colours, valid)))) as image:
        assert (np.array(image)[..., 3] == np.where(valid, 255, 0)).all()


def test_pictures_stop_at_their_budget_and_are_spread(facts, monkeypatch):
    whole = explorer_files(facts)
    most = max(len(pair[0]) + len(pair[1] or "") for part in parts(whole, "pictures") for pair in part)
    monkeypatch.setattr(thumbnails, "PICTURES_BYTES", 3 * most)
    files = explorer_files(facts)
    chosen = np.flatnonzero(unpacked(part(files, "core")["pictured"]) >= 0)
    assert 3 <= len(chosen) < len(facts.samples)
    words = files["report/index.html"].decode()
    assert f"{len(chosen)} of {len(facts.samples)} samples have pictures here" in words
    assert set(chosen) == set(thumbnails.spread_order(facts.samples)[: len(chosen)])


def test_the_first_pictures_go_round_splits_classes_and_countries(table):
    order = thumbnails.spread_order(table)
    assert sorted(order) == list(range(len(table)))
    groups = pd.Series(rows.class_names(table)) + table["split"] + table["country"]
    first = groups.iloc[order[: groups.nunique()]]
    assert first.is_unique
    shuffled = table.sample(frac=1, random_state=3).reset_index(drop=True)
    again = shuffled.iloc[thumbnails.spread_order(shuffled)[:50]]["sample_id"].tolist()
    assert again == table.iloc[order[:50]]["sample_id"].tolist()


def test_missing_pixels_are_an_error_and_no_empty_picture(facts, tmp_path):
    with pytest.raises(StoreError, match="cannot be opened"):
        explorer_files(replace(facts, root=tmp_path))


# ---- the page ----


def test_the_same_facts_give_the_same_bytes(facts, page, table, tmp_path):
    assert explorer_files(facts) == explorer_files(facts)
    assert page_files(made_facts(tmp_path, table), made_pictures(table, 100)) == page


def test_the_page_tells_the_releases_own_numbers(facts):
    words = explorer_files(facts)["report/index.html"].decode()
    tiles = dict(re.findall(r"<dt>(?:<span[^>]*></span> )?([^<]+)</dt><dd[^>]*>([^<]+)</dd>", words))
    by_split = facts.samples["split"].value_counts()
    assert tiles["samples"] == str(len(facts.samples))
    assert tiles["with optical partner"] == str(facts.samples["paired"].sum())
    assert {name: int(tiles[name]) for name in by_split.index} == by_split.to_dict()
    for row in facts.licences:
        assert row.evidence in words
    for reason, count in facts.rejected["reason"].value_counts().items():
        assert re.search(rf"rejected: {re.escape(reason_words(reason))}</th>.*?>{count} \(", words, re.DOTALL)
    assert facts.title.removeprefix("sar-1m ") in words


def test_words_of_a_leaking_release_come_first(facts):
    audit = {**facts.audit, "holds": False, "problems": ["7 patches stand in two splits"]}
    words = explorer_files(replace(facts, audit=audit))["report/index.html"].decode()
    assert "do not evaluate on them" in words.partition("<nav")[0]
    assert "7 patches stand in two splits" in words


def test_recipes_and_reasons_of_merging_are_told_in_words(tmp_path, table):
    made = made_facts(tmp_path, table)
    files = page_files(replace(made, counts={**made.counts, "recipes": 41}), made_pictures(table, 0))
    words = files["report/index.html"].decode()
    assert "The optical pixels of 41 samples stay with their provider" in words
    assert "newer pixels of the same sample in another build (superseded_by_other_build)" in words
    assert (
        "none: optical pixels stay with their provider; a recipe makes them (recipe_only)" in facets(files)["partner"]
    )


def test_names_are_never_markup(tmp_path, table):
    few = table.iloc[:40].assign(
        sample_id=[f"{EVIL}{n}" for n in range(40)], **dict.fromkeys(("sar_product", "country", "site", "block"), EVIL)
    )
    made = made_facts(tmp_path, few)
    evil = replace(
        made,
        name=EVIL,
        summary={**made.summary, "rejected_by_reason": {EVIL: 7}, "region": EVIL},
        licences=(replace(made.licences[0], source=EVIL, url="javascript:alert(1)", evidence=EVIL),),
    )
    files = page_files(evil, made_pictures(few, 0))
    for name, content in files.items():
        text = content.decode()
        assert "<img src=x" not in text
        assert "\u2028" not in text or name.endswith("index.html")
        assert 'href="javascript:' not in text
        if name != "report/index.html":
            assert "</script" not in text
    assert part(files, "core")["ids"][7] == f"{EVIL}7"
    assert settings(files)["licences"][0][0] == EVIL


def test_the_policy_lets_nothing_in_but_the_pages_own(page):
    words = page["report/index.html"].decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', words)[1].replace("&#39;", "'")
    nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", policy)[1]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    scripts = re.findall(r"<script[^>]*>", words)
    assert [f'nonce="{nonce}"' in tag for tag in scripts] == [False, True, True, True]
    assert not any(nonce.encode() in content for name, content in page.items() if name.endswith(".js"))
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!example\.org|creativecommons\.org)', words)
    assert " style=" not in words


def test_a_larger_release_is_held_in_part_and_says_so(tmp_path, table, monkeypatch):
    monkeypatch.setattr(rows, "HELD_MOST", 1000)
    files = page_files(made_facts(tmp_path, table), made_pictures(table.iloc[:1000], 20))
    core = part(files, "core")
    assert core["count"] == 1000
    positions = [table["sample_id"].tolist().index(name) for name in core["ids"]]
    assert positions == sorted(positions)
    assert max(positions) > 2000
    words = files["report/index.html"].decode()
    assert "The page holds 1,000 of 2,500 samples" in words
    assert "<dd>2,500</dd>" in words


def test_outlines_are_in_degrees_around_the_samples():
    found = outlines.outlines(np.array([9.0, 10.0]), np.array([53.0, 54.0]))
    west, south, east, north = found["view"]
    assert (west < 9, east > 10, south < 53, north > 54) == (True,) * 4
    points = [np.cumsum(np.array(ring).reshape(-1, 2), axis=0) / found["steps"] for ring in found["region"]]
    a, b, c, d = found["box"]
    assert (np.concatenate(points).min(axis=0) >= [a - 0.01, b - 0.01]).all()
    assert (np.concatenate(points).max(axis=0) <= [c + 0.01, d + 0.01]).all()
    country = [shapely.Polygon(ring) for ring in points if len(ring) > 2]
    assert any(shape.contains(shapely.Point(9.99, 53.55)) for shape in country), "Hamburg is on land"
    assert not any(shape.contains(shapely.Point(8.0, 54.2)) for shape in country), "Heligoland Bight is not"
    everywhere = outlines.outlines(np.linspace(-170, 170, 30), np.linspace(-50, 70, 30))
    assert (everywhere["region"], everywhere["box"]) == ([], [])
    assert everywhere["world"] == found["world"]


def test_the_script_is_all_its_files_in_one_scope(page):
    program = page["report/explorer.js"].decode()
    assert program.startswith('"use strict";\n(() => {\n')
    assert program.endswith("})();\n")
    assert len(SCRIPTS) >= 7
    assert re.search(r"\b(?:fetch|XMLHttpRequest|import)\s*\(", program) is None
    assert "innerHTML" not in program


def test_a_part_hands_itself_over_in_either_order():
    assert script_part("core", {"a": "<"}) == b'(self.explorerParts??=[]).push(["core",{"a":"\\u003c"}]);\n'


# ---- inside a release ----


def test_a_release_has_the_page_with_its_lock_and_nothing_private(tmp_path_factory, facts):
    root = small_release(tmp_path_factory)
    manifest = (root / "manifest-sha256.txt").read_text()
    there = sorted(path.relative_to(root).as_posix() for path in (root / "report").iterdir())
    assert {"report/index.html", "report/core.js", "report/explorer.js", "report/rows-000.js"} <= set(there)
    assert all(name in manifest for name in there)
    files = {name: (root / name).read_bytes() for name in there}
    core, shown, lock = part(files, "core"), part(files, "rows-000"), lock_of(root)
    for column in ("pixel_hash", "build"):
        names, numbers = shown[column]
        assert [names[number] for number in numbers] == lock.loc[core["ids"], column].tolist()
    assert [one for name in there for one in findings_in(root, name, own_secrets([root]))] == []


def test_the_five_lines_load(facts, tmp_path, monkeypatch, capsys):
    pytest.importorskip("xarray", reason="xarray is not installed (make test installs it)")
    lines = loading_lines(facts)
    assert len(lines.splitlines()) == 5
    monkeypatch.chdir(facts.root)
    exec(lines, {})  # noqa: S102 - the very lines that the page shows
    name, mean = capsys.readouterr().out.split()
    assert name == facts.samples[facts.samples["split"] == lines.split("data/")[1].split(".")[0]].iloc[0]["sample_id"]
    assert -40 < float(mean) < 10


def test_a_build_without_lock_has_no_hashes_to_tell(facts):
    assert not (facts.root / "provenance/lock.parquet").exists()
    assert "pixel_hash" not in part(explorer_files(facts), "rows-000")
