"""What can go wrong in a run ends in a clear state; `docs/faults.md` has a row for each of these tests."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from bench.errors import UserError
from bench.plan import layout
from bench.records import archive
from bench.run import checkpoints
from bench.run.faults import explained
from datamodules.files import replacing
from tests.bench.runs import LIMIT, SCRIPT, TWO_PROCESSES, Server, arguments, bench, environment, run_folders, weights
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

GO_ON = "what was saved stands, and the same command goes on from it\n"


@pytest.fixture(scope="module")
def undisturbed(forked: Server, sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = forked(None, arguments(sample_root, folder))
    assert done.status == 0, done.stderr
    return folder


def the_record(folder: Path) -> archive.Record:
    found, errors = archive.read_all(folder / "leaderboards" / "sample" / "results")
    assert not errors and len(found) == 1
    return found[0]


def assert_ends_as(folder: Path, undisturbed: Path) -> None:
    one, two = weights(folder), weights(undisturbed)
    assert one.keys() == two.keys()
    for stage, tensors in one.items():
        assert all(torch.equal(tensor, two[stage][name]) for name, tensor in tensors.items()), stage
    mine, other = the_record(folder), the_record(undisturbed)
    assert (mine.metrics, mine.n, mine.predictions_sha256) == (other.metrics, other.n, other.predictions_sha256)


def stage_folder(folder: Path) -> Path:
    return run_folders(folder)["finetune_vggsound_av"]


def saved_step(folder: Path) -> int:
    return torch.load(stage_folder(folder) / layout.LAST, weights_only=False)["global_step"]


def leftovers(folder: Path) -> list[Path]:
    return [*folder.rglob("*.tmp"), *folder.rglob(layout.NEW)]


# --- signals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_in_training_saves_and_the_same_command_goes_on(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path, signum: int
):
    run = arguments(sample_root, tmp_path, "trainer.checkpoint_every=100")
    stopped = forked(["stop", 3, signum], run)
    assert "Traceback" not in stopped.stderr
    if signum == signal.SIGINT:
        assert stopped.status == 130, stopped.stderr
        assert stopped.stderr.endswith("bench: stopped; the same command goes on from here\n")
    else:
        assert stopped.status == 75, stopped.stderr
        assert stopped.stderr.endswith("bench: stopped after step 3, saved; the same command goes on\n")
    assert saved_step(tmp_path) == 3
    if signum == signal.SIGINT:
        return  # what is saved is the same
    again = forked(None, run)
    assert again.status == 0 and "goes on where it was cut off" in again.stderr, again.stderr
    assert_ends_as(tmp_path, undisturbed)


def test_of_two_processes_one_is_signalled_and_both_stop_after_the_same_step(sample_root: Path, tmp_path: Path):
    run = arguments(sample_root, tmp_path, "trainer.checkpoint_every=100", *TWO_PROCESSES)
    stopped = bench(["stop", 2, signal.SIGTERM, 1], run)
    assert stopped.status == 75 and "Traceback" not in stopped.stderr, stopped.stderr
    assert stopped.stderr.count("bench: stopped after step 3, saved; the same command goes on") == 1
    assert saved_step(tmp_path) == 3


def test_a_signal_to_the_whole_process_group_leaves_the_loaders_alone(
    forked: Server, sample_root, tmp_path, undisturbed
):
    run = arguments(sample_root, tmp_path, "trainer.checkpoint_every=100", "data.loader.workers=1")
    stopped = forked(["stop_group", 2, signal.SIGTERM], run)
    assert stopped.status == 75 and "Traceback" not in stopped.stderr, stopped.stderr
    assert stopped.stderr.endswith("bench: stopped after step 2, saved; the same command goes on\n")
    assert forked(None, run).status == 0
    assert_ends_as(tmp_path, undisturbed)


def test_a_signal_while_it_measures_stops_it_at_once_and_it_has_its_weights(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path
):
    stopped = forked(["stop_measuring", signal.SIGTERM], arguments(sample_root, tmp_path))
    assert stopped.status == 75 and "Traceback" not in stopped.stderr, stopped.stderr
    assert stopped.stderr.endswith("bench: stopped; the same command goes on from here\n")
    assert (stage_folder(tmp_path) / "weights.pt").is_file() and not (stage_folder(tmp_path) / "record.json").exists()
    again = forked(["nan", 1], arguments(sample_root, tmp_path))  # nothing is trained again
    assert again.status == 0, again.stderr
    assert_ends_as(tmp_path, undisturbed)


def test_a_signal_while_it_checks_files_marks_none_as_broken(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path
):
    """The signal ends the processes that look at files, too."""
    stopped = forked(["stop_checking", signal.SIGTERM], arguments(sample_root, tmp_path))
    assert stopped.status == 75 and "Traceback" not in stopped.stderr, stopped.stderr
    again = forked(None, arguments(sample_root, tmp_path))
    assert again.status == 0, again.stderr
    assert_ends_as(tmp_path, undisturbed)


# --- what breaks


def test_a_loss_that_is_nan_ends_the_run_and_is_in_no_checkpoint(forked: Server, sample_root: Path, tmp_path: Path):
    ended = forked(["nan", 4], arguments(sample_root, tmp_path))
    assert ended.status == 2 and "Traceback" not in ended.stderr
    assert "stage finetune_vggsound_av: the loss is NaN or infinite from step 4 on" in ended.stderr
    assert "stages.finetune_vggsound_av.optim.base_lr" in ended.stderr and "trainer.grad_clip" in ended.stderr
    assert saved_step(tmp_path) == 3
    saved = torch.load(stage_folder(tmp_path) / layout.LAST, weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in saved.values())


def test_a_full_disk_leaves_the_last_checkpoint_and_no_half_one(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path
):
    """A limit on the size of files stands for it: the kernel refuses the same write in the same place."""
    ended = forked(["full_disk", 4, 50_000], arguments(sample_root, tmp_path))
    assert ended.status == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert "no room to write" in ended.stderr and "resume" in ended.stderr and ended.stderr.endswith(GO_ON)
    assert saved_step(tmp_path) == 3 and not leftovers(tmp_path)
    assert forked(None, arguments(sample_root, tmp_path)).status == 0
    assert_ends_as(tmp_path, undisturbed)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_taken(
    forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path
):
    run = arguments(sample_root, tmp_path)
    assert forked(["stop", 4, signal.SIGTERM], run).status == 75
    last, previous = (stage_folder(tmp_path) / name for name in (layout.LAST, layout.PREVIOUS))
    damage(last)
    second = forked(["stop", 4, signal.SIGTERM], run)
    assert f"{last} is damaged and is not used" in second.stderr and "goes on where it was cut off" in second.stderr
    assert "stopped after step 4" in second.stderr  # it had been 3
    damage(last)
    damage(previous)
    third = forked(None, run)
    assert third.status == 0 and "starts anew" in third.stderr, third.stderr
    assert third.stderr.count("is damaged and is not used") == 2
    assert_ends_as(tmp_path, undisturbed)


def damage(path: Path) -> None:
    """Turns one byte in the middle, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_a_checkpoint_that_was_cut_short_is_not_sound(tmp_path: Path):
    path = tmp_path / "whole.ckpt"
    checkpoints.save({"weights": torch.arange(1000)}, path)
    assert checkpoints.is_sound(path)
    for size in (0, 10, path.stat().st_size // 2, path.stat().st_size - 1):
        (tmp_path / "short.ckpt").write_bytes(path.read_bytes()[:size])
        assert not checkpoints.is_sound(tmp_path / "short.ckpt"), size


def test_a_killed_loader_is_reported(forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path):
    run = arguments(sample_root, tmp_path, "data.loader.workers=1")
    ended = forked(["kill_worker", 2], run)
    assert ended.status == 2, ended.stderr
    assert "a process that loads data was killed" in ended.stderr and "data.loader.workers" in ended.stderr
    assert ended.stderr.rstrip().endswith(GO_ON.rstrip())
    assert forked(None, arguments(sample_root, tmp_path)).status == 0
    assert_ends_as(tmp_path, undisturbed)
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
def test_of_two_processes_one_is_killed_and_the_other_ends_too(sample_root: Path, tmp_path: Path, rank: int):
    """`bench` waits for all that hold its output, so it would not come back before both are gone."""
    ended = bench(["kill_rank", 3, rank], arguments(sample_root, tmp_path, *TWO_PROCESSES))
    if rank == 0:
        assert ended.status == -signal.SIGKILL
    else:
        assert ended.status == 2 and "another process of this run was lost" in ended.stderr, ended.stderr
    assert saved_step(tmp_path) == 2 and not leftovers(tmp_path)


# --- several at once, clocks


def test_two_runs_of_one_plan_do_its_stage_once(sample_root: Path, undisturbed: Path, tmp_path: Path):
    """Which of the two comes first is not said; it goes on when the other one has begun to wait."""
    (tmp_path / "met").mkdir()
    run = [sys.executable, str(SCRIPT), json.dumps(["meet", str(tmp_path / "met")]), *arguments(sample_root, tmp_path)]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(run, cwd=REPOSITORY, env=environment(), stdout=pipe, stderr=pipe, text=True) for _ in range(2)
    ]
    printed = [process.communicate(timeout=LIMIT)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert sorted("done by another run" in text for text in printed) == [False, True]
    steps = [path.name.split("-")[1] for path in (tmp_path / "met").glob("step-*")]
    assert sorted(steps) == ["1", "2", "3", "4", "5", "6"]
    assert_ends_as(tmp_path, undisturbed)


def test_a_clock_that_jumps_changes_nothing(forked: Server, sample_root: Path, undisturbed: Path, tmp_path: Path):
    done = forked(["jumping_clock"], arguments(sample_root, tmp_path))
    assert done.status == 0, done.stderr
    assert_ends_as(tmp_path, undisturbed)
    assert 0 < the_record(tmp_path).cost.wall_seconds < 86400


# --- messages


def test_a_folder_that_may_not_be_written_is_named(forked: Server, sample_root: Path, tmp_path: Path):
    """In `/sys` not even root makes a folder, on most machines."""
    with contextlib.suppress(OSError):
        Path("/sys/avl-bench").mkdir()
        pytest.skip("this machine lets one write to /sys")
    ended = forked(None, [*arguments(sample_root, tmp_path), "runs=/sys/avl-bench"])
    assert ended.status == 2 and "may not write /sys/avl-bench" in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "set trainer.device_batch"),
        (MemoryError(), "no memory left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "no memory left"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "/dev/shm"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "data.loader.workers lower"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:80"), "was lost"),
        (dist.DistBackendError("NCCL error: remote process exited or there was a network error"), "was lost"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/runs/x"), "no room to write /runs/x"),
    ],
)
def test_faults_are_reported_in_the_user_s_words(error: Exception, text: str):
    with pytest.raises(UserError, match=f"^stage s: .*{re.escape(text)}"), explained("stage s"):
        raise error


def test_what_is_not_known_stays_a_crash():
    with pytest.raises(RuntimeError, match="size mismatch"), explained("stage s"):
        raise RuntimeError("size mismatch")


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append(str(new)), replace(old, new)))
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert calls == [str(temporary), str(tmp_path / "file")]


# --- the table


def test_every_row_of_the_table_names_a_test():
    rows = [line.split("|") for line in (REPOSITORY / "docs/faults.md").read_text().splitlines() if line[:1] == "|"]
    named = [re.findall(r"`(test_\w+)`", row[-2]) for row in rows[2:]]
    assert len(named) > 12 and all(named)
    tests = set()
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        tests |= {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
    assert {name for names in named for name in names} <= tests
