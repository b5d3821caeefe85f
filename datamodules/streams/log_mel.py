"""Sound as log-mel frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.streams import audio, decibels
from datamodules.streams.decibels import column, source_levels
from datamodules.streams.kind import LENGTH, Stream, Transform
from datamodules.streams.librosa_mel import LibrosaMel
from datamodules.streams.mixed import mixed_sound
from datamodules.streams.packed import Format, require_sound
from datamodules.streams.padding import pad_to, starting_over
from datamodules.streams.reading import ClipReader
from datamodules.streams.resize_crop import resize_crop, time_warp
from datamodules.types import AudioInputs, AugmentConfig

LOG_MELS: dict[str, type[audio.LogMel] | type[decibels.DecibelMel] | type[LibrosaMel]] = {
    "kaldi": audio.LogMel,
    "decibel": decibels.DecibelMel,
    "librosa": LibrosaMel,
}
"""`AudioInputs.kind` -> its log-mels."""
LONGEST_SECONDS = 1e6
"""More than any file lasts: all of its sound."""
SOURCES_KEPT = 4
"""Sources whose log-mels a process remembers, as clips of one follow each other; 6 MB for 6 minutes."""


class LogMelStream(Stream[AudioInputs]):
    """[B, 1, frames, mels] float32, normalised log-mel, time first; its length in frames, 0 where there is no sound.

    A worker reads [T] float32 in -1..1, or where decibels are relative to the whole source [F, mels] of its log-mels.
    """

    kind = "log_mel"
    options_type = AudioInputs
    modality = "a"
    media = "audio"
    time_axis = 2

    def __init__(self, name: str, options: AudioInputs):
        super().__init__(name, options)
        self._sources: dict[Any, Tensor] = {}

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        audio = self.options
        start, left = clip.stretch_of_sound(audio.seconds, audio.around)
        if audio.reference == "source":
            read = self._levels(clip, start, left)
        else:
            read = clip.sound(start, min(audio.seconds, left), audio.sample_rate)
        return {"": read, LENGTH: torch.tensor(len(read))}

    def _levels(self, clip: ClipReader, start: float, seconds: float) -> Tensor:
        """[F, mels] float32, cut of the log-mels of all sound of the file, or of what was packed of it."""
        rate = self.options.sample_rate
        place = clip.place("audio")
        since = clip.row.value("audio_offset") if clip.packed else 0.0

        def read() -> np.ndarray:
            sound = clip.opened("audio").audio(since, LONGEST_SECONDS, rate)
            return source_levels(torch.from_numpy(sound), self.options).numpy()

        if place not in self._sources:
            if len(self._sources) == SOURCES_KEPT:
                del self._sources[next(iter(self._sources))]
            self._sources[place] = clip.kept(("levels", clip.address, place, rate, self.options.mel_bins), read)
        first, stop = (column(max(0.0, time - since), rate) for time in (start, start + max(0.0, seconds)))
        return self._sources[place][first : min(stop, first + self.options.frames)].clone()

    def require_packed(self, format: Format, url: str) -> None:
        require_sound(format, url, self.where, self.options.sample_rate)
        if self.options.reference == "source":
            raise DataError(
                f"{url} is a pack, which holds the sound of clips alone, and {self.where}.reference=source wants "
                f"that of whole sources; read these with data.root instead"
            )

    def packed(self) -> dict[str, float]:
        return {"sample_rate": self.options.sample_rate}

    def transform(self, augment: AugmentConfig) -> Transform:
        return LogMelTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {
            "": torch.zeros(clips, 1, self.options.frames, self.options.mel_bins, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }


class LogMelTransform(Transform):
    """Waveforms -> log-mel frames."""

    def __init__(self, options: AudioInputs, augment: AugmentConfig):
        super().__init__()
        self.options, self.augment = options, augment
        self.log_mel = LOG_MELS[options.kind](options)

    def augmented(self, raw: dict[str, Tensor], key_B: Tensor) -> dict[str, Tensor]:
        return {**raw, "": audio.augmented_sound(raw[""], raw[LENGTH], key_B, self.augment)}

    def mixed(
        self, own: dict[str, Tensor], theirs: dict[str, Tensor], place_M: Tensor, weight_M: Tensor
    ) -> dict[str, Tensor]:
        return {**own, "": mixed_sound(own[""], own[LENGTH], theirs[""], theirs[LENGTH], place_M, weight_M)}

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        options, augment = self.options, self.augment
        if options.reference == "source":
            mel_BFM, length_B = pad_to(raw[""], options.frames), raw[LENGTH]
        else:
            mel_BFM = self.log_mel(raw[""], raw[LENGTH])
            length_B = self.log_mel.num_frames(raw[LENGTH])
        if options.past_end == "repeat":
            mel_BFM, length_B = starting_over(mel_BFM, length_B), length_B.sign() * options.frames
        if train and augment.time_warp:
            mel_BFM = time_warp(mel_BFM, key_B, augment.time_warp)
        if train and (augment.freq_mask or augment.time_mask):
            masks = (augment.freq_mask, augment.time_mask, augment.time_masks, augment.freq_masks)
            mel_BFM = audio.spec_mask(mel_BFM, key_B, *masks, augment.mask_with)
        mel_BFM = audio.normalise(mel_BFM, options)
        if train and augment.noise:
            mel_BFM = audio.add_noise(mel_BFM, key_B, augment.noise)
        if train and augment.shift:
            mel_BFM = audio.roll_frames(mel_BFM, key_B, augment.shift)
        if train and augment.resize_crop:
            mel_BFM = resize_crop(mel_BFM, key_B, augment.resize_crop)
        return {"": mel_BFM[:, None], LENGTH: length_B}
