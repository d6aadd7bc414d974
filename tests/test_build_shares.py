"""A build without Dask: shares that know nothing of each other, side by side and killed, give the ordinary bytes."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sar1m.building import BuildRequest, build
from sar1m.config import parse_config
from sar1m.flow import WorkersSettings
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages.shares import Share, parse_share
from sar1m.store.errors import ConfigError, LockedError, SourceError, UnfinishedError
from sar1m.store.file_lock import output_lock
from servers.base import wait_until
from support.campaigns import campaign
from support.crash_runner import REGION, SMALL_BUILD, Silence, tree_digest
from support.hang_guard import STUCK_S
from support.paths import ROOT

CONFIG = parse_config(SMALL_BUILD, origin="small")
SBATCH = ROOT / "docker/jobs/build.sbatch"
MANIFESTS = {name: ROOT / f"docker/kubernetes/build-{name}.yaml" for name in ("shares", "finish")}


def request(out, share=None, *, finish=False):
    here = WorkersSettings(workers=0)
    wanted = BuildRequest(region=REGION, out=out, config=CONFIG, workers=here, finish=finish)
    return wanted if share is None else replace(wanted, share=parse_share(share))


def run_share(out, share):
    return build(request(out, share), Silence())


def finish(out):
    return build(request(out, finish=True), Silence())


def staged(out):
    return len(list((out / "staging").glob("*/??/*.zip")))


@given(items=st.integers(0, 200), count=st.integers(1, 70))
def test_shares_are_disjoint_complete_and_equal(items, count):
    candidates = {f"{number:08x}": number for number in range(items)}
    shares = [Share(number=number, count=count).of(candidates) for number in range(1, count + 1)]
    assert [one for share in shares for one in share.items()] == list(candidates.items())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "1/0", "-1/4", "3", "3/", "/4", "a/b", "1/4/2", "1.5/4", "1/9999999999"]
)
def test_what_is_no_share_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=re.escape(f"--items {text}: expected NUMBER/COUNT")):
        parse_share(text)


# ---- the templates, run here as processes ----


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """sar1m first in PATH, under test whatever is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sar1m").write_text(f'#!/bin/sh\nexec {sys.executable} -m sar1m "$@"\n')
    (folder / "sar1m").chmod(0o755)
    (tmp_path / "small.toml").write_text(SMALL_BUILD)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return ["--region", REGION, "--out", str(tmp_path / "out"), "--config", str(tmp_path / "small.toml")]


def started(command, **environment):
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process):
    said, _ = process.communicate(timeout=STUCK_S)
    return process.returncode, said.decode()


def by_slurm(arguments, number, count):
    return started(["bash", SBATCH, str(count), *arguments], SLURM_ARRAY_TASK_ID=str(number))


def by_kubernetes(arguments, number, count):
    (container,) = manifest("shares")["template"]["spec"]["containers"]
    return started([*container["command"], *arguments], JOB_COMPLETION_INDEX=str(number - 1), SHARES=str(count))


def kill_once_staged(process, out, blocks):
    wait_until(lambda: staged(out) >= blocks or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_jobs_side_by_side_and_killed_give_the_same_bytes(commands, tmp_path, small_build):
    out = tmp_path / "out"
    first, second = by_slurm(commands, 1, 2), by_kubernetes(commands, 2, 2)
    kill_once_staged(first, out, 1)
    code, said = ended(second)
    assert code == 0, said
    run_share(out, "1/2")
    assert finish(out).reused == 4
    assert tree_digest(out) == tree_digest(small_build)


@pytest.mark.campaign
def test_an_array_with_many_kills_gives_the_same_bytes(commands, tmp_path, small_build):
    """Every share is killed once, each at another moment; the last job is submitted too early once."""
    out = tmp_path / "out"
    for blocks in range(1, 4):
        array = [by_slurm(commands, number, 3) for number in range(1, 4)]
        kill_once_staged(array[blocks - 1], out, blocks)
        for process in array:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                ended(process)
    code, said = ended(started(["bash", SBATCH, "finish", *commands]))
    assert code in (0, 5), said
    for process in [by_slurm(commands, number, 3) for number in range(1, 4)]:
        code, said = ended(process)
        assert code == 0, said
    code, said = ended(started(["bash", SBATCH, "finish", *commands]))
    assert code == 0, said
    assert tree_digest(out) == tree_digest(small_build)


# ---- what shares leave, and what finishing asks for ----


def test_finishing_too_early_names_what_is_missing(tmp_path):
    run_share(tmp_path, "1/2")
    first, second = (
        [one.item_id for one in list(SimulatedSource(4).candidates(CONFIG))[part]] for part in (slice(2), slice(2, 4))
    )
    with pytest.raises(UnfinishedError, match=r"2 work items are not prepared: .*--items NUMBER/COUNT") as caught:
        finish(tmp_path)
    assert caught.value.exit_code == 5
    assert all(name in str(caught.value) for name in second)
    assert not any(name in str(caught.value) for name in first)
    assert not (tmp_path / "BUILD_COMPLETE.json").exists()


@pytest.mark.parametrize("count", [3, *campaign(1, 2, 4, 9)])
def test_any_number_of_shares_in_any_order_and_twice(tmp_path, small_build, count):
    for number in [*range(count, 0, -1), 1]:
        run_share(tmp_path, f"{number}/{count}")
    finish(tmp_path)
    assert tree_digest(tmp_path) == tree_digest(small_build)
    assert run_share(tmp_path, f"1/{count}").prepared == 0
    assert finish(tmp_path).nothing_to_do


def test_items_that_fail_in_a_share_are_named_as_in_an_ordinary_build(tmp_path, monkeypatch, small_build):
    read = SimulatedSource.read
    broken = next(iter(SimulatedSource(4).candidates(CONFIG))).item_id

    def failing(self, candidate, config):
        if candidate.item_id == broken:
            raise SourceError(f"{tmp_path}/some/where/{broken}.tif: not a raster")
        return read(self, candidate, config)

    monkeypatch.setattr(SimulatedSource, "read", failing)
    build(request(tmp_path / "whole"), Silence())
    shares, out = [f"{number}/2" for number in (1, 2)], tmp_path / "shares"
    assert [len(run_share(out, share).failed) for share in shares] == [1, 0]
    assert [item.item_id for item in finish(out).failed] == [broken]
    assert tree_digest(out) == tree_digest(tmp_path / "whole")
    monkeypatch.undo()
    assert run_share(out, "1/2").prepared == 1  # tried again
    finish(out)
    assert tree_digest(out) == tree_digest(small_build)


def test_a_share_leaves_alone_what_others_are_writing(tmp_path, small_build):
    run_share(tmp_path, "1/2")
    underway = tmp_path / "staging/ab/half.partial"
    underway.parent.mkdir(exist_ok=True)
    underway.write_bytes(b"half")
    run_share(tmp_path, "2/2")
    assert underway.exists()
    finish(tmp_path)
    assert not underway.exists()
    assert tree_digest(tmp_path) == tree_digest(small_build)


def test_shares_work_beside_each_other_and_never_beside_a_build(tmp_path):
    with output_lock(tmp_path), pytest.raises(LockedError, match="another build"):
        run_share(tmp_path, "1/2")
    with output_lock(tmp_path, shared=True):
        run_share(tmp_path, "1/2")
        for alone in (request(tmp_path), request(tmp_path, finish=True)):
            with pytest.raises(LockedError):
                build(alone, Silence())
        with output_lock(tmp_path, lock="build-log/lock-2-of-2"), pytest.raises(LockedError, match="share 2-of-2"):
            run_share(tmp_path, "2/2")
    run_share(tmp_path, "2/2")


def test_shares_of_an_area_keep_to_one_search(tmp_path):
    area = replace(request(tmp_path / "out", "1/2"), region="portugal")
    for wanted in (area, replace(area, share=None, finish=True)):
        with pytest.raises(ConfigError, match="Search once, with `sar1m plan"):
            build(wanted, Silence())
    with pytest.raises(ConfigError, match="a command of its own"):
        build(replace(request(tmp_path / "out", "1/2"), finish=True), Silence())
    assert not (tmp_path / "out").exists()


# ---- the templates, read ----


def manifest(name):
    return yaml.safe_load(MANIFESTS[name].read_text())["spec"]


def test_the_array_job_is_bash_and_asks_for_what_it_needs():
    subprocess.run(["bash", "-n", SBATCH], check=True)
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SBATCH.read_text(), re.MULTILINE))
    assert {"requeue", "time", "mem", "output"} <= asked.keys()
    code, said = ended(started(["bash", SBATCH]))
    assert (code, "the number of shares" in said) == (1, True)
    code, said = ended(started(["bash", SBATCH, "4", "--region", REGION]))
    assert (code, "sbatch --array=1-4" in said) == (1, True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifests_try_again_what_can_come_and_run_without_root(name):
    job = manifest(name)
    rules = [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in job["podFailurePolicy"]["rules"]]
    assert rules == [("Ignore", None), ("Ignore", [75]), ("FailJob", [2] if name == "shares" else [2, 5])]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    if name == "shares":
        shares = {one["name"]: one.get("value") for one in container["env"]}["SHARES"]
        assert (job["completionMode"], str(job["completions"])) == ("Indexed", shares)
    others = manifest("finish" if name == "shares" else "shares")["template"]["spec"]["containers"][0]["args"]
    assert [one for one in container["args"] if "workers" not in one] == [one for one in others if "workers" not in one]


@pytest.mark.parametrize(("name", "code", "given_back"), [("shares", 3, 0), ("shares", 75, 75), ("finish", 5, 5)])
def test_the_pods_give_back_the_codes_their_policy_reads(name, code, given_back, commands, tmp_path):
    (tmp_path / "bin/sar1m").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/given\nexit {code}\n')
    (container,) = manifest(name)["template"]["spec"]["containers"]
    process = started([*container["command"], *container["args"]], JOB_COMPLETION_INDEX="63", SHARES="64")
    assert ended(process)[0] == given_back
    given_options = (tmp_path / "given").read_text().split()
    assert given_options[:2] == ["build", "--region=safe:/build/products"]
    assert ("64/64" if name == "shares" else "--finish") in given_options


def test_a_word_on_a_failure_that_is_damaged_is_named(tmp_path):
    run_share(tmp_path, "1/1")
    block = next((tmp_path / "staging").glob("*/??/*.zip"))
    block.unlink()
    block.with_suffix(".failed.json").write_text(json.dumps({"item": 1}))
    with pytest.raises(Exception, match="says nothing of a failed item") as caught:
        finish(tmp_path)
    assert type(caught.value).__name__ == "StoreError"
