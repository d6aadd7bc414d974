"""Small simulated builds to make releases from, and shorthand for making them."""

import json

from sar1m.building import BuildRequest, build
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from sar1m.io.tables import read_table
from sar1m.releases.make import ReleaseRequest, make_release
from sar1m.store.durable import digest_file
from sar1m.store.seal import payload_files, read_marker, write_seal
from sar1m.store.settings import override
from support.crash_runner import SMALL_BUILD, Silence


def make_build(out, cells, *overrides):
    """A build of 64-pixel patches, four a cell; seconds."""
    config = override(parse_config(SMALL_BUILD, origin="small"), overrides)
    build(
        BuildRequest(region=f"simulated:{cells}", out=out, config=config, workers=WorkersSettings(workers=0)), Silence()
    )
    return out


def release(builds, out, version="1.0.0", **options):
    return make_release(builds, out, ReleaseRequest(version=version, **options), Silence())


def samples_of(root):
    return read_table(root / "samples.parquet").set_index("sample_id", drop=False)


def lock_of(root):
    return read_table(root / "provenance/lock.parquet").set_index("sample_id")


def marker_of(root):
    return json.loads((root / "RELEASE_COMPLETE.json").read_text())


def contents(root):
    """Bytes by relative name of everything below a folder."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def reseal(build):
    """Manifest and marker of a build over what lies there now."""
    facts = read_marker(build)
    for name in ("manifest_sha256", "marker_sha256", "files"):
        del facts[name]
    write_seal(build, {name: digest_file(build / name) for name in payload_files(build)}, facts)
