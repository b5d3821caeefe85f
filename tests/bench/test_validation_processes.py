"""Validation on several processes, and where they are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.classification import MultilabelAUROC, MultilabelAveragePrecision

from bench.contract.processes import on_two_ranks
from bench.plan.graph import PlannedStage
from bench.run.gathered import Collect, gathered
from bench.tasks import task_of
from datamodules.boards import Board, Tagging
from datamodules.loading.samplers import EvalSampler
from tests.bench.runs import Server
from tests.bench.stages import arguments, planned, weights
from tests.bench.test_validation import AGAIN, EPOCHS, SMALL, STAGE, STEPS, VALIDATED, clips, equal, run, validation
from tests.conftest import REPOSITORY

__all__ = ["clips"]

CLIPS, CLASSES = 61, 7
TASK = task_of(Board("tags", "world", "train", "val", Tagging(), "mAP"))


def outputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits with many ties, and labels, of which one class has none."""
    draw = torch.Generator().manual_seed(3)
    label = (torch.rand(CLIPS, CLASSES, generator=draw) < 0.3).float()
    label[:, 2] = 0
    return (torch.randn(CLIPS, CLASSES, generator=draw) + label).mul(4).round() / 4, label


def measured_on_a_rank(ranks: int, rank: int) -> tuple[dict[str, float], list[str], float, float]:
    """(the suite's metrics, the clips in their order, torchmetrics' mAP and AUC, synchronised by itself)."""
    logits, label = outputs()
    ids = [f"clip{index}" for index in range(CLIPS)]
    collected = Collect(TASK)
    theirs = MultilabelAveragePrecision(CLASSES), MultilabelAUROC(CLASSES)
    for refs in EvalSampler(CLIPS, 4, rank=rank, ranks=ranks):
        rows = [ref.index for ref in refs]
        collected.add({"logits": {"a": logits[rows]}}, {"clip_id": [ids[row] for row in rows], "label": label[rows]})
        for metric in theirs:
            metric.update(logits[rows], label[rows].int())
    found = gathered(collected, pd.Series(ids), ranks)
    statistic = TASK.statistic("a", TASK.checked("a", found))
    values = statistic.measure(np.ones((CLIPS, 1), np.float32))
    mean_ap, auc = (float(metric.compute()) for metric in theirs)
    return {name: float(value[0]) for name, value in values.items()}, list(found.clip_id), mean_ap, auc


@pytest.fixture(scope="module")
def alone() -> tuple[dict[str, float], list[str], float, float]:
    return measured_on_a_rank(1, 0)


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_processes_measures_the_same_and_what_torchmetrics_measures(ranks: int, alone, tmp_path: Path):
    """Each clip once, though they do not divide: bit for bit as one process. torchmetrics computes in float32, and the
    class that no clip has, which a board leaves out, counts as 0 to it."""
    values, ids, mean_ap, auc = on_two_ranks(partial(measured_on_a_rank, ranks), tmp_path, ranks)
    assert (values, ids) == alone[:2] and ids == [f"clip{index}" for index in range(CLIPS)]
    there = (CLASSES - 1) / CLASSES
    assert (values["mAP"] * there, values["AUC"] * there) == pytest.approx((mean_ap, auc), abs=1e-6)


# ---- runs of several processes


def in_processes(count: int, clips: Path, folder: Path, *settings: str) -> PlannedStage:
    """The stage, run by so many processes."""
    given = [*VALIDATED, "trainer.accelerator=cpu", f"trainer.devices={count}", *settings]
    command = [sys.executable, "-m", "bench", "run", *arguments(clips, folder, "baseline_cnn", *given)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return planned(clips, folder, "baseline_cnn", *given)[STAGE]


@pytest.mark.slow
def test_several_processes_measure_the_weights_that_are_written(clips: Path, tmp_path: Path):
    """Those of the first one, whose batch norm saw other clips than the second one's: on `val` and on the board."""
    found = in_processes(2, clips, tmp_path / "two")
    kept, record = validation(found), json.loads((found.folder / "record.json").read_text())
    for board, metrics in (
        ("fsd50k-val", next(each["metrics"] for each in kept["seen"] if each["epoch"] == kept["epoch"])),
        ("fsd50k", {name: metric["value"] for name, metric in record["metrics"].items()}),
    ):
        again = (
            f"stages.again={{init: {found.folder / 'weights.pt'}, {AGAIN.replace('board: fsd50k', f'board: {board}')}}}"
        )
        one = run(clips, tmp_path / board, *SMALL, again, "stage=again")["again"]
        there = json.loads((one.folder / "record.json").read_text())["metrics"]
        assert {name: metric["value"] for name, metric in there.items()} == pytest.approx(metrics, abs=1e-6)


@pytest.mark.slow
def test_all_processes_end_at_the_same_epoch(clips: Path, tmp_path: Path):
    """A rate so high that it does not learn, so that it ends early."""
    settings = [f"stages.{STAGE}.{x}" for x in ("optim.lr=1.0", "validation.patience=1", "epochs=12")]
    found = in_processes(2, clips, tmp_path, *settings)
    said = validation(found)
    assert said["epochs"] < 12 and said["epochs"] == said["epoch"] + 1


# ---- kills


@pytest.mark.slow
@pytest.mark.parametrize("fault", [["kill_validating", 5], ["kill", 2 * STEPS + 2], ["kill", STEPS * EPOCHS]])
def test_killed_it_goes_on_to_the_same_weights_the_same_epoch_and_the_same_curves(
    forked: Server, clips: Path, tmp_path: Path, fault: list[Any]
):
    whole = run(clips, tmp_path / "whole", *VALIDATED)[STAGE]
    given = ["run", *arguments(clips, tmp_path / "killed", "baseline_cnn", *VALIDATED)]
    killed = forked(fault, given)
    assert killed.status == -signal.SIGKILL, killed.stderr
    done = forked(None, given)
    assert done.status == 0 and "goes on where it was cut off" in done.stderr, done.stderr
    found = planned(clips, tmp_path / "killed", "baseline_cnn", *VALIDATED)[STAGE]
    assert equal(weights(found), weights(whole)) and validation(found) == validation(whole)
    assert (found.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
