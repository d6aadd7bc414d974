"""No module parses a side file by itself: a walk over the sources finds every other reader, and each has its reason."""

import ast

from support.paths import ROOT

PACKAGES = ("pipeline/sar1m", "training/sarmae")
READER = "pipeline/sar1m/store/side_files.py"
PARSERS = {"json.load", "json.loads", "tomllib.load", "tomllib.loads", "csv.reader", "csv.DictReader"}
PARSERS |= {f"{library}.{call}" for library in ("pd", "pandas", "np", "numpy") for call in ("read_csv", "genfromtxt")}
PARSERS |= {"pd.read_json", "pandas.read_json", "np.loadtxt", "numpy.loadtxt"}
WHOLE_FILES = {"read_text", "read_bytes"}

ALLOWED = {  # by module: the calls, and why nobody else can have written what they read
    "pipeline/sar1m/audit/item.py": ({"json.loads"}, "a line of the audit's own journal"),
    "pipeline/sar1m/audit/page.py": ({"read_text"}, "comes with the package"),
    "pipeline/sar1m/audit/run.py": ({"json.loads"}, "a cell that this run has just written"),
    "pipeline/sar1m/page/build_page.py": ({"read_text"}, "comes with the package"),
    "pipeline/sar1m/releases/explorer/explorer_page.py": ({"read_text"}, "comes with the package"),
    "pipeline/sar1m/releases/licences.py": ({"read_text"}, "comes with the package"),
    "pipeline/sar1m/sources/known_bad.py": ({"read_text"}, "comes with the package"),
    "pipeline/sar1m/sources/regions/countries.py": ({"read_text", "json.loads"}, "comes with the package"),
    "training/sarmae/evaluate/report/study_page.py": ({"read_text"}, "comes with the package"),
    "training/sarmae/evaluate/overhead.py": ({"read_text"}, "of the kernel: /proc/self/status"),
    "pipeline/sar1m/releases/files.py": ({"read_bytes"}, "of a build whose manifest was checked before"),
    "pipeline/sar1m/releases/make.py": ({"read_bytes"}, "our own note in our own work folder, compared and not parsed"),
    "pipeline/sar1m/releases/part_download.py": (
        {"read_bytes"},
        "files that we have just written; a number",
    ),
    "pipeline/sar1m/releases/portions.py": ({"read_bytes"}, "our own copy of the manifest, compared and not parsed"),
    "pipeline/sar1m/releases/trust.py": ({"read_bytes"}, "a manifest, hashed or handed to ssh-keygen, not parsed"),
    "pipeline/sar1m/store/outputs/bucket_lock.py": ({"read_text"}, "/proc: which process of which boot"),
    "pipeline/sar1m/stages/deciding.py": ({"read_bytes"}, "modules of the package"),
    "pipeline/sar1m/releases/privacy.py": ({"read_bytes"}, "files of a release that we have just written"),
    "pipeline/sar1m/io/net/ranged.py": ({"read_bytes"}, "blocks of our own cache, checked by digest"),
    "pipeline/sar1m/sources/services/cdse/product_objects.py": ({"read_bytes"}, "XML, downloaded under a limit"),
    "pipeline/sar1m/sources/services/stac/item_search.py": ({"read_text"}, "a method of pystac: it asks a server"),
    "training/sarmae/train/checkpoint.py": ({"read_text"}, "LATEST of a run: a hint, of which any bytes will do"),
    "training/sarmae/evaluate/datasets/split_lists.py": ({"csv.reader"}, "cuts lines that the one reader has read"),
    "training/sarmae/stream/worker_ledger.py": ({"read_text"}, "our own temporary file, written by our own workers"),
    "training/sarmae/evaluate/datasets/listing.py": ({"read_text"}, "a regular file of some bytes, compared as a name"),
    "training/sarmae/sarc/feature_cache.py": ({"read_bytes"}, "arrays, checked by a digest"),
}


def sources():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def calls_of(tree):
    """What a module calls to read whole files and to parse texts; names that it imports by themselves count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in {"json", "tomllib", "csv"}:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            base = node.func.value
            dotted = f"{base.id}.{node.func.attr}" if isinstance(base, ast.Name) else ""
            if dotted in PARSERS:
                yield dotted
            elif node.func.attr in WHOLE_FILES and dotted.partition(".")[0] not in {"settings", "side_files"}:
                yield node.func.attr


def test_whole_files_and_texts_of_others_are_read_by_the_one_reader():
    found = {}
    for path in sources():
        calls = set(calls_of(ast.parse(path.read_text(encoding="utf-8"))))
        if calls and path != ROOT / READER:
            found[path.relative_to(ROOT).as_posix()] = calls
    assert found == {name: calls for name, (calls, _) in ALLOWED.items()}


def test_the_walk_sees_every_way_to_read():
    ways = ("json.loads(x)", "Path(p).read_text()", "from tomllib import load", "pd.read_csv(p)", "self.p.read_bytes()")
    text = "\n".join(ways)
    assert set(calls_of(ast.parse(text))) == {"json.loads", "read_text", "tomllib.load", "pd.read_csv", "read_bytes"}
    assert not set(calls_of(ast.parse("from sar1m.store import side_files\nside_files.read_text(p)")))
