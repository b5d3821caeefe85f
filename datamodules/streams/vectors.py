"""Precomputed features, a vector a moment."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.features import stored
from datamodules.streams.kind import LENGTH, Excluding, Stream, Transform
from datamodules.streams.packed import Format
from datamodules.streams.padding import pad_to, starting_over
from datamodules.streams.reading import ClipReader, Row
from datamodules.types import AugmentConfig, FeatureInputs

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source


class VectorStream(Stream[FeatureInputs]):
    """[B, T, D] float32, zero after the end; its length in moments, 0 where there are none."""

    kind = "vectors"
    options_type = FeatureInputs
    modality = "v"
    mixes = False

    def wants(self) -> Hashable:
        return repr(self.options)

    def column(self, kind: str) -> str:
        """Of the manifest's table: the path of each clip's file."""
        return f"{self.name}_{kind}"

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        for kind, paths in stored.find_features(self.options, source.root, table).items():
            table[self.column(kind)] = paths
            exclusions.add(f"no {kind} features", paths.isna())

    def measure(self, table: pd.DataFrame, exclusions: Excluding) -> None:
        """How long videos are by their features, where no media are read; excludes those whose files cannot be used."""
        paths = table[[self.column(kind) for kind in self.options.kinds]].to_numpy()
        reason = np.full(len(table), "", dtype=object)
        for row in np.flatnonzero(exclusions.none & np.isinf(table["seconds"])):
            try:
                table.loc[row, "seconds"] = stored.seconds(paths[row], self.options)
            except stored.FeatureError as error:
                reason[row] = error.reason
        for why in sorted(set(reason) - {""}):
            exclusions.add(f"{why} features", reason == why)

    def video_seconds(self, row: Row) -> float:
        return stored.seconds(self._paths(row), self.options)

    def _paths(self, row: Row) -> list[str]:
        return [row.value(self.column(kind)) for kind in self.options.kinds]

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        options, paths = self.options, self._paths(clip.row)
        start, left = clip.stretch(options.seconds, options.around)
        stretch = (start, start + left, clip.moment.video_seconds)
        place = (*paths, options.frames, options.rows, *stretch)
        rows = clip.kept(place, partial(stored.read_window, paths, options, *stretch))
        if clip.evaluation and not len(rows):  # in training its length is 0
            raise stored.FeatureError(paths[0], "too short")
        return {"": rows, LENGTH: torch.tensor(len(rows))}

    def require_packed(self, format: Format, url: str) -> None:
        raise DataError(f"{url} is a pack, and packs hold no features; read them with data.root instead")

    def transform(self, augment: AugmentConfig) -> Transform:
        return VectorTransform(self.options)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {
            "": torch.zeros(clips, self.options.frames, sum(self.options.dims), device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        """The clip before the last has no feature file."""
        made = super().made_up(clips, draw)
        made[LENGTH][-2] = 0
        return made


class VectorTransform(Transform):
    """Pads to one length, or lets a clip start over."""

    def __init__(self, options: FeatureInputs):
        super().__init__()
        self.options = options

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        vectors_BTD, length_B = pad_to(raw[""], self.options.frames), raw[LENGTH]
        if self.options.past_end == "repeat":
            vectors_BTD = starting_over(vectors_BTD, length_B)
            length_B = length_B.sign() * self.options.frames
        return {"": vectors_BTD, LENGTH: length_B}
