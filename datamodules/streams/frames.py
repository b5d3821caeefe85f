"""Pictures as RGB frames."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.errors import DataError
from datamodules.keyed import uniform
from datamodules.streams import video, video_changes
from datamodules.streams.kind import LENGTH, Stream, Transform, key_of
from datamodules.streams.mixed import mixed_pictures
from datamodules.streams.packed import Format, require_pictures
from datamodules.streams.rand_augment import rand_augment
from datamodules.streams.reading import ClipReader
from datamodules.types import AugmentConfig, VideoInputs

ROUNDING = 1e-6
"""Of a frame; a clip of 3 s has 9 frames at 3 a second, not 10."""


class FramesStream(Stream[VideoInputs]):
    """[B, 3, T, H, W] float32, normalised RGB; where nothing is read past a clip's end, its length in frames.

    A worker reads [T, H, W, 3] uint8.
    """

    kind = "frames"
    options_type = VideoInputs
    modality = "v"
    media = "video"
    time_axis = 2

    def __init__(self, name: str, options: VideoInputs):
        super().__init__(name, options)
        if options.short_side and options.short_side < options.size:
            raise DataError(
                f"{self.where}.short_side={options.short_side}: no square of size={options.size} can be cut out"
            )

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        options = self.options
        start, left = clip.stretch_of_pictures(options.seconds)
        frames = self._frames(clip, start + moments(options, left))
        if options.rand_augment and not clip.evaluation:
            frames = rand_augment(frames, int(key_of(self, clip)), options.rand_augment)
        missing = options.frames - len(frames)
        read = {"": nn.functional.pad(frames, (0, 0) * 3 + (0, missing)) if missing else frames}
        if options.past_end == "nothing":
            read[LENGTH] = torch.tensor(len(frames))
        return read

    def _frames(self, clip: ClipReader, times: np.ndarray) -> Tensor:
        options = self.options
        size = options.size if clip.evaluation else options.train_size
        if not options.short_side:
            return clip.frames(times, size)
        if clip.evaluation:
            return square(clip.frames_short_side(times, options.short_side), size, clip.moment.crop)
        place = float(uniform(key_of(self, clip), "video square", 1))
        return square(clip.frames_short_side(times, size), size, place)

    def require_packed(self, format: Format, url: str) -> None:
        require_pictures(format, url, self.where, self.options)

    def packed(self) -> dict[str, float]:
        return {"fps": self.options.fps, "size": self.options.train_size}

    def transform(self, augment: AugmentConfig) -> Transform:
        return FramesTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        size = self.options.size
        return {"": torch.zeros(clips, 3, self.options.frames, size, size, device=device)}


class FramesTransform(Transform):
    """Frames of 8 bits -> normalised video."""

    def __init__(self, options: VideoInputs, augment: AugmentConfig):
        super().__init__()
        self.options, self.augment = options, augment

    def mixed(
        self, own: dict[str, Tensor], theirs: dict[str, Tensor], place_M: Tensor, weight_M: Tensor
    ) -> dict[str, Tensor]:
        return {**own, "": mixed_pictures(own[""], theirs[""], place_M, weight_M, own.get(LENGTH))}

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        mean, std = self.options.mean, self.options.std
        video_B3THW = video.normalise(raw[""], mean, std)
        if train:
            video_B3THW = self._augmented(video_B3THW, key_B)
        return {**raw, "": video_B3THW}

    def _augmented(self, video_B3THW: Tensor, key_B: Tensor) -> Tensor:
        options, augment = self.options, self.augment
        shares = augment.crop_scale, augment.crop_most
        video_B3THW = video.random_resized_crop(video_B3THW, key_B, options.size, *shares)
        if augment.flip:
            video_B3THW = video.horizontal_flip(video_B3THW, key_B)
        if augment.color_jitter or augment.gray or augment.jitter or augment.blur:
            pixels_B3THW = video.denormalise(video_B3THW, options.mean, options.std)
            pixels_B3THW = self._recoloured(pixels_B3THW, key_B)
            video_B3THW = video.standardise(pixels_B3THW, options.mean, options.std)
        if augment.erase:
            video_B3THW = video_changes.erase(video_B3THW, key_B, augment.erase)
        return video_changes.cutout(video_B3THW, key_B, augment.cutout) if augment.cutout else video_B3THW

    def _recoloured(self, pixels_B3THW: Tensor, key_B: Tensor) -> Tensor:
        augment = self.augment
        if augment.jitter:
            pixels_B3THW = video_changes.jitter(pixels_B3THW, key_B, augment.jitter)
        pixels_B3THW = video.color_jitter(pixels_B3THW, key_B, augment.color_jitter)
        pixels_B3THW = video.gray(pixels_B3THW, key_B, augment.gray)
        return video_changes.blur(pixels_B3THW, key_B, augment.blur) if augment.blur else pixels_B3THW


def square(frames_THW3: Tensor, size: int, place: float) -> Tensor:
    """[T, size, size, 3], in the middle of the shorter side and along the longer one at `place`, see `Moment.crop`."""
    height, width = frames_THW3.shape[1:3]
    along = (place, 0.5) if height > width else (0.5, place)
    top, left = (round(at * (side - size)) for at, side in zip(along, (height, width), strict=True))
    return frames_THW3[:, top : top + size, left : left + size].contiguous()


def moments(video: VideoInputs, left: float) -> np.ndarray:
    """Seconds at which the frames of a stretch lie that has so many left; fewer than wanted where nothing is read past
    its end."""
    every = np.arange(video.frames) / video.fps
    if video.past_end == "repeat":
        return every % left
    return every[: max(1, math.ceil(left * video.fps - ROUNDING))]
