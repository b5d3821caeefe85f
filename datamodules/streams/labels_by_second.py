"""What happens at each moment of a clip: the target of methods that find events in time."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.frozen import Freezable
from datamodules.source.spans import SPANS
from datamodules.streams.kind import LENGTH, Excluding, Stream, Transform
from datamodules.streams.mixed import mix_in
from datamodules.streams.named_files import require_column
from datamodules.streams.packed import Format
from datamodules.streams.reading import ClipReader
from datamodules.table import arrow
from datamodules.types import AugmentConfig

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source

ROUNDING = 1e-6
"""Seconds; what has no more in common with a cell only touches it."""


@dataclass
class LabelsBySecondInputs(Freezable):
    """Labels of a stretch of a clip, cell by cell."""

    column: str = "spans"
    """Of the dataset's table, with what happens when, see `source/spans.py`."""
    classes: int = 28
    """As many as the dataset has; AVE has 28, and nothing happens in its background."""
    seconds: float = 10.0
    """Of the stretch, which is cut as that of other streams."""
    cell: float = 1.0
    """Seconds of a cell."""

    @property
    def cells(self) -> int:
        return round(self.seconds / self.cell)


class LabelsBySecondStream(Stream[LabelsBySecondInputs]):
    """[B, cells, C] float32, 1 for each class that happens within a cell, 0 past the clip's end; its length in cells,
    the last of which may reach past the end. Mixed by mix-up as the clips' labels are."""

    kind = "labels_by_second"
    options_type = LabelsBySecondInputs

    def wants(self) -> Hashable:
        return self.name, self.options.column, self.options.classes

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.options.column,)

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        column, classes = self.options.column, self.options.classes
        spans = require_column(table, column, source, f"{self.where}.column")
        if spans.dtype != SPANS:
            raise DataError(f"{self.where}.column={column}: {source.title} has no spans in this column")
        if classes != len(source.classes):
            raise DataError(f"{self.where}.classes={classes}: {source.title} has {len(source.classes)} classes")
        labels = pc.struct_field(pc.list_flatten(arrow(spans, SPANS.pyarrow_dtype)), "label")
        if len(labels) and not 0 <= pc.min(labels).as_py() <= pc.max(labels).as_py() < classes:
            raise DataError(f"{source.title}: {column} has labels that are none of its {classes} classes")
        exclusions.add(f"no {column}", spans.isna())

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        options = self.options
        start, left = clip.stretch(options.seconds)
        labels_LC = np.zeros((options.cells, options.classes), np.float32)
        length = min(options.cells, math.ceil(left / options.cell - ROUNDING))
        for span in clip.row.value(options.column):
            first = math.floor((span["start"] - start + ROUNDING) / options.cell)
            stop = math.ceil((span["end"] - start - ROUNDING) / options.cell)
            labels_LC[max(0, first) : max(0, min(stop, length)), span["label"]] = 1.0
        return {"": torch.from_numpy(labels_LC), LENGTH: torch.tensor(length)}

    def require_packed(self, format: Format, url: str) -> None:
        """A pack's table has the column."""

    def transform(self, augment: AugmentConfig) -> Transform:
        return LabelsTransform()

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {
            "": torch.zeros(clips, self.options.cells, self.options.classes, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        made = super().made_up(clips, draw)
        within = torch.arange(self.options.cells) < made[LENGTH][:, None]
        return {**made, "": (made[""] > 1).float() * within[..., None]}


class LabelsTransform(Transform):
    """Labels are mixed as their clips are."""

    def mixed(
        self, own: dict[str, Tensor], theirs: dict[str, Tensor], place_M: Tensor, weight_M: Tensor
    ) -> dict[str, Tensor]:
        return {**own, "": mix_in(own[""], theirs[""], place_M, weight_M)}
