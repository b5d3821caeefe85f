"""Processes that work for another end as they should."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import get_context
from typing import NoReturn

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.loading.loader import Loader
from datamodules.processes import any_ends


class Busy(Dataset):
    """Its items leave a thread at work inside torch, as the one that sends batches is."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> int:
        if index == 0:
            threading.Thread(target=multiply, daemon=True).start()
        return index


def multiply() -> None:
    matrix = torch.ones(300, 300)
    while True:
        matrix @ matrix


def test_a_worker_ends_without_ado_whatever_its_threads_do(capfd):
    loader = Loader(Busy(), batch_size=1, num_workers=1)
    batches = DataLoader.__iter__(loader)
    assert next(batches).tolist() == [0]
    (worker,) = batches._workers
    batches._shutdown_workers()
    worker.join()
    assert worker.exitcode == 0
    assert capfd.readouterr().err == ""


class Breaking(Dataset):
    """Its items are those of a process that is killed while it hands them over."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Breaking:
        return self

    def __reduce__(self) -> tuple:
        if threading.current_thread() is threading.main_thread():
            return Breaking, ()  # on its way to the worker
        return break_off, (os.getpid(),)


def break_off(pid: int) -> NoReturn:
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    raise ConnectionResetError


@pytest.mark.slow
def test_a_worker_that_dies_while_it_hands_over_a_batch_is_reported_as_any_that_dies():
    with pytest.raises(RuntimeError, match="DataLoader worker .*(killed by signal|exited unexpectedly)"):
        list(Loader(Breaking(), batch_size=None, num_workers=1))


def hang_up_and_die() -> None:
    os.closerange(3, 64)
    threading.Event().wait(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_whose_connections_ended_is_waited_for():
    process = get_context("spawn").Process(target=hang_up_and_die)
    process.start()
    assert any_ends([process])
    assert process.exitcode == -signal.SIGKILL
