"""A stage's training, timed between the ends of two steps: in the harness, and in a plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from bench.blocks import prepare_blocks
from bench.callbacks import Cost, StageProgress
from bench.config import TrainerConfig
from bench.flops import synchronise
from bench.plain_loop import Settings, plain_loop
from bench.plan import FEATURES, PlannedStage
from bench.speed_eval import clocks
from bench.trainer import make_trainer
from datamodules.base import AVDataModule, Features, Loader
from datamodules.types import RawBatch
from experiments.common.stage import Stage

WARM_UP = 3
"""Steps that are not timed: the first ones allocate memory, choose kernels and compile."""
HELD = 4
"""Batches that are read and then used again and again, so that the loops are compared without the reading."""


@dataclass(frozen=True)
class Timed:
    """What is timed, and how long."""

    trainer: TrainerConfig
    stage: PlannedStage
    """Its folder gets what a training writes."""
    settings: Settings
    steps: int
    """Without those to warm up."""

    @property
    def last(self) -> int:
        """Steps in all."""
        return WARM_UP + self.steps

    @property
    def batches(self) -> int:
        """That are read for them."""
        return self.last * self.settings.parts


class Source(Protocol):
    """Batches, and for how many seconds they were waited for."""

    waited: float

    def __iter__(self) -> Iterator[RawBatch]: ...


class Clock:
    """Called at each step's end. It waits for the device at the two ends that count, and at no other."""

    def __init__(self, timed: Timed):
        self.timed = timed
        self.waited: Callable[[], float] = lambda: 0.0
        self.marks: list[NDArray] = []
        self.losses: list[Tensor] = []

    def __call__(self, step: int, loss: Tensor) -> None:
        self.losses.append(loss)
        if step in (WARM_UP, self.timed.last):
            synchronise(self.timed.settings.device)
            self.marks.append(np.append(clocks(), self.waited()))

    @property
    def seconds(self) -> NDArray:
        """[3] of the timed steps: by the wall clock, of the processor, and waited for data."""
        return self.marks[1] - self.marks[0]


class Ended(Callback):
    """Tells the clock of a step's end, after all that the harness does in it."""

    def __init__(self, clock: Clock):
        self.clock, self._step = clock, 0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self.clock(self._step, outputs["loss"])


class First:
    """The first batches of a loader, of which it keeps some."""

    def __init__(self, loader: Loader, count: int, kept: list[RawBatch]):
        self.loader, self.count, self.kept = loader, count, kept

    @property
    def waited(self) -> float:
        return self.loader.waited

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[RawBatch]:
        for raw in islice(self.loader, self.count):
            if raw is not None and len(self.kept) < HELD:
                self.kept.append(RawBatch(**raw))
            yield raw


def repeated(kept: list[RawBatch], count: int) -> list[RawBatch]:
    """The batches again and again; the features of one may not change another."""
    return [RawBatch(**raw) for raw in islice(cycle(kept), count)]


class Served(AVDataModule):
    """A stage's data of which `serve` makes something else: of its loader, what is read of it."""

    def __init__(self, timed: Timed, serve: Callable[[Loader], Source]):
        stage = timed.stage
        super().__init__(
            stage.train,
            None,
            stage.config.data,
            batch_size=stage.config.batch_size,
            epochs=math.ceil(timed.last / stage.spec.steps_per_epoch),
            seed=stage.spec.seed,
            extracted={modality: other.folder / FEATURES for modality, other in stage.features.items()},
        )
        self.serve = serve

    def train_dataloader(self) -> Source:
        return self.serve(super().train_dataloader())


def read(timed: Timed, module: Stage) -> tuple[Clock, list[RawBatch]]:
    """The harness with the stage's own loader; the batches that were kept of it."""
    kept: list[RawBatch] = []
    return harness(timed, module, lambda loader: First(loader, timed.batches, kept)), kept


def held(timed: Timed, module: Stage, kept: list[RawBatch]) -> Clock:
    """The harness with batches that were read before."""
    batches = repeated(kept, timed.batches)
    return harness(timed, module, lambda _: Loader(batches, batch_size=None, collate_fn=lambda raw: raw))


def harness(timed: Timed, module: Stage, serve: Callable[[Loader], Source]) -> Clock:
    """Trains the module as `bench run` does."""
    clock, stage = Clock(timed), timed.stage
    prepare_blocks(module, timed.trainer, stage.name)
    trainer = make_trainer(timed.trainer, stage, timed.settings.seed, stage.name, Cost())
    progress = StageProgress(f"{stage.name}: harness", timed.last)
    trainer.callbacks = [progress if isinstance(each, StageProgress) else each for each in trainer.callbacks]
    trainer.callbacks.append(Ended(clock))
    clock.waited = lambda: trainer.train_dataloader.waited
    trainer.fit(module, datamodule=Served(timed, serve))
    return clock


def plain(timed: Timed, module: Stage, kept: list[RawBatch]) -> Clock:
    """Trains the module in the plain loop, without what the harness switches on for all of the process."""
    clock = Clock(timed)
    prepare_blocks(module, timed.trainer, timed.stage.name)
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        data = timed.stage.config.data
        plain_loop(module, Features(data.inputs, data.augment), repeated(kept, timed.batches), timed.settings, clock)
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    return clock
