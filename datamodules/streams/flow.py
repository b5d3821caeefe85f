"""Optical flow that was computed beforehand."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.features.arrays import FeatureError, open_flow
from datamodules.features.stored import find_features
from datamodules.frozen import Freezable
from datamodules.streams import video
from datamodules.streams.kind import LENGTH, Excluding, Stream, Transform
from datamodules.streams.named_files import features_folder
from datamodules.streams.padding import pad_to, starting_over
from datamodules.streams.reading import ClipReader, NamedFiles, Row
from datamodules.types import AugmentConfig, FeatureInputs

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source

KIND = "flow"
LEVELS = 255
"""Of a number of 8 bits."""
ROUNDING = 1e-6
"""Of a field; a stretch of 3 s has 9 of them at 3 a second, not 10."""


@dataclass
class FlowInputs(Freezable):
    """Flow as a method reads it: `size` x `size`, in -1..1."""

    root: str | None = None
    """Folder below which the files lie, at any depth; none = the dataset's own folder. A file is `<video>_flow.npy`,
    `.../flow/.../<video>.npy` or `.npz`, [T, H, W, 2]: displacements in x and y, in pixels as floats or, as tools for
    TV-L1 store them, with -bound..bound as 0..255 in 8 bits."""
    rate: float = 25.0
    """Fields a second."""
    frames: int = 10
    """Fields; a longer clip is cut."""
    bound: float = 20.0
    """Pixels; what is beyond is cut, and the rest divided by it, as I3D was trained (kinetics-i3d `README.md`)."""
    size: int = 224
    """Pixels, height and width; resized to the square without a crop. Displacements are not scaled with it."""
    train_size: int = 256
    """Pixels before the random resized crop to `size` in training."""
    past_end: Literal["zeros", "repeat"] = "zeros"
    """Fields past the clip's end: `zeros`, or `repeat`: the clip starts over."""

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


class FlowStream(Stream[FlowInputs]):
    """[B, 2, T, H, W] float32 in -1..1, x and y, zero after the end; its length in fields. Cropped and flipped as the
    frames of its window are, x being negated where it is flipped.

    A worker reads [T, H, W, 2] float32.
    """

    kind = "flow"
    options_type = FlowInputs
    modality = "v"
    mixes = False
    time_axis = 2

    def wants(self) -> Hashable:
        return self.name, self.options.root

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        folder = features_folder(self.options.root, source, f"{self.where}.root")
        found = find_features(FeatureInputs(folder, [KIND]), source.root, table)[KIND]
        exclusions.add("no flow", found.isna())
        table[f"{self.name}_path"] = found

    def files(self) -> Sequence[NamedFiles]:
        return [NamedFiles(KIND, f"{self.name}_path", open_flow, "", KIND)]

    def video_seconds(self, row: Row) -> float:
        return len(open_flow(row.value(f"{self.name}_path"))) / self.options.rate

    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        options, path = self.options, clip.row.value(f"{self.name}_path")
        start, left = clip.stretch(options.seconds)
        first = round(start * options.rate)
        count = math.ceil(min(options.seconds, left) * options.rate - ROUNDING)
        size = options.size if clip.evaluation else options.train_size
        place = ("flow", path, first, count, size, options.bound)
        fields = clip.kept(place, partial(_read, path, first, first + min(count, options.frames), size, options.bound))
        if not len(fields):
            raise FeatureError(path, "too short")
        return {"": fields, LENGTH: torch.tensor(len(fields))}

    def transform(self, augment: AugmentConfig) -> Transform:
        return FlowTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        size = self.options.size
        return {
            "": torch.zeros(clips, 2, self.options.frames, size, size, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }


def _read(path: str, first: int, stop: int, size: int, bound: float) -> np.ndarray:
    """float32 [T, size, size, 2] in -1..1, the fields from `first` to before `stop` that are there."""
    flow_THW2 = np.asarray(open_flow(path)[first:stop])
    scale = 2 / LEVELS if flow_THW2.dtype == np.uint8 else 1 / bound
    shift = -1.0 if flow_THW2.dtype == np.uint8 else 0.0
    scaled = torch.from_numpy(flow_THW2.astype(np.float32) * scale + shift).clamp(-1, 1)
    if scaled.isnan().any():
        raise FeatureError(path, "not finite")
    if scaled.shape[1:3] == (size, size) or not len(scaled):
        return scaled.numpy()
    resized = nn.functional.interpolate(scaled.permute(0, 3, 1, 2), (size, size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()


class FlowTransform(Transform):
    """Pads to one length, or lets a clip start over; crops and flips as `FramesTransform` does."""

    def __init__(self, options: FlowInputs, augment: AugmentConfig):
        super().__init__()
        self.options, self.augment = options, augment

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        flow_BTHW2, length_B = pad_to(raw[""], self.options.frames), raw[LENGTH]
        if self.options.past_end == "repeat":
            flow_BTHW2 = starting_over(flow_BTHW2.flatten(2), length_B).view_as(flow_BTHW2)
            length_B = length_B.sign() * self.options.frames
        flow_B2THW = flow_BTHW2.permute(0, 4, 1, 2, 3).contiguous()
        if train:
            flow_B2THW = self._augmented(flow_B2THW, key_B)
        return {"": flow_B2THW, LENGTH: length_B}

    def _augmented(self, flow_B2THW: Tensor, key_B: Tensor) -> Tensor:
        shares = self.augment.crop_scale, self.augment.crop_most
        flow_B2THW = video.random_resized_crop(flow_B2THW, key_B, self.options.size, *shares)
        if self.augment.flip:
            flow_B2THW = video.horizontal_flip(flow_B2THW, key_B)
            sign_B1 = 1.0 - 2.0 * video.flipped(key_B).to(flow_B2THW.dtype)
            flow_B2THW[:, 0] *= sign_B1.view(-1, 1, 1, 1)
        return flow_B2THW
