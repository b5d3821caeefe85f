"""Which other clips are read beside a clip, see `RowsConfig`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from datamodules.errors import DataError
from datamodules.keyed import stable_hash
from datamodules.streams.known import TAKEN
from datamodules.table import SharedTable
from datamodules.types import RowsConfig

TRIES = 100
"""Clips that are drawn from all, until those that fit the rule are looked for one by one."""


def check_rows(rows: Mapping[str, RowsConfig]) -> None:
    """Checks which other clips are said to be read.

    Raises:
        DataError: naming the setting.
    """
    for name, config in rows.items():
        where = f"data.inputs.rows.{name}"
        if not name.isidentifier() or name in TAKEN:
            raise DataError(f"{where}: no rows can be called {name!r}; choose another name, of letters, digits and _")
        if config.count < 1:
            raise DataError(f"{where}.count={config.count}: there is 1 clip or more")
        if config.which == "neighbour" and config.step == 0:
            raise DataError(f"{where}.step=0: that is the clip itself; 1 is the next one, -1 the one before")
        if config.which == "fixed" and config.share != 1:
            raise DataError(f"{where}.share={config.share:g}: in whose places a clip itself stands is drawn, not fixed")
        if not 0 <= config.share <= 1:
            raise DataError(f"{where}.share={config.share:g}: a share is from 0 to 1")


class Companions:
    """The clips that stand beside those of a manifest under one name. Who they are depends on the clip's key alone.

    Args:
        name: of the rows.
        config: the rule.
        table: of the manifest.
    """

    def __init__(self, name: str, config: RowsConfig, table: pd.DataFrame):
        self.name, self.config = name, config
        video = pd.factorize(table["video_id"])[0]
        order = np.lexsort((table["start"].to_numpy(), video))
        if config.which == "fixed":
            order = np.argsort([stable_hash("fixed", clip_id) for clip_id in table["clip_id"]])
        columns = {"video": video, "order": order, "place": np.argsort(order), "labels": table["labels"]}
        self._table = SharedTable(pd.DataFrame(columns))

    def of(self, row: int, key: int) -> Iterator[tuple[int, Iterator[int]]]:
        """For each place of `count`: (the key of the clip there, the rows that may stand there, best first). No row
        may, where none fits the rule. Where the clip itself stands there, it has its own key, so that its streams lie
        at the same time.

        Args:
            row: of the clip.
            key: of the clip.
        """
        others = np.random.default_rng(abs(stable_hash("rows", self.name, key))).random() < self.config.share
        for place in range(self.config.count):
            theirs = stable_hash("row", self.name, place, key)
            yield (theirs, self._candidates(row, place, theirs)) if others else (key, iter([row]))

    def _candidates(self, row: int, place: int, key: int) -> Iterator[int]:
        if self.config.which == "fixed":
            return islice(self._following(row), place, None)
        if self.config.which == "neighbour":
            return self._neighbour(row, self.config.step * (place + 1))
        return self._drawn(row, np.random.default_rng(abs(key)))

    def _neighbour(self, row: int, step: int) -> Iterator[int]:
        """The clip so many later in the same video, if there is one."""
        order, video = self._column("order"), self._column("video")
        at = int(self._column("place")[row]) + step
        if 0 <= at < len(order) and video[order[at]] == video[row]:
            yield int(order[at])

    def _following(self, row: int) -> Iterator[int]:
        """Those of other videos in the fixed order, from the clip on, which begins again after its end."""
        order, video = self._column("order"), self._column("video")
        for other in np.roll(order, -int(self._column("place")[row])):
            if video[other] != video[row]:
                yield int(other)

    def _drawn(self, row: int, drawn: np.random.Generator) -> Iterator[int]:
        """Clips that fit the rule, uniformly."""
        if self.config.which != "same_video":
            yield from (int(other) for other in drawn.integers(len(self._table), size=TRIES) if self._fits(row, other))
        yield from drawn.permutation(self._fitting(row)).tolist()

    def _fits(self, row: int, other: int) -> bool:
        if self.config.which == "other_video":
            video = self._column("video")
            return bool(video[other] != video[row])
        common = bool(self._classes(row) & self._classes(other))
        return not common if self.config.which == "other_class" else common and other != row

    def _fitting(self, row: int) -> np.ndarray:
        """All rows that fit the rule."""
        if "video" in self.config.which:
            video, order = self._column("video"), self._column("order")
            first, stop = (np.searchsorted(video[order], video[row], side) for side in ("left", "right"))
            same = order[first:stop]
            return same[same != row] if self.config.which == "same_video" else np.delete(order, np.s_[first:stop])
        labels = self._table["labels"].combine_chunks()
        rows = np.repeat(np.arange(len(self._table)), pc.list_value_length(labels).to_numpy())
        common = np.unique(rows[np.isin(pc.list_flatten(labels).to_numpy(), list(self._classes(row)))])
        if self.config.which == "same_class":
            return common[common != row]
        return np.delete(np.arange(len(self._table)), common)

    def _classes(self, row: int) -> set[int]:
        return set(self._table.value("labels", int(row)))

    def _column(self, name: str) -> np.ndarray:
        return self._table[name].chunk(0).to_numpy()
