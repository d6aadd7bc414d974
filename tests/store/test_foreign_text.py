"""Texts of others stay text: no spreadsheet computes them, no Markdown reader makes links, tags or cells of them."""

import csv
import io

import pandas as pd
import pytest

from sar1m.releases.licences import LicenceRow, attribution_md, licences_csv
from sar1m.store.foreign_text import markdown_text, spreadsheet_cell

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=cmd|'/c calc'!A0", " =1", "'=1", '"=1', "\uff1d1"]
FORMULAS += ["\u2028=1", "\xa0=1"]


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_no_cell_begins_as_a_formula(text):
    cell = spreadsheet_cell(text)
    assert cell.startswith("'")
    assert cell.isprintable()
    row = LicenceRow(source=text, licence=text, url="", redistribution="redistribute", evidence=text, samples=3)
    read = list(csv.reader(io.StringIO(licences_csv([row]).decode())))
    assert len(read) == 2
    assert [one[:1] for one in read[1][:2]] == ["'", "'"]
    assert read[1][-1] == "3"


@pytest.mark.parametrize(
    "text", ["CC-BY-4.0", "ESA", "a=b", "2021", "Île", "a - b", "S1A_IW_GRDH", "4.25", "2.0.1 (beta)"]
)
def test_plain_cells_and_names_stay_as_they_are(text):
    assert spreadsheet_cell(text) == text
    assert markdown_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[click](javascript:alert(1))", r"[click\](javascript:alert(1))"),
        ("![x](http://spy/x.png)", r"![x\](http://spy/x.png)"),
        ("[x]: http://spy", r"[x\]: http://spy"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a | b", r"a \| b"),
        ("a\n\n# heading", "a # heading"),
        ("# heading", r"\# heading"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("> quote", r"\> quote"),
        ("=====", r"\====="),
        ("**bold** _it_ `code` ~~gone~~ $x$", r"\*\*bold\*\* \_it\_ \`code\` \~\~gone\~\~ \$x\$"),
        ("\\[x](y)", r"\\[x\](y)"),
        ("&lt;b&gt; &#60; AT&T", "&amp;lt;b&amp;gt; &amp;#60; AT&T"),
        ("a\u2028b\x1b[2J\u202ec", r"a b\x1b[2J\u202ec"),
        ("Copernicus Sentinel data [2017, 2018]", "Copernicus Sentinel data [2017, 2018]"),
    ],
)  # fmt: skip
def test_markdown_shows_the_text_itself(text, shown):
    assert markdown_text(text) == shown


def test_attribution_has_a_line_a_notice_and_a_row_a_source_whatever_they_are_called():
    hostile = "Agency\n\n# Free for all\n| x | [y](z) |"
    when = pd.to_datetime(["2021-01-01"], utc=True)
    samples = pd.DataFrame(
        {"attribution": [hostile], "licence_sar": [""], "licence_optical": [""], "paired": [False],
         "sar_datetime": when, "optical_datetime": [pd.NaT]}
    )  # fmt: skip
    row = LicenceRow(source=hostile, licence="a|b", url="", redistribution="redistribute", evidence="", samples=1)
    lines = attribution_md(samples, [row], "tiny v1\n# two").decode().splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# Attribution for tiny v1 # two", "## Sources"]
    assert sum(line.startswith("- ") for line in lines) == 1
    assert [line.replace("\\|", "").count("|") for line in lines if line.startswith("|")] == [4, 4, 4]
