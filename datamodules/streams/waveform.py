"""Sound as it is, for networks that learn their own features of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from datamodules.frozen import Freezable
from datamodules.streams.audio import augmented_sound
from datamodules.streams.kind import LENGTH, Stream, Transform
from datamodules.streams.mixed import mixed_sound
from datamodules.streams.packed import Format, require_sound
from datamodules.streams.padding import pad_to, starting_over
from datamodules.streams.reading import ClipReader
from datamodules.types import AugmentConfig


@dataclass
class WaveformInputs(Freezable):
    """Sound as a method reads it: mono, in -1..1."""

    sample_rate: int = 16000
    """Hz."""
    seconds: float = 2.0
    """Longer sound is cut."""
    past_end: Literal["zeros", "repeat"] = "zeros"
    """Samples past the sound's end: `zeros`, or `repeat`: the clip starts over."""

    @property
    def samples(self) -> int:
        return round(self.seconds * self.sample_rate)


class WaveformStream(Stream[WaveformInputs]):
    """[B, T] float32 in -1..1, zero after the end; its length in samples, 0 where there is no sound."""

    kind = "waveform"
    options_type = WaveformInputs
    modality = "a"
    media = "audio"

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        start, left = clip.stretch_of_sound(self.options.seconds)
        sound = clip.sound(start, min(self.options.seconds, left), self.options.sample_rate)
        return {"": sound, LENGTH: torch.tensor(len(sound))}

    def require_packed(self, format: Format, url: str) -> None:
        require_sound(format, url, self.where, self.options.sample_rate)

    def packed(self) -> dict[str, float]:
        return {"sample_rate": self.options.sample_rate}

    def transform(self, augment: AugmentConfig) -> Transform:
        return WaveformTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {
            "": torch.zeros(clips, self.options.samples, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }


class WaveformTransform(Transform):
    """Pads to one length, or lets a clip start over."""

    def __init__(self, options: WaveformInputs, augment: AugmentConfig):
        super().__init__()
        self.options, self.augment = options, augment

    def augmented(self, raw: dict[str, Tensor], key_B: Tensor) -> dict[str, Tensor]:
        return {**raw, "": augmented_sound(raw[""], raw[LENGTH], key_B, self.augment)}

    def mixed(
        self, own: dict[str, Tensor], theirs: dict[str, Tensor], place_M: Tensor, weight_M: Tensor
    ) -> dict[str, Tensor]:
        return {**own, "": mixed_sound(own[""], own[LENGTH], theirs[""], theirs[LENGTH], place_M, weight_M)}

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        waveform_BT, length_B = pad_to(raw[""], self.options.samples), raw[LENGTH]
        if self.options.past_end == "repeat":
            waveform_BT = starting_over(waveform_BT[..., None], length_B)[..., 0]
            length_B = length_B.sign() * self.options.samples
        return {"": waveform_BT, LENGTH: length_B}
