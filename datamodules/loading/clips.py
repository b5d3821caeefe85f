"""The clips of a manifest, read and decoded: what a loader's workers do."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from datamodules.features import stored
from datamodules.features.extracted import ExtractedFeatures
from datamodules.keyed import stable_hash, uniform
from datamodules.loading import cache, narration
from datamodules.loading.loader import PARTNER
from datamodules.loading.mixing import partner_of
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest
from datamodules.media.decode import Media, MediaError
from datamodules.packing.shards import WHERE, PackedClip
from datamodules.streams.decibels import column, source_levels
from datamodules.table import SharedTable
from datamodules.types import FEATURE_KEYS, Around, AudioInputs, DataConfig, VideoInputs

log = logging.getLogger(__name__)

IN_THE_MIDDLE = Around()
SUBSTITUTES = 10
"""Clips tried instead of one that can no longer be read, before training gives up."""
ROUNDING = 1e-6
"""Of a frame; a clip of 3 s has 9 frames at 3 a second, not 10."""


LONGEST_SECONDS = 1e6
"""More than any file lasts: all of its sound."""
SOURCES_KEPT = 4
"""Sources whose log-mels a process remembers, as clips of one follow each other; 6 MB for 6 minutes."""


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
    video_seconds: float | None = None
    """Of a second whose surroundings are read, as far as the video goes."""


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
    """

    def __init__(
        self,
        manifest: Manifest,
        config: DataConfig,
        seed: int,
        views: int = 1,
        extracted: Mapping[str, ExtractedFeatures] | None = None,
    ):
        self.config, self.inputs, self.seed, self.views = config, config.inputs, seed, views
        self.extracted = {FEATURE_KEYS[modality]: stored for modality, stored in (extracted or {}).items()}
        self.table, self.pack = SharedTable(manifest.table), manifest.pack
        self.narrated, self.captions = manifest.narrated, manifest.captions
        self.num_classes = len(manifest.classes)
        self.tokenizer = None
        if self.inputs.text is not None:
            from datamodules.streams.text import make_tokenizer  # its libraries take a second to import

            self.tokenizer = make_tokenizer(self.inputs.text)
        self.cache_bytes = int(config.loader.cache_gb * 2**30)
        self._source_levels: dict[str, Tensor] = {}

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
        except (MediaError, stored.FeatureError) as error:
            log.warning("left out: %s", error)
            return []

    def _clips(self, ref: ClipRef) -> list[dict[str, Any]]:
        label = self.label(ref.index)
        with OpenFiles() as files:
            return [
                {"clip_id": moment.clip_id, "key": moment.key, "label": label, **self._read(files, ref, moment)}
                for moment in self._moments(ref)
            ]

    def _media(self, files: OpenFiles, kind: str, index: int) -> Media | PackedClip:
        """Where the clip's sound or pictures are read."""
        if self.pack is not None:
            return self.pack.clip(self.table.row(index, ("clip_id", "audio_offset", "video_offset", *WHERE)))
        return files.open(self.table.value(f"{kind}_path", index))

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
            moments.append(Moment(clip_id, key, cut.start, cut.end - cut.start, cut.text, shift))
        return moments

    def _duration(self, index: int) -> float:
        """Seconds of the video, by its file, or by those of its features where no media are read."""
        seconds = self.table.value("seconds", index)
        if math.isinf(seconds):
            assert self.inputs.features is not None
            seconds = stored.seconds(self._feature_paths(index), self.inputs.features)
        return seconds

    def _sound_seconds(self, index: int) -> float:
        """How much sound there is of a row's clip; older packs do not know more than how long the clip is."""
        return self.table.value("sound_seconds" if "sound_seconds" in self.table else "seconds", index)

    def _feature_paths(self, index: int) -> list[str]:
        assert self.inputs.features is not None
        return [self.table.value(f"feature_{kind}", index) for kind in self.inputs.features.kinds]

    def _window(self, ref: ClipRef, key: int) -> float:
        """Where a clip that is longer than needed is cut: 0 = at its start, 1 = as late as it can be."""
        if ref.epoch == EVALUATION:
            return ref.view / (self.views - 1) if self.views > 1 else 0.0
        windows = self.config.loader.train_windows
        if windows == 1:
            return 0.0
        u = float(uniform(torch.tensor([key]), "window", 1))
        return u if windows == 0 else int(u * windows) / (windows - 1)

    def _read(self, files: OpenFiles, ref: ClipRef, moment: Moment) -> dict[str, Tensor]:
        """`waveform` [T] float32, `frames` [T, H, W, 3] uint8, `text` [L] int64 and `video_feat` [T, D] float32, of
        those that the inputs name."""
        read: dict[str, Tensor] = {}
        window, index = self._window(ref, moment.key), ref.index
        since = moment.start - self.table.value("start", index)  # the clip's own start
        if (audio := self.inputs.audio) is not None:
            start, left = _stretch(moment, audio.seconds, window, audio.around)
            if moment.seconds == self.table.value("seconds", index) and moment.video_seconds is None:
                left = max(left, self._sound_seconds(index) - start)
            if moment.audio_shift:
                start += moment.audio_shift
                left = min(left, self.table.value("seconds", index) - (since + start))
            offset = since + self.table.value("audio_offset", index)
            request = (offset + start, min(audio.seconds, left), audio.sample_rate)
            if audio.reference == "source":
                read["levels"] = self._levels(files, index, offset + start, left, audio)
            else:
                read["waveform"] = torch.empty(0)
                if left > 0:  # a clip at the end of its video may have no sound so much later
                    read["waveform"] = self._decoded(files, "audio", index, "audio", *request)
        if (video := self.inputs.video) is not None:
            start, left = _stretch(moment, video.seconds, window)
            offset = since + self.table.value("video_offset", index)
            times = tuple(offset + start + _moments_of_frames(video, left))
            size = video.size if ref.epoch == EVALUATION else video.train_size
            frames = self._decoded(files, "video", index, "frames", times, size)
            missing = video.frames - len(frames)
            read["frames"] = nn.functional.pad(frames, (0, 0) * 3 + (0, missing)) if missing else frames
            if video.past_end == "nothing":
                read["video_length"] = torch.tensor(len(frames))
        if (wanted := self.inputs.features) is not None:
            start, left = _stretch(moment, wanted.seconds, window, wanted.around)
            start += moment.start
            paths = self._feature_paths(index)
            stretch = (start, start + left, moment.video_seconds)
            place = (*paths, wanted.frames, wanted.rows, *stretch)
            rows = self._kept(place, partial(stored.read_window, paths, wanted, *stretch))
            if ref.epoch == EVALUATION and not len(rows):  # in training its length is 0
                raise stored.FeatureError(paths[0], "too short")
            read["video_feat"] = rows
        for name, features_of in self.extracted.items():
            read[name] = features_of[index]
        if self.tokenizer is not None:
            read["text"] = torch.from_numpy(self.tokenizer(moment.text))
        return read

    def _levels(self, files: OpenFiles, index: int, start: float, seconds: float, audio: AudioInputs) -> Tensor:
        """[F, mels] float32, cut of the log-mels of all sound of the file, or of what was packed of it."""
        place = self.table.value("clip_id" if self.pack else "audio_path", index)
        since = self.table.value("audio_offset", index) if self.pack else 0.0

        def read() -> np.ndarray:
            sound = self._media(files, "audio", index).audio(since, LONGEST_SECONDS, audio.sample_rate)
            return source_levels(torch.from_numpy(sound), audio).numpy()

        if place not in self._source_levels:
            if len(self._source_levels) == SOURCES_KEPT:
                del self._source_levels[next(iter(self._source_levels))]
            url = self.pack and self.pack.url
            self._source_levels[place] = self._kept(("levels", url, place, audio.sample_rate, audio.mel_bins), read)
        first, stop = (column(max(0.0, time - since), audio.sample_rate) for time in (start, start + max(0.0, seconds)))
        return self._source_levels[place][first : min(stop, first + audio.frames)].clone()

    def _decoded(self, files: OpenFiles, kind: str, index: int, what: str, *request: Any) -> Tensor:
        """`audio` or `frames` of a clip's sound or pictures."""
        place = self.table.value("clip_id" if self.pack else f"{kind}_path", index)
        key = (what, self.pack and self.pack.url, place, *request)
        return self._kept(key, lambda: getattr(self._media(files, kind, index), what)(*request))

    def _kept(self, key: Hashable, read: Callable[[], np.ndarray]) -> Tensor:
        """What is read, or what the cache has of it."""
        if not self.cache_bytes:
            return torch.from_numpy(read())
        return cache.decoded.get(key, lambda: torch.from_numpy(read()), self.cache_bytes)


def _drawn(captions: list[str], key: int) -> str:
    """One of a clip's captions."""
    return captions[int(float(uniform(torch.tensor([key]), "caption", 1)) * len(captions))]


def _stretch(moment: Moment, wanted: float, window: float, around: Around = IN_THE_MIDDLE) -> tuple[float, float]:
    """What is read of a moment: (seconds from its start, seconds from there on that there are).

    Args:
        moment: what is read.
        wanted: seconds; more than there are takes all.
        window: see `ClipDataset._window`.
        around: how much of a second's surroundings is read.
    """
    if moment.video_seconds is None:
        spare = max(0.0, moment.seconds - wanted)
        # A video whose length is not known, as its file is not read, is cut at its start.
        start = window * spare if spare < math.inf else 0.0
        return start, moment.seconds - start
    if around != IN_THE_MIDDLE:
        start, end = _surroundings(moment.start, around, stored.whole_seconds(moment.video_seconds))
        return start - moment.start, end - start
    middle = moment.start + moment.seconds / 2
    end = min(moment.video_seconds, middle + wanted / 2)
    start = max(0.0, min(middle - wanted / 2, end))
    return start - moment.start, end - start


def _moments_of_frames(video: VideoInputs, left: float) -> np.ndarray:
    """Seconds at which the frames of a stretch lie that has so many left; fewer than wanted where nothing is read past
    its end."""
    every = np.arange(video.frames) / video.fps
    if video.past_end == "repeat":
        return every % left
    return every[: max(1, math.ceil(left * video.fps - ROUNDING))]


def _surroundings(second: float, around: Around, whole: int) -> tuple[float, float]:
    """(start, end) of what is read around a second of a video of `whole` seconds."""
    start, end = second - around.before, second + around.after
    if around.at_ends == "shift" and start < 0:
        return 0.0, end - start  # a video that is as short ends by itself
    if around.at_ends == "shift" and end > whole:
        return max(0.0, start + whole - end), whole
    return max(0.0, start), min(end, whole)


class OpenFiles(ExitStack):
    """Files that are opened when first asked for, once each, and closed at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._media: dict[str, Media] = {}

    def open(self, path: str) -> Media:
        if path not in self._media:
            self._media[path] = self.enter_context(Media(path))
        return self._media[path]
