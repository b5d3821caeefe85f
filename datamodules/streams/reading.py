"""The stretch of a clip that streams read: where it lies in its files, and what is decoded of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from datamodules.features.stored import whole_seconds
from datamodules.table import SharedTable
from datamodules.types import Around

IN_THE_MIDDLE = Around()
MediaFile = Literal["audio", "video"]
"""The file of a clip's sound, or that of its pictures; often one and the same."""


class Decodes(Protocol):
    """An open file, or a packed clip: a `Media` or a `PackedClip`."""

    def audio(self, start: float, seconds: float, sample_rate: int) -> np.ndarray: ...

    def frames(self, times: tuple[float, ...], size: int) -> np.ndarray: ...


class NamedFiles(NamedTuple):
    """Files of one kind, one a clip."""

    what: str
    """They are, e.g. `mask`, for the reasons."""
    column: str
    """Of the manifest's table, with their paths; missing where a clip has none."""
    check: Callable[[str], object]
    """Raises a `FileError` of a file that is damaged. A function of a module, or a partial one of it: it travels to the
    processes that judge, so what it needs should be quick to import."""
    packed_as: str
    """Of the dataset's table, the column that names them, under which a pack holds them; empty: no pack does."""
    judged_as: str
    """Under which judgements are remembered: another name for each way to judge a file."""


class Row(NamedTuple):
    """A row of a manifest's table."""

    table: SharedTable
    number: int

    def has(self, column: str) -> bool:
        return column in self.table

    def value(self, column: str) -> Any:
        return self.table.value(column, self.number)


class Moment(NamedTuple):
    """A stretch of a source video that is to be read."""

    clip_id: str
    key: int
    """The source of its randomness, see `keyed.uniform`."""
    start: float
    """Seconds in the source video."""
    seconds: float
    text: str = ""
    audio_shift: float = 0.0
    """Seconds by which its sound is read later."""
    crop: float = 0.5
    """Where along the longer side a square is cut out of its pictures in evaluation: 0 = left or on top, 1 = right or
    at the bottom."""
    beside: Sequence[str] = ()
    """Captions of its video next to its own text, nearest first."""
    video_seconds: float | None = None
    """Of a second whose surroundings are read, as far as the video goes."""


@dataclass
class ClipReader:
    """What streams read a clip with.

    All times that are asked for and returned are seconds; `start` is counted in the file, or in the source video.
    """

    row: Row
    moment: Moment
    window: float
    """Where a clip that is longer than needed is cut: 0 = at its start, 1 = as late as it can be."""
    begin: float | None
    """Where it is cut in relation to its other windows, seconds from its start; None = it has no others."""
    begins: Mapping[str, Sequence[float | None]]
    """The same of all its windows: name -> where those of the name begin; the clip's own is called ""."""
    number: int
    """Of this window among those of its name."""
    evaluation: bool
    opened: Callable[[MediaFile], Decodes]
    lying: Callable[[NamedFiles], AbstractContextManager[str]]
    """Where its file beside its media lies; while it is read, where that is in a pack."""
    kept: Callable[[Hashable, Callable[[], np.ndarray]], Tensor]
    """What is read under a key, or what the cache has of it."""
    address: Hashable
    """Of the pack that the clip lies in, if any: part of the keys of what is read."""

    @property
    def packed(self) -> bool:
        return self.address is not None

    def place(self, file: MediaFile) -> Any:
        """What distinguishes a clip's file from all others of its pack or of the disk."""
        return self.row.value("clip_id" if self.packed else f"{file}_path")

    def stretch(self, wanted: float, around: Around = IN_THE_MIDDLE) -> tuple[float, float]:
        """Of `wanted` seconds, the start in the source video, and how many there are from there on; more than there
        are takes all.

        Args:
            wanted: seconds.
            around: how much of a second's surroundings is read, where steps are to be found.
        """
        start, left = self._stretch(wanted, around)
        return self.moment.start + start, left

    def stretch_of_sound(self, wanted: float, around: Around = IN_THE_MIDDLE) -> tuple[float, float]:
        """The same of its sound, whose start is counted in its file."""
        moment = self.moment
        start, left = self._stretch(wanted, around)
        if moment.seconds == self.row.value("seconds") and moment.video_seconds is None:
            left = max(left, self._sound_seconds - start)
        if moment.audio_shift:
            start += moment.audio_shift
            left = min(left, self.row.value("seconds") - (self._since + start))
        return self._since + self.row.value("audio_offset") + start, left

    def stretch_of_pictures(self, wanted: float) -> tuple[float, float]:
        """The same of its pictures, whose start is counted in their file."""
        start, left = self._stretch(wanted)
        return self._since + self.row.value("video_offset") + start, left

    def sound(self, start: float, seconds: float, sample_rate: int) -> Tensor:
        """[T] float32; empty where there are no seconds left, as at the end of a video whose sound is read later."""
        return self._decoded("audio", "audio", start, seconds, sample_rate) if seconds > 0 else torch.empty(0)

    def frames(self, times: np.ndarray, size: int) -> Tensor:
        """[T, size, size, 3] uint8 RGB, the pictures at these times in their file."""
        return self._decoded("video", "frames", tuple(times), size)

    def frames_short_side(self, times: np.ndarray, short_side: int) -> Tensor:
        """[T, H, W, 3] uint8 RGB, the same with their shape kept."""
        return self._decoded("video", "frames_short_side", tuple(times), short_side)

    def of_file(self, files: NamedFiles, request: Hashable, read: Callable[[str], np.ndarray]) -> Tensor:
        """What is read of the clip's file beside its media, or what the cache has of it.

        Args:
            files: which.
            request: what distinguishes it from all else that is read of these files.
            read: is given the file's path.
        """

        def opened() -> np.ndarray:
            with self.lying(files) as path:
                return read(path)

        place = self.row.value("clip_id" if self.packed else files.column)
        return self.kept((files.judged_as, self.address, place, request), opened)

    @property
    def _since(self) -> float:
        """From the clip's own start to that of the moment."""
        return self.moment.start - self.row.value("start")

    @property
    def _sound_seconds(self) -> float:
        """How much sound there is of the clip; older packs do not know more than how long the clip is."""
        return self.row.value("sound_seconds" if self.row.has("sound_seconds") else "seconds")

    def _decoded(self, file: MediaFile, what: str, *request: Any) -> Tensor:
        key = (what, self.address, self.place(file), *request)
        return self.kept(key, lambda: getattr(self.opened(file), what)(*request))

    def _stretch(self, wanted: float, around: Around = IN_THE_MIDDLE) -> tuple[float, float]:
        """As `stretch`, the start counted from that of the moment."""
        moment = self.moment
        if self.begin is not None:
            return self.begin, moment.seconds - self.begin
        if moment.video_seconds is None:
            spare = max(0.0, moment.seconds - wanted)
            # A video whose length is not known, as its file is not read, is cut at its start.
            start = self.window * spare if spare < math.inf else 0.0
            return start, moment.seconds - start
        if around != IN_THE_MIDDLE:
            start, end = _surroundings(moment.start, around, whole_seconds(moment.video_seconds))
            return start - moment.start, end - start
        middle = moment.start + moment.seconds / 2
        end = min(moment.video_seconds, middle + wanted / 2)
        start = max(0.0, min(middle - wanted / 2, end))
        return start - moment.start, end - start


def _surroundings(second: float, around: Around, whole: int) -> tuple[float, float]:
    """(start, end) of what is read around a second of a video of `whole` seconds."""
    start, end = second - around.before, second + around.after
    if around.at_ends == "shift" and start < 0:
        return 0.0, end - start  # a video that is as short ends by itself
    if around.at_ends == "shift" and end > whole:
        return max(0.0, start + whole - end), whole
    return max(0.0, start), min(end, whole)
