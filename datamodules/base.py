"""Manifest + `Inputs` -> dataset, loaders, batches: the LightningDataModule that all datasets share.

Workers only read and decode. Log-mel, normalisation and augmentation run batched on the device, after transfer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from datamodules.features.extracted import ExtractedFeatures
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate, worker_count
from datamodules.loading.mixing import mixup
from datamodules.loading.samplers import ClipRef, EvalSampler, TrainSampler, class_balancing_weights
from datamodules.manifest.build import Manifest, label_arrays
from datamodules.streams import audio as audio_features
from datamodules.streams import decibels
from datamodules.streams import video as video_features
from datamodules.types import (
    FEATURE_KEYS,
    AudioInputs,
    AugmentConfig,
    Batch,
    DataConfig,
    Inputs,
    Partner,
    RawBatch,
    VideoInputs,
)

LOG_MELS: dict[str, type[audio_features.LogMel] | type[decibels.DecibelMel]] = {
    "kaldi": audio_features.LogMel,
    "decibel": decibels.DecibelMel,
}
"""`AudioInputs.kind` -> its log-mels."""


def pad_to(values: Tensor, length: int) -> Tensor:
    """[B, n, ...] -> [B, length, ...], zeros at the end."""
    padded = values.new_zeros(len(values), length, *values.shape[2:])
    padded[:, : values.shape[1]] = values
    return padded


def starting_over(values: Tensor, length_B: Tensor) -> Tensor:
    """[B, T, D] whose first `length` moments are a clip's: past them the clip starts over, if it has any."""
    source_BT = torch.arange(values.shape[1], device=values.device) % length_B.clamp(min=1)[:, None]
    repeated = values.gather(1, source_BT[..., None].expand_as(values))
    return torch.where((length_B > 0)[:, None, None], repeated, values)


class Features(nn.Module):
    """What the workers decoded -> what a method sees; with augmentation in training. On the batch's device."""

    log_mel: audio_features.LogMel | decibels.DecibelMel
    """Where there is sound."""

    def __init__(self, inputs: Inputs, augment: AugmentConfig):
        super().__init__()
        self.inputs, self.augment = inputs, augment
        if inputs.audio is not None:
            self.log_mel = LOG_MELS[inputs.audio.kind](inputs.audio)

    @torch.no_grad()
    def forward(self, raw: RawBatch, train: bool) -> Batch:
        if train and self.augment.roll_gain and self.inputs.audio is not None:
            raw = _rolled(raw)
        if train and "partner" in raw:
            raw = mixup(raw)
        batch = Batch(clip_id=raw["clip_id"], key=raw["key"], label=raw["label"])
        if (text := self.inputs.text) is not None:
            batch["text"], batch["text_length"] = pad_to(raw["text"], text.length), raw["text_length"]
        if (wanted := self.inputs.features) is not None:
            batch["video_feat"] = pad_to(raw["video_feat"], wanted.frames)
            batch["video_feat_length"] = raw["video_feat_length"]
            if wanted.past_end == "repeat":
                batch["video_feat"] = starting_over(batch["video_feat"], batch["video_feat_length"])
                batch["video_feat_length"] = batch["video_feat_length"].sign() * wanted.frames
        for name in FEATURE_KEYS.values():  # of a stage of the method
            if name in raw and name not in batch:
                batch[name] = raw[name]
        if "partner" in raw:
            batch["partner"] = cast(Partner, raw["partner"])  # `mixup` has made it one
        if (audio := self.inputs.audio) is not None:
            batch["audio"], batch["audio_length"] = self._audio(raw, audio, train)
        if self.inputs.video is not None:
            batch["video"] = self._video(raw, self.inputs.video, train)
            if "video_length" in raw:
                batch["video_length"] = raw["video_length"]
        return batch

    def _audio(self, raw: RawBatch, inputs: AudioInputs, train: bool) -> tuple[Tensor, Tensor]:
        """([B, 1, frames, mels] float32, normalised; [B] frames before the padding)."""
        key, augment = raw["key"], self.augment
        if inputs.reference == "source":
            mel_BFM, length_B = pad_to(raw["levels"], inputs.frames), raw["levels_length"]
        else:
            mel_BFM = self.log_mel(raw["waveform"], raw["waveform_length"])
            length_B = self.log_mel.num_frames(raw["waveform_length"])
        if inputs.past_end == "repeat":
            mel_BFM, length_B = starting_over(mel_BFM, length_B), length_B.sign() * inputs.frames
        if train and (augment.freq_mask or augment.time_mask):
            masks = (augment.freq_mask, augment.time_mask, augment.time_masks)
            mel_BFM = audio_features.spec_mask(mel_BFM, key, *masks)
        mel_BFM = audio_features.normalise(mel_BFM, inputs)
        if train and augment.noise:
            mel_BFM = audio_features.add_noise(mel_BFM, key, augment.noise)
        if train and augment.shift:
            mel_BFM = audio_features.roll_frames(mel_BFM, key, augment.shift)
        return mel_BFM[:, None], length_B

    def _video(self, raw: RawBatch, inputs: VideoInputs, train: bool) -> Tensor:
        """[B, 3, T, size, size] float32, normalised."""
        key, augment = raw["key"], self.augment
        video_B3THW = video_features.normalise(raw["frames"], inputs.mean, inputs.std)
        if not train:
            return video_B3THW
        video_B3THW = video_features.random_resized_crop(video_B3THW, key, inputs.size, augment.crop_scale)
        if augment.flip:
            video_B3THW = video_features.horizontal_flip(video_B3THW, key)
        if augment.color_jitter or augment.gray:
            pixels_B3THW = video_features.denormalise(video_B3THW, inputs.mean, inputs.std)
            pixels_B3THW = video_features.color_jitter(pixels_B3THW, key, augment.color_jitter)
            pixels_B3THW = video_features.gray(pixels_B3THW, key, augment.gray)
            video_B3THW = video_features.standardise(pixels_B3THW, inputs.mean, inputs.std)
        return video_B3THW


def _rolled(raw: RawBatch) -> RawBatch:
    """The clips and their partners, each rolled and amplified by itself (AudioMAE `dataset.py`)."""
    rolled = RawBatch(**raw)
    rolled["waveform"] = audio_features.roll_gain(raw["waveform"], raw["waveform_length"], raw["key"])
    if "partner" in raw:
        rolled["partner"] = _rolled(raw["partner"])
    return rolled


class AVDataModule(L.LightningDataModule):
    """Serves the clips of one stage, in training and in evaluation, to any number of ranks.

    Args:
        train: clips to train on, or None.
        scored: clips to evaluate, or None.
        config: inputs, augmentation, loader.
        batch_size: clips of a step over all ranks.
        epochs: passes over the training clips.
        seed: of order and augmentation.
        views: windows of each scored clip.
        extracted: modality -> folder of the features that are read instead of media, see `extracted.py`.
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
        views: int = 1,
        extracted: Mapping[str, Path] | None = None,
    ):
        super().__init__()
        self.extracted = extracted or {}
        self.train, self.scored, self.config = train, scored, config
        self.batch_size, self.epochs, self.seed, self.views = batch_size, epochs, seed, views
        self.features = Features(config.inputs, config.augment)

    @property
    def _trained(self) -> L.Trainer:
        assert self.trainer is not None  # it is a Trainer that asks for loaders
        return self.trainer

    def _loader(self, manifest: Manifest, sampler: Sampler[list[ClipRef]]) -> Loader:
        workers = worker_count(self.config.loader.workers, self._trained.num_devices)
        clip_ids = manifest.table["clip_id"]
        extracted = {modality: ExtractedFeatures(folder, clip_ids) for modality, folder in self.extracted.items()}
        return Loader(
            ClipDataset(manifest, self.config, self.seed, self.views, extracted),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self._trained.strategy.root_device.type == "cuda",
        )

    def train_dataloader(self) -> Loader:
        """All batches of all epochs that are left to do."""
        assert self.train is not None
        loader, accumulate = self.config.loader, self._trained.accumulate_grad_batches
        weights = None
        if loader.weighted_draws:
            weights = class_balancing_weights(*label_arrays(self.train.table["labels"]), len(self.train.classes))
        sampler = TrainSampler(
            len(self.train),
            self.epochs,
            self.batch_size // accumulate // self.train.clips_a_row(self.config.narration),
            rank=self._trained.global_rank,
            ranks=self._trained.world_size,
            seed=self.seed,
            start=self._trained.global_step * accumulate,
            weights=weights,
            draws=loader.draws(len(self.train)),
            replacement=loader.weighted_replacement,
        )
        return self._loader(self.train, sampler)

    def test_dataloader(self) -> Loader:
        """Each view of each scored clip once, on one of the ranks."""
        assert self.scored is not None
        ranks = self._trained.world_size
        batch = max(1, self.batch_size // (ranks * self._trained.accumulate_grad_batches))
        sampler = EvalSampler(len(self.scored), batch, rank=self._trained.global_rank, ranks=ranks, views=self.views)
        return self._loader(self.scored, sampler)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        self.features.to(batch["key"].device)
        return self.features(batch, train=self._trained.training)
