"""Processes that work for another end as they should."""

from __future__ import annotations

import threading

import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.loader import Loader


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
