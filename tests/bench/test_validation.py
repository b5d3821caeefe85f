"""Validation in training: what is chosen, what follows from it, that the training does not notice, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from bench.cli import main
from bench.errors import UserError
from bench.plan.graph import PlannedStage
from bench.plan.identity import recipe
from bench.run import validation as of_the_run
from bench.run.callbacks import Cost, epoch_weights
from bench.run.validation import Validation, evaluating
from bench.tables import show
from bench.tasks import Predictions
from experiments.baseline_cnn.method import Train
from tests.bench.stages import arguments, planned, user_error, weights
from tests.sample_data import SampleMaker

COUNTS = {"fsd50k": {"train": 32, "val": 13, "eval": 9}}
STAGE, EPOCHS, STEPS = "train_fsd50k", 4, 4
"""A small network with batch norm and dropout; four epochs of four steps."""
SMALL = [
    *("model.widths=[8,8,16,16]", f"stage={STAGE}", "data.loader.cache_gb=0", "trainer.checkpoint_every=3"),
    *(f"stages.{STAGE}.{x}" for x in (f"epochs={EPOCHS}", "batch_size=8", "data.inputs.audio.frames=64")),
]
VALIDATED = [*SMALL, f"stages.{STAGE}.validation.split=val"]
LAST = f"stages.{STAGE}.validation.keep=last"
AGAIN = "dataset: fsd50k, board: fsd50k, modality: a, module: Train, data: {inputs: {audio: {frames: 64}}}"
"""Of a stage that measures weights of the other one."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("validation")
    make_sample(root, ["fsd50k"], counts=COUNTS)
    return root


@pytest.fixture(scope="module", autouse=True)
def judged(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all runs know of the files, so that they are judged once."""
    folder = tmp_path_factory.mktemp("judged")
    planned(clips, folder, "baseline_cnn", *VALIDATED)
    return folder / "runs" / "cache"


@pytest.fixture
def folder(judged: Path, tmp_path: Path) -> Path:
    """For a run."""
    return knowing(judged, tmp_path)


def knowing(judged: Path, folder: Path) -> Path:
    """A folder for runs that need not judge files."""
    shutil.copytree(judged, folder / "runs" / "cache")
    return folder


def run(clips: Path, folder: Path, *overrides: str) -> dict[str, PlannedStage]:
    given = arguments(clips, folder, "baseline_cnn", *overrides)
    assert main(["run", *given]) == 0
    return planned(clips, folder, "baseline_cnn", *overrides)


def rows(of: PlannedStage) -> list[dict[str, str]]:
    with (of.folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def validation(of: PlannedStage) -> dict[str, Any]:
    return json.loads((of.folder / "validation.json").read_text())


def points(of: PlannedStage, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(of.folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def script(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Of every metric after each epoch."""

    def measured(self: Validation, predictions: Predictions, epoch: int) -> dict[str, float]:
        return {name: values[epoch - 1] for name in self.task.metrics}

    monkeypatch.setattr(Validation, "_measured", measured)


@pytest.fixture(scope="module")
def plain(clips: Path, judged: Path, tmp_path_factory: pytest.TempPathFactory) -> PlannedStage:
    """Without validation."""
    return run(clips, knowing(judged, tmp_path_factory.mktemp("plain")), *SMALL)[STAGE]


@pytest.fixture(scope="module")
def best(clips: Path, judged: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PlannedStage]:
    """With it, of which the weights of each epoch are kept as well, as a third stage averages them."""
    stages = [
        f"stages.after={{after: {STAGE}, {AGAIN}}}",
        f"stages.mean={{after: {STAGE}, average_weights: [1, {EPOCHS}], {AGAIN}}}",
        "stage=[after,mean]",
    ]
    return run(clips, knowing(judged, tmp_path_factory.mktemp("best")), *VALIDATED, *stages)


# ---- what is measured, and what becomes of it


def test_the_weights_that_are_kept_are_those_of_the_best_epoch_of_the_curve(best):
    curve = [(int(row["step"]), float(row["val/mAP"])) for row in rows(best[STAGE]) if row["val/mAP"]]
    assert [step for step, _ in curve] == [STEPS * epoch for epoch in range(1, EPOCHS + 1)]
    epoch = 1 + int(np.argmax([value for _, value in curve]))
    assert equal(weights(best[STAGE]), torch.load(epoch_weights(best[STAGE].folder, epoch), weights_only=True))
    assert validation(best[STAGE])["epoch"] == epoch
    assert [(step + 1, pytest.approx(value, rel=1e-5)) for step, value in points(best[STAGE], "val/mAP")] == curve


def test_the_value_of_the_kept_epoch_is_what_its_weights_get_on_the_split_s_own_board(clips: Path, best, folder):
    kept = validation(best[STAGE])
    file = best[STAGE].folder / "weights.pt"
    given = f"stages.val={{init: {file}, {AGAIN.replace('board: fsd50k', 'board: fsd50k-val')}}}"
    measured = run(clips, folder, *SMALL, given, "stage=val")["val"]
    metrics = json.loads((measured.folder / "record.json").read_text())["metrics"]
    found = next(each["metrics"] for each in kept["seen"] if each["epoch"] == kept["epoch"])
    assert {name: metric["value"] for name, metric in metrics.items()} == found


def test_a_record_says_which_epoch_was_kept_by_what(best):
    for name in (STAGE, "after", "mean"):
        record = json.loads((best[name].folder / "record.json").read_text())
        (said,) = record["validations"]
        kept = validation(best[STAGE])
        assert {key: said[key] for key in ("stage", "metric", "keep", "epochs", "n")} == {
            "stage": STAGE, "metric": "mAP", "keep": "best", "epochs": EPOCHS, "n": COUNTS["fsd50k"]["val"],
        }  # fmt: skip
        assert (said["epoch"], said["value"]) == (kept["epoch"], kept["value"])
        assert (said["data"]["split"], said["data"]["official"]) == ("val", COUNTS["fsd50k"]["val"])
        assert record["settings"][f"stages.{STAGE}.validation.split"] == "val"


def test_the_time_of_validations_is_no_time_of_training_steps(best):
    spent = json.loads((best[STAGE].folder / "training.json").read_text())
    cost = json.loads((best[STAGE].folder / "record.json").read_text())["cost"]
    assert 0 < spent["validating"] < spent["seconds"] == cost["wall_seconds"]
    assert cost["samples_per_second"] == pytest.approx(EPOCHS * STEPS * 8 / (spent["seconds"] - spent["validating"]))


def test_what_follows_starts_from_the_kept_weights(best):
    first, after = (pd.read_parquet(best[name].folder / "predictions.parquet") for name in (STAGE, "after"))
    np.testing.assert_allclose(np.stack(first["a"]), np.stack(after["a"]), atol=1e-5)


def test_the_training_does_not_notice(clips: Path, plain, folder):
    """Dropout, batch norm's statistics, the order of the clips and the losses are what they are without."""
    validated = run(clips, folder, *VALIDATED, LAST)[STAGE]
    assert equal(weights(validated), weights(plain))
    losses = [[row["loss/loss"] for row in rows(each) if row["loss/loss"]] for each in (validated, plain)]
    assert losses[0] == losses[1] != []
    assert validation(validated)["epoch"] == EPOCHS


def test_evaluating_leaves_the_random_numbers_and_each_part_s_mode_as_they_were():
    module, trainer = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval()), SimpleNamespace()
    module.device = torch.device("cpu")
    before = torch.get_rng_state()
    with evaluating(trainer, module):
        assert not module.training and not module[0].training and trainer.validating
        module(torch.randn(4, 2))
    assert torch.equal(torch.get_rng_state(), before) and trainer.training
    assert [part.training for part in module.modules()] == [True, True, False]


def test_the_first_of_equal_epochs_is_kept_and_the_training_ends_where_it_no_longer_improves(
    clips: Path, folder, monkeypatch, capsys
):
    script(monkeypatch, [0.1, 0.3, 0.3, 0.9])
    found = run(clips, folder, *VALIDATED, f"stages.{STAGE}.validation.patience=1")[STAGE]
    said = validation(found)
    assert (said["epoch"], said["epochs"]) == (2, 3)
    assert rows(found)[-1]["step"] == str(3 * STEPS)
    assert "keeps epoch 2, which ended after 3 of 4: mAP 0.3000 on 13 clips of val" in capsys.readouterr().err


def test_the_last_epoch_is_always_validated(clips: Path, folder, monkeypatch):
    script(monkeypatch, [0.1, 0.2, 0.3, 0.4])
    found = run(clips, folder, *VALIDATED, f"stages.{STAGE}.validation.every=3")[STAGE]
    assert [each["epoch"] for each in validation(found)["seen"]] == [3, 4]


@pytest.mark.slow
def test_the_moving_mean_is_what_is_validated_and_kept(clips: Path, folder, monkeypatch):
    """At the last epoch it is what the training without validation ends with, and before it is another one."""
    ema = f"stages.{STAGE}.ema=0.8"
    mean = run(clips, folder, *SMALL, ema)[STAGE]
    for values, last in (([0.1, 0.2, 0.3, 0.4], True), ([0.1, 0.2, 0.4, 0.3], False)):
        script(monkeypatch, values)
        found = run(clips, folder, *VALIDATED, ema, f"stages.{STAGE}.validation.metric={'mAP' if last else 'lwlrap'}")
        assert equal(weights(found[STAGE]), weights(mean)) == last


PLATEAU = [
    f"stages.{STAGE}.optim.{x}" for x in ("schedule=plateau", "plateau_patience=0", "lr=1e-3", "warmup_epochs=0")
]


@pytest.mark.slow
def test_the_rate_halves_where_the_validation_no_longer_improves_as_torch_s_scheduler_does(
    clips: Path, folder, monkeypatch
):
    """From the first step after that validation on, also of a run that was cut off."""
    script(monkeypatch, values := [0.3, 0.2, 0.4, 0.4])
    whole = run(clips, folder / "whole", *VALIDATED, *PLATEAU)[STAGE]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=0)
    expected = []
    for value in values:
        plateau.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    assert expected == [1e-3, 5e-4, 5e-4, 2.5e-4]
    assert [float(row["lr"]) for row in rows(whole) if row["val/mAP"]] == pytest.approx(expected)
    given = ["run", *arguments(clips, folder / "cut", "baseline_cnn", *VALIDATED, *PLATEAU)]
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, "training", 2 * STEPS + 3)
        main(given)
    assert main(given) == 0
    found = planned(clips, folder / "cut", "baseline_cnn", *VALIDATED, *PLATEAU)[STAGE]
    assert equal(weights(found), weights(whole))


# ---- over restarts


class Cut(Exception):
    """As a kill: nothing is saved any more."""


def cut(monkeypatch: pytest.MonkeyPatch, where: str, count: int) -> None:
    """Stops the work of the name at its n-th time."""
    owner, name = (of_the_run, "gathered") if where == "validating" else (Train, "training_step")
    whole, times = getattr(owner, name), iter(range(1, 1 << 30))

    def stopping(*given: Any) -> Any:
        if next(times) == count:
            raise Cut
        return whole(*given)

    monkeypatch.setattr(owner, name, stopping)


@pytest.mark.parametrize(("where", "count"), [("training", 6), pytest.param("validating", 2, marks=pytest.mark.slow)])
def test_cut_off_it_goes_on_to_the_same_weights_the_same_epoch_and_the_same_curves(
    clips: Path, best, folder, monkeypatch, where: str, count: int
):
    given = ["run", *arguments(clips, folder, "baseline_cnn", *VALIDATED)]
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut(patch, where, count)
        main(given)
    assert main(given) == 0
    found, whole = planned(clips, folder, "baseline_cnn", *VALIDATED)[STAGE], best[STAGE]
    assert equal(weights(found), weights(whole)) and validation(found) == validation(whole)
    assert (found.folder / "metrics.csv").read_text() == (whole.folder / "metrics.csv").read_text()
    assert points(found, "val/mAP") == points(whole, "val/mAP")
    assert points(found, "loss/loss") == points(whole, "loss/loss")


def test_a_training_that_had_ended_early_when_it_was_cut_off_does_not_go_on(clips: Path, folder, monkeypatch):
    """With a checkpoint of its very last step, from which the end is to be seen."""
    script(monkeypatch, [0.3, 0.2, 0.9, 0.9])
    settings = [*VALIDATED, f"stages.{STAGE}.validation.patience=1", f"trainer.checkpoint_every={STEPS}"]
    given = ["run", *arguments(clips, folder, "baseline_cnn", *settings)]
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(Validation, "on_train_end", lambda *_: (_ for _ in ()).throw(Cut()))
        main(given)
    assert main(given) == 0
    found = planned(clips, folder, "baseline_cnn", *settings)[STAGE]
    assert (validation(found)["epoch"], validation(found)["epochs"]) == (1, 2)
    assert rows(found)[-1]["step"] == str(2 * STEPS)


# ---- what is refused where it is planned or run


def test_nothing_is_scored_on_what_a_stage_before_it_chose_by(clips: Path, folder, capsys):
    child = f"stages.child={{after: {STAGE}, {AGAIN.replace('board: fsd50k', 'board: fsd50k-val')}}}"
    text = user_error(capsys, *arguments(clips, folder, "baseline_cnn", *VALIDATED, child, "stage=child"))
    assert "stage child is scored on 13 clips that are (" in text and f"stages.{STAGE}.validation" in text


def test_a_split_of_which_too_little_is_there_is_refused(tmp_path, capsys, make_sample: SampleMaker):
    root = tmp_path / "data"
    make_sample(root, ["fsd50k"], counts=COUNTS)
    dev = pd.read_csv(next(root.rglob("dev.csv")))
    for name in dev[dev["split"] == "val"]["fname"][:4]:
        next(root.rglob(f"{name}.wav")).unlink()
    text = user_error(capsys, *arguments(root, tmp_path, "baseline_cnn", *VALIDATED))
    assert "only 9 of the 13 official clips of fsd50k val can be used" in text and "data.min_coverage" in text
    found = planned(root, tmp_path, "baseline_cnn", *VALIDATED, "data.min_coverage=0")[STAGE]
    assert found.validated is not None and found.validated.coverage == pytest.approx(9 / 13)


def test_a_metric_that_is_no_number_is_an_error_that_names_it(clips: Path, folder):
    settings = [*VALIDATED, f"stages.{STAGE}.validation.metric=AUC"]
    found = planned(clips, folder, "baseline_cnn", *settings)[STAGE]
    one = Predictions(["a"], np.array([[1.0, 0.0]]), {"a": np.array([[0.2, 0.1]])})
    with pytest.raises(
        UserError, match=f"AUC of 1 clips of fsd50k val is nan after epoch 3.*stages.{STAGE}.validation"
    ):
        Validation(found, None, lambda _: None, Cost())._measured(one, 3)


# ---- what it is part of


def test_it_is_part_of_the_identity_where_it_is_set(clips: Path, folder):
    def identity(*settings: str) -> tuple[str, str]:
        found = planned(clips, folder, "baseline_cnn", *SMALL, *settings)[STAGE]
        return found.identity, found.recipe

    own = f"stages.{STAGE}.validation"
    without, usual = identity(), identity(f"{own}.split=val")
    assert identity(f"{own}.split=null", f"{own}.every=1") == without != usual
    assert identity(f"{own}.split=val", f"{own}.keep=best", f"{own}.patience=0") == usual
    others = [identity(f"{own}.split=val", f"{own}.{x}") for x in ("every=2", "keep=last", "metric=AUC", "patience=3")]
    assert len({without, usual, *others}) == 6 and len({recipe for _, recipe in (without, usual, *others)}) == 6


def test_the_folds_of_one_experiment_have_one_recipe_though_each_validates_clips_of_its_own():
    one, other = ({"clips": {"train": "a", "scored": "b", "validated": fold}} for fold in ("c", "d"))
    assert recipe(one, None, {}, any_fold=True) == recipe(other, None, {}, any_fold=True)
    assert recipe(one, None, {}, any_fold=False) != recipe(other, None, {}, any_fold=False)


def test_the_plan_shows_it(clips: Path, folder, capsys, monkeypatch):
    monkeypatch.setattr(show.console, "width", 400)
    assert main(["plan", *arguments(clips, folder, "baseline_cnn", *VALIDATED)]) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("validated on", "val, best mAP", "13 of 13 (100.0%)"))
