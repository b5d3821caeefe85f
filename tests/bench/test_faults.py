"""What can go wrong in a run ends in a clear state; `docs/faults.md` has a row for each of these tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.bench.faulty import Server, arguments, bench, server
from tests.bench.test_run import weights


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("output")) as served:
        yield served


@pytest.fixture(scope="module")
def undisturbed(forked: Server, sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = forked(None, arguments(sample_root, folder))
    assert done.status == 0, done.stderr
    return folder


def assert_same_weights(folder: Path, other: Path) -> None:
    one, two = weights(folder), weights(other)
    assert one.keys() == two.keys()
    for stage, tensors in one.items():
        assert all(torch.equal(tensor, two[stage][name]) for name, tensor in tensors.items()), stage


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_told_to_stop_in_training_it_saves_and_the_same_command_goes_on(
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
    again = forked(None, run)
    assert again.status == 0 and "goes on where it was cut off" in again.stderr, again.stderr
    assert_same_weights(tmp_path, undisturbed)


def test_of_two_processes_one_is_told_and_both_stop_after_the_same_step(sample_root: Path, tmp_path: Path):
    run = arguments(
        sample_root, tmp_path, "trainer.checkpoint_every=100", "trainer.accelerator=cpu", "trainer.devices=2"
    )
    stopped = bench(["stop", 2, signal.SIGTERM, 1], run)
    assert stopped.status == 75 and "Traceback" not in stopped.stderr, stopped.stderr
    assert stopped.stderr.count("bench: stopped after step 3, saved; the same command goes on") == 1
    (checkpoint,) = tmp_path.glob("runs/*/*/resume.ckpt")
    assert torch.load(checkpoint, weights_only=False)["global_step"] == 3


def test_a_signal_to_the_whole_process_group_leaves_the_loaders_alone(
    forked: Server, sample_root, tmp_path, undisturbed
):
    run = arguments(sample_root, tmp_path, "trainer.checkpoint_every=100", "data.loader.workers=1")
    stopped = forked(["stop", 2, signal.SIGTERM, 0, True], run)
    assert stopped.status == 75 and "Traceback" not in stopped.stderr, stopped.stderr
    assert stopped.stderr.endswith("bench: stopped after step 2, saved; the same command goes on\n")
    assert forked(None, run).status == 0
    assert_same_weights(tmp_path, undisturbed)
