"""Workers that a batch system starts (SLURM, PBS, LSF, SGE, OAR, HTCondor, Moab), by way of dask-jobqueue.

A file says what to ask for:

    cluster = "SLURMCluster"   # a class of dask_jobqueue
    jobs = 16
    [arguments]                # of that class, as its documentation has them
    queue = "normal"
    cores = 4
    processes = 4
    memory = "16GB"
    walltime = "04:00:00"

The scheduler runs in the process of the build, on a node from which jobs are submitted. It speaks TLS, by certificates
made for this build and left beside the file while it runs, where the nodes must be able to read them;
`security = false` among the arguments does without, in a network of one's own.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from sar1m.store import settings, side_files
from sar1m.store.errors import ConfigError, WorkersError


class JobQueue(settings.Section):
    """What the file says."""

    cluster: str
    jobs: int = Field(ge=1)
    arguments: dict[str, Any] = Field(default_factory=dict)


@contextmanager
def job_queue(path: Path) -> Iterator[Any]:
    """A cluster that keeps as many jobs in the queue as the file at path says; its end cancels them.

    Raises ConfigError where the file cannot be used or this machine submits no such jobs; WorkersError where
    dask-jobqueue is not installed.
    """
    remedy = "See sar1m.flow.job_queue for what such a file holds."
    wanted = settings.parse(JobQueue, side_files.read_text(path, error=ConfigError, remedy=remedy), origin=str(path))
    kind = _class_of(path, wanted.cluster)
    command = getattr(kind.job_cls, "submit_command", None)
    if command and shutil.which(command) is None:
        raise ConfigError(f"{path}: {wanted.cluster} needs the command {command}, which is not on this machine.")
    try:
        cluster = kind(**_arguments(path, wanted))
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {wanted.cluster} cannot be made of its [arguments]: {error}") from error
    with cluster:
        cluster.adapt(minimum_jobs=wanted.jobs, maximum_jobs=wanted.jobs)  # jobs that end are asked for again
        yield cluster


def _class_of(path: Path, name: str) -> Any:  # noqa: ANN401 - a class of a library without types
    try:
        library = importlib.import_module("dask_jobqueue")
        local = importlib.import_module("dask_jobqueue.local")
    except ModuleNotFoundError as error:
        if error.name != "dask_jobqueue":
            raise
        raise WorkersError(f"{path}: dask-jobqueue is not installed. Install it: pip install dask-jobqueue") from error
    known = {"LocalCluster": local.LocalCluster} | {
        one: found for one, found in vars(library).items() if one.endswith("Cluster") and one != "JobQueueCluster"
    }
    if name not in known:
        raise ConfigError(f"{path}: cluster is {name!r}; dask_jobqueue has: {', '.join(sorted(known))}.")
    return known[name]


def _arguments(path: Path, wanted: JobQueue) -> dict[str, Any]:
    """The file's arguments, with TLS and a dashboard for this machine alone, unless it says otherwise."""
    given = {"scheduler_options": {"dashboard_address": "127.0.0.1:0"}, **wanted.arguments}
    if given.get("security", True) is True:
        return {"security": True, "shared_temp_directory": str(path.absolute().parent), **given}
    del given["security"]
    return given
