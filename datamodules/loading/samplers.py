"""Which clips a rank reads, in which order: a pure function of (seed, epoch, rank), so that it can go on anywhere.

A training batch is the same set of clips for any number of ranks: global batch k of an epoch is a stretch of the
epoch's order, and each rank reads its share of it. Evaluation gives each clip to exactly one rank, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from datamodules.keyed import stable_hash


class ClipRef(NamedTuple):
    """Row `index` of the manifest, as it is to be seen in `epoch` (-1: in evaluation, without randomness)."""

    index: int  # type: ignore[assignment]  # a tuple has a method `index`, which nobody calls here
    epoch: int
    view: int = 0
    """In evaluation: which of the clip's views. In training: how often the epoch has drawn the clip before."""
    key: int = 0
    """The source of its randomness, of a clip that is read beside another; 0 = see `ClipDataset.key`."""


EVALUATION = -1


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """[count] all clips, each once, shuffled by (seed, epoch)."""
    return np.random.default_rng([abs(stable_hash("order", seed)), epoch]).permutation(count)


def weighted_epoch_order(weights: np.ndarray, draws: int, seed: int, epoch: int) -> np.ndarray:
    """[draws] clips drawn without replacement with probabilities proportional to their weights.

    By exponential races (Efraimidis and Spirakis 2006): the clips with the smallest `Exp(1) / weight`, in that order.
    """
    race = np.random.default_rng([abs(stable_hash("weighted order", seed)), epoch]).exponential(size=len(weights))
    return np.argsort(race / weights, kind="stable")[:draws]


def weighted_epoch_draws(weights: np.ndarray, draws: int, seed: int, epoch: int) -> np.ndarray:
    """[draws] clips drawn with replacement with probabilities proportional to their weights."""
    rng = np.random.default_rng([abs(stable_hash("weighted draws", seed)), epoch])
    return rng.choice(len(weights), draws, p=weights / weights.sum())


def times_before(order: np.ndarray) -> np.ndarray:
    """How often each entry's clip came before it: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    by_clip = np.argsort(order, kind="stable")
    clips = order[by_clip]
    before = np.empty_like(order)
    before[by_clip] = np.arange(len(order)) - np.searchsorted(clips, clips)
    return before


def class_balancing_weights(counts: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """[clips] the sum over a clip's classes of 1 / (clips of that class), as PSLA, AST and AudioMAE weight AudioSet.

    They take 1 / (clips + 0.01), which differs by 1% for a class of one clip and by less for others.

    Args:
        counts: [clips] labels of each clip.
        labels: [sum of counts] the labels of all clips, one after the other.
        num_classes: how many classes there are.
    """
    rows = np.repeat(np.arange(len(counts)), counts)
    per_class = np.bincount(labels, minlength=num_classes)
    return np.bincount(rows, weights=1.0 / per_class[labels], minlength=len(counts))


@dataclass(frozen=True)
class Order:
    """In which order a training goes through clips, epoch by epoch.

    Args:
        count: clips in the manifest.
        seed: of the order.
        weights: [count] for weighted drawing; None = each clip once an epoch.
        draws: clips an epoch when weighted.
        replacement: a weighted epoch may draw a clip again; its k-th repetition is view k.
    """

    count: int
    seed: int = 0
    weights: np.ndarray | None = None
    draws: int = 0
    replacement: bool = False

    def __len__(self) -> int:
        """Clips of an epoch."""
        if self.weights is None:
            return self.count
        return self.draws if self.replacement else min(self.draws, self.count)

    def of(self, epoch: int) -> Epoch:
        if self.weights is None:
            order = epoch_order(self.count, self.seed, epoch)
        else:
            draw = weighted_epoch_draws if self.replacement else weighted_epoch_order
            order = draw(self.weights, self.draws, self.seed, epoch)
        return Epoch(epoch, order, times_before(order))


class Epoch(NamedTuple):
    """The clips of an epoch in their order."""

    number: int
    order: np.ndarray
    views: np.ndarray
    """How often the epoch has drawn each before."""

    def clips(self, first: int, stop: int) -> list[ClipRef]:
        """Those from `first` to before `stop`."""
        places = slice(first, stop)
        return [
            ClipRef(int(i), self.number, int(k)) for i, k in zip(self.order[places], self.views[places], strict=True)
        ]


class TrainSampler(Sampler[list[ClipRef]]):
    """A batch sampler over all epochs of a stage; the last, incomplete global batch of an epoch is left out.

    Args:
        count: clips in the manifest.
        epochs: passes over the data.
        global_batch: clips of one step over all ranks.
        rank, ranks: this process, and how many there are; `global_batch` must be a multiple of `ranks`.
        seed: of the order.
        start: global batches that an earlier, cut-off run has done.
        weights: [count] for weighted drawing; None = each clip once an epoch.
        draws: clips an epoch when weighted.
        replacement: a weighted epoch may draw a clip again; its k-th repetition is view k.
    """

    def __init__(
        self,
        count: int,
        epochs: int,
        global_batch: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        seed: int = 0,
        start: int = 0,
        weights: np.ndarray | None = None,
        draws: int = 0,
        replacement: bool = False,
    ):
        if global_batch % ranks:
            raise ValueError(f"a batch of {global_batch} clips does not divide over {ranks} processes")
        self.order = Order(count, seed, weights, draws, replacement)
        self.epochs, self.global_batch = epochs, global_batch
        self.rank, self.ranks, self.start = rank, ranks, start

    @property
    def steps_per_epoch(self) -> int:
        return len(self.order) // self.global_batch

    def __len__(self) -> int:
        """Global batches of all epochs, those before `start` included."""
        return self.epochs * self.steps_per_epoch

    def __iter__(self) -> Iterator[list[ClipRef]]:
        share = self.global_batch // self.ranks
        for number in range(self.start // max(self.steps_per_epoch, 1), self.epochs):
            epoch = self.order.of(number)
            first = max(0, self.start - number * self.steps_per_epoch)
            for step in range(first, self.steps_per_epoch):
                at = step * self.global_batch + self.rank * share
                yield epoch.clips(at, at + share)


class WholeEpochsSampler(Sampler[list[ClipRef]]):
    """A batch sampler over all epochs of a stage that is fitted in one go: not a clip is left out, so the last batch of
    an epoch may be smaller, and ranks may have a batch more than others.

    Args:
        order: of the clips.
        epochs: passes over them.
        batch: clips a batch of this rank.
        rank, ranks: this process, and how many there are.
    """

    def __init__(self, order: Order, epochs: int, batch: int, *, rank: int = 0, ranks: int = 1):
        self.order, self.epochs, self.batch = order, epochs, batch
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        own = len(range(self.rank, len(self.order), self.ranks))
        return self.epochs * -(-own // self.batch)

    def __iter__(self) -> Iterator[list[ClipRef]]:
        for number in range(self.epochs):
            clips = self.order.of(number).clips(0, len(self.order))[self.rank :: self.ranks]
            yield from (clips[at : at + self.batch] for at in range(0, len(clips), self.batch))


class EvalSampler(Sampler[list[ClipRef]]):
    """A batch sampler that gives each clip to exactly one rank, without repeating any to even the ranks out.

    Args:
        count: clips in the manifest.
        batch: views a batch of this rank.
        rank, ranks: this process, and how many there are.
        views: how often each clip is looked at.
    """

    def __init__(self, count: int, batch: int, *, rank: int = 0, ranks: int = 1, views: int = 1):
        self.clips = range(rank, count, ranks)
        self.batch, self.views = batch, views

    def __len__(self) -> int:
        return -(-len(self.clips) * self.views // self.batch)

    def __iter__(self) -> Iterator[list[ClipRef]]:
        every = len(self.clips) * self.views
        for at in range(0, every, self.batch):
            places = range(at, min(at + self.batch, every))
            yield [ClipRef(self.clips[i // self.views], EVALUATION, i % self.views) for i in places]
