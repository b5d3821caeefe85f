"""What a kind of stream is. Each kind is one class in one file of this folder, or of another package.

A stream is what a method reads of a clip under one name, its key in a batch: `audio`, `video`, `text`, `video_feat`, or
as `data.inputs.streams` names it. Its kind says all there is to say of it, from the manifest to the device.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from datamodules.errors import DataError
from datamodules.keyed import derived
from datamodules.streams.packed import Format
from datamodules.streams.reading import ClipReader, MediaFile, NamedFiles, Row
from datamodules.types import AugmentConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from datamodules.source import Source

Options = TypeVar("Options")
"""The dataclass of a kind's settings."""
LENGTH = "length"
"""Of a stream `audio` there are `audio` and, where clips differ in length, `audio_length`."""

FIELDS = {"audio": "audio", "video": "video", "text": "text", "video_feat": "features"}
"""Streams that have a field of their own in `Inputs`, and its name."""
BESIDE = ("id", "key", "label", "own", "there")
"""What a batch has of other clips that are read beside its own, see `Inputs.rows`."""


class Excluding(Protocol):
    """Which clips cannot be used, and why: `manifest.exclusions.Exclusions`."""

    none: np.ndarray
    """[clips] bool, the clips that can be used."""

    def add(self, reason: str, mask: Any) -> None:
        """Excludes the clips of a boolean mask."""
        ...


class Transform(nn.Module):
    """What happens to a stream on the device: what the workers read -> what a method sees.

    All of its methods take and return the stream's parts, without its name: `""` for the stream itself, `LENGTH`, and
    in `forward` the others of its `part_names`.
    All randomness is drawn from the clips' keys.
    """

    def augmented(self, raw: dict[str, Tensor], key_B: Tensor) -> dict[str, Tensor]:
        """What is changed in training before clips are mixed."""
        return raw

    def mixed(
        self, own: dict[str, Tensor], theirs: dict[str, Tensor], place_M: Tensor, weight_M: Tensor
    ) -> dict[str, Tensor]:
        """The clips, with `weight` of their partners in those at `place`; streams that mix-up leaves to the method are
        returned as they are."""
        return own

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        """What a method sees; with augmentation in training."""
        return raw


class Stream(ABC, Generic[Options]):
    """A stream: its name and its settings.

    An object is made in the process that trains, to be asked what is wanted of the manifest and for the `transform`;
    another travels to the loader's workers and reads.

    Args:
        name: its key in a batch.
        options: its settings.
    """

    kind: ClassVar[str]
    """As settings name it."""
    options_type: ClassVar[type]
    """`Options`, against which settings are checked."""
    modality: str = ""
    """`a`, `v`, `t` or `i`: a stage that does not look at it does not read the stream. Empty: always read."""
    media: MediaFile | None = None
    """The files that a clip must have."""
    reads_text: ClassVar[bool] = False
    """Whether a clip must have text."""
    mixes: ClassVar[bool] = True
    """Whether mix-up can mix it, see `Transform.mixed`."""

    part_names: ClassVar[tuple[str, ...]] = (LENGTH,)
    """What there may be of it beside itself: of a stream `x` a batch has `x_<part>`."""
    time_axis: int = 1
    """Of what a method sees; its `LENGTH` counts along it."""

    row: str = ""
    """Of `data.inputs.rows`, the clip that is read; empty: the clip itself."""
    window: str = ""
    """Of `data.inputs.windows`, the one that is read; empty: the clip's own."""
    clips: int = 1
    """Clips that stand in the row's place."""
    windows: int = 1
    """Windows of this name."""
    augment: Mapping[str, Any] | None = None
    """What of `data.augment` is another for this stream."""

    def __init__(self, name: str, options: Options):
        self.name, self.options = name, options

    @property
    def copies(self) -> tuple[int, ...]:
        """Dimensions of a batch after the first, where several clips or windows are read."""
        return tuple(count for count in (self.clips, self.windows) if count > 1)

    @property
    def where(self) -> str:
        """The place of its settings."""
        return f"data.inputs.{FIELDS.get(self.name, f'streams.{self.name}')}"

    @property
    def seconds(self) -> float:
        """How much of a clip it reads; a stream that has no such option reads all of it, or nothing of its files."""
        return getattr(self.options, "seconds", 0.0)

    def wants(self) -> Hashable:
        """What a manifest must have for the stream: streams that want the same share a manifest."""
        return self.media, self.reads_text

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the dataset's table with what it reads, or the names of files with it: of the manifest's
        fingerprint, as labels and texts are."""
        return ()

    def find(self, table: pd.DataFrame, source: Source, exclusions: Excluding) -> None:
        """Adds the columns that `read` needs beside those of media; excludes the clips that have not what it reads."""

    def files(self) -> Sequence[NamedFiles]:
        """What clips have for it beside their media, in columns that `find` has added: clips whose file is damaged are
        excluded."""
        return ()

    def measure(self, table: pd.DataFrame, exclusions: Excluding) -> None:
        """Corrects `seconds` of clips whose files are not media, once what there is of these is known."""

    def video_seconds(self, row: Row) -> float:
        """How long a row's video is by what the stream reads of it; inf where that does not say."""
        return math.inf

    def require_packed(self, format: Format, url: str) -> None:
        """Raises DataError where the stream cannot be read from a pack of this `PackedFormat`."""
        raise DataError(f"{url} is a pack, and packs hold no {self.kind}; read it with data.root instead")

    def packed(self) -> dict[str, float]:
        """The settings of `bench data pack` for what the stream reads: of sample_rate, fps and size."""
        return {}

    def prepare(self) -> None:
        """Reads what all clips need, once, before the stream travels to the workers."""

    @abstractmethod
    def read(self, clip: ClipReader) -> dict[str, Tensor]:
        """What a worker reads of a clip: `""` and the other parts, without a batch dimension.

        What differs in length from clip to clip has its `LENGTH` beside it, and is padded with zeros at the end.

        Raises:
            FileError: it cannot be read; another clip takes its place in training, and in evaluation
                it is left out and counted.
        """

    def transform(self, augment: AugmentConfig) -> Transform:
        """What happens to it on the device."""
        return Transform()

    @abstractmethod
    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        """Zeros in the shape of what a method sees, with a batch dimension."""

    def made_up(self, clips: int, draw: torch.Generator) -> dict[str, Tensor]:
        """Noise in that shape, on the CPU; the last clip is half as long as the others, where lengths differ."""
        made = self.example(clips, "cpu")
        moments = made[""].shape[self.time_axis]
        made[""] = torch.randn(made[""].shape, generator=draw)
        if LENGTH in made:
            made[LENGTH] = torch.tensor([moments] * (clips - 1) + [moments // 2])
        return made


def keys_of(stream: Stream[Any], values: Mapping[str, Any]) -> Tensor:
    """[B * clips * windows] the keys of what the stream reads: windows of a clip differ in all that is drawn, streams
    of one window in nothing.

    Args:
        stream: the stream.
        values: of a batch; of rows beside the clips there are `<row>_key`, [B * count].
    """
    key_B = values[f"{stream.row}_key" if stream.row else "key"]
    return torch.stack([_in_window(key_B, stream, place) for place in range(stream.windows)], 1).flatten()


def key_of(stream: Stream[Any], clip: ClipReader) -> Tensor:
    """[1] the key of what the stream reads of a clip, for what is drawn when it is read: that of `keys_of`."""
    return _in_window(torch.tensor([clip.moment.key]), stream, clip.number)


def _in_window(key_B: Tensor, stream: Stream[Any], place: int) -> Tensor:
    return derived(key_B, f"window {stream.window} {place}") if stream.window else key_B


def apart(stream: Stream[Any], seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of a stream, [B * clips * windows, ...] -> [B, clips, windows, ...], without dimensions of 1."""
    return {part: value.view(-1, *stream.copies, *value.shape[1:]) for part, value in seen.items()}


def parts(values: Mapping[str, Any], name: str, part_names: tuple[str, ...] = (LENGTH,)) -> dict[str, Tensor]:
    """Of a batch or a clip, the parts of one stream: itself and those of these names that are there."""
    there = {"": name, **{part: f"{name}_{part}" for part in part_names}}
    return {part: values[key] for part, key in there.items() if key in values}


def named(values: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The parts of a stream under their keys in a batch."""
    return {f"{name}_{part}" if part else name: value for part, value in values.items()}
