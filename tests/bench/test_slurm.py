"""A sweep on a real Slurm: one controller and one node on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.cli import main
from bench.launch.jobs import Job, State
from bench.launch.slurm import SlurmLauncher
from bench.launch.sweep import make_cells
from tests import gated_method
from tests.bench.sweeps import METHODS, places, scores
from tests.conftest import REPOSITORY
from tests.slurm_cluster import SlurmCluster, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
DEADLINE_SECONDS = 500.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    try:
        started = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    except RuntimeError as error:  # of the machine, not of the suite: what is tested has not begun
        pytest.skip(f"Slurm is installed, but does not start here: {error}")
    yield started
    started.stop()


@pytest.fixture
def here(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """Slurm's commands and the test's method are known here and to the processes that are started."""
    folder = str(gated_method.install(tmp_path / "site"))
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here: `conftest.py`
    monkeypatch.chdir(REPOSITORY)
    registry.methods.cache_clear()
    yield cluster
    registry.methods.cache_clear()


def wait_for(what: str, is_so: Callable[[], bool], cluster: SlurmCluster) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}\n{cluster.ask('scontrol', 'show', 'jobs')}"
        time.sleep(0.1)


def shown(cluster: SlurmCluster, number: str) -> dict[str, str]:
    """Of a job, what `scontrol` shows."""
    return dict(re.findall(r"(\w+)=(\S*)", cluster.ask("scontrol", "show", "job", number)))


def test_scancel_ends_a_job_and_what_needs_it_is_not_run(here: SlurmCluster, tmp_path: Path):
    """The job saves and reports it by its exit status, but is not requeued."""
    text = f"""
import signal, sys, time
from pathlib import Path
folder = Path({str(tmp_path)!r})
def save(number, frame):
    (folder / "saved").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
(folder / "began").touch()
deadline = time.monotonic() + {DEADLINE_SECONDS}
while time.monotonic() < deadline:
    time.sleep(0.01)
"""
    jobs = [
        Job("cancelled", (sys.executable, "-c", text), tmp_path / "1", tmp_path / "cancelled.done"),
        Job("child", (sys.executable, "-c", ""), tmp_path / "2", tmp_path / "child.done", needs=("cancelled",)),
        Job("other", ("touch", str(tmp_path / "other.done")), tmp_path / "3", tmp_path / "other.done"),
    ]
    launcher = SlurmLauncher({"time": "30"})
    for job in jobs:
        launcher.submit(job)
    wait_for("the job began", (tmp_path / "began").exists, here)
    assert launcher.states()["cancelled"] is State.RUNS and launcher.states()["child"] is State.WAITS

    again = SlurmLauncher({})  # another process that wants the same
    again.submit(jobs[0])
    hint = again.stop()
    number = hint.split()[-1]
    assert hint == f"1 jobs stay with Slurm and go on; to end them: scancel {number}"
    assert here.ask("squeue", "-h", "-o", "%i", "-n", "cancelled").split() == [number]

    here.ask("scancel", number)
    wait_for("all ended", lambda: all(state.ended for state in launcher.states().values()), here)
    assert launcher.states() == {"cancelled": State.FAILED, "child": State.NOT_RUN, "other": State.DONE}
    assert (tmp_path / "saved").exists()
    assert shown(here, number)["JobState"] == "CANCELLED" and shown(here, number)["Restarts"] == "0"
    assert shown(here, number)["TimeLimit"] == "00:30:00"


@pytest.mark.timeout(1500)  # only there to find what hangs
def test_a_preempted_job_comes_back_and_the_board_is_that_of_local_runs(
    here: SlurmCluster, sample_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two methods, two seeds. Seed 0's pretraining waits in its second step for the signal (`gated_method.py`)."""
    seeds = ["--data", "vggsound", "--seeds", "0", "1"]
    gate = tmp_path / "gate"
    gate.mkdir()
    command = [sys.executable, "-m", "bench", "sweep", *METHODS, *places(sample_root, tmp_path / "slurm"), *seeds]
    log = tmp_path / "sweep.txt"
    with log.open("wb") as output:
        sweep = subprocess.Popen(
            [*command, "--launcher", "slurm"], env=os.environ | {"GATE": str(gate)}, stdout=output, stderr=output
        )
    try:
        wait_for("training began", lambda: (gate / "began").exists() or sweep.poll() is not None, here)
        assert sweep.poll() is None, log.read_text()
        number = (gate / "began").read_text()
        here.ask("scancel", "--signal=USR1", number)
        assert sweep.wait(DEADLINE_SECONDS) == 0, log.read_text() + here.logs()
    finally:
        sweep.kill()
        sweep.wait()
    assert (gate / "signalled").exists()
    job = shown(here, number)
    assert job["Restarts"] == "1" and job["JobState"] == "COMPLETED" and job["JobName"].startswith("gated/pretrain-")
    printed = (tmp_path / "slurm" / "runs" / "sweeps" / job["JobName"] / "log.txt").read_text()
    assert "stopped after step 2, saved" in printed and "goes on where it was cut off" in printed
    assert "sweep: 6 done" in log.read_text() and "vggsound.md and .csv" in log.read_text()

    for cell in make_cells([*METHODS, *places(sample_root, tmp_path / "local")], [0, 1], []):
        stage = "classify" if cell.method == "gated" else "train_fsd50k"
        assert main(["run", cell.method, *cell.overrides, f"stage={stage}"]) == 0
    found = scores(tmp_path / "slurm")
    assert {(method, seed) for method, _, seed in found} == {(m, s) for m in ("gated", "baseline_cnn") for s in (0, 1)}
    assert found == scores(tmp_path / "local")
