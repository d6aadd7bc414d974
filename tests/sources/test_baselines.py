"""Processing baselines of Sentinel-2: which are known, what each adds, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sar1m.sources.baselines import KNOWN, Baseline, known_baseline, parse_baseline, radiometric_offset_dn
from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from support.folders import CHIP, CONFIG, OPTICAL_ROW, SAR_ROW, read_all, write_table
from support.geotiffs import write_tiff

# ESA, technical guide of Sentinel-2, "Processing baseline": from 04.00 on (2022-01-25), and in Collection 1 (05.00)
PUBLISHED = {
    "02.04": 0,
    "02.05": 0,
    "02.09": 0,
    "02.10": 0,
    "02.14": 0,
    "03.00": 0,
    "03.01": 0,
    "04.00": -1000,
    "05.00": -1000,
    "05.09": -1000,
    "05.10": -1000,
    "05.11": -1000,
    "05.12": -1000,
    "05.13": -1000,
}


@pytest.mark.parametrize(("text", "offset_dn"), PUBLISHED.items())
def test_every_published_baseline_has_its_offset(text, offset_dn):
    found = known_baseline(text, "scene", "")
    assert (str(found), radiometric_offset_dn(found)) == (text, offset_dn)


def test_baselines_are_compared_as_numbers_however_they_are_written():
    assert parse_baseline("5.09") == parse_baseline("N0509") == parse_baseline(" 05.09 ") == Baseline(5, 9)
    assert parse_baseline("4.0") == Baseline(4, 0)  # as the Copernicus Data Space writes processorVersion
    assert parse_baseline("9.00") < parse_baseline("10.00")  # as texts the first would be larger
    assert parse_baseline("5.09") > parse_baseline("04.00")
    assert max(KNOWN) == Baseline(5, 13)
    for ambiguous in ("5.1", "0509", "05.9", "5", "05.090", "v05.09", "", "05,09", "-5.09"):
        assert parse_baseline(ambiguous) is None


@pytest.fixture
def chip(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    write_tiff(tmp_path / "vv.tif", rng.gamma(4.4, 0.02, (80, 80)).astype(np.float32), CHIP)
    write_tiff(tmp_path / "rgb.tif", np.full((3, 80, 80), 2000, dtype=np.uint16), CHIP)
    return tmp_path


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ({"baseline": "99.99"}, r"line 3: processing baseline 99\.99 marks a product processed locally.*column offset"),
        ({"baseline": "N9999"}, r"baseline 99\.99 marks a product processed locally"),
        ({"baseline": "90.00"}, r"baseline 90\.00 marks a product processed locally"),
        ({"baseline": "05.08"}, r"baseline 05\.08 is not one of 02\.00 to 02\.14.*Do its digital numbers carry"),
        ({"baseline": "06.00"}, r"baseline 06\.00 is not one of"),
        ({"baseline": "00.01"}, r"baseline 00\.01 is not one of"),
        ({"baseline": "5.1"}, r"column baseline has '5\.1'; expected a form such as 04\.00"),
        ({"baseline": "", "datetime": "2023-06-10T10:00:00Z"}, "line 3: unit dn needs baseline or offset"),
        (
            {"baseline": "02.05", "product_id": "S2A_MSIL2A_20190602T102031_N0500_R065_T33TWK_20230101T000000"},
            r"states baseline 02\.05 and baseline 05\.00 in the product's name",
        ),
        ({"baseline": "02.05", "offset": "-0.1"}, r"states an offset of -1000 DN and baseline 02\.05 \(0 DN\)"),
    ],
)
def test_an_unknown_baseline_is_refused_with_the_question_to_answer(chip, cells, found):
    with pytest.raises(SourceError, match=found):
        list(FolderSource(write_table(chip, [SAR_ROW, OPTICAL_ROW | cells])).candidates(CONFIG))


@pytest.mark.parametrize(
    ("cells", "reflectance"),
    [
        ({"baseline": "5.09"}, 0.1),
        ({"baseline": "02.14"}, 0.2),
        ({"baseline": "05.10", "offset": "0"}, 0.2),  # harmonised by whoever wrote the table
        ({"baseline": "99.99", "offset": "0"}, 0.2),
        ({"baseline": "99.99", "offset": "-0.1"}, 0.1),
        ({"baseline": "", "offset": "-0.1", "product_id": "S2A_MSIL2A_20190602T102031_N9999_R065_T33TWK"}, 0.1),
    ],
)
def test_a_stated_offset_answers_for_any_baseline(chip, cells, reflectance):
    ((_, pixels),) = read_all(FolderSource(write_table(chip, [SAR_ROW, OPTICAL_ROW | cells])))
    np.testing.assert_allclose(pixels.optical, reflectance, rtol=1e-5)
