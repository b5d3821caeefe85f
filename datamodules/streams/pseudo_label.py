"""Labels that a method gave the clips itself, as the clusters of the stage before."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
from datamodules.features.stored import FeatureError
from datamodules.files import replacing
from datamodules.frozen import Freezable
from datamodules.streams.kind import Excluding, Stream
from datamodules.streams.packed import Format
from datamodules.streams.reading import ClipReader
from datamodules.table import arrow

if TYPE_CHECKING:
    from datamodules.source import Source

NOT_LISTED = "no pseudo-label; let the stage that gives them label this split too"
"""Reason of a clip that the file does not list."""
NONE = -1
"""In the table, the label of a clip that its stage gave none."""


@dataclass
class PseudoLabelInputs(Freezable):
    """Labels by the ids of clips: those of a file, or those that a stage of the same run writes, which
    `stages.<stage>.labels` names for the stream."""

    file: str = ""
    """Parquet with the columns clip_id and `column`, as `write_pseudo_labels` writes it; empty = a stage's."""
    column: str = "label"
    """With the labels, class indices, of those that the file has or the stage's `pseudo_labels` gives."""
    classes: int = 256
    """Labels are 0 to one less."""


class PseudoLabelStream(Stream[PseudoLabelInputs]):
    """[B] int64 class index.

    A clip that a file does not list is left out when the manifest is made. What a stage of the run writes is not there
    by then: its labels are looked up where the stream is loaded (`labelled`), and a clip without one counts as one that
    cannot be read."""

    kind = "pseudo_label"
    options_type = PseudoLabelInputs
    mixes = False
    part_names = ()

    def wants(self) -> Hashable:
        if not self.options.file:
            return super().wants()
        return self.name, repr(self.options), _stamp(self.options.file)

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        if self.options.file:
            label = self._labels(table["clip_id"], self.options.file, f"{self.where}.file={self.options.file}")
            exclusions.add(NOT_LISTED, label == NONE)
            table[self._in_table] = label

    def labelled(self, table: pd.DataFrame, file: Path) -> pd.DataFrame:
        """The table with the labels of a file that a stage of the run wrote.

        Raises:
            DataError: it is not such a file.
        """
        return table.assign(**{self._in_table: self._labels(table["clip_id"], str(file), f"{self.where}: {file}")})

    @property
    def _in_table(self) -> str:
        """Column of the manifest's table."""
        return f"{self.name}_label"

    def _labels(self, clip_ids: pd.Series, file: str, setting: str) -> np.ndarray:
        """[n] int64, the labels of these clips; `NONE` where the file lists none.

        Args:
            clip_ids: [n].
            file: the Parquet.
            setting: what names it, for errors.

        Raises:
            DataError: the file is not there or not such a file, or a clip has two labels.
        """
        column = self.options.column
        schema = pa.schema([("clip_id", pa.large_string()), (column, pa.int64())])
        try:
            if column not in (there := pq.read_schema(file).names):
                raise DataError(f"{setting}: it has no column {column}, but {', '.join(there)}")
            listed = pq.read_table(file, schema=schema).to_pandas().drop_duplicates()
        except FileNotFoundError as error:
            raise DataError(
                f"{setting}: there is no such file; run the stage that writes it, or name another"
            ) from error
        except (pa.ArrowException, OSError) as error:
            what = str(error).splitlines()[0]
            raise DataError(f"{setting}: no Parquet with the columns clip_id and {column}: {what}") from error
        if twice := listed["clip_id"][listed["clip_id"].duplicated()].tolist():
            raise DataError(f"{setting}: the clip {twice[0]} has several labels; write the file again")
        label = listed[column].fillna(NONE).to_numpy()
        if len(label) and not 0 <= label.min() <= label.max() < self.options.classes:
            raise DataError(
                f"{self.where}.classes={self.options.classes}: {file} has labels from {label.min():g} to "
                f"{label.max():g}"
            )
        known = arrow(listed["clip_id"], pa.large_string())
        place = pc.index_in(arrow(clip_ids, pa.large_string()), value_set=known).fill_null(len(label))
        return np.append(label.astype(np.int64), NONE)[place.to_numpy()]

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        label = clip.row.value(self._in_table)
        if label == NONE:
            raise FeatureError(
                clip.moment.clip_id, "missing", f"no {self.name}: it could not be read when the labels were given"
            )
        return {"": torch.tensor(label)}

    def require_packed(self, format: Format, url: str) -> None:
        """The labels lie in a file of their own."""

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {"": torch.zeros(clips, dtype=torch.int64, device=device)}

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        return {"": torch.randint(self.options.classes, (clips,), generator=draw)}


def write_pseudo_labels(
    path: Path, clip_ids: Sequence[str] | pd.Series, labels: Mapping[str, Sequence[int] | Tensor | np.ndarray]
) -> None:
    """Writes the labels of clips, all or nothing; of several processes that train together, one writes.

    Args:
        path: of the Parquet.
        clip_ids: [n] each once.
        labels: column -> [n] class indices.
    """
    columns = {name: pa.array(np.asarray(each), pa.int64()) for name, each in labels.items()}
    with replacing(path) as temporary:
        pq.write_table(pa.table({"clip_id": pa.array(clip_ids, pa.large_string()), **columns}), temporary)


def _stamp(file: str) -> tuple[int, int] | None:
    """Size and time of a file: another content is another manifest."""
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
