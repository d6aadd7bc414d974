"""Damaged and hostile Sentinel-1 products for R7, and the process that reads them under limits.

Run as a program: safe_mutations.py SCRATCH FIRST COUNT [PRODUCT...] reads COUNT mutants made from small synthetic
products, or from the products named, prints one JSON line a mutant that misbehaved and one summary line.
"""

from __future__ import annotations

import io
import json
import random
import re
import resource
import shutil
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sar1m.core.radar.product import ImageWindow
from sar1m.io.safe.measurement import read_dn
from sar1m.io.safe.product import find_products, product_digest, read_product
from sar1m.store.errors import Sar1mError
from support.hang_guard import arm, hang_guard
from support.peak_memory import peak_bytes
from support.safe_factory import SafeRecipe, safe_members, tiff_bytes, write_members

MEMORY_BYTES = 2 * 2**30
RECIPES = (
    SafeRecipe(lines=12, samples=40, polarisations=("VV", "VH")),
    SafeRecipe(lines=12, samples=40, polarisations=("HH",), platform="S1C", mode="S4", ipf="003.90"),
    SafeRecipe(lines=12, samples=40, polarisations=("VV",), platform="S1B", old_noise=True, ipf="002.70"),
)
STRANGE_NUMBERS = (
    "nan", "NaN", "inf", "-inf", "-1", "0", "-0", "1e308", "1e999", "99999999999999999999", "-99999", "1e-320", "", " ",
    "0x10", "1_0", "one", "12 13", "1,5", "٣", "2147483648", "65001", "400000", "3.7",
)  # fmt: skip
STRANGE_TIMES = (
    "2021-02-30T00:00:00", "0000-00-00T00:00:00", "9999-12-31T23:59:59.999999", "1970-01-01T00:00:00.000000", "now",
    "2021-08-09T17:39:60.0", "2021-08-09T17:39:53.153776+02:00", "2031-08-09T17:39:53.153776",
)  # fmt: skip
STRANGE_TEXTS = (
    "",
    "SLC",
    "RAW",
    "XX",
    "vv",
    "\U0001f6f0",
    "A" * 10_000,
    "Inertial",
    "ASCENDING",
    "maybe",
    "S1E",
    "IW9",
)
STRANGE_NAMES = (
    "../evil.xml", "/etc/passwd", "annotation/../../evil.xml", "annotation\\evil.xml", "C:/evil.xml",
    "annotation/./x.xml", "annotation//x.xml", "annotation/a\n.xml", "annotation/ .xml", "measurement/évil.tiff",
)  # fmt: skip
Members = dict[str, bytes]
Mutation = Callable[[random.Random, Members], None]


# ---- mutations of members ----


def pick(rng: random.Random, members: Members, ending: str = "") -> str:
    return rng.choice(sorted(name for name in members if name.endswith(ending)) or sorted(members))


def flip_bytes(rng: random.Random, members: Members) -> None:
    name = pick(rng, members)
    content = bytearray(members[name])
    for _ in range(rng.choice((1, 1, 3, 50)) if content else 0):
        content[rng.randrange(len(content))] = rng.randrange(256)
    members[name] = bytes(content)


def cut_short(rng: random.Random, members: Members) -> None:
    name = pick(rng, members)
    members[name] = members[name][: rng.choice((0, 1, 8, rng.randrange(len(members[name]) + 1)))]


def append_garbage(rng: random.Random, members: Members) -> None:
    members[pick(rng, members)] += rng.choice((b"\0", b"<", b"</product>", b"<product/>", bytes(range(256)), b" \n"))


def leave_out(rng: random.Random, members: Members) -> None:
    for _ in range(rng.choice((1, 1, 2))):
        members.pop(pick(rng, members))
        if not members:
            return


def rename(rng: random.Random, members: Members) -> None:
    name = pick(rng, members)
    members[rng.choice((name.upper(), name + ".bak", name.replace("vv", "hh"), pick(rng, members)))] = members.pop(name)


def swap_contents(rng: random.Random, members: Members) -> None:
    first, second = pick(rng, members), pick(rng, members)
    members[first], members[second] = members[second], members[first]


def elements(content: bytes) -> list[re.Match[bytes]]:
    """Whole elements without elements inside."""
    return list(re.finditer(rb"<([\w:]+)[^<>]*>([^<>]*)</\1>", content))


def edit_element(rng: random.Random, members: Members, edit: Callable[[bytes, re.Match[bytes]], bytes]) -> None:
    name = pick(rng, members, rng.choice((".xml", ".xml", ".xml", ".safe")))
    found = elements(members[name])
    if found:
        # By kind first: most elements are numbers of tie points.
        kind = rng.choice(sorted({match[1] for match in found}))
        members[name] = edit(members[name], rng.choice([match for match in found if match[1] == kind]))


def drop_element(rng: random.Random, members: Members) -> None:
    edit_element(rng, members, lambda text, at: text[: at.start()] + text[at.end() :])


def double_element(rng: random.Random, members: Members) -> None:
    edit_element(rng, members, lambda text, at: text[: at.end()] + at[0] + text[at.end() :])


def empty_element(rng: random.Random, members: Members) -> None:
    edit_element(rng, members, lambda text, at: text[: at.start(2)] + text[at.end(2) :])


def strange_value(rng: random.Random, members: Members) -> None:
    value = rng.choice(STRANGE_NUMBERS + STRANGE_TIMES + STRANGE_TEXTS).encode()
    edit_element(rng, members, lambda text, at: text[: at.start(2)] + value + text[at.end(2) :])


def strange_number_in_list(rng: random.Random, members: Members) -> None:
    value = rng.choice(STRANGE_NUMBERS).encode()

    def edit(text: bytes, at: re.Match[bytes]) -> bytes:
        words = at[2].split()
        if words:
            words[rng.randrange(len(words))] = value
        return text[: at.start(2)] + b" ".join(words) + text[at.end(2) :]

    edit_element(rng, members, edit)


def shuffle_list(rng: random.Random, members: Members) -> None:
    def edit(text: bytes, at: re.Match[bytes]) -> bytes:
        words = at[2].split()
        rng.shuffle(words)
        return text[: at.start(2)] + b" ".join(words[: rng.randint(0, len(words))]) + text[at.end(2) :]

    edit_element(rng, members, edit)


def wrong_count(rng: random.Random, members: Members) -> None:
    name = pick(rng, members, ".xml")
    counts = list(re.finditer(rb'count="(\d+)"', members[name]))
    if counts:
        at = rng.choice(counts)
        value = rng.choice((b"0", b"-1", b"7", b"99999999999", b"x", b""))
        members[name] = members[name][: at.start(1)] + value + members[name][at.end(1) :]


def swap_times(rng: random.Random, members: Members) -> None:
    name = pick(rng, members, ".xml")
    times = list(re.finditer(rb"\d{4}-\d\d-\d\dT[\d:.]+", members[name]))
    if len(times) > 1:
        first, second = sorted(rng.sample(times, 2), key=lambda at: at.start())
        text = members[name]
        members[name] = (
            text[: first.start()] + second[0] + text[first.end() : second.start()] + first[0] + text[second.end() :]
        )


def drop_branch(rng: random.Random, members: Members) -> None:
    """Without a whole list, or all but a few of its items: too few state vectors, no tie points."""
    name = pick(rng, members, ".xml")
    lists = list(re.finditer(rb"<(\w+List)[ >].*?</\1>", members[name], re.DOTALL))
    if lists:
        at = rng.choice(lists)
        item = re.search(rb"<%s>.*?</%s>" % (at[1][:-4], at[1][:-4]), at[0], re.DOTALL)
        few = (item[0] if item else b"") * rng.choice((0, 1, 2, 3))
        kept = rng.choice((b"", b"<%s>%s</%s>" % (at[1], few, at[1])))
        members[name] = members[name][: at.start()] + kept + members[name][at.end() :]


def xml_attack(rng: random.Random, members: Members) -> None:
    name = pick(rng, members, rng.choice((".xml", ".safe")))
    body = re.sub(rb"^<\?xml.*?\?>\s*", b"", members[name])
    bomb = b"".join(b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10) for level in range(1, 10))
    uri = b"u" * 50_000
    attacks: tuple[Callable[[], bytes], ...] = (
        lambda: b'<!DOCTYPE r [<!ENTITY l0 "lol">' + bomb + b"]>" + body.replace(b">", b">&l9;", 1),
        lambda: b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + body.replace(b">", b">&x;", 1),
        lambda: b'<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd">' + body,
        lambda: b"<a>" * 100_000 + b"</a>" * 100_000,
        lambda: b"<product>" + b"<a/>" * 700_000 + b"</product>",
        lambda: b"<product " + b" ".join(b'a%d=""' % index for index in range(200_000)) + b"/>",
        lambda: b'<product xmlns:x="' + uri + b'">' + b"".join(b"<x:a%d/>" % index for index in range(9_000)),
        lambda: b"<product xmlns:x='a>" + uri + b"' " + b" ".join(b"x:a%d=''" % index for index in range(60)) + b"/>",
        lambda: b'<?xml version="1.0" encoding="UTF-16"?>' + body,
        lambda: ("\ufeff" + body.decode("utf-8", "replace")).encode("utf-16"),
        lambda: b'<?xml version="1.0" encoding="no-such"?>' + body,
        lambda: b"<product><adsHeader>" + b"1 " * 5_000_000 + b"</adsHeader></product>",
        lambda: re.sub(rb"<pixel[^>]*>", lambda at: at[0] + b"1 " * 1_500_000, members[name], count=1),
        lambda: b"<!--" + b"-" * 10 + b"-->" + body,
        lambda: b"<?php ?>" + body,
    )
    members[name] = rng.choice(attacks)()


def strange_image(rng: random.Random, members: Members) -> None:
    name = pick(rng, members, ".tiff")
    recipe = RECIPES[0]
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: b"",
        lambda: tiff_bytes(recipe, np.zeros((12, 40), dtype=np.uint16)),
        lambda: tiff_bytes(recipe, np.zeros((12, 40), dtype=np.uint16), sparse_ok=True),
        lambda: tiff_bytes(recipe, np.zeros((12, 41), dtype=np.uint16)),
        lambda: tiff_bytes(recipe, np.ones((12, 40), dtype=np.float32)),
        lambda: tiff_bytes(recipe, np.ones((12, 40), dtype=np.complex64)),
        lambda: tiff_bytes(recipe, np.ones((12, 40), dtype=np.uint16), compress="deflate"),
        lambda: tiff_bytes(recipe, np.ones((12, 40), dtype=np.uint16), compress="deflate")[:-40],
        lambda: huge_tiff(400_000, 400_000),
        lambda: huge_tiff(2**32 - 1, 2**32 - 1),
        lambda: huge_tiff(0, 0),
        lambda: huge_tiff(12, 40),
        lambda: b"<VRTDataset rasterXSize='40' rasterYSize='12'><VRTRasterBand/></VRTDataset>",
        lambda: b"II*\x00" + rng.randbytes(300),
        lambda: b"MM\x00+" + rng.randbytes(300),
    )
    members[name] = rng.choice(kinds)()


def huge_tiff(rows: int, cols: int) -> bytes:
    """A header alone: width, length, bits, compression, photometric, one strip at the end of the file."""
    tags = ((256, cols), (257, rows), (258, 16), (259, 1), (262, 1), (273, 200), (278, rows), (279, 960))
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in tags
    )
    return b"II*\x00\x08\x00\x00\x00" + len(tags).to_bytes(2, "little") + entries + b"\0\0\0\0"


MEMBER_MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes, cut_short, append_garbage, leave_out, rename, swap_contents, drop_element, double_element,
    empty_element, strange_value, strange_value, strange_number_in_list, strange_number_in_list, shuffle_list,
    wrong_count, swap_times, drop_branch, xml_attack, strange_image, strange_image,
)  # fmt: skip


# ---- mutations of zips ----


def zipped(members: Members, root: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
    return buffer.getvalue()


def hostile_zip(rng: random.Random, members: Members, root: str) -> bytes:
    """A zip with one thing wrong with it, made by zipfile."""
    buffer = io.BytesIO()
    kind = rng.randrange(9)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names given twice
        for name, content in members.items():
            archive.writestr(f"{root}/{name}", content)
        extra = zipfile.ZipInfo(f"{root}/{pick(rng, members)}")
        if kind == 0:
            archive.writestr(rng.choice(("", f"{root}/")) + rng.choice(STRANGE_NAMES), b"evil")
        elif kind == 1:
            extra.filename = f"{root}/annotation/s1a-link.xml"
            extra.external_attr = rng.choice((0o120777, 0o060666, 0o010666)) << 16
            archive.writestr(extra, b"/etc/passwd")
        elif kind == 2:
            archive.writestr(extra, rng.choice((b"", b"<product/>")))
        elif kind == 3:
            archive.writestr(f"S1A_OTHER_{rng.randrange(9)}.SAFE/manifest.safe", b"<x/>")
        elif kind == 4:  # a bomb: 24 MB of blanks in a header that an XML parser would take
            archive.writestr(f"{root}/annotation/bomb.xml", b" " * 24 * 2**20)
        elif kind == 5:
            archive.writestr(f"{root}/{pick(rng, members, '.xml')}", b" " * 24 * 2**20)
        elif kind == 6:
            for index in range(rng.choice((70, 6_000))):
                archive.writestr(f"{root}/annotation/{index}.xml", b"")
        elif kind == 7:
            archive.writestr(f"{root}/{'x' * 60_000}", b"")
        else:
            archive.writestr(f"{root}/annotation/stored.xml", b"<a/>", zipfile.ZIP_BZIP2)
    return buffer.getvalue()


def forged_zip(rng: random.Random, members: Members, root: str) -> bytes:
    """A sound zip with fields of its directory or local headers overwritten: sizes, checksums, methods, flags."""
    content = bytearray(zipped(members, root, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))))
    signature, fields = rng.choice(
        (
            (b"PK\x01\x02", ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4))),
            (b"PK\x03\x04", ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2))),
            (b"PK\x05\x06", ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
        )
    )
    at = rng.choice([match.start() for match in re.finditer(re.escape(signature), content)])
    offset, length = rng.choice(fields)
    value = rng.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, rng.getrandbits(32)))
    content[at + offset : at + offset + length] = (value % 256**length).to_bytes(length, "little")
    return bytes(content)


def damaged_zip(rng: random.Random, members: Members, root: str) -> bytes:
    content = bytearray(zipped(members, root))
    if rng.random() < 0.5:
        return bytes(content[: rng.randrange(len(content))])
    for _ in range(rng.choice((1, 4, 40))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


# ---- one mutant ----


def make_mutant(rng: random.Random, members: Members, root: str, folder: Path) -> tuple[Path, str]:
    """Writes a mutant below folder and says what was done to it."""
    members = dict(members)
    if rng.random() < 0.25:
        damage = rng.choice((hostile_zip, forged_zip, damaged_zip))
        path = folder / f"{root.removesuffix('.SAFE')}.zip"
        path.write_bytes(damage(rng, members, root))
        return path, damage.__name__
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutation = rng.choice(MEMBER_MUTATIONS)
        done.append(mutation.__name__)
        if members:
            mutation(rng, members)
    if rng.random() < 0.3:
        path = folder / "mutant.zip"
        path.write_bytes(zipped(members, root))
    else:
        path = write_members(folder / root, members)
        path.mkdir(exist_ok=True)
    return path, "+".join(done)


def outcome(path: Path, scratch: Path) -> tuple[str, str]:
    """How reading went: read, or the kind of error, and its text."""
    try:
        find_products(path.parent)
        product_digest(path)
        product = read_product(path)
        for channel in product.channels:
            read_dn(path, product, channel, ImageWindow(line=0, sample=0, lines=2, samples=2), scratch)
            last = ImageWindow(line=product.geometry.lines - 2, sample=0, lines=2, samples=product.geometry.samples)
            read_dn(path, product, channel, last, scratch)
    except Sar1mError as error:
        return type(error).__name__, str(error)
    return "read", ""


def real_members(path: Path) -> tuple[Members, str]:
    """The readable files of a real product by name, previews left out."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].split("/")[0]
            found = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    else:
        root = path.name
        found = {
            file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
        }
    wanted = re.compile(r"manifest\.safe|annotation/[^/]+|annotation/calibration/[^/]+|measurement/[^/]+")
    return {name: content for name, content in found.items() if wanted.fullmatch(name)}, root


def judge(path: Path, scratch: Path) -> tuple[str, str]:
    """outcome, with everything that may not be: an untyped error, one that does not name the product's file."""
    try:
        kind, text = outcome(path, scratch)
    except MemoryError as error:
        return "out of memory", repr(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return "untyped", f"{type(error).__name__}: {error}"
    if kind not in ("read", "SourceError", "OutputError") or (text and (str(path) not in text or len(text) > 1_500)):
        return "unnamed", text
    return kind, text


def main() -> None:
    scratch, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    sources = [real_members(Path(path)) for path in sys.argv[4:]]
    sources = sources or [(safe_members(recipe), f"{recipe.name}.SAFE") for recipe in RECIPES]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    arm()
    tally: Counter[str] = Counter()
    slowest = (0.0, "")
    for index in range(first, first + count):
        rng = random.Random(index)
        folder = scratch / f"mutant-{index}"
        folder.mkdir(parents=True)
        path, done = make_mutant(rng, *sources[index % len(sources)], folder)
        sys.stderr.write(f"{index} {done}\n")
        started = time.process_time()
        with hang_guard():
            kind, text = judge(path, folder / "scratch")
        slowest = max(slowest, (time.process_time() - started, f"{index} {done}"))
        tally[kind] += 1
        if kind in ("untyped", "unnamed", "out of memory"):
            print(json.dumps({"index": index, "done": done, "kind": kind, "text": text[:600]}), flush=True)
        shutil.rmtree(folder)
    told = {"tally": tally, "slowest_cpu_s": slowest[0], "slowest": slowest[1], "peak_bytes": peak_bytes()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
