"""Folders as systems and people leave them: links, loops of links, hidden things; lists of a split as written."""

import json
import os
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.datasets.listing import files_under, pictures_under
from sarmae.evaluate.datasets.mask_pairs import find_pairs
from sarmae.evaluate.study_config import TaskConfig

TASKS = {"folders": "classification", "masks": "segmentation", "coco": "detection"}


def opened(path, kind, **keys):
    dataset = {"kind": kind, "path": str(path), "image_px": 32, "val_share": 0, **keys}
    return open_dataset(TaskConfig(name="x", kind=TASKS[kind], dataset=dataset))


def put(path, seed, shape=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).gamma(1, 30, shape).clip(0, 255).astype(np.uint8)).save(path)


def chips(root, classes=("a", "b"), count=5):
    for kind, name in enumerate(classes):
        for number in range(count):
            put(root / name / f"{number}.png", 100 * kind + number)
    return root


def masks(root, names=tuple(f"s{number}" for number in range(6))):
    for number, name in enumerate(names):
        put(root / f"images/{name}.png", number)
        half = np.zeros((40, 40), np.uint8)
        half[:, 20:] = 1
        (root / "masks").mkdir(parents=True, exist_ok=True)
        Image.fromarray(half).save(root / f"masks/{name}.png")
    return root


def coco(root):
    for split, numbers in (("train", (1, 2, 3)), ("test", (4, 5))):
        for number in numbers:
            put(root / f"images/{number}.png", number)
        document = {
            "images": [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 40} for n in numbers],
            "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 9, 9]} for n in numbers],
            "categories": [{"id": 1, "name": "ship"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{split}.json").write_text(json.dumps(document))
    return root


MADE = {"folders": chips, "masks": masks, "coco": coco}
LEFT_BEHIND = (
    ".DS_Store", "Thumbs.db", "desktop.ini", ".vscode/settings.json", "__MACOSX/._a.png", "__MACOSX/a/._0.png",
    ".ipynb_checkpoints/0-checkpoint.png", ".git/x.json", "@eaDir/0.png", "._images.png", ".Trash-1000/files/0.png",
    "$RECYCLE.BIN/x.png", ".thumbnails/train.csv", "__pycache__/test.txt",
)  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_hidden_files_and_folders_are_nothing_wherever_they_lie(tmp_path, kind):
    clean, littered = MADE[kind](tmp_path / "clean"), MADE[kind](tmp_path / "littered")
    for folder in [littered, *(path for path in littered.rglob("*") if path.is_dir())]:
        for name in LEFT_BEHIND:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"// mine\0")
    one, other = opened(clean, kind), opened(littered, kind)
    assert one.classes == other.classes
    assert one.splits.tolist() == other.splits.tolist()
    assert one.inputs == other.inputs
    assert one.notes == other.notes


@pytest.mark.parametrize("beside", [".DS_Store", "__MACOSX/x.png", "README.md", "LICENSE"])
def test_a_wrapper_folder_is_passed_through_whatever_lies_beside_it(tmp_path, beside):
    chips(tmp_path / "outer/MSTAR")
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).write_text("x")
    assert opened(tmp_path, "folders").classes == ("a", "b")
    masks(tmp_path / "set/inner")
    assert len(find_pairs(tmp_path / "set").pairs) == 6


@pytest.mark.parametrize("kind", MADE)
def test_links_to_folders_are_followed(tmp_path, kind):
    real = MADE[kind](tmp_path / "real")
    linked = tmp_path / "linked"
    linked.mkdir()
    for folder in real.iterdir():
        (linked / folder.name).symlink_to(folder)
    (tmp_path / "whole").symlink_to(linked)
    one = opened(real, kind)
    for place in (linked, tmp_path / "whole"):
        other = opened(place, kind)
        assert (one.classes, one.splits.tolist(), one.inputs) == (other.classes, other.splits.tolist(), other.inputs)


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("loop", ".", "leads to the same folder as"),
        ("up", "..", "leads to the same folder as|no class folder|expected"),
        ("self", "self", "a link that leads nowhere"),
        ("gone", "../nowhere", "a link that leads nowhere"),
        ("twin", "{first}", "leads to the same folder as"),
    ],
)
def test_links_that_lead_in_circles_nowhere_or_twice_to_a_folder_are_refused_by_name(
    tmp_path, kind, name, target, message
):
    root = MADE[kind](tmp_path / "root")
    first = next(path.name for path in sorted(root.iterdir()))
    inner = root / {"folders": "a", "masks": "images", "coco": "images"}[kind]
    place = inner if name in ("loop", "self") else root
    (place / name).symlink_to(target.format(first=first))
    with pytest.raises(SourceError, match=message):
        opened(root, kind)


def test_many_links_that_multiply_end_at_once(tmp_path):
    """Thirty levels with two links each to the next: a billion paths."""
    for level in range(30):
        (tmp_path / f"{level}").mkdir()
    for level in range(29):
        for name in "ab":
            (tmp_path / f"{level}/{name}").symlink_to(f"../{level + 1}")
    with pytest.raises(SourceError, match="leads to the same folder as"):
        files_under(tmp_path / "0", (".png",))


def test_a_link_that_was_copied_as_a_text_is_refused_by_name(tmp_path):
    """As git leaves it where links are not allowed."""
    chips(tmp_path / "set")
    chips(tmp_path / "elsewhere", classes=("c",))
    (tmp_path / "set/c").write_text("../elsewhere/c")
    with pytest.raises(SourceError, match=r"set/c: a link to the folder '\.\./elsewhere/c' that was copied as a text"):
        opened(tmp_path / "set", "folders")
    (tmp_path / "set/c").write_text("notes of mine")
    assert opened(tmp_path / "set", "folders").classes == ("a", "b")


def test_names_of_any_letters_are_listed_in_order(tmp_path):
    names = ("b.PNG", "a.jpeg", "ü.tif", "c.txt", "²3.png")
    for name in names:
        (tmp_path / name).touch()
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.png", os.O_CREAT))
    found = [path.name for path in pictures_under(tmp_path)]
    assert found == sorted([*names[:3], names[4], os.fsdecode(b"\xff.png")])


# ---- lists of a split ----

TRAIN, TEST = ("s0", "s1", "s2", "s3"), ("s4", "s5")


def write_lists(folder, line, *, encoding="utf-8", end="\n", head=""):
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in (("train", TRAIN), ("test", TEST)):
        text = head + end.join(line.format(name=name, number=number) for number, name in enumerate(names)) + end
        (folder / f"flood_{split}_data.csv").write_bytes(text.encode(encoding))


def splits_of(root):
    return {pair.stem: pair.split for pair in find_pairs(root).pairs}


EXPECTED = {**dict.fromkeys(TRAIN, "train"), **dict.fromkeys(TEST, "test")}
LINES = (
    "{name}.png", "{name}", "images/{name}.png", "./{name}.png", "C:\\sets\\images\\{name}.png",
    "{name}.png,{name}.png",
    "{name}.png;{name}.png;Österreich", "{name}.png\t{name}.png", "{name}.png {name}.png", "{name}.png | {name}.png",
    '"{name}.png", "{name}.png", "a, b"', "'{name}.png'", "{number},{name}.png,x", "  {name}.png  ", "{name}.tif;1,5",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_lists_with_any_separator_are_read(tmp_path, line):
    write_lists(masks(tmp_path), line)
    assert splits_of(tmp_path) == EXPECTED


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_in_any_encoding_are_read(tmp_path, encoding, end):
    line, head = "{name}.png,{name}.png,Österreich", f"image,mask,land{end}"
    write_lists(masks(tmp_path), line, encoding=encoding, end=end, head=head)
    assert splits_of(tmp_path) == EXPECTED
    assert "1 lines of flood_train_data.csv name no image here" in find_pairs(tmp_path).notes


def test_names_with_other_letters_match_in_every_encoding_and_composition(tmp_path):
    names = ("Österreich_1", "Ö_2", "São_3", "four words in 4")
    masks(tmp_path, names)
    (tmp_path / "train.txt").write_bytes("\n".join(f"{name}.png" for name in names[:3]).encode("latin-1"))
    (tmp_path / "test.txt").write_text("four words in 4.png\n")
    assert splits_of(tmp_path) == dict(zip(names, ("train", "train", "train", "test"), strict=True))
    (tmp_path / "train.txt").write_text("O\u0308sterreich_1\nO\u0308_2\nSa\u0303o_3\n", encoding="utf-8")
    assert splits_of(tmp_path)["São_3"] == "train"


@pytest.mark.parametrize("place", ["", "splits", "splits/flood_handlabeled", "lists/a/b/c"])
def test_lists_lie_anywhere_below_the_set(tmp_path, place):
    write_lists(masks(tmp_path) / place, "{name}.png")
    assert splits_of(tmp_path) == EXPECTED


@pytest.mark.parametrize("given", ["v1.1", "v1.1/data/flood_events/HandLabeled"])
def test_the_release_of_sen1floods11_as_it_is_downloaded(tmp_path, given):
    """By its top folder, or by the folder of its hand-labelled chips, whose lists lie three levels above it."""
    masks(made := tmp_path / "v1.1/data/flood_events/HandLabeled")
    (made / "images").rename(made / "S1Hand")
    (made / "masks").rename(made / "LabelHand")
    masks(weak := tmp_path / "v1.1/data/flood_events/WeaklyLabeled")
    (weak / "images").rename(weak / "S1Weak")
    (weak / "masks").rename(weak / "S1OtsuLabelWeak")
    write_lists(tmp_path / "v1.1/splits/flood_handlabeled", "{name}_S1Hand.png,{name}_LabelHand.png")
    for folder, word in ((made / "S1Hand", "S1Hand"), (made / "LabelHand", "LabelHand")):
        for path in folder.iterdir():
            path.rename(path.with_stem(f"{path.stem}_{word}"))
    perm = tmp_path / "v1.1/splits/perm_water"
    perm.mkdir()
    (perm / "perm_water_train_data.csv").write_text("Colombia_1_JRC.tif,x.tif\n")
    assert splits_of(tmp_path / given) == EXPECTED
    noted = "not read, of other images: perm_water_train_data.csv"
    assert (noted in find_pairs(tmp_path / given).notes) == (given == "v1.1")


@pytest.mark.parametrize("name", ["splits.csv", "split.txt", "train.json"])
def test_a_split_in_a_form_that_is_not_read_is_refused_and_not_drawn(tmp_path, name):
    masks(tmp_path)
    (tmp_path / name).write_text("name,split\ns0,train\n")
    with pytest.raises(SourceError, match=rf"{re.escape(name)}: seems to state a split, in a form that is not read"):
        splits_of(tmp_path)
    write_lists(tmp_path, "{name}")  # beside lists that are read it is no harm
    assert splits_of(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: write_lists(root, "other_{name}.png"),
            r"flood_t\w+_data\.csv: none of its \d lines names an image",
        ),
        (
            lambda root: (root / "flood_test_data.csv").write_text("S4.png\n"),
            r"flood_test_data\.csv: none of its 1 lines names an image of .*, such as 's0'",
        ),
        (lambda root: (root / "test_b.csv").write_text("s0.png\n"), r"'s0', which .*flood_train_data\.csv lists too"),
        (
            lambda root: (root / "test_b.csv").write_text("s4.png,s5.png\n"),
            r"test_b\.csv: the line 's4.*names s4 and s5",
        ),
        (lambda root: (root / "test_b.csv").write_bytes(bytes(range(256))), r"test_b\.csv: "),
        (lambda root: (root / "test_b.csv").write_bytes(b"\xff\xfe\x00\xd8"), r"test_b\.csv: no text in utf-16"),
        (lambda root: os.mkfifo(root / "test_b.csv"), r"test_b\.csv: is a pipe"),
        (lambda root: (root / "test_b.csv").symlink_to("/dev/zero"), r"test_b\.csv: is a device"),
        (lambda root: (root / "test_b.csv").touch(), r"test_b\.csv: none of its 0 lines"),
    ],
)
def test_lists_that_say_nothing_sure_are_refused_by_name(tmp_path, spoil, message):
    write_lists(masks(tmp_path), "{name}.png,{name}.png")
    spoil(tmp_path)
    with pytest.raises(SourceError, match=message):
        find_pairs(tmp_path)


@pytest.mark.parametrize("suffix", [".webp", ".JP2", ".npy", ".gif"])
@pytest.mark.parametrize(("kind", "folder"), [("folders", "a"), ("masks", "images"), ("masks", "masks")])
def test_an_image_of_a_format_that_is_not_read_is_refused(tmp_path, kind, folder, suffix):
    MADE[kind](tmp_path)
    (tmp_path / f"{folder}/more{suffix}").write_bytes(b"x")
    with pytest.raises(SourceError, match=rf"more\{suffix}: \{suffix} is not read, so 1 file would be left out"):
        opened(tmp_path, kind)


def test_a_second_copy_in_a_format_that_is_not_read_is_no_harm(tmp_path):
    chips(tmp_path)
    (tmp_path / "a/0.npy").write_bytes(b"x")
    assert len(opened(tmp_path, "folders").labels) == 10


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".jpeg"])
def test_every_suffix_of_jpeg_is_read(tmp_path, suffix):
    chips(tmp_path)
    put(tmp_path / "a/more.jpg", 50)
    (tmp_path / "a/more.jpg").rename(tmp_path / f"a/more{suffix}")
    assert len(opened(tmp_path, "folders").labels) == 11


def test_one_class_name_in_composed_and_decomposed_letters_is_one_class(tmp_path):
    for split, first, form in (("train", 0, "NFD"), ("test", 20, "NFC")):
        chips(tmp_path / split, (unicodedata.normalize(form, "é"), "b"), count=3)
        for number, path in enumerate(sorted((tmp_path / split).rglob("*.png"))):
            put(path, first + number)
    assert opened(tmp_path, "folders").classes == ("b", unicodedata.normalize("NFC", "é"))


def test_a_class_is_left_out_by_its_name_however_the_disk_composes_its_letters(tmp_path):
    chips(tmp_path, (unicodedata.normalize("NFD", "é"), "b", "c"))
    kept = opened(tmp_path, "folders", classes={unicodedata.normalize("NFC", "é"): ""})
    assert kept.classes == ("b", "c")


@pytest.mark.parametrize("twin", ["SHIP", "ship ", " Ship"])
def test_classes_that_differ_in_case_or_spaces_alone_are_refused_until_they_are_named(tmp_path, twin):
    chips(tmp_path, ("ship", twin, "b"))
    with pytest.raises(ConfigError, match="differ in case or spaces alone"):
        opened(tmp_path, "folders")
    one = opened(tmp_path, "folders", classes={"ship": "ship", twin: "ship", "b": "b"})
    assert np.bincount(one.labels).tolist() == [10, 5]


def test_an_image_and_its_mask_pair_up_however_the_disk_composes_their_letters(tmp_path):
    masks(tmp_path, [unicodedata.normalize("NFC", f"é{number}") for number in range(6)])
    for path in list((tmp_path / "images").iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    assert len(find_pairs(tmp_path).pairs) == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [("training", "a second folder of train, beside"), ("dev", "beside folders of splits, but its name is none of")],
)
def test_a_folder_of_images_beside_those_of_the_splits_is_refused(tmp_path, more, said):
    for name in ("test", "train", more):
        masks(tmp_path / name)
    with pytest.raises(SourceError, match=rf"{more}: {said}"):
        find_pairs(tmp_path)


def test_images_in_no_split_beside_images_in_splits_are_refused(tmp_path):
    for name in ("train", "test", "dev"):
        masks(tmp_path / name, (f"{name}0",))
        for kind in ("images", "masks"):
            (tmp_path / kind / name).parent.mkdir(exist_ok=True)
            (tmp_path / name / kind).rename(tmp_path / kind / name)
        (tmp_path / name).rmdir()
    with pytest.raises(SourceError, match=r"dev0\.png: lies in no folder of a split, but .*train0\.png does"):
        find_pairs(tmp_path)
