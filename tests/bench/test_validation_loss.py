"""Validation by a stage's own loss, of a training that no board measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.errors import UserError
from bench.plan.chosen_by import metric_of_validation
from bench.plan.combinations import check_combinations
from bench.plan.graph import PlannedStage
from bench.run.results import read_predictions
from datamodules.types import Batch
from experiments.baseline_cnn.method import Train
from experiments.common.optim import OptimConfig
from experiments.common.stage import Stage
from tests.bench.stages import weights
from tests.bench.test_combinations import of, stage
from tests.bench.test_validation import (
    AGAIN,
    COUNTS,
    EPOCHS,
    SMALL,
    STAGE,
    STEPS,
    clips,
    equal,
    folder,
    judged,
    knowing,
    rows,
    run,
    validation,
)
from tests.bench.test_validation_processes import in_processes
from tests.bench.test_validation_refused import validated

__all__ = ["clips", "folder", "judged"]

VAL = COUNTS["fsd50k"]["val"]
BY_LOSS = [*SMALL, *(f"stages.{STAGE}.{x}" for x in ("board=null", "validation.split=val", "validation.metric=loss"))]


def loss_of(clips: Path, folder: Path, of: PlannedStage) -> float:
    """Of the stage's weights on the split, from the logits that its board's stage stores."""
    again = AGAIN.replace("board: fsd50k", "board: fsd50k-val")
    given = f"stages.again={{init: {of.folder / 'weights.pt'}, {again}}}"
    found = run(clips, folder, *SMALL, given, "stage=again")["again"]
    predictions = read_predictions(found.folder / "predictions.parquet")
    assert predictions.scale == "logits" and predictions.target.shape == (VAL, found.spec.num_classes)
    logits_NC, target_NC = (torch.tensor(each).double() for each in (predictions.scores["a"], predictions.target))
    return float(F.binary_cross_entropy_with_logits(logits_NC, target_NC))


@pytest.fixture(scope="module")
def best(clips: Path, judged: Path, tmp_path_factory: pytest.TempPathFactory) -> PlannedStage:
    return run(clips, knowing(judged, tmp_path_factory.mktemp("by loss")), *BY_LOSS)[STAGE]


def test_the_weights_that_are_kept_are_those_of_the_lowest_mean_over_the_clips(clips: Path, best, folder):
    """In evaluation mode, though the training drops out, and weighted by clips: 13 do not divide into batches of 8."""
    curve = [float(row["val/loss"]) for row in rows(best) if row["val/loss"]]
    kept = validation(best)
    assert len(curve) == EPOCHS and kept["epoch"] == 1 + int(np.argmin(curve)) and kept["n"] == VAL
    assert (kept["metric"], kept["value"]) == ("loss", pytest.approx(min(curve), rel=1e-5))
    assert kept["value"] == pytest.approx(loss_of(clips, folder, best), rel=1e-5)


def test_each_validation_draws_the_same_in_evaluation_mode_and_the_training_does_not_notice(
    clips: Path, folder, monkeypatch
):
    """From torch's generators and from the clips' keys."""
    last = run(clips, folder / "as it is", *BY_LOSS, f"stages.{STAGE}.validation.keep=last")[STAGE]
    whole, keys = Train.losses, []

    def losses(self: Train, batch: Batch) -> dict[str, Tensor]:
        if self.training:
            return whole(self, batch)
        keys.append(batch["key"].tolist())
        return whole(self, batch) | {"drawn": torch.rand(()), "training": torch.tensor(float(self.training))}

    monkeypatch.setattr(Train, "losses", losses)
    found = run(clips, folder / "drawing", *BY_LOSS, f"stages.{STAGE}.validation.keep=last")[STAGE]
    assert equal(weights(found), weights(last))
    seen = [each["metrics"] for each in validation(found)["seen"]]
    assert len({each["drawn"] for each in seen}) == 1 and len({each["loss"] for each in seen}) == EPOCHS
    assert {each["training"] for each in seen} == {0.0}
    assert len(keys) == 2 * EPOCHS and all(keys[place] == keys[place % 2] for place in range(len(keys)))


def test_patience_and_the_plateau_go_down(clips: Path, folder, monkeypatch):
    values = iter([0.3, 0.2, 0.4, 0.1])
    whole = Train.losses

    def losses(self: Train, batch: Batch) -> dict[str, Tensor]:
        if not self.training and batch["key"].tolist() == first:
            losses.value = next(values)  # type: ignore[attr-defined]
        return whole(self, batch) if self.training else {"loss": torch.tensor(losses.value)}  # type: ignore[attr-defined]

    first: list[int] = []
    monkeypatch.setattr("bench.run.validation_loss.batches", noting(first))
    monkeypatch.setattr(Train, "losses", losses)
    settings = ("validation.patience=1", "optim.schedule=plateau", "optim.plateau_patience=0", "optim.lr=1e-3")
    found = run(clips, folder, *BY_LOSS, *(f"stages.{STAGE}.{each}" for each in (*settings, "optim.warmup_epochs=0")))
    kept = validation(found[STAGE])
    assert (kept["epoch"], kept["epochs"], kept["value"]) == (2, 3, pytest.approx(0.2))
    rates = [float(row["lr"]) for row in rows(found[STAGE]) if row["val/loss"]]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4]) and rows(found[STAGE])[-1]["step"] == str(3 * STEPS)


def noting(first: list[int]) -> Any:
    """The batches that are validated; the keys of the first one go to `first`."""
    from bench.run.validation import batches

    def noted(trainer: Any) -> Any:
        for place, batch in batches(trainer):
            if place == 0:
                first[:] = batch["key"].tolist()
            yield place, batch

    return noted


@pytest.mark.slow
def test_two_processes_measure_the_mean_over_all_clips_once(clips: Path, folder):
    settings = [f"stages.{STAGE}.board=null", f"stages.{STAGE}.validation.metric=loss"]
    found = in_processes(2, clips, folder / "two", *settings)
    kept = validation(found)
    assert kept["n"] == VAL
    assert kept["value"] == pytest.approx(loss_of(clips, folder / "one", found), rel=1e-5)


def by_loss(**changes: Any) -> Any:
    return validated(**{"board": None, "metric": "loss", **changes})


def test_a_stage_without_a_board_can_go_by_its_loss_and_one_with_a_board_too():
    for x in (by_loss(), by_loss(board="fsd50k"), by_loss(optim=OptimConfig(schedule="plateau"))):
        check_combinations(of(parent=stage(), x=x), ["x"])
        assert metric_of_validation(x) == "loss"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"split": "eval"}, "x.validation.split=eval: it is scored by fsd50k, fsd50k-linear, .*; name val$"),
        ({"split": "train"}, "x.validation.split=train: the stage trains on it"),
        (
            {"metric": None},
            r"its board says what is measured|go by the stage's own loss \(stages.x.validation.metric=loss",
        ),
        (
            {"dataset": "youcook2", "train": ["train"], "split": "retrieval"},
            "x.validation.split=retrieval: it is scored by youcook2-t2v, ",
        ),
    ],
)
def test_what_cannot_be_gone_by_is_refused(changes: dict[str, Any], expected: str):
    with pytest.raises(UserError, match=expected):
        check_combinations(of(parent=stage(), x=by_loss(**changes)), ["x"])


def test_a_loss_that_compares_clips_is_refused_with_the_reason():
    class Contrasts(Stage[Any, Any]):
        compares_clips = True

    config = of(parent=stage(), x=by_loss())
    x = config.stages["x"]
    x.carry(replace(x.objects, stage_class=Contrasts))
    with pytest.raises(UserError, match="x.validation.metric=loss: .* compares the clips of a batch.* processes"):
        check_combinations(config, ["x"])
