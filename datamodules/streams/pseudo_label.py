"""Labels that a method gave the clips itself, as the clusters of the stage before."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.files import replacing
from datamodules.frozen import Freezable
from datamodules.streams.kind import Excluding, Stream
from datamodules.streams.packed import Format
from datamodules.streams.reading import ClipReader
from datamodules.table import arrow

if TYPE_CHECKING:
    from datamodules.source import Source

SCHEMA = pa.schema([("clip_id", pa.large_string()), ("label", pa.int64())])
NOT_LISTED = "no pseudo-label; let the stage that gives them label this split too"
"""Reason of a clip that the file does not list."""


@dataclass
class PseudoLabelInputs(Freezable):
    """Labels by the ids of clips."""

    file: str = ""
    """Parquet with the columns clip_id and label (class index), as `write_pseudo_labels` writes it."""
    classes: int = 256
    """Labels are 0 to one less."""


class PseudoLabelStream(Stream[PseudoLabelInputs]):
    """[B] int64 class index."""

    kind = "pseudo_label"
    options_type = PseudoLabelInputs
    mixes = False
    part_names = ()

    def wants(self) -> Hashable:
        return self.name, repr(self.options), _stamp(self.options.file)

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        clip_id, label = self._labels()
        place = pc.index_in(arrow(table["clip_id"], pa.large_string()), value_set=clip_id)
        exclusions.add(NOT_LISTED, place.is_null().to_numpy(zero_copy_only=False))
        table[f"{self.name}_label"] = label[place.fill_null(0).to_numpy()] if len(label) else -1

    def _labels(self) -> tuple[pa.Array, np.ndarray]:
        """(clip ids, each once, their labels).

        Raises:
            DataError: the file is not there or not such a file, or a clip has two labels.
        """
        setting = f"{self.where}.file={self.options.file}"
        try:
            listed = pq.read_table(self.options.file, schema=SCHEMA).to_pandas().drop_duplicates()
        except FileNotFoundError as error:
            raise DataError(
                f"{setting}: there is no such file; run the stage that writes it, or name another"
            ) from error
        except (pa.ArrowException, OSError) as error:
            what = str(error).splitlines()[0]
            raise DataError(f"{setting}: no Parquet with the columns clip_id and label: {what}") from error
        if twice := listed["clip_id"][listed["clip_id"].duplicated()].tolist():
            raise DataError(f"{setting}: the clip {twice[0]} has several labels; write the file again")
        label = listed["label"].fillna(-1).to_numpy()
        if len(label) and not 0 <= label.min() <= label.max() < self.options.classes:
            raise DataError(
                f"{self.where}.classes={self.options.classes}: {self.options.file} has labels from {label.min():g} to "
                f"{label.max():g}"
            )
        return arrow(listed["clip_id"], pa.large_string()), label.astype(np.int64)

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        return {"": torch.tensor(clip.row.value(f"{self.name}_label"))}

    def require_packed(self, format: Format, url: str) -> None:
        """The labels lie in a file of their own."""

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {"": torch.zeros(clips, dtype=torch.int64, device=device)}

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        return {"": torch.randint(self.options.classes, (clips,), generator=draw)}


def write_pseudo_labels(path: Path, clip_ids: Sequence[str], labels: Sequence[int] | Tensor | np.ndarray) -> None:
    """Writes the labels of clips, all or nothing; of several processes that train together, one writes.

    Args:
        path: of the Parquet.
        clip_ids: [n] each once.
        labels: [n] class indices.
    """
    label = pa.array(np.asarray(labels), pa.int64())
    with replacing(path) as temporary:
        pq.write_table(pa.table([pa.array(clip_ids, pa.large_string()), label], schema=SCHEMA), temporary)


def _stamp(file: str) -> tuple[int, int] | None:
    """Size and time of a file: another content is another manifest."""
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
