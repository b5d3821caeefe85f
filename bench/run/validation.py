"""Validation at the ends of epochs (`stages.<stage>.validation`): curves, the best epoch's weights, an early end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from bench.errors import UserError
from bench.plan.chosen_by import better_of_validation, metric_of_validation, task_of_validation
from bench.plan.graph import PlannedStage
from bench.run.callbacks import Cost
from bench.run.ema import Ema
from bench.run.first_process import buffers_of_the_first
from bench.run.gathered import Collect, gathered
from bench.tasks import Predictions, Task
from datamodules.precision import full_precision
from datamodules.types import Batch, Outputs
from experiments.common.optim import plateau_factor, set_rates

PREFIX = "val/"
"""Of a metric's name in the curves."""


class Validation(Callback):
    """Measures what would be the stage's result if its training ended now, as its board would, on another split.

    Nothing of it reaches the training: neither random numbers nor batch norm's statistics nor the order of the clips.
    Lightning's own validation loop would not do: to it all epochs are one, a checkpoint of an epoch's last step would
    skip that epoch's validation, and DistributedDataParallel's forward waits for ranks that have no batch left.

    Args:
        stage: with clips to validate on.
        ema: the moving mean that takes the weights' place when the training ends, if there is one.
        check: raises where the training's state is not worth measuring.
        cost: counts the time that it takes.
    """

    def __init__(self, stage: PlannedStage, ema: Ema | None, check: Callable[[L.Trainer], None], cost: Cost):
        self.stage, self.ema, self.check, self.cost = stage, ema, check, cost
        self.config = stage.config.validation
        self.metric, self.better = metric_of_validation(stage.config), better_of_validation(stage.config)
        self.seen: list[dict[str, Any]] = []
        """Of each validation: epoch (the first is 1), step, n (clips) and metrics."""
        self.weights: dict[str, Tensor] = {}
        """Of the best epoch, in the processor's memory."""

    @cached_property
    def task(self) -> Task[Any]:
        """By which it is measured."""
        return task_of_validation(self.stage.config)

    @property
    def best(self) -> int:
        """The place of the best validation, the first of equals."""
        values = np.array([each["metrics"][self.metric] for each in self.seen])
        return int(np.argmax(values if self.better == "higher" else -values))

    @property
    def kept(self) -> dict[str, Any]:
        """The validation of the epoch whose weights are the stage's result."""
        return self.seen[self.best if self.config.keep == "best" else -1]

    @property
    def exhausted(self) -> bool:
        """Whether the training ends, as it has not improved for too long."""
        return 0 < self.config.patience < len(self.seen) - self.best if self.seen else False

    def logged(self, step: int) -> dict[str, float]:
        """Name -> value of what was measured after this step; empty if nothing was."""
        found = self.seen[-1]["metrics"] if self.seen and self.seen[-1]["step"] == step else {}
        return {PREFIX + name: value for name, value in found.items()}

    @property
    def outcome(self) -> str:
        """What is reported of it when the training has ended."""
        kept, last = self.kept, self.seen[-1]["epoch"]
        early = f", which ended after {last} of {self.stage.spec.epochs}" if self.exhausted else f" of {last}"
        value = f"{kept['metrics'][self.metric]:.4f}"
        return f"keeps epoch {kept['epoch']}{early}: {self.metric} {value} on {kept['n']} clips of {self.config.split}"

    def summary(self) -> dict[str, Any]:
        """What a record says of it, and all validations."""
        kept = self.kept
        return {
            "metric": self.metric,
            "keep": self.config.keep,
            "epoch": kept["epoch"],
            "value": kept["metrics"][self.metric],
            "n": kept["n"],
            "epochs": self.seen[-1]["epoch"],
            "seen": self.seen,
        }

    # ---- over restarts

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen, self.weights = state["seen"], state["weights"]

    # ---- in training

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._step = trainer.global_step
        trainer.should_stop = self.exhausted  # a checkpoint may have been saved after the last validation
        self._set_rates(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        step, steps = trainer.global_step, self.stage.spec.steps_per_epoch
        # Where a batch comes in parts, the step's number stays while the next one's first parts go through.
        if step == self._step or step % steps:
            return
        self._step, epoch = step, step // steps
        if epoch % self.config.every and epoch < self.stage.spec.epochs:
            return
        self.check(trainer)
        with self.cost.aside():
            self._validate(trainer, module, epoch)
        for logger in trainer.loggers:
            logger.log_metrics(self.logged(step), step - 1)  # Lightning counts the steps of its points from 0
        trainer.should_stop = self.exhausted
        self._set_rates(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.weights:
            module.load_state_dict(self.weights)

    def _set_rates(self, trainer: L.Trainer) -> None:
        """Lowers the learning rate where the schedule is by what was validated."""
        optim = self.stage.config.optim
        if optim.schedule == "plateau":
            values = [each["metrics"][self.metric] for each in self.seen]
            trainer.lightning_module.plateau = plateau_factor(values, self.better, optim)  # type: ignore[assignment]
            for each in trainer.lr_scheduler_configs:
                set_rates(cast(LambdaLR, each.scheduler))

    def _validate(self, trainer: L.Trainer, module: L.LightningModule, epoch: int) -> None:
        """Measures the weights, and keeps them if no earlier ones are as good."""
        with self.ema.in_place() if self.ema else nullcontext(), buffers_of_the_first(module, trainer.world_size):
            n, measured = self._outcome(trainer, module, epoch)
            # The first process decides for all: machines of several kinds may round differently.
            metrics = trainer.strategy.broadcast(measured)
            self.seen.append({"epoch": epoch, "step": trainer.global_step, "n": n, "metrics": metrics})
            if self.config.keep == "best" and self.kept["epoch"] == epoch:
                self.weights = {name: value.cpu().clone() for name, value in module.state_dict().items()}

    def _outcome(self, trainer: L.Trainer, module: L.LightningModule, epoch: int) -> tuple[int, dict[str, float]]:
        """(number of clips, metric -> value), the same on all processes."""
        predictions = self._predictions(trainer, module)
        return len(predictions.clip_id), self._measured(predictions, epoch)

    def _predictions(self, trainer: L.Trainer, module: L.LightningModule) -> Predictions:
        """The outputs for every clip, of all processes, in the manifest's order."""
        validated, stage_class = self.stage.validated, self.stage.stage_class
        assert validated is not None and stage_class is not None
        collected = Collect(self.task)
        with evaluating(trainer, module):
            for place, batch in batches(trainer):
                collected.add(cast(Outputs, module.test_step(batch, place)), batch)
        found = gathered(collected, validated.table["clip_id"], trainer.world_size)
        return self.task.described(found, validated, stage_class.similarity)

    def _measured(self, predictions: Predictions, epoch: int) -> dict[str, float]:
        """Metric -> value, as on the stage's board.

        Raises:
            UserError: what decides is not a number.
        """
        modality = self.stage.config.modality
        statistic = self.task.statistic(modality, self.task.checked(modality, predictions))
        values = statistic.measure(np.ones((len(statistic.units), 1), np.float32))
        found = {name: float(value_1[0]) for name, value_1 in values.items()}
        self.require_finite(found, len(predictions.clip_id), epoch)
        return found

    def require_finite(self, found: dict[str, float], clips: int, epoch: int) -> None:
        """Raises UserError: what decides is not a number."""
        if not np.isfinite(found[self.metric]):
            raise UserError(
                f"{self.metric} of {clips} clips of {self.stage.config.dataset} {self.config.split} is "
                f"{found[self.metric]} after epoch {epoch}, so that no epoch can be chosen by it; name another metric "
                f"or split in stages.{self.stage.name}.validation"
            )


def batches(trainer: L.Trainer) -> Iterator[tuple[int, Batch]]:
    """(place, batch) of the clips that are validated, those of this process."""
    loader = trainer.datamodule.validation_loader()  # type: ignore[attr-defined]
    for place, batch in enumerate(loader):
        yield place, trainer.strategy.batch_to_device(batch)


@contextmanager
def evaluating(trainer: L.Trainer, module: L.LightningModule) -> Iterator[None]:
    """Within, the module evaluates in float32, as it is measured; its training does not notice."""
    modes = {part: part.training for part in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    module.eval()
    trainer.validating = True
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), full_precision(module.device):
            yield
    finally:
        trainer.training = True
        for part, mode in modes.items():
            part.training = mode
