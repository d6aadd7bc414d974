"""Workers of a batch system by way of dask-jobqueue: what the file says is asked for, and what is missing is said."""

import sys
import types
from typing import ClassVar

import pytest
from distributed import LocalCluster

from sar1m.building import BuildRequest, build
from sar1m.config import parse_config
from sar1m.flow import Workers, WorkersSettings
from sar1m.flow.job_queue import job_queue
from sar1m.store.errors import ConfigError, WorkersError
from support.crash_runner import REGION, SMALL_BUILD, Silence, tree_digest
from support.hang_guard import STUCK_S

FILE = 'cluster = "SLURMCluster"\njobs = 1\n[arguments]\nqueue = "normal"\n'


class SLURMCluster(LocalCluster):
    """Processes of this machine in place of jobs; keeps what it was asked for."""

    job_cls = types.SimpleNamespace(submit_command="sh")
    asked: ClassVar[dict] = {}

    def __init__(self, **asked):
        if "cores" in asked:
            raise TypeError("unexpected argument: cores")
        type(self).asked = asked
        super().__init__(n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)

    def adapt(self, *, minimum_jobs, maximum_jobs):
        self.asked["jobs"] = minimum_jobs, maximum_jobs
        self.scale(minimum_jobs)


@pytest.fixture
def library(monkeypatch):
    """Stands in for dask_jobqueue, which is not among the dependencies; its own LocalCluster is tested below."""
    found, local = types.ModuleType("dask_jobqueue"), types.ModuleType("dask_jobqueue.local")
    found.SLURMCluster, local.LocalCluster = SLURMCluster, LocalCluster
    monkeypatch.setitem(sys.modules, "dask_jobqueue", found)
    monkeypatch.setitem(sys.modules, "dask_jobqueue.local", local)
    return found


def described(folder, text=FILE):
    path = folder / "slurm.toml"
    path.write_text(text)
    return path


def run(path):
    with Workers(WorkersSettings(cluster=path, patience_s=STUCK_S)) as workers:
        return sorted(outcome.result for outcome in workers.map(abs, range(4)))


def test_what_the_file_says_is_asked_for_with_certificates(library, tmp_path):
    assert run(described(tmp_path)) == [0, 1, 2, 3]
    assert SLURMCluster.asked == {
        "queue": "normal",
        "security": True,
        "shared_temp_directory": str(tmp_path),
        "scheduler_options": {"dashboard_address": "127.0.0.1:0"},
        "jobs": (1, 1),
    }


def test_certificates_may_be_left_out_by_name(library, tmp_path):
    with job_queue(described(tmp_path, FILE + "security = false\n")):
        assert "security" not in SLURMCluster.asked


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (FILE.replace("SLURM", "SLRM"), r"slurm\.toml: cluster is 'SLRMCluster'; dask_jobqueue has: .*SLURMCluster"),
        (FILE.replace("jobs = 1", "jobs = 0"), r"slurm\.toml: jobs"),
        (FILE.replace("jobs", "workers"), "workers"),
        (FILE + "cores = 4\n", r"SLURMCluster cannot be made of its \[arguments\]: .*cores"),
        ("cluster = ", "not valid TOML"),
    ],
)
def test_what_cannot_be_asked_for_is_a_configuration_error(library, tmp_path, text, found):
    with pytest.raises(ConfigError, match=found):
        run(described(tmp_path, text))


def test_a_machine_that_submits_no_jobs_is_told_so(library, tmp_path, monkeypatch):
    monkeypatch.setattr(SLURMCluster, "job_cls", types.SimpleNamespace(submit_command="sbatch-nowhere"))
    with pytest.raises(ConfigError, match="needs the command sbatch-nowhere, which is not on this machine"):
        run(described(tmp_path))


def test_without_the_library_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(WorkersError, match="pip install dask-jobqueue"):
        run(described(tmp_path))


def test_one_scheduler_is_named_and_no_two(tmp_path):
    with pytest.raises(ConfigError, match="--scheduler and --cluster: each names a scheduler"):
        WorkersSettings(scheduler="tcp://127.0.0.1:1", cluster=tmp_path)


@pytest.mark.campaign
def test_jobs_of_the_library_itself_give_the_same_bytes(tmp_path, small_build):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    asked = 'cluster = "LocalCluster"\njobs = 2\n[arguments]\ncores = 1\nprocesses = 1\nmemory = "2GB"\n'
    settings = WorkersSettings(cluster=described(tmp_path, asked), patience_s=STUCK_S)
    config = parse_config(SMALL_BUILD, origin="small")
    build(BuildRequest(region=REGION, out=tmp_path / "out", config=config, workers=settings), Silence())
    assert tree_digest(tmp_path / "out") == tree_digest(small_build)


def test_a_client_of_threads_of_this_process_is_refused():
    scheduler = types.SimpleNamespace(address="inproc://127.0.0.1/1/1")
    given = types.SimpleNamespace(scheduler=scheduler, status="running", security=None)
    with pytest.raises(WorkersError, match="processes=True"), Workers(WorkersSettings(client=given)):
        pass
