"""The clips of a manifest, read and decoded: what a loader's workers do."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.errors import FileError
from datamodules.features.extracted import ExtractedFeatures
from datamodules.keyed import stable_hash, uniform
from datamodules.loading import cache, narration
from datamodules.loading.loader import PARTNER, Several
from datamodules.loading.mixing import partner_of
from datamodules.loading.rows import Companions
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.loading.windows import OWN, TooShort, places, window_lengths
from datamodules.manifest.build import Manifest
from datamodules.media.decode import Media
from datamodules.packing.shards import WHERE, PackedClip, places_of
from datamodules.source.captions import Said, beside
from datamodules.streams.kind import named
from datamodules.streams.known import streams_of
from datamodules.streams.reading import ClipReader, MediaFile, Moment, NamedFiles, Row
from datamodules.table import SharedTable
from datamodules.types import FEATURE_KEYS, DataConfig

log = logging.getLogger(__name__)

SUBSTITUTES = 10
"""Clips tried instead of one that can no longer be read, before training gives up."""

UNREADABLE = (FileError, TooShort)
"""Faults of a clip, in whose place another one is read."""


class Beside(NamedTuple):
    """A clip that is read beside another."""

    clip_id: str
    """Empty: there is none."""
    key: int
    label: Tensor
    read: dict[str, list[Tensor]]


class ClipDataset(Dataset):
    """Reads and decodes the clips of a manifest.

    An item is a list of clips, each a dict with the keys of `RawBatch` without the batch dimension and without
    lengths: one clip; several of a narrated video in training; none for a clip that cannot be read any more in
    evaluation. In training another clip takes its place. Both are logged. A training clip that is to be mixed brings
    its `partner` along, a dict of the same keys.

    Args:
        manifest: the clips.
        config: inputs and how they are read.
        seed: of all randomness.
        views: windows of each clip in evaluation.
        extracted: modality -> features that a stage of the method wrote, in the order of the manifest.
        crops: squares of the pictures of each of these windows, which are clips of one item.
    """

    def __init__(
        self,
        manifest: Manifest,
        config: DataConfig,
        seed: int,
        views: int = 1,
        extracted: Mapping[str, ExtractedFeatures] | None = None,
        crops: int = 1,
    ):
        self.config, self.seed, self.views, self.crops = config, seed, views, crops
        self.streams = streams_of(config.inputs)
        for stream in self.streams.values():
            stream.prepare()
        self.extracted = {FEATURE_KEYS[modality]: stored for modality, stored in (extracted or {}).items()}
        self.table, self.pack = SharedTable(manifest.table), manifest.pack
        self.narrated, self.captions = manifest.narrated, manifest.captions
        self.num_classes = len(manifest.classes)
        self.windows = config.inputs.windows
        self.lengths = window_lengths(config.inputs)
        self.companions = {name: Companions(name, rows, manifest.table) for name, rows in config.inputs.rows.items()}
        self.cache_bytes = int(config.loader.cache_gb * 2**30)

    def __len__(self) -> int:
        return len(self.table)

    def label(self, index: int) -> Tensor:
        """[C] float32, 1 for each of the clip's classes."""
        label = torch.zeros(self.num_classes)
        label[self.table.value("labels", index)] = 1.0
        return label

    def __getitem__(self, ref: ClipRef) -> list[dict[str, Any]]:
        if ref.epoch == EVALUATION:
            return self._clips_or_none(ref)
        clips = self._clips_or_others(ref)
        for clip in clips:
            if partner := partner_of(clip["key"], ref.epoch, len(self), self.config.augment.mixup):
                clip[PARTNER] = self._clips_or_others(partner)[0]
        return clips

    def _clips_or_others(self, ref: ClipRef) -> list[dict[str, Any]]:
        """The clips of a row, or of the next one that can be read."""
        for index in ((ref.index + i) % len(self) for i in range(SUBSTITUTES)):
            if clips := self._clips_or_none(ref._replace(index=index)):
                return clips
        raise RuntimeError(f"{SUBSTITUTES} clips in a row cannot be read; has the disk gone? The log has their names")

    def _clips_or_none(self, ref: ClipRef) -> list[dict[str, Any]]:
        try:
            return self._clips(ref)
        except UNREADABLE as error:
            log.warning("left out: %s", error)
            return []

    def _clips(self, ref: ClipRef) -> list[dict[str, Any]]:
        with OpenFiles() as files:
            moments = [each for moment in self._moments(ref) for each in self._cropped(moment, ref)]
            return [self._clip(files, ref, moment) for moment in moments]

    def _cropped(self, moment: Moment, ref: ClipRef) -> list[Moment]:
        """The moment with each place of its pictures that is looked at."""
        if ref.epoch != EVALUATION or self.crops == 1:
            return [moment]
        return [moment._replace(crop=crop / (self.crops - 1)) for crop in range(self.crops)]

    def _clip(self, files: OpenFiles, ref: ClipRef, moment: Moment) -> dict[str, Any]:
        clip = {"clip_id": moment.clip_id, "key": moment.key, "label": self.label(ref.index)}
        read = self._read(files, ref, moment, OWN)
        for name, companions in self.companions.items():
            found = self._all_beside(files, ref, moment, name, companions)
            clip |= _about(name, moment, found)
            read |= {key: list(chain(*(each.read[key] for each in found))) for key in found[0].read}
        clip |= {key: values[0] if len(values) == 1 else Several(values) for key, values in read.items()}
        for name, features_of in self.extracted.items():
            clip[name] = features_of[ref.index]
        return clip

    def _all_beside(
        self, files: OpenFiles, ref: ClipRef, moment: Moment, name: str, companions: Companions
    ) -> list[Beside]:
        """The clips that are read beside one under a name."""
        found = [self._beside(ref, key, rows, name) for key, rows in companions.of(ref.index, moment.key)]
        if all(found):
            return [each for each in found if each]
        nothing = _zeros(self._read(files, ref, moment, name))
        return [each or Beside("", moment.key, torch.zeros(self.num_classes), nothing) for each in found]

    def _beside(self, ref: ClipRef, key: int, rows: Iterator[int], name: str) -> Beside | None:
        """The first of these rows that can be read, if any can."""
        for index in islice(rows, SUBSTITUTES):
            other = ref._replace(index=index, key=key)
            moment = self._moments(other)[0]
            try:
                with OpenFiles() as files:
                    return Beside(moment.clip_id, key, self.label(index), self._read(files, other, moment, name))
            except UNREADABLE as error:
                log.warning("left out as %s: %s", name, error)
        return None

    def _media(self, files: OpenFiles, index: int, file: MediaFile) -> Media | PackedClip:
        """Where the clip's sound or pictures are read."""
        if self.pack is not None:
            return self.pack.clip(self.table.row(index, ("clip_id", "audio_offset", "video_offset", *WHERE)))
        return files.open(self.table.value(f"{file}_path", index))

    @contextmanager
    def _lying(self, index: int, files: NamedFiles) -> Iterator[str]:
        """Where the clip's file beside its media lies."""
        if self.pack is None:
            yield self.table.value(files.column, index)
            return
        clip = self.pack.clip(self.table.row(index, ("clip_id", "shard", *places_of(files.packed_as))))
        with clip.file(files.packed_as) as path:
            yield path

    def _moments(self, ref: ClipRef) -> list[Moment]:
        """What is read of a row: the clip, or in training clips that are cut out of a narrated video."""
        clip_id, start, seconds = (self.table.value(name, ref.index) for name in ("clip_id", "start", "seconds"))
        if self.narrated and ref.epoch != EVALUATION:
            return self._narrated(ref, clip_id)
        again = ref.view if ref.epoch != EVALUATION else 0
        key = ref.key or self.key(ref.epoch, clip_id, again)
        text = self.table.value("text", ref.index) if "text" in self.table else ""
        if self.config.captions == "one" and ref.epoch != EVALUATION:
            text = _drawn(text.split("\n"), key)
        whole = self.table.value("video_seconds", ref.index) if "video_seconds" in self.table else None
        return [Moment(clip_id, key, start, seconds, text, video_seconds=whole)]

    def key(self, epoch: int, clip_id: str, again: int = 0) -> int:
        """The source of the clip's randomness in this epoch; other ones where the epoch draws the clip again."""
        return stable_hash("clip", self.seed, epoch, clip_id, *[again] * bool(again))

    def _narrated(self, ref: ClipRef, video_id: str) -> list[Moment]:
        """Clips cut out of a video."""
        rng = np.random.default_rng(abs(self.key(ref.epoch, video_id, ref.view)))
        wanted = self.config.narration
        said = None
        if wanted.cut != "windows":
            assert self.captions is not None  # `combinations.py` asks for text
            said = self.captions.of(self.table.value("caption_row", ref.index))
        if wanted.cut == "captions":
            assert said is not None
            cuts = narration.around_captions(rng, said, wanted)
        else:
            cuts = narration.at_random(rng, said, self._duration(ref.index), wanted)
        moments = []
        for i, cut in enumerate(cuts):
            clip_id = f"{video_id}/{i}"
            key = self.key(ref.epoch, clip_id, ref.view)
            shift = wanted.audio_shift if cut.text else 0.0
            near = self._beside_text(said, cut) if said is not None and cut.text else ()
            moments.append(Moment(clip_id, key, cut.start, cut.end - cut.start, cut.text, shift, beside=near))
        return moments

    def _beside_text(self, said: Said, cut: narration.Cut) -> list[str]:
        """What else of a video may belong to a clip of it."""
        text = self.config.inputs.text
        return beside(said, cut.start, cut.end, text.candidates - 1) if text and text.candidates > 1 else []

    def _duration(self, index: int) -> float:
        """Seconds of the video, by its file, or by those of its features where no media are read."""
        seconds: float = self.table.value("seconds", index)
        if math.isinf(seconds):
            seconds = min(stream.video_seconds(Row(self.table, index)) for stream in self.streams.values())
        return seconds

    def _window(self, ref: ClipRef, key: int) -> float:
        """Where a clip that is longer than needed is cut: 0 = at its start, 1 = as late as it can be."""
        if ref.epoch == EVALUATION:
            return ref.view / (self.views - 1) if self.views > 1 else 0.0
        windows = self.config.loader.train_windows
        if windows == 1:
            return 0.0
        u = float(uniform(torch.tensor([key]), "window", 1))
        return u if windows == 0 else int(u * windows) / (windows - 1)

    def _read(self, files: OpenFiles, ref: ClipRef, moment: Moment, row: str) -> dict[str, list[Tensor]]:
        """Of the streams that read this clip, by their keys in a batch, what each window has.

        Args:
            files: in which it lies.
            ref: the clip.
            moment: of the clip.
            row: as which it is read, see `RowsConfig`.
        """
        window = self._window(ref, moment.key)
        begins = self._begins(ref, moment, window)
        read: dict[str, list[Tensor]] = {}
        for name, stream in self.streams.items():
            if stream.row != row:
                continue
            for number, begin in enumerate(begins[stream.window]):
                clip = ClipReader(
                    row=Row(self.table, ref.index),
                    moment=moment,
                    window=window,
                    begin=begin,
                    begins=begins,
                    number=number,
                    evaluation=ref.epoch == EVALUATION,
                    opened=partial(self._media, files, ref.index),
                    lying=partial(self._lying, ref.index),
                    kept=lambda key, read: files.once(key, partial(self._kept, key, read)),
                    address=self.pack.url if self.pack else None,
                )
                for key, value in named(stream.read(clip), name).items():
                    read.setdefault(key, []).append(value)
        return read

    def _begins(self, ref: ClipRef, moment: Moment, window: float) -> Mapping[str, Sequence[float | None]]:
        """Window -> where those of its kind begin."""
        if not self.windows:
            return {OWN: [None]}

        def draw(purpose: str) -> float:
            return 0.0 if ref.epoch == EVALUATION else float(uniform(torch.tensor([moment.key]), purpose, 1))

        return places(self.windows, self.lengths, moment.seconds, window, draw, self.config.inputs.grid)

    def _kept(self, key: Hashable, read: Callable[[], np.ndarray]) -> Tensor:
        """What is read, or what the cache has of it."""
        if not self.cache_bytes:
            return torch.from_numpy(read())
        return cache.decoded.get(key, lambda: torch.from_numpy(read()), self.cache_bytes)


def _about(name: str, moment: Moment, found: Sequence[Beside]) -> dict[str, Several]:
    """Of the clips that are read beside one as `name`, what a batch has of them beside their streams."""
    return {
        f"{name}_id": Several(each.clip_id for each in found),
        f"{name}_key": Several(torch.tensor(each.key) for each in found),
        f"{name}_label": Several(each.label for each in found),
        f"{name}_own": Several(torch.tensor(each.clip_id == moment.clip_id) for each in found),
        f"{name}_there": Several(torch.tensor(bool(each.clip_id)) for each in found),
    }


def _zeros(read: Mapping[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Nothing, in the shape of what was read."""
    return {key: [torch.zeros_like(value) for value in values] for key, values in read.items()}


def _drawn(captions: list[str], key: int) -> str:
    """One of a clip's captions."""
    return captions[int(float(uniform(torch.tensor([key]), "caption", 1)) * len(captions))]


class OpenFiles(ExitStack):
    """Files that are opened and read when first asked for, once each, and closed at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._media: dict[str, Media] = {}
        self._read: dict[Hashable, Tensor] = {}

    def open(self, path: str) -> Media:
        if path not in self._media:
            self._media[path] = self.enter_context(Media(path))
        return self._media[path]

    def once(self, key: Hashable, read: Callable[[], Tensor]) -> Tensor:
        """What is read under a key, for all clips of an item that read the same."""
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]
