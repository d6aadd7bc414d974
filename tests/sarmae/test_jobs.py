"""Batch jobs and the image: signals reach the ranks, exit codes reach the batch system, nothing runs as root."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from sarmae.train.preemption import REQUEUE_EXIT
from support.hang_guard import STUCK_S
from support.paths import ROOT

JOBS, KUBERNETES = ROOT / "docker/jobs", ROOT / "docker/kubernetes"
LAUNCH, SBATCH = JOBS / "launch.sh", JOBS / "pretrain.sbatch"
DOCKERFILE = ROOT / "docker/Dockerfile.training"

# A rank that, like sarmae, listens to signals, saves, and leaves its exit code for launch.sh.
RANK = f"""
import os, signal, sys, time
from pathlib import Path
folder, rank, asked = Path(sys.argv[1]), os.environ["RANK"], []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: asked.append(number))
(folder / f"up{{rank}}").touch()
code = int(sys.argv[2])
while code < 0:
    time.sleep(0.05)
    if asked:
        time.sleep(1.5)  # saving, while the batch system goes on asking
        (folder / f"saved{{rank}}").touch()
        code = {REQUEUE_EXIT}
try:
    with open(os.environ["SARMAE_EXIT_FILE"], "x") as stream:
        stream.write(str(code))
except FileExistsError:
    pass
sys.exit(code)
"""
# Two ranks as children, its exit code 1 if any fails: what launch.sh needs to know of torchrun, in a tenth of the time.
TORCHRUN = """
import os, subprocess, sys
ranks = [subprocess.Popen([sys.executable, *sys.argv[1:]], env={**os.environ, "RANK": str(n)}) for n in range(2)]
sys.exit(1 if any([rank.wait() for rank in ranks]) else 0)
"""


def script(path, text, shebang=sys.executable):
    path.write_text(f"#!{shebang}\n{text}")
    path.chmod(0o755)
    return path


def wait_for(*paths):
    until = time.monotonic() + STUCK_S
    while not all(path.exists() for path in paths):
        assert time.monotonic() < until, [path.name for path in paths if not path.exists()]
        time.sleep(0.05)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder first in PATH, for stand-ins."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def quick_torchrun(commands):
    return script(commands / "torchrun", TORCHRUN)


def launched(folder, code=-1, options=()):
    rank = folder / "rank.py"
    rank.write_text(RANK)
    # torchrun stands beside this Python, whether its environment is activated or not
    path = {"PATH": f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"}
    return subprocess.Popen(
        [LAUNCH, *options, rank, folder, str(code)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | path,
    )


def ended(process):
    _, problems = process.communicate(timeout=STUCK_S)
    return process.returncode, problems


# ---- launch.sh ----


@pytest.mark.parametrize("path", [LAUNCH, SBATCH], ids=lambda path: path.name)
def test_scripts_are_bash_and_can_be_run(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert path == SBATCH or os.access(path, os.X_OK)


@pytest.mark.parametrize("code", [0, 2, REQUEUE_EXIT])
def test_launch_gives_back_the_exit_code_of_the_ranks(tmp_path, quick_torchrun, code):
    assert ended(launched(tmp_path, code))[0] == code


def test_launch_keeps_torchruns_own_failure_where_no_rank_said_anything(tmp_path, commands):
    script(commands / "torchrun", "raise SystemExit(3)")
    assert ended(launched(tmp_path))[0] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_launch_alone_reaches_every_rank(tmp_path, quick_torchrun, number):
    process = launched(tmp_path)
    wait_for(tmp_path / "up0", tmp_path / "up1")
    process.send_signal(number)
    assert ended(process)[0] == REQUEUE_EXIT
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()


def test_a_signal_before_the_ranks_listen_is_not_lost(tmp_path, quick_torchrun):
    process = launched(tmp_path)
    time.sleep(0.02)  # bash may not have set its trap: then the job never began, and 143 says so
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] in {REQUEUE_EXIT, -signal.SIGTERM}


def test_torchrun_survives_a_storm_of_signals_until_all_ranks_have_saved(tmp_path):
    """SLURM and container runtimes may signal every process, and more than once."""
    process = launched(tmp_path, options=("--standalone", "--nproc-per-node", "2"))
    wait_for(tmp_path / "up0", tmp_path / "up1")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
        os.killpg(process.pid, number)
        time.sleep(0.2)
    code, problems = ended(process)
    assert code == REQUEUE_EXIT, problems
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()


# ---- SLURM ----

SRUN = """
import signal, sys, time
from pathlib import Path
folder = Path(__file__).parent
(folder / "srun.args").write_text("\\n".join(sys.argv[1:]))
code = (folder / "srun.code").read_text().strip()
if code == "wait":
    asked = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: asked.append(number))
    (folder / "srun.up").touch()
    while not asked:
        time.sleep(0.05)
    time.sleep(0.5)
    code = 85
sys.exit(int(code))
"""
SCONTROL = """
case "$1" in
  show) printf 'node7\\nnode8\\n' ;;
  requeue) echo "$2" > "$(dirname "$0")/requeued" ;;
esac
"""


def submitted(commands, monkeypatch, code):
    script(commands / "srun", SRUN)
    script(commands / "scontrol", SCONTROL, "/usr/bin/env bash")
    (commands / "srun.code").write_text(str(code))
    slurm = {"SUBMIT_DIR": ROOT, "JOB_ID": 123456, "JOB_NODELIST": "node[7-8]", "JOB_NUM_NODES": 2, "GPUS_ON_NODE": 8}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    return subprocess.Popen(["bash", SBATCH, "--config", "vit_base", "--out", "/runs/a b"])


def test_slurm_starts_one_launcher_a_node_and_they_meet_on_the_first(commands, monkeypatch):
    assert submitted(commands, monkeypatch, 0).wait(STUCK_S) == 0
    started = (commands / "srun.args").read_text().splitlines()
    assert str(LAUNCH) in started
    assert started[started.index("--rdzv-endpoint") + 1] == "node7:23456"
    assert started[started.index("--nnodes") + 1] == "2"
    assert started[started.index("-m") + 1 :] == ["sarmae", "pretrain", "--config", "vit_base", "--out", "/runs/a b"]
    assert not (commands / "requeued").exists()


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_slurm_queues_again_at_the_time_limit_and_never_a_cancelled_job(commands, monkeypatch, number, requeued):
    job = submitted(commands, monkeypatch, "wait")
    wait_for(commands / "srun.up")
    job.send_signal(number)
    assert job.wait(STUCK_S) == (0 if requeued else REQUEUE_EXIT)
    assert (commands / "requeued").exists() is requeued


def test_slurm_does_not_queue_a_failure_again(commands, monkeypatch):
    assert submitted(commands, monkeypatch, 1).wait(STUCK_S) == 1
    assert not (commands / "requeued").exists()


def test_slurm_is_asked_for_the_signal_and_for_requeueing():
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SBATCH.read_text(), re.MULTILINE))
    assert re.fullmatch(r"B:USR1@\d+", asked["signal"])
    assert "requeue" in asked
    assert asked["ntasks-per-node"] == "1"  # torchrun starts the ranks


# ---- Kubernetes ----


def documents(name):
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


@pytest.mark.parametrize("name", ["pretrain.yaml", "pretrain-nodes.yaml"])
def test_kubernetes_starts_again_what_was_saved_and_gives_up_on_wrong_configuration(name):
    job = documents(name)[-1]["spec"]
    rules = [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in job["podFailurePolicy"]["rules"]]
    assert rules == [("Ignore", None), ("Ignore", [REQUEUE_EXIT]), ("FailJob", [2])]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a failure policy asks for it
    names = {rule["onExitCodes"]["containerName"] for rule in job["podFailurePolicy"]["rules"][1:]}
    assert names == {container["name"] for container in pod["containers"]}
    assert pod["terminationGracePeriodSeconds"] >= 120


@pytest.mark.parametrize("name", ["pretrain.yaml", "pretrain-nodes.yaml"])
def test_kubernetes_runs_without_root_on_a_read_only_root(name):
    pod = documents(name)[-1]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (
        str(pod["securityContext"]["runAsUser"]) == re.search(r"^USER (\d+)$", DOCKERFILE.read_text(), re.MULTILINE)[1]
    )
    (container,) = pod["containers"]
    guarded = container["securityContext"]
    assert guarded["readOnlyRootFilesystem"]
    assert not guarded["allowPrivilegeEscalation"]
    assert guarded["capabilities"] == {"drop": ["ALL"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    assert {"/tmp", "/dev/shm"} <= set(mounts.values())
    options = dict(argument.split("=", 1) for argument in container["args"] if "=" in argument)
    assert str(container["resources"]["limits"]["nvidia.com/gpu"]) == options["--nproc-per-node"]
    assert (ROOT / "training/configs" / f"{options['--config']}.toml").is_file()


def test_kubernetes_nodes_meet_by_the_headless_service():
    service, job = documents("pretrain-nodes.yaml")
    name, spec = job["metadata"]["name"], job["spec"]
    options = dict(
        argument.split("=", 1) for argument in spec["template"]["spec"]["containers"][0]["args"] if "=" in argument
    )
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    port = service["spec"]["ports"][0]["port"]
    assert options["--rdzv-endpoint"] == f"{name}-0.{service['metadata']['name']}:{port}"
    assert int(options["--nnodes"]) == spec["parallelism"] == spec["completions"]
    assert spec["completionMode"] == "Indexed"


# ---- image and compose ----


def instructions():
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]


def test_the_image_is_pinned_and_not_root():
    steps = instructions()
    assert re.fullmatch(r"python:3\.1[123]-slim-\w+", dict(steps)["FROM"])
    assert int(dict(steps)["USER"]) > 0
    assert not {"ADD", "MAINTAINER"} & {name for name, _ in steps}
    installs = [text for name, text in steps if name == "RUN" and "pip install" in text]
    assert all("--no-cache-dir" in text and "torch==$TORCH" in text for text in installs)
    assert dict(steps)["ENTRYPOINT"] == '["sarmae"]'


def test_the_image_copies_what_is_there_and_what_the_build_sees():
    ignored = (ROOT / "docker/Dockerfile.training.dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    for sources in (text.split()[:-1] for name, text in instructions() if name == "COPY"):
        for source in (source.removeprefix("./") for source in sources if not source.startswith("--")):
            assert (ROOT / source).exists(), source
            assert any(source == entry or fnmatch(source, f"{entry}/*") for entry in let_in), source


def test_the_image_installs_extras_that_exist_and_the_build_finds_what_a_wheel_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = re.search(r"'\.\[([\w,]+)\]'", DOCKERFILE.read_text())[1].split(",")
    assert set(extras) <= project["project"]["optional-dependencies"].keys()
    wanted = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = " ".join(text for name, text in instructions() if name == "COPY").split()
    for folder in [*wanted["packages"], *wanted["force-include"]]:
        assert folder.split("/")[0] in copied


def test_compose_runs_both_images_read_only_and_without_capabilities():
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    assert services.keys() == {"build", "pretrain"}
    for service in services.values():
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
        assert "no-new-privileges:true" in service["security_opt"]
