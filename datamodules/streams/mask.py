"""What is where in a picture: a class or an instance a pixel, the target of segmentation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datamodules.frozen import Freezable
from datamodules.media.pictures import read_numbers
from datamodules.streams import video
from datamodules.streams.kind import Excluding, Stream, Transform
from datamodules.streams.named_files import find_named
from datamodules.streams.packed import Format, require_files
from datamodules.streams.reading import ClipReader, NamedFiles
from datamodules.types import AugmentConfig

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source


@dataclass
class MaskInputs(Freezable):
    """A mask as a method reads it: `size` x `size` whole numbers, those of the file divided by `step`."""

    column: str = "mask_path"
    """Of the dataset's table, with the path of the clip's mask below the dataset's folder: a picture of a palette, of
    grey values, or in black and white; a lossless one, as numbers are read and not colours."""
    step: int = 1
    """Of the file's numbers from one class to the next; 255 where a mask is black and white, as in AVSBench."""
    size: int = 224
    """Pixels, height and width; resized to the square without a crop, by the nearest pixel."""
    train_size: int = 256
    """Pixels before the random resized crop to `size` in training. Of the same sizes as those of frames of the same
    window, it is cropped and flipped as these are."""


class MaskStream(Stream[MaskInputs]):
    """[B, H, W] int64, a class or an instance a pixel, cropped and flipped as the frames of its window are."""

    kind = "mask"
    options_type = MaskInputs
    mixes = False
    part_names = ()

    def wants(self) -> Hashable:
        return self.name, self.options.column

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.options.column,)

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        found = find_named(table, self.options.column, source, exclusions, "mask", f"{self.where}.column")
        table[f"{self.name}_path"] = found

    def files(self) -> Sequence[NamedFiles]:
        return [NamedFiles("mask", f"{self.name}_path", read_numbers, self.options.column, "mask")]

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        size, step = self.options.size if clip.evaluation else self.options.train_size, self.options.step
        (own,) = self.files()
        return {"": clip.of_file(own, (size, step), partial(_read, size=size, step=step))}

    def require_packed(self, format: Format, url: str) -> None:
        require_files(format, url, self.where, self.options.column)

    def transform(self, augment: AugmentConfig) -> Transform:
        return MaskTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        return {"": torch.zeros(clips, self.options.size, self.options.size, dtype=torch.int64, device=device)}

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        """Background and one class."""
        return {"": torch.randint(2, (clips, self.options.size, self.options.size), generator=draw)}


def _read(path: str, size: int, step: int) -> np.ndarray:
    """int64 [size, size]."""
    numbers_HW = read_numbers(path) // step
    rows, columns = ((np.arange(size) + 0.5) * length // size for length in numbers_HW.shape)
    return numbers_HW[np.ix_(rows.astype(int), columns.astype(int))]


class MaskTransform(Transform):
    """Crops and flips as `FramesTransform` does, by the nearest pixel."""

    def __init__(self, options: MaskInputs, augment: AugmentConfig):
        super().__init__()
        self.options, self.augment = options, augment

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        mask_BHW = raw[""]
        if train:
            mask_BHW = self._cropped(mask_BHW, key_B)
        if train and self.augment.flip:
            mask_BHW = torch.where(video.flipped(key_B).view(-1, 1, 1), mask_BHW.flip(-1), mask_BHW)
        return {"": mask_BHW}

    def _cropped(self, mask_BHW: Tensor, key_B: Tensor) -> Tensor:
        size = self.options.size
        _, H, W = mask_BHW.shape
        shares = self.augment.crop_scale, self.augment.crop_most
        top_B, left_B, height_B, width_B = video.random_boxes(key_B, H, W, *shares).unbind(1)
        row_BH, column_BW = _nearest(top_B, height_B, size), _nearest(left_B, width_B, size)
        clip_B = torch.arange(len(mask_BHW), device=mask_BHW.device)
        return mask_BHW[clip_B[:, None, None], row_BH[:, :, None], column_BW[:, None, :]]


def _nearest(start_B: Tensor, length_B: Tensor, size: int) -> Tensor:
    """[B, size] the pixels nearest to the centres of `size` pixels of `length` ones from `start` on."""
    centre_S = 2 * torch.arange(size, device=start_B.device) + 1
    return start_B[:, None] + centre_S * length_B[:, None] // (2 * size)
