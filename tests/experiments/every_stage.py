"""The stages that train, of every method that the registry finds; and training in a Trainer."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightning as L
import pytest
from torch.utils.data import DataLoader

from bench import registry
from bench.contract.cases import Case, cases
from datamodules.types import Batch
from experiments.common.stage import Stage

SETTINGS = {"mcn": ("stages.*.options.clusters=4",)}
"""What the contract's few clips need."""


@cache
def of_all_methods() -> list[Case]:
    """See `bench.contract.cases.cases`."""
    return [case for method in registry.methods() for case in cases(method, *SETTINGS.get(method, ()))]


def every_stage(function):
    """Runs a test once for every stage that trains, as its argument `case`."""
    return pytest.mark.parametrize("case", of_all_methods(), ids=str)(function)


def trained(stage: Stage, batches: list[Batch], **trainer: Any) -> L.Trainer:
    """Trains in a Trainer, one step a batch unless it accumulates."""
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    fitter = L.Trainer(**{**settings, **quiet, **trainer})
    fitter.fit(stage, DataLoader(batches, batch_size=None))
    return fitter
