"""Audits of what is described or stored: scenes.csv, a build, and a release behind an address."""

import numpy as np
import pytest

from sar1m.audit.discover import discover
from sar1m.audit.item import PairWork
from sar1m.audit.run import AuditRequest, audit
from sar1m.config import RegistrationConfig
from sar1m.io.tables import read_table
from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.progress import LineWatch
from servers.objects import PREFIX, folder_server
from support.folders import OPTICAL_ROW, SAR_ROW, write_table
from support.geotiffs import utm_grid, write_tiff
from support.known_pairs import power_and_bands
from support.made_releases import make_build, release


def audited(place, out, **options):
    work = PairWork(registration=RegistrationConfig(search_px=8))
    request = AuditRequest(place=str(place), out=out, work=work, workers=0, **options)
    return audit(request, LineWatch(lambda _line: None))


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    return make_build(tmp_path_factory.mktemp("audit") / "build", 3, "grid.patch_px=192")


def shifts(summary):
    return {row.pair: (row.row_px, row.col_px) for row in summary.rows if row.status == "measured"}


def test_of_a_build_is_found_what_its_table_says_is_left(build, tmp_path):
    found = shifts(audited(build, tmp_path / "out"))
    table = read_table(build / "samples.parquet").query("paired and registration_status == 'measured'")
    assert len(table) > 2
    left = table[["shift_row_px", "shift_col_px"]].to_numpy() - table[["applied_row_px", "applied_col_px"]].to_numpy()
    there = [name in found for name in table["sample_id"]]
    assert np.mean(there) > 0.8
    apart = [
        np.hypot(*(found[name] - rest)) for name, rest in zip(table["sample_id"], left, strict=True) if name in found
    ]
    assert np.median(apart) < 0.15, "the build measures with a margin that the store no longer has"


def test_a_release_at_an_address_gives_the_rows_of_its_folder(build, tmp_path):
    folder = tmp_path / "release"
    release([build], folder)
    near = audited(folder, tmp_path / "near")
    with folder_server(folder) as server:
        far = audited(f"{server.url}{PREFIX}", tmp_path / "far")
    assert shifts(near) == shifts(far) != {}
    with pytest.raises(ConfigError, match="no picture files"):
        audited("https://example.invalid/release", tmp_path / "no", write_to=tmp_path / "aligned")


def test_scenes_that_a_table_describes_are_read_as_a_build_reads_them(tmp_path):
    power, bands = power_and_bands(size=(260, 260), shift_px=(2.3, -1.6))
    grid = utm_grid(260, 260)
    root = tmp_path / "scenes"
    write_tiff(root / "vv.tif", 0.5 * power, grid)
    write_tiff(root / "rgb.tif", (1000 + 3000 * bands[::-1]).astype(np.uint16), grid)
    write_table(root, [SAR_ROW, OPTICAL_ROW])
    (row,) = audited(root, tmp_path / "out").rows
    assert (row.status, row.row_px, row.col_px) == (
        "measured",
        pytest.approx(2.3, abs=0.3),
        pytest.approx(-1.6, abs=0.3),
    )
    assert row.shift_m == pytest.approx(10 * row.shift_px, rel=1e-3)


def test_a_scene_that_is_described_wrongly_is_named(tmp_path):
    write_table(tmp_path, [SAR_ROW | {"path": "gone.tif"}])
    with pytest.raises(SourceError, match=r"gone\.tif"):
        discover(str(tmp_path))
