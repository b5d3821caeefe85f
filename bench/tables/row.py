"""A line of a board: all current records of one configuration."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bench.config.starts import IMAGENET, RANDOM
from bench.records.record import MetricValue, Record
from bench.tables.row_key import RowKey, Setting
from datamodules.boards import FOLDS

LEAST_COVERAGE = 0.85
"""Share of the official clips below which a row has no rank, whatever the run's `data.min_coverage`, which only says
whether it is measured."""


@dataclass
class Row:
    """A line of a board: all current records of one configuration."""

    key: RowKey
    records: tuple[Record, ...]
    """The newest record of each seed and fold, ordered by them."""
    rank: int | None = None
    remarks: tuple[str, ...] = ()
    """What a reader must know before comparing this row with others."""
    differing_settings: tuple[Setting, ...] = ()
    """Those that distinguish it from rows of the same method, variant, preset, stage and modality."""

    @cached_property
    def newest(self) -> Record:
        return max(self.records, key=age)

    @property
    def seeds(self) -> int:
        return len({record.seed for record in self.records})

    @property
    def folds(self) -> int:
        return len({record.fold for record in self.records})

    @property
    def n(self) -> int:
        """Clips scored by one seed, over all of its folds."""
        return min(sum(record.n for record in each) for each in self._by_seed)

    @property
    def fingerprints(self) -> frozenset[str]:
        return frozenset(record.data.fingerprint for record in self.records)

    @property
    def coverage(self) -> float:
        """Share of the official clips that were scored; the least of all seeds. A missing fold's clips were not."""
        return min(sum(map(scored_share, each)) / max(self.official_folds, len(each)) for each in self._by_seed)

    @property
    def official_folds(self) -> int:
        """Those of the board; 1 where it has none."""
        folds = self.newest.protocol.get("folds")
        return folds if isinstance(folds, int) and folds > 0 else 1

    @property
    def shares_clips(self) -> bool:
        """Whether its folds are official splits, whose clips may be the same."""
        return self.official_folds > 1 and self.newest.protocol.get("split") != FOLDS

    @property
    def least_folds(self) -> int:
        """Those of the seed that has fewest."""
        return min(map(len, self._by_seed))

    @cached_property
    def _by_seed(self) -> list[list[Record]]:
        found: dict[int, list[Record]] = {}
        for record in self.records:
            found.setdefault(record.seed, []).append(record)
        return list(found.values())

    @property
    def settings(self) -> tuple[str, ...]:
        """`epochs=2` for each of the `differing_settings`."""
        return tuple(setting.text for setting in self.differing_settings)

    @property
    def stage(self) -> str:
        """The stage's name, and the settings that distinguish the row."""
        return " ".join((self.newest.stage, *self.settings))

    @property
    def enough(self) -> bool:
        """Whether so many of the clips were scored that it has a rank, whatever the run asked for."""
        return self.coverage >= LEAST_COVERAGE

    @property
    def dirty(self) -> bool:
        return any(record.dirty for record in self.records)

    @property
    def pretraining(self) -> str:
        """What the stages before this one were trained on, and checkpoints it came from, each once, in their order.

        The row's own training set is no pretraining, nor is that of the classifiers that a row averages.
        """
        record = self.newest
        last = next((parent.data for parent in reversed(record.parents) if parent.data), "")
        own = ""
        if record.train:
            own = f"{record.train.dataset} {record.train.split}"
        elif "R@1" not in record.metrics and last.startswith(f"{record.data.dataset} "):
            own = last
        start = {IMAGENET: "ImageNet", RANDOM: ""}
        sources = [start.get(p.identity, "init") if p.stage == "init" else p.data for p in record.parents]
        return ", ".join(dict.fromkeys(source for source in sources if source not in ("", own)))

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The metrics that all of the row's records have."""
        first, *others = self.records
        common = [name for name in first.metrics if all(name in record.metrics for record in others)]
        values = {name: {(r.seed, r.fold): r.metrics[name] for r in self.records} for name in common}
        return {name: Cell.of(each, self.shares_clips) for name, each in values.items()}


class Cell(NamedTuple):
    """One metric of a row."""

    value: float
    """The mean over seeds and folds."""
    std: float | None
    """Sample standard deviation over seeds and folds; None for a single record."""
    interval: tuple[float, float]
    """The 95 % interval over clips."""

    @classmethod
    def of(cls, values: Mapping[tuple[int, str], MetricValue], shared: bool = False) -> Cell:
        """Of the values by (seed, fold).

        Folds have clips of their own, so the distances from their values to the ends of their intervals are independent
        errors of the terms of a mean of F: sqrt(sum of squares) / F. Seeds are measured on the same clips, of which the
        easy ones are easy for all: their mean is as uncertain as one of them, by the mean distance.

        Args:
            values: of a metric.
            shared: the folds are official splits, whose clips may be the same: they count as seeds do.
        """
        if len(values) == 1:
            (one,) = values.values()
            return cls(one.value, None, (one.low, one.high))
        numbers = [value.value for value in values.values()]
        by_seed: dict[int, list[MetricValue]] = {}
        for place, ((seed, _), value) in enumerate(values.items()):
            by_seed.setdefault(place if shared else seed, []).append(value)
        down, up = (
            statistics.fmean(
                math.hypot(*(getattr(v, end) - v.value for v in folds)) / len(folds) for folds in by_seed.values()
            )
            for end in ("low", "high")
        )
        mean = statistics.fmean(numbers)
        return cls(mean, statistics.stdev(numbers), (mean - down, mean + up))


def scored_share(record: Record) -> float:
    """Share of the split's official clips that the record's numbers are of."""
    lost = record.notes.get("unreadable_while_scoring", 0)
    return max(record.data.used - (lost if isinstance(lost, int) else 0), 0) / max(record.data.official, 1)


def age(record: Record) -> tuple[object, str]:
    """A key that sorts records from old to new."""
    return record.created, record.id
