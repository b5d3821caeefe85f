"""An expert's features of a video, each with a time of its own."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.features.arrays import TIMES, FeatureError, check_timed, open_timed, open_times
from datamodules.features.stored import find_features
from datamodules.frozen import Freezable
from datamodules.keyed import stable_hash, uniform
from datamodules.streams.kind import LENGTH, Excluding, Stream, key_of
from datamodules.streams.named_files import features_folder
from datamodules.streams.reading import ClipReader, NamedFiles, Row
from datamodules.types import FeatureInputs

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source


@dataclass
class TimedVectorsInputs(Freezable):
    """Features of one expert, e.g. those of speech, a vector a word. A stream of each expert makes several."""

    expert: str = "speech"
    """Whose: a file is `<video>_<expert>.npz` or `.../<expert>/.../<video>.npz`, with `features` [N, D] and `times` in
    seconds of the video, [N] or [N, 2] (begin and end)."""
    root: str | None = None
    """Folder below which the files lie, at any depth; none = the dataset's own folder."""
    modality: Literal["a", "v", "t"] = "t"
    """What the expert looked at."""
    dim: int = 768
    """Length of a vector."""
    length: int = 30
    """Vectors; fewer are padded with zeros."""
    seconds: float = 0.0
    """Of the stretch whose vectors are read, which is cut as that of other streams; 0 = up to the clip's end."""
    choice: Literal["first", "drawn"] = "first"
    """Of more vectors than `length`: the first, or as many drawn without replacement, in the order of time (MMT
    `base_dataset.py`), in evaluation the same ones each time."""
    missing: Literal["exclude", "empty"] = "exclude"
    """A clip for whose video there is no file is left out, or has no vectors."""


class TimedVectorsStream(Stream[TimedVectorsInputs]):
    """[B, N, D] float32, zero after the end; its length in vectors; `<name>_times` [B, N, 2] float32, the seconds from
    the begin of the stretch at which each begins and ends, zero after the end."""

    kind = "timed_vectors"
    options_type = TimedVectorsInputs
    mixes = False
    part_names = (LENGTH, TIMES)

    def __init__(self, name: str, options: TimedVectorsInputs):
        super().__init__(name, options)
        self.modality = options.modality

    def wants(self) -> Hashable:
        return self.name, self.options.expert, self.options.root, self.options.dim, self.options.missing

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        expert = self.options.expert
        folder = features_folder(self.options.root, source, f"{self.where}.root")
        found = find_features(FeatureInputs(folder, [expert]), source.root, table)[expert]
        if self.options.missing == "exclude":
            exclusions.add(f"no {expert} features", found.isna())
        table[f"{self.name}_path"] = found

    def files(self) -> Sequence[NamedFiles]:
        what, dim = f"{self.options.expert} features", self.options.dim
        return [NamedFiles(what, f"{self.name}_path", partial(check_timed, dim=dim), "", f"timed vectors of {dim}")]

    def video_seconds(self, row: Row) -> float:
        path = row.value(f"{self.name}_path")
        return math.inf if path is None else float(open_times(path)[:, 1].max(initial=0.0))

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        options, path = self.options, clip.row.value(f"{self.name}_path")
        vectors_ND = np.zeros((options.length, options.dim), np.float32)
        times_N2 = np.zeros((options.length, 2), np.float32)
        length = 0
        if path is not None:
            wanted = options.seconds or clip.moment.seconds
            start, left = clip.stretch(wanted)
            times_M2 = open_times(path)
            places = self._chosen(clip, _within(times_M2, start, start + min(wanted, left)))
            length = len(places)
            vectors_ND[:length] = open_timed(path, len(times_M2), options.dim)[places]
            times_N2[:length] = times_M2[places] - start
            if not np.isfinite(vectors_ND).all():
                raise FeatureError(path, "not finite")
        vectors, times = torch.from_numpy(vectors_ND), torch.from_numpy(times_N2)
        return {"": vectors, LENGTH: torch.tensor(length), TIMES: times}

    def _chosen(self, clip: ClipReader, places: np.ndarray) -> np.ndarray:
        """At most `length` of them."""
        if self.options.choice == "first" or len(places) <= self.options.length:
            return places[: self.options.length]
        key = torch.tensor([stable_hash(clip.moment.clip_id)]) if clip.evaluation else key_of(self, clip)
        order = uniform(key, f"vectors of {self.name}", len(places))[0].argsort(stable=True)
        return places[np.sort(order[: self.options.length].numpy())]

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {
            "": torch.zeros(clips, self.options.length, self.options.dim, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
            TIMES: torch.zeros(clips, self.options.length, 2, device=device),
        }

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        """Vectors a second apart; the clip before the last has none."""
        made = super().made_up(clips, draw)
        made[LENGTH][-2] = 0
        within = torch.arange(self.options.length) < made[LENGTH][:, None]
        made[""] *= within[..., None]
        made[TIMES] += torch.arange(self.options.length)[:, None] * within[..., None]
        return made


def _within(times_N2: np.ndarray, start: float, end: float) -> np.ndarray:
    """The places of the vectors that have a part in [start, end), in the order of time."""
    begin_N, end_N = times_N2.T
    after_start_N = np.where(begin_N == end_N, begin_N >= start, end_N > start)
    order = np.argsort(begin_N, kind="stable")
    return order[((begin_N < end) & after_start_N)[order]]
