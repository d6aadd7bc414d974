"""Damaged and hostile labelled sets for the readers of evaluation, and the process that reads them under limits.

Run as a program: evaluation_mutations.py SCRATCH FIRST COUNT reads COUNT mutants, prints one JSON line a mutant that
misbehaved and one summary line. A mutant is read, or refused by a typed error that names something below its folder.
What is read must be what Pillow reads of the same file, where Pillow knows it.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from PIL import Image

from sar1m.store.errors import Sar1mError
from sar1m.store.side_files import shown
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.datasets.pictures import read_grey
from sarmae.evaluate.study_config import TaskConfig
from support.hang_guard import arm, hang_guard
from support.json_mutations import damaged_bytes, damaged_json
from support.labelled_stores import labelled_store
from support.peak_memory import peak_bytes
from support.small_stores import seal

MEMORY_BYTES = 4 * 2**30  # torch and GDAL alone take half of one
SIDE = 24
KINDS = {"folders": "classification", "masks": "segmentation", "coco": "detection", "store": "classification"}
PICTURES = (".png", ".jpg", ".bmp", ".tif")
STRANGE_NAMES = (
    "a\nb.png", "\u202egnp.exe", "x" * 240 + ".png", "\udcff\udcfe.png", " .png", "-rf.png", "\x1b[31m.png", "²3.png",
    "TRAIN", "0.PNG", "..png", "con.png",
)  # fmt: skip
BESIDE = (
    b"", b"II*\0", b"MM\0*\0\0\0\x08", b"<VRTDataset/>", b"<PAMDataset>", b"\xff" * 99,
    b"<PAMDataset><PAMRasterBand band='1'><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>",
    b"<PAMDataset><PAMRasterBand band='1'><Scale>1e999</Scale><Offset>x</Offset></PAMRasterBand></PAMDataset>",
    b"<PAMDataset><PAMRasterBand band='1'><UnitType>\x1b[31mm</UnitType></PAMRasterBand></PAMDataset>",
    b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><PAMDataset>&a;</PAMDataset>" + b"<a>" * 9999,
)  # fmt: skip
STRANGE_LINES = (
    "", ",", ";;;;", "\x00", "s0.png,s1.png", '"unclosed', "x" * 200_000, "../../etc/passwd", "\u2028s0.png",
    "s0.png" * 99,
    "train,test,val", "\ufeffs0.png", "s0.png\x85s1.png", "0,1,2,3", "nan",
)  # fmt: skip


def write_sets(scratch: Path) -> dict[str, Path]:
    """Whole sets by kind, each of every format that its reader knows."""
    sets = {kind: scratch / "whole" / kind for kind in KINDS}
    _write_chips(sets["folders"])
    _write_scenes(sets["masks"])
    _write_coco(sets["coco"])
    labelled_store(sets["store"])
    return sets


def _grey(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).gamma(1, 30, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)


def _tif(path: Path, bands: np.ndarray[Any, Any], **profile: Any) -> None:
    count, rows, cols = bands.shape
    shape = {"count": count, "height": rows, "width": cols, "dtype": bands.dtype.name}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as raster:
        raster.write(bands)


def _save(path: Path, picture: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def _write_chips(root: Path) -> None:
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    for kind, name in enumerate("ab"):
        for number, suffix in enumerate(PICTURES):
            _save(root / name / f"{number}{suffix}", _grey(10 * kind + number))
        _tif(root / name / "tiled.tif", _grey(10 * kind + 7)[None], nodata=0, **tiled)
        _save(root / name / "alpha.png", np.stack([_grey(10 * kind + 8), np.full((SIDE, SIDE), 255, np.uint8)], axis=2))
        _tif(root / name / "lzw.tif", _grey(10 * kind + 9)[None], compress="lzw", predictor=2)


def _write_scenes(root: Path) -> None:
    half = np.zeros((SIDE, SIDE), np.uint8)
    half[:, SIDE // 2 :] = 1
    for number in range(6):
        scene = np.random.default_rng(number).normal(-12, 3, (2, SIDE, SIDE)).astype(np.float32)
        _tif(root / f"images/s{number}.tif", scene, compress=("none", "deflate", "lzw")[number % 3])
        if number % 2:
            _save(root / f"masks/s{number}.png", half)
        else:
            _tif(root / f"masks/s{number}.tif", half.astype(np.int16)[None], nodata=-9999)
    for split, names in (("train", range(4)), ("test", (4, 5))):
        text = "image,mask\n" + "".join(f"s{number}.tif,s{number}.png\n" for number in names)
        (root / f"{split}.csv").write_text(text)


def _write_coco(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    for split, numbers in (("train", (1, 2, 3)), ("test", (4, 5))):
        document: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}]}
        for number in numbers:
            _save(root / f"images/{number}{PICTURES[number % 3]}", _grey(number))
            name = f"{number}{PICTURES[number % 3]}"
            document["images"].append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
            box = {"image_id": number, "category_id": 1, "area": 35, "iscrowd": 0, "bbox": [number, 2, 5.5, 7]}
            document["annotations"].append({"id": number, **box})
        (root / f"annotations/{split}.json").write_text(json.dumps(document))


# ---- damage ----


def damage(rng: random.Random, root: Path, kind: str) -> tuple[str, Path | None]:
    """Spoils one thing of a set. What was done, and the picture that was changed, if one was."""
    if kind == "store":
        return _damage_table(rng, root), None
    texts = sorted(path for path in root.rglob("*") if path.suffix in (".json", ".csv"))
    chance = rng.random()
    if texts and chance < (0.6 if kind == "coco" else 0.25):
        return _damage_text(rng, rng.choice(texts)), None
    if chance < 0.75:
        path = rng.choice(sorted(path for path in root.rglob("*") if path.suffix in PICTURES))
        return f"{path.name} {_damage_picture(rng, path)}", path
    return _damage_folder(rng, root), None


def _damage_text(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        content, done = damaged_json(rng, content)
    elif rng.random() < 0.4:
        content, done = damaged_bytes(rng, content)
    else:
        lines = content.decode().splitlines()
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(STRANGE_LINES))
        encoding = rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp037", "utf-7"))
        content = rng.choice(("\n", "\r\n", "\r", "\x0b")).join(lines).encode(encoding, "replace")
        done = f"line {encoding}"
    path.write_bytes(content)
    return f"{path.name} {done}"


def _damage_picture(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    kinds = [_flip, _flip, _cut, _blank, _number, _number, _other_file]
    if path.suffix == ".png":
        kinds += [_resealed_chunk] * 4
    if path.suffix == ".tif":
        kinds += [_tag] * 6
    done = rng.choice(kinds)
    path.write_bytes(done(rng, content, path))
    return done.__name__


def _flip(rng: random.Random, content: bytes, _: Path) -> bytes:
    changed = bytearray(content)
    for _time in range(rng.choice((1, 1, 3, 50))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(rng: random.Random, content: bytes, _: Path) -> bytes:
    return content[: rng.choice((0, 1, 8, rng.randrange(len(content)), rng.randrange(len(content))))]


def _blank(rng: random.Random, content: bytes, _: Path) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice((1, 4, 64, 512))
    return content[:start] + bytes(len(content[start : start + length])) + content[start + length :]


def _number(rng: random.Random, content: bytes, _: Path) -> bytes:
    at = rng.randrange(min(len(content), 300) - 4)
    value = rng.choice((0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, 50_000, rng.getrandbits(32)))
    return content[:at] + value.to_bytes(4, rng.choice(("big", "little"))) + content[at + 4 :]


def _other_file(rng: random.Random, content: bytes, path: Path) -> bytes:
    others = sorted(other for other in path.parents[1].rglob("*") if other.is_file() and other != path)
    return rng.choice((b"<VRTDataset/>", b"GIF89a" + content, b"\0" * 999, rng.choice(others).read_bytes()))


def _resealed_chunk(rng: random.Random, content: bytes, _: Path) -> bytes:
    """A PNG with one chunk changed, left out, doubled, or with other pixels inside; its checksums hold."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    where = rng.randrange(len(chunks))
    kind, body = chunks[where]
    if kind == b"IDAT" and rng.random() < 0.6:
        pixels = zlib.decompress(body)
        pixels = rng.choice(
            (pixels[:-3], pixels[: len(pixels) // 2], pixels + b"\0", bytes(2**24), _flip(rng, pixels, Path()))
        )
        chunks[where] = (kind, zlib.compress(pixels))
    elif rng.random() < 0.3:
        chunks[where : where + 1] = rng.choice(([], [chunks[where]] * 2, [(b"tRNS", b"\0\x05"), chunks[where]]))
    elif body:
        chunks[where] = (kind, _flip(rng, body, Path()))
    whole = content[:8]
    for kind, body in chunks:
        whole += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return whole


def _tag(rng: random.Random, content: bytes, _: Path) -> bytes:
    """A TIFF with one field of its directory changed."""
    order = "<" if content[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, at)
    entry = at + 2 + 12 * rng.randrange(count)
    field, size = rng.choice(
        ((entry, 2), (entry + 2, 2), (entry + 4, 4), (entry + 8, 4), (entry + 8, 2), (entry + 8, 2))
    )
    values = (0, 1, 2, 3, 5, 7, 8, 16, 32, 34, 254, 317, 320, 322, 338, 32773, 50_000, 65_535, 2**31 - 1, 2**32 - 1)
    value = rng.choice(values) % 2 ** (8 * size)
    return content[:field] + value.to_bytes(size, "little" if order == "<" else "big") + content[field + size :]


def _damage_folder(rng: random.Random, root: Path) -> str:
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    folder = rng.choice(folders)
    files = sorted(path for path in folder.iterdir() if path.is_file()) or sorted(root.rglob("*.*"))
    file = rng.choice(files)
    made = folder / rng.choice((*STRANGE_NAMES, "new.png", "new", "train", "test.csv", "x.json"))
    done = rng.choice(("loop", "up", "broken", "pipe", "device", "folder", "gone", "copy", "beside", "move", "empty"))
    if made.exists() or made.is_symlink():
        return "nothing"
    if done in ("loop", "up", "broken", "device"):
        target = {"loop": made.name, "up": "..", "broken": "../no/where", "device": "/dev/zero"}[done]
        made.symlink_to(target, target_is_directory=done == "up")
    elif done == "pipe":
        os.mkfifo(made)
    elif done in ("folder", "empty"):
        made.mkdir()
        if done == "folder":
            shutil.copyfile(file, made / file.name)
    elif done == "gone":
        file.unlink()
    elif done == "copy":
        shutil.copyfile(file, made)
    elif done == "move":
        file.rename(made)
    else:
        file.with_name(file.name + rng.choice((".msk", ".aux.xml", ".ovr"))).write_bytes(rng.choice(BESIDE))
    return f"{done} {made.name!r}"[:60]


def _damage_table(rng: random.Random, root: Path) -> str:
    """samples.parquet, sealed again by half: what a careless or hostile program wrote."""
    path = root / "samples.parquet"
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    kind = rng.choice(("flip", "footer", "footer", "cut", "length", "other"))
    if kind in ("flip", "footer"):
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(footer if kind == "footer" else 0, len(content))] = rng.randrange(256)
    elif kind == "length":
        content[-8:-4] = rng.choice((0, 2**31 - 1, 2**32 - 1, footer)).to_bytes(4, "little")
    else:
        content = content[: rng.randrange(len(content))] if kind == "cut" else bytearray(b"PAR1PAR1")
    path.write_bytes(content)
    if sealed := rng.random() < 0.9:
        seal(root)
    return f"table {kind}{' sealed' * sealed}"


# ---- judgement ----


@dataclass(frozen=True)
class Verdict:
    """kind: read, the class of a typed error, or a fault: untyped, unnamed, out of memory, substituted."""

    kind: str
    text: str = ""


FAULTS = ("untyped", "unnamed", "out of memory", "substituted")


def judge(root: Path, kind: str, picture: Path | None) -> Verdict:
    dataset = {"kind": kind, "path": str(root), "image_px": 32, "val_share": 0, "trust_split": True}
    try:
        task = open_dataset(TaskConfig(name="mutant", kind=KINDS[kind], dataset=dataset))
        images = task.images.read(range(len(task.splits)))
        assert images.dtype == torch.float32
        assert not torch.isinf(images).any()
    except Sar1mError as error:
        named = shown(root) in str(error) or str(root) in str(error)
        return Verdict(type(error).__name__ if named else "unnamed", str(error))
    except MemoryError as error:
        return Verdict("out of memory", str(error))
    except Exception as error:  # noqa: BLE001 - the type is what is judged
        return Verdict("untyped", f"{type(error).__name__}: {error}")
    return _as_pillow(picture) if picture is not None and picture.exists() else Verdict("read")


def _as_pillow(path: Path) -> Verdict:
    """What was read of a picture of 8 bits, beside what Pillow reads.

    Of a JPEG only whether it is whole: it has no checksum, and of a changed table every decoder makes its own pixels.
    """
    try:
        ours = read_grey(path)
    except Sar1mError:  # a scene or a mask of several bands
        return Verdict("read")
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as picture:
                theirs = np.array(picture.convert("RGB"))[..., 0].astype(float)
                plain = picture.mode in ("L", "LA", "RGB", "RGBA", "P") and picture.format in ("PNG", "BMP")
    except Exception as error:  # noqa: BLE001 - whatever keeps Pillow from it
        cut = "truncated" in str(error) and not content.startswith((b"II", b"MM"))
        return Verdict("substituted", f"Pillow: {error}") if cut else Verdict("read")
    if not plain or ours.depth != "uint8":
        return Verdict("read")
    seen = np.isfinite(ours.pixels)
    if theirs.shape != ours.pixels.shape or np.abs(ours.pixels.astype(float) - theirs)[seen].max(initial=0) > 0:
        return Verdict("substituted", f"{ours.pixels.shape} differ from Pillow's {theirs.shape}")
    return Verdict("read")


def make_mutant(index: int, sets: dict[str, Path], folder: Path) -> tuple[str, str, Callable[[], Verdict]]:
    """The kind of set, what was done, and the reading of it."""
    rng = random.Random(index)
    kind = rng.choice(("folders", "folders", "folders", "masks", "masks", "coco", "coco", "store"))
    root = folder / kind
    shutil.copytree(sets[kind], root)
    done, picture = damage(rng, root, kind)
    return kind, done, lambda: judge(root, kind, picture)


def main() -> None:
    scratch, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    sets = write_sets(scratch)
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    arm()
    tally: Counter[str] = Counter()
    slowest = (0.0, "")
    for index in range(first, first + count):
        folder = scratch / "mutant"
        kind, done, read = make_mutant(index, sets, folder)
        sys.stderr.write(f"{index} {kind} {done!a}\n")
        started = time.process_time()
        with hang_guard():
            verdict = read()
        slowest = max(slowest, (time.process_time() - started, f"{index} {kind} {done}"))
        tally[verdict.kind] += 1
        if verdict.kind in FAULTS:
            found = {"index": index, "done": f"{kind} {done}", "kind": verdict.kind, "text": verdict.text[:600]}
            print(json.dumps(found), flush=True)
        shutil.rmtree(folder)
    summary = {"tally": tally, "slowest_cpu_s": slowest[0], "slowest": slowest[1], "peak_bytes": peak_bytes()}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
