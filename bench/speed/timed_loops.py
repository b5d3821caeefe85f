"""A stage's training, timed in turns: in the harness, and in plain loops."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, Protocol, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from bench.config.schema import TrainerConfig
from bench.plan.graph import PlannedStage
from bench.run.blocks import prepare_blocks
from bench.run.callbacks import Cost, StageProgress
from bench.run.compat import callbacks_of
from bench.run.trainer import make_trainer
from bench.speed.flops import synchronise
from bench.speed.plain_loop import LoopSettings, hand_written_attention, plain_loop
from bench.speed.ranking import clocks
from datamodules.base import AVDataModule, features_of
from datamodules.loading.loader import Loader
from datamodules.types import RawBatch
from experiments.common.stage import Stage

HARNESS = "harness"
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
    settings: LoopSettings
    steps: int
    """Of one turn."""
    rounds: int
    """In each of which every loop has its turn."""

    @property
    def last(self) -> int:
        """Steps in all, with those to warm up."""
        return WARM_UP + self.rounds * self.steps

    @property
    def batches(self) -> int:
        """That are read for them."""
        return self.last * self.settings.parts


Loop = Iterator[Tensor]
"""Trains a step when the next item is asked for, which is the last part's share of the loss."""


class Source(Protocol):
    """Batches, and for how many seconds they were waited for."""

    @property
    def waited(self) -> float: ...

    def __iter__(self) -> Iterator[RawBatch]: ...


class Turns(Callback):
    """Times the harness's turns, and lets other loops have theirs in between.

    They follow each other so closely that whatever else the machine does slows all of them down alike. The device is
    waited for at the ends of a turn, and at no other time.

    Args:
        timed: how long.
        others: name -> loop.
    """

    def __init__(self, timed: Timed, others: Mapping[str, Loop]):
        self.timed, self.others = timed, others
        self.losses: list[Tensor] = []
        """Of the harness, a step each."""
        self.seconds: dict[str, list[NDArray]] = {name: [] for name in (HARNESS, *others)}
        """Loop -> [3] of each turn: by the wall clock, of the processor, and waited for the harness's data."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._loader: Any = trainer.train_dataloader
        self._began = self._now()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        step = trainer.global_step
        if step == len(self.losses):
            return  # only a part of a step
        self.losses.append(outputs["loss"])
        if step == WARM_UP:
            for loop in self.others.values():
                deque(islice(loop, WARM_UP), maxlen=0)
            self._began = self._now()
        elif step > WARM_UP and (step - WARM_UP) % self.timed.steps == 0:
            self._end_turn(HARNESS)
            for name, loop in self.others.items():
                deque(islice(loop, self.timed.steps), maxlen=0)
                self._end_turn(name)

    def _end_turn(self, name: str) -> None:
        """Keeps the seconds of the turn of this loop that has just ended."""
        now = self._now()
        self.seconds[name].append(now - self._began)
        self._began = now

    def _now(self) -> NDArray:
        synchronise(self.timed.settings.device)
        return np.append(clocks(), self._loader.waited)


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
            extracted=stage.extracted_in,
            labels=stage.labelled_in,
            mixture=stage.mixture,
        )
        self.serve = serve

    def train_dataloader(self) -> Source:  # type: ignore[override]  # Lightning asks for no more than to iterate
        return self.serve(super().train_dataloader())


def read(timed: Timed, module: Stage) -> tuple[Turns, list[RawBatch]]:
    """The harness with the stage's own loader; the batches that were kept of it."""
    kept: list[RawBatch] = []
    turns = Turns(timed, {})
    harness(timed, module, lambda loader: First(loader, timed.batches, kept), turns)
    return turns, kept


def held(timed: Timed, module: Stage, kept: list[RawBatch], others: Mapping[str, Loop]) -> Turns:
    """The harness with batches that were read before, in turns with other loops."""
    batches, turns = repeated(kept, timed.batches), Turns(timed, others)
    harness(timed, module, lambda _: Loader(cast(Dataset, batches), batch_size=None, collate_fn=lambda raw: raw), turns)
    return turns


def harness(timed: Timed, module: Stage, serve: Callable[[Loader], Source], turns: Turns) -> None:
    """Trains the module as `bench run` does."""
    stage = timed.stage
    prepare_blocks(module, timed.trainer, stage.name)
    steps_alone = replace(stage, validated=None)
    trainer = make_trainer(timed.trainer, steps_alone, timed.settings.seed, stage.name, Cost())
    progress = StageProgress(f"{stage.name}: {HARNESS}", timed.last)
    callbacks = callbacks_of(trainer)
    callbacks[:] = [*(progress if isinstance(each, StageProgress) else each for each in callbacks), turns]
    trainer.fit(module, datamodule=Served(timed, serve))


def plain(timed: Timed, module: Stage, kept: list[RawBatch]) -> Loop:
    """The plain loop, without what the harness switches on for all of the process."""
    prepare_blocks(module, timed.trainer, timed.stage.name)
    features = features_of(timed.stage.config.data, timed.stage.mixture)
    return within(indeterministic, plain_loop(module, features, repeated(kept, timed.batches), timed.settings))


def by_hand(timed: Timed, module: Stage, kept: list[RawBatch]) -> Loop:
    """The plain loop with every attention written out."""
    return within(hand_written_attention, plain(timed, module, kept))


def within(context: Callable[[], AbstractContextManager[None]], loop: Loop) -> Loop:
    """The loop, each step in a context of its own."""
    while True:
        with context():
            loss = next(loop, None)
        if loss is None:
            return
        yield loss


@contextmanager
def indeterministic() -> Iterator[None]:
    """Within, algorithms may be those that PyTorch takes by default."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
