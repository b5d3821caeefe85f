"""Manifest + `Inputs` -> dataset, loaders, batches: the LightningDataModule that all datasets share.

Workers only read and decode. Log-mel, normalisation and augmentation run batched on the device, after transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from datamodules.features.extracted import ExtractedFeatures
from datamodules.joined import Joined, JoinedFeatures
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import Loader, collate, worker_count
from datamodules.loading.mixing import mixup
from datamodules.loading.mixture import MixedClips, Mixture, MixtureSampler, collate_parts, order_of
from datamodules.loading.samplers import ClipRef, EvalSampler, TrainSampler
from datamodules.manifest.build import Manifest
from datamodules.parts import RawParts
from datamodules.streams.kind import BESIDE, apart, keys_of, named, parts
from datamodules.streams.known import streams_of
from datamodules.streams.pseudo_label import PseudoLabelStream
from datamodules.types import FEATURE_KEYS, AugmentConfig, Batch, DataConfig, Inputs, RawBatch


class Features(nn.Module):
    """What the workers decoded -> what a method sees; with augmentation in training. On the batch's device."""

    def __init__(self, inputs: Inputs, augment: AugmentConfig):
        super().__init__()
        self.streams = streams_of(inputs)
        self.transforms = {
            name: stream.transform(replace(augment, **stream.augment or {})) for name, stream in self.streams.items()
        }
        self.parts = nn.ModuleList(self.transforms.values())  # a ModuleDict refuses names such as `half`
        self.rows = inputs.rows

    @torch.no_grad()
    def forward(self, raw: RawBatch, train: bool) -> Batch:
        if train:
            raw = self._augmented(raw)
        if train and "partner" in raw:
            raw = mixup(raw, self.transforms)
        batch: dict[str, Any] = {name: raw[name] for name in ("clip_id", "key", "label")}
        for row, config in self.rows.items():
            batch |= {f"{row}_{what}": _grouped(cast(Mapping, raw)[f"{row}_{what}"], config.count) for what in BESIDE}
        for name, transform in self.transforms.items():
            stream = self.streams[name]
            own = parts(raw, name, stream.part_names)
            batch |= named(apart(stream, transform(own, keys_of(stream, raw), train)), name)
        for name in FEATURE_KEYS.values():  # of a stage of the method
            if name in raw and name not in batch:
                batch[name] = raw[name]
        if "partner" in raw:
            batch["partner"] = raw["partner"]  # `mixup` has made it a `Batch`'s
        return cast(Batch, batch)

    def _augmented(self, raw: RawBatch) -> RawBatch:
        """The clips and their partners, each by itself."""
        augmented: dict[str, Any] = dict(raw)
        for name, transform in self.transforms.items():
            augmented |= named(transform.augmented(parts(raw, name), keys_of(self.streams[name], raw)), name)
        if "partner" in raw:
            augmented["partner"] = self._augmented(raw["partner"])
        return cast(RawBatch, augmented)


def _grouped(values: Tensor | list[str], count: int) -> Any:
    """[B * count, ...] -> [B, count, ...], for more than 1."""
    if count == 1:
        return values
    if isinstance(values, Tensor):
        return values.view(-1, count, *values.shape[1:])
    return [values[at : at + count] for at in range(0, len(values), count)]


def features_of(config: DataConfig, mixture: Mixture | None) -> nn.Module:
    """What the workers decoded of a stage's dataset, or of its mixture -> what a method sees."""
    own = Features(config.inputs, config.augment)
    if mixture is None:
        return own
    others = [Features(part.config.inputs, part.config.augment) for part in mixture.parts[1:]]
    return JoinedFeatures([own, *others], Joined([part.spec for part in mixture.parts], mixture.mixes))


class AVDataModule(L.LightningDataModule):
    """Serves the clips of one stage, in training and in evaluation, to any number of ranks.

    Args:
        train: clips to train on, or None.
        scored: clips to evaluate, or None.
        validated: clips to evaluate while the stage trains, or None.
        config: inputs, augmentation, loader.
        batch_size: clips of a step over all ranks.
        epochs: passes over the training clips.
        seed: of order and augmentation.
        views: windows of each clip that is evaluated.
        crops: squares of the pictures of each of these windows.
        extracted: modality -> folder of the features that are read instead of media, see `extracted.py`.
        labels: stream -> file of the pseudo-labels that a stage of the method wrote.
        mixture: the datasets to train on, where they are several; `train` and `config` are of the first.
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
        crops: int = 1,
        extracted: Mapping[str, Path] | None = None,
        labels: Mapping[str, Path] | None = None,
        mixture: Mixture | None = None,
        validated: Manifest | None = None,
    ):
        super().__init__()
        self.extracted, self.labels = extracted or {}, labels or {}
        self.train, self.scored, self.validated, self.config = train, scored, validated, config
        self.batch_size, self.epochs, self.seed = batch_size, epochs, seed
        self.views, self.crops = views, crops
        self.features, self.mixture = features_of(config, mixture), mixture

    @property
    def _trained(self) -> L.Trainer:
        assert self.trainer is not None  # it is a Trainer that asks for loaders
        return self.trainer

    @property
    def augments(self) -> bool:
        """Whether clips are augmented."""
        return self._trained.training

    def _loader(self, manifest: Manifest, sampler: Sampler[list[ClipRef]]) -> Loader:
        clip_ids = manifest.table["clip_id"]
        extracted = {modality: ExtractedFeatures(folder, clip_ids) for modality, folder in self.extracted.items()}
        clips = ClipDataset(self._labelled(manifest), self.config, self.seed, self.views, extracted, self.crops)
        return self._reading(clips, sampler, collate)

    def _labelled(self, manifest: Manifest) -> Manifest:
        """The clips with the pseudo-labels that stages of the method wrote."""
        table, streams = manifest.table, streams_of(self.config.inputs)
        for name, file in self.labels.items():
            table = cast(PseudoLabelStream, streams[name]).labelled(table, file)
        return replace(manifest, table=table)

    def _reading(self, clips: Dataset, sampler: Sampler[list[Any]], collate: Callable[[Any], Any]) -> Loader:
        return Loader(
            clips,
            batch_sampler=sampler,
            num_workers=worker_count(self.config.loader.workers, self._trained.num_devices),
            collate_fn=collate,
            pin_memory=self._trained.strategy.root_device.type == "cuda",
        )

    def train_dataloader(self) -> Loader:
        """All batches of all epochs that are left to do."""
        if self.mixture is not None:
            return self._mixture_loader(self.mixture)
        assert self.train is not None
        accumulate = self._trained.accumulate_grad_batches
        order = order_of(self.train, self.config.loader, self.seed)
        sampler = TrainSampler(
            len(self.train),
            self.epochs,
            self.batch_size // accumulate // self.train.clips_a_row(self.config.narration),
            rank=self._trained.global_rank,
            ranks=self._trained.world_size,
            seed=self.seed,
            start=self._trained.global_step * accumulate,
            weights=order.weights,
            draws=order.draws,
            replacement=order.replacement,
        )
        return self._loader(self.train, sampler)

    def _mixture_loader(self, mixture: Mixture) -> Loader:
        """The same of several datasets."""
        accumulate = self._trained.accumulate_grad_batches
        seeds = [part.seed(self.seed) for part in mixture.parts]
        clips = [ClipDataset(part.manifest, part.config, seed) for part, seed in zip(mixture.parts, seeds, strict=True)]
        sampler = MixtureSampler(
            [
                order_of(part.manifest, part.config.loader, seed)
                for part, seed in zip(mixture.parts, seeds, strict=True)
            ],
            np.repeat(mixture.counts(self.epochs, self.seed) // accumulate, accumulate, axis=0),
            rank=self._trained.global_rank,
            ranks=self._trained.world_size,
            start=self._trained.global_step * accumulate,
        )
        return self._reading(MixedClips(clips), sampler, collate_parts)

    def test_dataloader(self) -> Loader:
        """Each view of each scored clip once, on one of the ranks."""
        assert self.scored is not None
        return self._evaluation_loader(self.scored)

    def validation_loader(self) -> Loader:
        """The same of the clips that are evaluated while the stage trains. Not called `val_dataloader`: it is the
        harness that goes through it, at the end of an epoch, and not Lightning."""
        assert self.validated is not None
        return self._evaluation_loader(self.validated)

    def _evaluation_loader(self, manifest: Manifest) -> Loader:
        ranks = self._trained.world_size
        batch = max(1, self.batch_size // (ranks * self._trained.accumulate_grad_batches * self.crops))
        sampler = EvalSampler(len(manifest), batch, rank=self._trained.global_rank, ranks=ranks, views=self.views)
        return self._loader(manifest, sampler)

    def on_after_batch_transfer(self, batch: RawBatch | RawParts, dataloader_idx: int) -> Batch:
        first = next(iter(cast(RawParts, batch)["parts"].values())) if "parts" in batch else batch
        self.features.to(first["key"].device)
        return self.features(batch, train=self.augments)
