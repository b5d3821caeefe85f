"""A caption that is spoken: a sound file of its own, which the dataset's official files name for each clip."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.frozen import Freezable
from datamodules.media.decode import check, read_audio
from datamodules.streams.decibels import source_levels
from datamodules.streams.kind import LENGTH, Excluding, Stream, Transform
from datamodules.streams.log_mel import LONGEST_SECONDS, LogMelStream
from datamodules.streams.named_files import find_named
from datamodules.streams.packed import Format, require_files
from datamodules.streams.reading import ClipReader, NamedFiles
from datamodules.streams.waveform import WaveformInputs, WaveformStream
from datamodules.types import AudioInputs, AugmentConfig

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source


@dataclass
class SpokenInputs(Freezable):
    """A spoken caption as a method reads it: from its start, as log-mel frames or as a waveform."""

    column: str = "spoken_path"
    """Of the dataset's table, with the path of the clip's sound file below the dataset's folder."""
    log_mel: AudioInputs | None = field(default_factory=AudioInputs)
    """As log-mel frames; `around` plays no part. None: as a waveform."""
    waveform: WaveformInputs | None = None
    """As a waveform, where `log_mel` is None."""


class SpokenCaptionStream(Stream[SpokenInputs]):
    """What `log_mel` or `waveform` gives, [B, 1, frames, mels] or [B, T], and its length; the same in all windows, but
    for augmentation."""

    kind = "spoken_caption"
    options_type = SpokenInputs
    modality = "a"

    def __init__(self, name: str, options: SpokenInputs):
        super().__init__(name, options)
        self.sound = _sound(name, options, self.where)
        self.time_axis = self.sound.time_axis

    def wants(self) -> Hashable:
        return self.name, self.options.column

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        setting = f"{self.where}.column"
        found = find_named(table, self.options.column, source, exclusions, "spoken caption", setting)
        table[f"{self.name}_path"] = found

    def files(self) -> Sequence[NamedFiles]:
        what = "spoken caption"
        return [NamedFiles(what, f"{self.name}_path", check_sound, self.options.column, what)]

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        read = clip.of_file(self.files()[0], repr(self.options), self._read)
        return {"": read, LENGTH: torch.tensor(len(read))}

    def require_packed(self, format: Format, url: str) -> None:
        require_files(format, url, self.where, self.options.column)

    def _read(self, path: str) -> np.ndarray:
        """[T] in -1..1, or [F, mels] of log-mels that are relative to all of the file."""
        check_sound(path)  # one that was cut off since it was judged would only be shorter
        of, sound = self.sound.options, self.sound
        if not isinstance(sound, LogMelStream) or sound.options.reference == "clip":
            return read_audio(path, 0.0, of.seconds, of.sample_rate)
        whole = torch.from_numpy(read_audio(path, 0.0, LONGEST_SECONDS, of.sample_rate))
        return source_levels(whole, sound.options)[: sound.options.frames].numpy()

    def transform(self, augment: AugmentConfig) -> Transform:
        return self.sound.transform(augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return self.sound.example(clips, device)

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        return self.sound.made_up(clips, draw)


check_sound = partial(check, need_audio=True, need_video=False)
"""Raises `MediaError` of a sound file that is damaged, cut off or silent."""


def _sound(name: str, options: SpokenInputs, where: str) -> Stream[Any]:
    """The stream as which the file's sound is seen.

    Raises:
        DataError: there is none, or there are two.
    """
    if options.log_mel is not None and options.waveform is None:
        return LogMelStream(name, options.log_mel)
    if options.waveform is not None and options.log_mel is None:
        return WaveformStream(name, options.waveform)
    raise DataError(f"{where}: it is read as log_mel or as waveform; set one of them, and the other to null")
