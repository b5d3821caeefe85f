"""A stage that trains on all clips for as many epochs as another stage's validation chose."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import lightning as L
import pytest
import torch

from bench.cli import main
from bench.run.ending import EndAfter
from bench.run.validation import Validation
from bench.tasks import Predictions
from datamodules import sample
from tests.bench.stages import arguments, planned, user_error, weights

COUNTS = {"fsd50k": {"train": 16, "val": 8, "eval": 9}}
VALUES = [0.1, 0.6, 0.4, 0.2]
BEST, EPOCHS = 2, 4
SMALL = "data: {inputs: {audio: {frames: 64}}}"
PHASES = [
    *("model.widths=[8,8,8,8]", "data.loader.cache_gb=0", "trainer.checkpoint_every=1", "stage=[second]"),
    f"stages.first={{module: Train, dataset: fsd50k, train: [train], board: fsd50k, modality: a, epochs: {EPOCHS}, "
    f"batch_size: 8, validation: {{split: val}}, {SMALL}}}",
    f"stages.second={{module: Train, dataset: fsd50k, train: [train, val], board: fsd50k, modality: a, "
    f"epochs: {EPOCHS}, batch_size: 8, epochs_of: first, {SMALL}}}",
]
MEAN = (
    f"stages.mean={{module: Train, after: second, average_weights: [{BEST}, {BEST}], dataset: fsd50k, board: fsd50k, "
    f"modality: a, {SMALL}}}"
)
"""Measures the second's weights of one epoch."""
STEPS, BATCH = 3, 8
"""An epoch of the second."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phases")
    sample.make(root, ["fsd50k"], counts=COUNTS, workers=1)
    return root


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second epoch is the best."""

    def measured(self: Validation, predictions: Predictions, epoch: int) -> dict[str, float]:
        return {name: VALUES[epoch - 1] for name in self.task.metrics}

    monkeypatch.setattr(Validation, "_measured", measured)


@pytest.mark.slow
def test_its_weights_are_those_after_the_chosen_epoch_of_a_training_of_all_epochs(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.run.execute.stable_hash", lambda *_: 7)  # both draw the same, whatever their identities
    assert main(["run", *arguments(clips, tmp_path, "baseline_cnn", *PHASES)]) == 0
    stages = planned(clips, tmp_path, "baseline_cnn", *PHASES)
    assert json.loads((stages["first"].folder / "validation.json").read_text())["epoch"] == BEST
    cost = json.loads((stages["second"].folder / "training.json").read_text())
    assert cost["clips"] == BEST * STEPS * BATCH

    whole = [*PHASES, "stages.second.epochs_of=null", MEAN, "stage=[mean]"]
    assert main(["run", *arguments(clips, tmp_path, "baseline_cnn", *whole)]) == 0
    others = planned(clips, tmp_path, "baseline_cnn", *whole)
    assert others["second"].identity != stages["second"].identity
    ours, theirs = weights(stages["second"]), weights(others["mean"])
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["net.head.weight"], weights(others["second"])["net.head.weight"])


@pytest.mark.parametrize(("done", "ends"), [(5, False), (6, True), (7, True)])
def test_a_run_that_goes_on_from_its_last_step_ends_at_once(done, ends):
    trainer = SimpleNamespace(global_step=done, should_stop=False)
    EndAfter(6).on_train_start(cast(L.Trainer, trainer), cast(L.LightningModule, None))
    assert trainer.should_stop == ends


def test_what_makes_no_sense_is_refused(clips, tmp_path, capsys):
    def refused(*changes: str) -> str:
        return user_error(capsys, *arguments(clips, tmp_path, "baseline_cnn", *PHASES, *changes))

    assert "chooses none" in refused("stages.first.validation.split=null")
    assert "may choose epoch 4, and this stage trains for 3" in refused("stages.second.epochs=3")
    assert "may end before; set stages.second.epochs_of to null" in refused(MEAN, "stage=[mean]")
