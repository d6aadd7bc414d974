"""Pairs found by the names that public collections give their files (from their own descriptions), and by odd ones."""

import pytest

from sar1m.audit.names import match_names


def matched(*paths):
    return [(pair.sar, pair.optical) for pair in match_names(paths).pairs if not pair.fault]


@pytest.mark.parametrize(
    ("sar", "optical"),
    [
        ("sar/003.png", "optical/003.jpg"),  # SRIF, WHU-OPT-SAR, Optical-SAR-dataset
        ("sar_256_oc_0.2/1.png", "opt_256_oc_0.2/1.png"),  # QXS-SAROPT
        ("ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p100.tif", "ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p100.tif"),
        ("S1RTC/38D_378R_2_3.tif", "S2L2A/38D_378R_2_3.tif"),  # TerraMesh
        ("0001.sar.png", "0001.opt.jpg"),  # WebDataset
        ("a_S1.TIF", "a_S2.TIF"),
        ("sar_optical/s1/1.png", "sar_optical/s2/1.png"),  # a folder named after both says nothing
        ("train/SAR/ü 1\n.png", "train/Optical/ü 1\n.png"),
    ],
)
def test_layouts_of_public_collections_are_paired(sar, optical):
    assert matched(sar, optical) == [(sar, optical)]


def test_of_several_products_of_one_place_the_analysis_ready_one_is_taken():
    paths = ["S1GRD/x.tif", "S1RTC/x.tif", "S2RGB/x.tif", "S2L1C/x.tif", "S2L2A/x.tif", "DEM/x.tif", "LULC/x.tif"]
    found = match_names(paths)
    assert [(pair.sar, pair.optical) for pair in found.pairs] == [("S1RTC/x.tif", "S2L2A/x.tif")]
    assert found.neither == 2


def test_one_stem_with_two_suffixes_is_named_and_not_guessed():
    (pair,) = match_names(["sar/1.png", "sar/1.tif", "optical/1.png"]).pairs
    assert "2 SAR pictures" in pair.fault
    assert "sar/1.png" in pair.fault
    assert "sar/1.tif" in pair.fault


def test_a_picture_without_partner_is_named():
    faults = {
        pair.name: pair.fault
        for pair in match_names(["sar/1.png", "sar/2.png", "optical/2.png", "optical/3.png"]).pairs
    }
    assert faults == {
        "1": "no optical picture belongs to sar/1.png",
        "2": "",
        "3": "no SAR picture belongs to optical/3.png",
    }


def test_pairs_of_different_folders_keep_different_names():
    found = match_names(["a/sar/1.png", "a/optical/1.png", "b/sar/1.png", "b/optical/1.png"])
    assert [pair.name for pair in found.pairs] == ["a/1", "b/1"]


def test_what_is_no_picture_is_left_alone():
    found = match_names(["sar/1.txt", "sar/1.png.aux.xml", "optical/notes.json"])
    assert found.pairs == ()
    assert found.neither == 0
