"""One picture of a clip."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.frozen import Freezable
from datamodules.keyed import uniform
from datamodules.media.pictures import check_picture, read_picture
from datamodules.streams.frames import FramesTransform
from datamodules.streams.kind import Excluding, Stream, Transform, key_of
from datamodules.streams.named_files import find_named
from datamodules.streams.packed import Format, require_files, require_pictures
from datamodules.streams.reading import ClipReader, MediaFile, NamedFiles
from datamodules.types import AugmentConfig, VideoInputs

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd

    from datamodules.source import Source


@dataclass
class ImageInputs(Freezable):
    """A picture as a method reads it: RGB, `size` x `size`, normalised; the settings are those of `VideoInputs`."""

    column: str = ""
    """Of the dataset's table, with the path of the clip's picture (JPEG, PNG, WebP, …) below the dataset's folder;
    empty = the picture is a frame of the clip's video."""
    at: Literal["middle", "start", "drawn"] = "middle"
    """Where in its stretch of the video the frame lies; a drawn one is the middle's in evaluation."""
    seconds: float = 0.0
    """Of this stretch, which is cut as that of other streams; 0 = all of the clip from where its window begins."""
    size: int = 224
    """Pixels, height and width; resized to the square without a crop."""
    train_size: int = 256
    """Pixels before the random resized crop to `size` in training."""
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])

    def as_video(self, fps: float = 1.0) -> VideoInputs:
        """The same, as of a video of one frame."""
        return VideoInputs(1, fps, self.size, self.train_size, mean=list(self.mean), std=list(self.std))


class ImageStream(Stream[ImageInputs]):
    """[B, 3, H, W] float32, normalised RGB.

    A worker reads [H, W, 3] uint8.
    """

    kind = "image"
    options_type = ImageInputs
    modality = "i"
    media: MediaFile | None = "video"
    part_names = ()

    def __init__(self, name: str, options: ImageInputs):
        super().__init__(name, options)
        if options.column:
            self.media = None

    def wants(self) -> Hashable:
        return (self.name, self.options.column) if self.options.column else super().wants()

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        if column := self.options.column:
            table[f"{self.name}_path"] = find_named(
                table, column, source, exclusions, "picture", f"{self.where}.column"
            )

    def files(self) -> Sequence[NamedFiles]:
        column = self.options.column
        return [NamedFiles("picture", f"{self.name}_path", check_picture, column, "picture")] if column else []

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        size = self.options.size if clip.evaluation else self.options.train_size
        if not self.options.column:
            return {"": clip.frames(np.array([self._second(clip)]), size)[0]}
        return {"": clip.of_file(self.files()[0], size, partial(read_picture, size=size))}

    def _second(self, clip: ClipReader) -> float:
        """Of its video, at which the picture is taken."""
        wanted = self.options.seconds or clip.moment.seconds
        start, left = clip.stretch_of_pictures(wanted)
        share = {"start": 0.0, "middle": 0.5}.get(self.options.at)
        if share is None:
            share = 0.5 if clip.evaluation else float(uniform(key_of(self, clip), f"image {self.name}", 1))
        return start + share * min(wanted, left)

    def require_packed(self, format: Format, url: str) -> None:
        if self.options.column:
            require_files(format, url, self.where, self.options.column)
        else:
            require_pictures(format, url, self.where, self.options.as_video(format.fps))

    def packed(self) -> dict[str, float]:
        return {"size": self.options.train_size} if not self.options.column else {}

    def transform(self, augment: AugmentConfig) -> Transform:
        return ImageTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {"": torch.zeros(clips, 3, self.options.size, self.options.size, device=device)}


class ImageTransform(Transform):
    """Pictures of 8 bits -> normalised ones, augmented as a video of one frame is."""

    def __init__(self, options: ImageInputs, augment: AugmentConfig):
        super().__init__()
        self.frames = FramesTransform(options.as_video(), augment)

    def mixed(
        self, own: dict[str, Tensor], theirs: dict[str, Tensor], place_M: Tensor, weight_M: Tensor
    ) -> dict[str, Tensor]:
        return _picture(self.frames.mixed(_video(own), _video(theirs), place_M, weight_M), axis=1)

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        return _picture(self.frames(_video(raw), key_B, train), axis=2)


def _video(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """uint8 [B, H, W, 3] -> [B, 1, H, W, 3]."""
    return {"": raw[""][:, None]}


def _picture(video: dict[str, Any], axis: int) -> dict[str, Tensor]:
    """The only frame, of which `axis` is time."""
    return {"": video[""].squeeze(axis)}
