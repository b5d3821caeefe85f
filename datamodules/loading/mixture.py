"""A training on several datasets: which clips of which of them a step reads, a pure function of (seed, epoch, step).

How many clips of each part a step has is a table, made once (`Mixture.counts`). Of each part they follow one another
as if it were trained on alone: its epochs, each in an order of its own, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from datamodules.keyed import stable_hash
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import ClipRef, Epoch, Order, class_balancing_weights
from datamodules.manifest.build import Manifest, label_arrays
from datamodules.parts import PartSpec, RawParts, Schedule
from datamodules.types import DataConfig, LoaderConfig


@dataclass(frozen=True)
class Part:
    """A dataset of a mixture."""

    spec: PartSpec
    manifest: Manifest
    """The clips to train on."""
    config: DataConfig
    weight: float
    """Of clips, or of steps, in relation to the other parts'."""

    @property
    def unit(self) -> int:
        """Clips that must stay together: those of a row."""
        return self.manifest.clips_a_row(self.config.narration)

    @property
    def rows(self) -> int:
        """Of an epoch of it."""
        return self.config.loader.draws(len(self.manifest))

    def seed(self, seed: int) -> int:
        """Of its order and augmentation: a dataset that is two parts is not seen alike in both."""
        return stable_hash("part", seed, self.spec.name)


@dataclass(frozen=True)
class Mixture:
    """Several datasets that a stage trains on, the stage's own first."""

    parts: tuple[Part, ...]
    schedule: Schedule
    batch_size: int
    """Clips of a step, where it has clips of all parts."""
    steps: int
    """Optimiser steps of an epoch."""

    @property
    def mixes(self) -> bool:
        """Whether a batch has clips of all parts, and is not of one alone."""
        return self.schedule == "shares"

    def counts(self, epochs: int, seed: int) -> np.ndarray:
        """[epochs * steps, parts] int64: rows of each part in each optimiser step, over all ranks."""
        weights = [part.weight for part in self.parts]
        units = np.array([part.unit for part in self.parts])
        if self.mixes:
            return shares(weights, self.batch_size, epochs * self.steps) // units
        chosen = scheduled(self.schedule, weights, self.steps, epochs, seed)
        sizes = np.array([part.spec.batch_size for part in self.parts]) // units
        return np.eye(len(self.parts), dtype=np.int64)[chosen] * sizes


def evenly(weights: Sequence[float], count: int) -> np.ndarray:
    """[count] which part each of `count` places is of, so that of the first n places, whatever n, each part has about
    its share, and exactly that where those of all parts are whole numbers: Sainte-Lague's method, by which a part's
    i-th place, from 0, comes at `(i + 1/2) / weight`; of equal ones, that of the first part."""
    total = sum(weights)
    most = [int(count * weight / total) + 2 for weight in weights]
    parts = np.repeat(np.arange(len(weights)), most)
    times = np.concatenate([(np.arange(n) + 0.5) / weight for n, weight in zip(most, weights, strict=True)])
    return parts[np.lexsort((parts, times))][:count]


def quotas(weights: Sequence[float], count: int) -> list[Fraction]:
    """`count` by weights."""
    exact = [Fraction(repr(float(weight))) for weight in weights]
    return [count * weight / sum(exact) for weight in exact]


def shares(weights: Sequence[float], batch_size: int, steps: int) -> np.ndarray:
    """[steps, parts] int64: clips of each part in each step. Those that no part has wholly in each step go over the
    steps by what the parts lack."""
    wanted = quotas(weights, batch_size)
    whole = np.array([int(quota) for quota in wanted])
    counts = np.tile(whole, (steps, 1))
    if rest := batch_size - whole.sum():
        lacking = [part for part, quota in enumerate(wanted) if quota % 1]
        places = np.array(lacking)[evenly([float(wanted[part] % 1) for part in lacking], steps * rest)]
        np.add.at(counts, (np.repeat(np.arange(steps), rest), places), 1)
    return counts


def scheduled(schedule: Schedule, weights: Sequence[float], steps: int, epochs: int, seed: int) -> np.ndarray:
    """[epochs * steps] which part each step is of, see `Schedule`."""
    by_weight = schedule in ("weighted", "task_by_task")
    order = evenly(weights if by_weight else [1.0] * len(weights), epochs * steps)
    if schedule == "task_by_task":
        return np.sort(order, kind="stable")
    if schedule == "alternating":
        return order
    for epoch in range(epochs):
        shuffled = np.random.default_rng([abs(stable_hash("schedule", seed)), epoch])
        shuffled.shuffle(order[epoch * steps : (epoch + 1) * steps])
    return order


class PartRef(NamedTuple):
    """A clip of one of the parts."""

    part: int
    clip: ClipRef


class MixtureSampler(Sampler[list[PartRef]]):
    """A batch sampler over all epochs of a stage.

    Args:
        orders: of each part's clips.
        counts: [steps, parts] rows of each part in each step over all ranks, each a multiple of `ranks`.
        rank, ranks: this process, and how many there are.
        start: steps that an earlier, cut-off run has done.
    """

    def __init__(self, orders: Sequence[Order], counts: np.ndarray, *, rank: int = 0, ranks: int = 1, start: int = 0):
        if uneven := counts[counts % ranks != 0].tolist():
            raise ValueError(f"{uneven[0]} clips of a part do not divide over {ranks} processes")
        self.orders, self.counts = orders, counts
        self.rank, self.ranks, self.start = rank, ranks, start

    def __len__(self) -> int:
        """Steps of all epochs, those before `start` included."""
        return len(self.counts)

    def __iter__(self) -> Iterator[list[PartRef]]:
        parts = [Passes(order) for order in self.orders]
        before = self.counts[: self.start].sum(axis=0)
        for counts in self.counts[self.start :]:
            mine = counts // self.ranks
            firsts = before + self.rank * mine
            yield [
                PartRef(part, clip)
                for part, passes in enumerate(parts)
                for clip in passes.clips(int(firsts[part]), int(mine[part]))
            ]
            before = before + counts


class Passes:
    """A part's epochs one after the other."""

    def __init__(self, order: Order):
        self.order = order
        self._epoch: Epoch | None = None

    def clips(self, first: int, count: int) -> Iterator[ClipRef]:
        """The clips at the places from `first` on, counted from the beginning of the training."""
        while count:
            number, place = divmod(first, len(self.order))
            if self._epoch is None or self._epoch.number != number:
                self._epoch = self.order.of(number)
            found = self._epoch.clips(place, place + count)
            yield from found
            first, count = first + len(found), count - len(found)


class MixedClips(Dataset):
    """Reads and decodes the clips of several parts; an item is a part and what `ClipDataset` has of it."""

    def __init__(self, parts: Sequence[ClipDataset]):
        self.parts = parts

    def __getitem__(self, ref: PartRef) -> tuple[int, list[dict[str, Any]]]:
        return ref.part, self.parts[ref.part][ref.clip]


def collate_parts(items: Sequence[tuple[int, list[dict[str, Any]]]]) -> RawParts:
    """A batch of each part that the items are of."""
    each = {part: collate([clips for of, clips in items if of == part]) for part in sorted({of for of, _ in items})}
    return RawParts(parts={part: batch for part, batch in each.items() if batch is not None})


def order_of(manifest: Manifest, loader: LoaderConfig, seed: int) -> Order:
    """In which a training goes through a manifest's rows."""
    weights = None
    if loader.weighted_draws:
        weights = class_balancing_weights(*label_arrays(manifest.table["labels"]), len(manifest.classes))
    return Order(len(manifest), seed, weights, loader.draws(len(manifest)), loader.weighted_replacement)
