"""Jobs on this machine: real processes, each in its place, in their order; on a signal they save, and go on later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.launch.jobs import Job, LocalLauncher, Place, State, core_places, gpu_places
from bench.launch.sweep import Entry
from bench.launch.sweep_run import last_line, run_jobs
from bench.run.preemption import Preempted, listening
from tests.conftest import REPOSITORY

DEADLINE_SECONDS = 300.0


def script(folder: Path, name: str, text: str, needs: tuple[str, ...] = (), **settings) -> Job:
    """A job that runs Python's `text`, in which `folder` is the jobs' and `result` the file that it must write."""
    head = f"import json, os, signal, sys, time\nfrom pathlib import Path\nfolder = Path({str(folder)!r})\n"
    head += f"result = folder / {name + '.done'!r}\n"
    return Job(
        name=name,
        command=(sys.executable, "-c", head + text),
        folder=folder / "jobs" / name,
        result=folder / f"{name}.done",
        needs=needs,
        **settings,
    )


def entries(*jobs: Job) -> list[Entry]:
    return [Entry(job, "method", job.name, 0, ()) for job in jobs]


@pytest.mark.slow
def test_a_failed_job_fails_alone_and_with_it_what_needs_it(tmp_path: Path):
    after = "(folder / 'first.done').read_text(); result.touch()"
    jobs = [
        script(tmp_path, "first", "result.write_text('')"),
        script(tmp_path, "second", after, needs=("first",)),
        script(tmp_path, "broken", "sys.exit('no such luck')"),
        script(tmp_path, "after_broken", "result.touch()", needs=("broken",)),
        script(tmp_path, "after_that", "result.touch()", needs=("second", "after_broken")),
        script(tmp_path, "without_result", ""),
    ]
    states = run_jobs(entries(*jobs), LocalLauncher([Place({}), Place({})]))
    assert states == {
        "first": State.DONE,
        "second": State.DONE,
        "broken": State.FAILED,
        "after_broken": State.NOT_RUN,
        "after_that": State.NOT_RUN,
        "without_result": State.FAILED,
    }
    assert last_line(jobs[2].log) == "no such luck"
    assert not jobs[3].log.exists() and not jobs[4].log.exists()


def test_what_is_done_is_not_run_and_what_failed_is_tried_again(tmp_path: Path):
    once = script(tmp_path, "once", "(folder / 'ran').open('x'); result.touch()")
    lucky = "tried = folder / 'tried'; again = tried.exists(); tried.touch(); again and result.touch()"
    jobs = entries(once, script(tmp_path, "lucky", lucky, needs=("once",)))
    assert run_jobs(jobs, LocalLauncher([Place({})])) == {"once": State.DONE, "lucky": State.FAILED}
    assert run_jobs(jobs, LocalLauncher([Place({})])) == {"once": State.DONE, "lucky": State.DONE}


@pytest.mark.slow
def test_each_job_has_its_place_for_itself(tmp_path: Path):
    """A job that finds another in its place fails."""
    text = """
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
mark = folder / f"gpu{gpu}"
mark.open("x").close()
result.write_text(json.dumps([gpu, sorted(os.sched_getaffinity(0))]))
mark.unlink()
"""
    core = min(os.sched_getaffinity(0))
    places = [Place({"CUDA_VISIBLE_DEVICES": gpus}, frozenset([core])) for gpus in ("0,1", "GPU-6b")]
    jobs = [script(tmp_path, f"job{i}", text) for i in range(5)]
    states = run_jobs(entries(*jobs), LocalLauncher(places))
    assert set(states.values()) == {State.DONE}, [last_line(job.log) for job in jobs]
    found = [json.loads(job.result.read_text()) for job in jobs]
    assert {gpus for gpus, _ in found} <= {"0,1", "GPU-6b"} and all(cores == [core] for _, cores in found)


@pytest.mark.slow
def test_jobs_save_on_a_signal_and_the_others_wait_for_the_next_time(tmp_path: Path):
    """The first job signals this process, as a scheduler would; only the launcher signals the job."""
    text = f"""
saved = folder / "saved"
if saved.exists():
    result.write_text(saved.read_text())
    sys.exit()
def save(number, frame):
    saved.write_text("half")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
os.kill({os.getpid()}, signal.SIGTERM)
deadline = time.monotonic() + {DEADLINE_SECONDS}
while time.monotonic() < deadline:
    time.sleep(0.01)
"""
    first = script(tmp_path, "first", text)
    second = script(tmp_path, "second", "result.touch()")
    with pytest.raises(Preempted), listening():
        run_jobs(entries(first, second), LocalLauncher([Place({})]))
    assert (tmp_path / "saved").exists() and not first.done and not second.log.exists()
    with listening():
        states = run_jobs(entries(first, second), LocalLauncher([Place({})]))
    assert set(states.values()) == {State.DONE} and first.result.read_text() == "half"


def test_a_job_s_process_imports_no_torch_before_its_command_does():
    code = "import sys, bench.launch.jobs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_places_of_gpus():
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in gpu_places(list("01234"), 2, None)] == ["0,1", "2,3"]
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in gpu_places(["5", "7"], 1, 3)] == ["5", "7", "5"]
    assert len(gpu_places(list("0123"), 1, 2)) == 2
    with pytest.raises(UserError, match="trainer.devices=4, but this machine has 2 GPUs"):
        gpu_places(["0", "1"], 4, None)


def test_places_of_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    four = core_places([2, 3, 6, 7], 1, None)
    assert [sorted(place.cores) for place in four] == [[2], [3], [6], [7]]
    halves = core_places([2, 3, 6, 7], 1, 2)
    assert [(sorted(p.cores), p.environment) for p in halves] == [
        ([2, 3], {"OMP_NUM_THREADS": "2"}),
        ([6, 7], {"OMP_NUM_THREADS": "2"}),
    ]
    assert [place.environment["OMP_NUM_THREADS"] for place in core_places([0, 1, 2, 3], 2, 1)] == ["2"]
    assert [sorted(place.cores) for place in core_places([0], 2, None)] == [[0]]  # more processes than cores
    assert len(core_places([0, 1], 1, 5)) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert core_places([0, 1], 1, 1)[0].environment == {"OMP_NUM_THREADS": "3"}


def test_several_nodes_are_not_one_machine(tmp_path: Path):
    with pytest.raises(UserError, match="trainer.nodes=2.*--launcher slurm"):
        LocalLauncher([Place({})]).submit(script(tmp_path, "job", "", nodes=2))


def test_a_log_without_words(tmp_path: Path):
    assert last_line(tmp_path / "none") == "it printed nothing"
