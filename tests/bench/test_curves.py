"""`metrics.csv` over restarts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.run.callbacks import Curves


def trained(path: Path, steps: range, start: int) -> None:
    """Training that logs each second step, as a Trainer drives it; each batch comes in two parts."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    trainer = SimpleNamespace(
        global_step=start,
        is_global_zero=True,
        estimated_stepping_batches=5,
        log_every_n_steps=2,
        optimizers=[optimizer],
        loggers=[],
    )
    curves = Curves(path)
    curves.on_train_start(trainer, None)
    for step in steps:
        trainer.callback_metrics = {"loss/loss": torch.tensor(float(step))}
        curves.on_train_batch_end(trainer)  # the first part: the step is not done
        trainer.global_step = step
        curves.on_train_batch_end(trainer)


WHOLE = "step,lr,loss/loss\n2,0.5,2\n4,0.5,4\n5,0.5,5\n"


@pytest.mark.parametrize("half", ["", "4,0.5", "4,0.", "4"])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_restart_leaves_the_rows_of_an_undisturbed_training(tmp_path: Path, start: int, half: str):
    path = tmp_path / "metrics.csv"
    trained(path, range(1, 6), 0)
    assert path.read_text() == WHOLE
    path.unlink()
    trained(path, range(1, 4), 0)
    with path.open("a") as file:  # killed while it wrote
        file.write(half)
    trained(path, range(start + 1, 6), start)
    assert path.read_text() == WHOLE


def test_what_is_measured_has_rows_of_its_own_and_a_restart_repeats_none(tmp_path: Path):
    """Also where it is measured before anything is logged, whose columns come later."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.5}])
    trainer = SimpleNamespace(
        global_step=0, is_global_zero=True, estimated_stepping_batches=5, log_every_n_steps=4, optimizers=[optimizer],
        loggers=[], callback_metrics={"loss/loss": torch.tensor(7.0)},
    )  # fmt: skip

    def train(steps: range) -> None:
        curves = Curves(tmp_path / "metrics.csv", lambda step: {} if step % 3 else {"val/mAP": step / 10})
        curves.on_train_start(trainer, None)
        for trainer.global_step in steps:
            curves.on_train_batch_end(trainer)

    train(range(1, 6))
    trainer.global_step = 3  # cut off there, with all that came later
    train(range(4, 6))
    whole = "step,lr,val/mAP,loss/loss\n3,0.5,0.3,\n4,0.5,,7\n5,0.5,,7\n"
    assert (tmp_path / "metrics.csv").read_text() == whole
