"""Manifest + `Inputs` -> dataset, loaders, batches: the LightningDataModule that all datasets share.

Workers only read and decode. Log-mel, normalisation and augmentation run batched on the device, after transfer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules import audio as audio_features
from datamodules import cache
from datamodules import video as video_features
from datamodules.keyed import stable_hash, uniform
from datamodules.manifest import Manifest
from datamodules.media import Media, MediaError
from datamodules.samplers import EVALUATION, ClipRef, EvalSampler, TrainSampler, class_balancing_weights
from datamodules.types import AugmentConfig, Batch, DataConfig, Inputs, LoaderConfig, RawBatch

log = logging.getLogger(__name__)

SUBSTITUTES = 10
"""Clips tried in the place of one that cannot be read any more before training gives up."""


class ClipDataset(Dataset):
    """Reads and decodes the clips of a manifest.

    An item is a dict with the keys of `RawBatch`, without the batch dimension; None for a clip that cannot be read
    any more in evaluation. In training another clip takes its place. Both are logged.
    """

    def __init__(self, manifest: Manifest, inputs: Inputs, loader: LoaderConfig, seed: int):
        table = manifest.table
        self.inputs, self.seed, self.windows = inputs, seed, loader.train_windows
        # Columns as arrays: workers share them after the fork, and no Python object is kept a clip.
        self.clip_id = table["clip_id"].to_numpy(dtype=np.str_)
        self.audio_path = table["audio_path"].fillna("").to_numpy(dtype=np.str_)
        self.video_path = table["video_path"].fillna("").to_numpy(dtype=np.str_)
        self.seconds = np.minimum(table["end"] - table["start"], table["duration"]).to_numpy(dtype=np.float64)
        self.num_classes = len(manifest.classes)
        self.label_at = np.concatenate([[0], np.cumsum([len(x) for x in table["labels"]])]).astype(np.int64)
        self.labels = np.concatenate([np.asarray(x, dtype=np.int64) for x in table["labels"]])
        self.cache_bytes = int(loader.cache_gb * 2**30)

    def __len__(self) -> int:
        return len(self.clip_id)

    def label(self, index: int) -> Tensor:
        """[C] float32, 1 for each of the clip's classes."""
        label = torch.zeros(self.num_classes)
        label[self.labels[self.label_at[index] : self.label_at[index + 1]]] = 1.0
        return label

    def key(self, ref: ClipRef) -> int:
        """The source of the clip's randomness in this epoch."""
        return stable_hash("clip", self.seed, ref.epoch, self.clip_id[ref.index])

    def __getitem__(self, ref: ClipRef) -> dict[str, Any] | None:
        tries = 1 if ref.epoch == EVALUATION else SUBSTITUTES
        for ref in (ClipRef((ref.index + i) % len(self), ref.epoch) for i in range(tries)):
            try:
                media = self._read(ref)
            except MediaError as error:
                log.warning("left out: %s", error)
                continue
            return {
                "clip_id": str(self.clip_id[ref.index]),
                "key": self.key(ref),
                "label": self.label(ref.index),
                **media,
            }
        if ref.epoch == EVALUATION:
            return None
        raise RuntimeError(f"{tries} clips in a row cannot be read; has {self.audio_path[ref.index]}'s disk gone?")

    def _window(self, ref: ClipRef) -> float:
        """Where the clip is cut: 0 = at its start (evaluation: av-superb `expert.py`), 1 = as late as it can be."""
        if ref.epoch == EVALUATION or self.windows == 1:
            return 0.0
        u = float(uniform(torch.tensor([self.key(ref)]), "window", 1))
        return u if self.windows == 0 else int(u * self.windows) / (self.windows - 1)

    def _read(self, ref: ClipRef) -> dict[str, Tensor]:
        """`waveform` [T] float32 and `frames` [T, H, W, 3] uint8, of the modalities that the inputs name."""
        read: dict[str, Tensor] = {}
        window, seconds = self._window(ref), self.seconds[ref.index]
        with OpenFiles() as files:
            if (audio := self.inputs.audio) is not None:
                start = window * max(0.0, seconds - audio.seconds)
                span = (start, min(audio.seconds, seconds - start), audio.sample_rate)
                read["waveform"] = self._decoded(files, "audio", self.audio_path[ref.index], *span)
            if (video := self.inputs.video) is not None:
                start = window * max(0.0, seconds - video.seconds)
                # A clip that is too short starts over, as in av-superb's `expert.py`.
                times = tuple((start + np.arange(video.frames) / video.fps) % seconds)
                size = video.size if ref.epoch == EVALUATION else video.train_size
                read["frames"] = self._decoded(files, "frames", self.video_path[ref.index], times, size)
        return read

    def _decoded(self, files: OpenFiles, what: str, path: str, *request: Any) -> Tensor:
        """`Media.audio` or `Media.frames` of a file, or what the cache has of it."""

        def decode() -> Tensor:
            return torch.from_numpy(getattr(files.open(path), what)(*request))

        return cache.decoded.get((what, path, *request), decode, self.cache_bytes) if self.cache_bytes else decode()


class OpenFiles(ExitStack):
    """Files that are opened when first asked for, once each, and closed at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._media: dict[str, Media] = {}

    def open(self, path: str) -> Media:
        if path not in self._media:
            self._media[path] = self.enter_context(Media(path))
        return self._media[path]


def collate(clips: Sequence[dict[str, Any] | None]) -> RawBatch | None:
    """Stacks clips, padding sound with zeros at its end; None if no clip of the batch could be read."""
    present = [clip for clip in clips if clip is not None]
    if not present:
        return None
    batch = RawBatch(
        clip_id=[clip["clip_id"] for clip in present],
        key=torch.tensor([clip["key"] for clip in present]),
        label=torch.stack([clip["label"] for clip in present]),
    )
    if "waveform" in present[0]:
        sounds = [clip["waveform"] for clip in present]
        batch["waveform"] = nn.utils.rnn.pad_sequence(sounds, batch_first=True)
        batch["waveform_length"] = torch.tensor([len(sound) for sound in sounds])
    if "frames" in present[0]:
        batch["frames"] = torch.stack([clip["frames"] for clip in present])
    return batch


class Features(nn.Module):
    """What the workers decoded -> what a method sees; with augmentation in training. On the batch's device."""

    def __init__(self, inputs: Inputs, augment: AugmentConfig):
        super().__init__()
        self.inputs, self.augment = inputs, augment
        if inputs.audio is not None:
            self.log_mel = audio_features.LogMel(inputs.audio)

    @torch.no_grad()
    def forward(self, raw: RawBatch, train: bool) -> Batch:
        key, augment = raw["key"], self.augment
        if train:
            if self.inputs.audio is not None and augment.roll_gain:
                raw["waveform"] = audio_features.roll_gain(raw["waveform"], raw["waveform_length"], key)
            if augment.mixup:
                raw = audio_features.mixup(raw, augment.mixup)
        batch = Batch(clip_id=raw["clip_id"], key=key, label=raw["label"])
        if (audio := self.inputs.audio) is not None:
            mel_BFM = self.log_mel(raw["waveform"], raw["waveform_length"])
            if train and (augment.freq_mask or augment.time_mask):
                mel_BFM = audio_features.spec_mask(mel_BFM, key, augment.freq_mask, augment.time_mask)
            batch["audio"] = audio_features.normalise(mel_BFM, audio.mean, audio.std)[:, None]
        if (video := self.inputs.video) is not None:
            pixels = video_features.normalise(raw["frames"], video.mean, video.std)
            if train:
                pixels = video_features.random_resized_crop(pixels, key, video.size, augment.crop_scale)
                if augment.flip:
                    pixels = video_features.horizontal_flip(pixels, key)
            batch["video"] = pixels
        return batch


def worker_count(wanted: int, ranks_here: int = 1) -> int:
    """Loader processes of a rank: as wanted, or its share of the cores less one, at most 16."""
    if wanted >= 0:
        return wanted
    return max(0, min(16, (os.cpu_count() or 1) // ranks_here - 1))


class AVDataModule(L.LightningDataModule):
    """Serves the clips of one stage, in training and in evaluation, to any number of ranks.

    Args:
        train: clips to train on, or None.
        scored: clips to evaluate, or None.
        config: inputs, augmentation, loader.
        batch_size: clips of a step over all ranks.
        epochs: passes over the training clips.
        seed: of order and augmentation.
    """

    # A rank without clips to score takes part with none.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        train: Manifest | None,
        scored: Manifest | None,
        config: DataConfig,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
    ):
        super().__init__()
        self.train, self.scored, self.config = train, scored, config
        self.batch_size, self.epochs, self.seed = batch_size, epochs, seed
        self.features = Features(config.inputs, config.augment)

    def _loader(self, manifest: Manifest, sampler: Sampler[list[ClipRef]]) -> DataLoader:
        workers = worker_count(self.config.loader.workers, self.trainer.num_devices)
        return DataLoader(
            ClipDataset(manifest, self.config.inputs, self.config.loader, self.seed),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
            # Decoders keep threads of their own, which a fork would not carry over.
            multiprocessing_context="spawn" if workers else None,
        )

    def train_dataloader(self) -> DataLoader:
        """All batches of all epochs that are left to do."""
        assert self.train is not None
        loader, accumulate = self.config.loader, self.trainer.accumulate_grad_batches
        weights = None
        if loader.weighted_draws:
            weights = class_balancing_weights(list(self.train.table["labels"]), len(self.train.classes))
        sampler = TrainSampler(
            len(self.train),
            self.epochs,
            self.batch_size // accumulate,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            seed=self.seed,
            start=self.trainer.global_step * accumulate,
            weights=weights,
            draws=loader.weighted_draws,
        )
        return self._loader(self.train, sampler)

    def test_dataloader(self) -> DataLoader:
        """Each scored clip once, on one of the ranks."""
        assert self.scored is not None
        ranks = self.trainer.world_size
        batch = max(1, self.batch_size // (ranks * self.trainer.accumulate_grad_batches))
        return self._loader(
            self.scored, EvalSampler(len(self.scored), batch, rank=self.trainer.global_rank, ranks=ranks)
        )

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        self.features.to(batch["key"].device)
        return self.features(batch, train=self.trainer.training)
