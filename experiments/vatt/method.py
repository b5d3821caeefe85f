"""VATT's stages: `Pretrain`, which also measures retrieval, and what its transformers are judged by: `LowRank`, `SVM`
and `Finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from datamodules.keyed import stable_hash
from datamodules.types import Batch, Outputs
from experiments.common.batches import stream
from experiments.common.compat import trainer_of
from experiments.common.losses.contrastive import mil_nce
from experiments.common.losses.mixup import mixed_with_reverse, mixing_shares
from experiments.common.networks.batch_norm import over_processes
from experiments.common.networks.layers import start_at_prior
from experiments.common.networks.masking import random_places
from experiments.common.networks.tokens import Patches
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import Classifier
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.low_rank import LowRankOptions, LowRankProbe
from experiments.common.stages.narrated import NarratedOptions, NarratedStage
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.vatt.checkpoints import load
from experiments.vatt.model import SOUND, VATT, Towers, VATTConfig
from experiments.vatt.objective import noisy, tagging_loss, two_way_nce


def read(batch: Batch, modality: str) -> Tensor:
    """Pictures, or sound."""
    return batch["video"] if modality == "v" else stream(batch, SOUND)


@dataclass(kw_only=True)
class PretrainOptions(NarratedOptions):
    """Of the two losses, and of what is dropped."""

    tau: float = 0.07
    """Temperature of both."""
    objective: Literal["joint", "two_way"] = "joint"
    """`joint`: what finds and what is found share a denominator; `two_way`: each direction has its own."""
    drop_rate: float = 0.5
    """Share of the tokens of pictures and of sound that no layer sees (DropToken)."""
    per_sample_drop: bool = False
    """Whether each clip drops tokens of its own, and not all clips of a step the same."""
    noise: float = 0.01
    """Deviation of the noise that waveforms get, in shares of their largest value."""


class Pretrain(NarratedStage[VATTConfig, PretrainOptions]):
    """Pictures and sound of a clip find each other, and pictures and words; what a clip has not is left out."""

    net: VATT

    def __init__(self, spec: StageSpec[VATTConfig, PretrainOptions]):
        self.knows_words = "t" in spec.modality
        super().__init__(spec)
        self.net = VATT(spec.model, spec.inputs, spec.modality, spec.text.length if spec.text else 0)
        over_processes(self.net)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def keep(self, modality: str, key_B: Tensor) -> Tensor | None:
        """[B, K] places of the tokens that are not dropped; the same for all clips on all devices, if each clip has
        not its own."""
        options = self.spec.options
        if not (self.training and options.drop_rate):
            return None
        length = cast(Patches, self.net.fronts[modality]).places.length
        purpose = f"tokens of {modality}"
        if options.per_sample_drop:
            return random_places(key_B, purpose, length, options.drop_rate)
        trainer = trainer_of(self)
        step = stable_hash("step", self.spec.seed, trainer.global_step if trainer else 0)
        key_1 = torch.full((1,), step, dtype=torch.int64, device=key_B.device)
        return random_places(key_1, purpose, length, options.drop_rate).expand(len(key_B), -1)

    def feature(self, batch: Batch, modality: str) -> Tensor:
        """[B, D], of several texts of each clip [B, N, D]."""
        if modality == "t":
            words, there = self.word_vectors(batch), batch["text"] > 0
            found = self.net("t", words.flatten(0, -3), there_BL=there.flatten(0, -2))
            return found.unflatten(0, there.shape[:-1])
        values = read(batch, modality)
        if modality == "a" and self.training and values.ndim == 2 and self.spec.options.noise:
            values = noisy(values, batch["key"], self.spec.options.noise)
        return self.net(modality, values, self.keep(modality, batch["key"]))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`va` and `vt`, and their mean."""
        options, modalities, terms = self.spec.options, self.spec.modality, {}
        nce = mil_nce if options.objective == "joint" else two_way_nce
        fine_BD = self.net.fine["v"](self.feature(batch, "v"))
        if "a" in modalities:
            heard_B1D = self.net.fine["a"](self.feature(batch, "a"))[:, None]
            there_B1 = stream(batch, f"{SOUND}_length")[:, None] > 0
            terms["va"] = nce(fine_BD, heard_B1D, options.tau, there_B1)
        if "t" in modalities:
            text = self.feature(batch, "t")
            read_BND = self.net.coarse["t"](text.flatten(0, -2)).unflatten(0, text.shape[:-1])
            length, many = batch["text_length"], text.ndim > 2
            there_BN, read_BND = (length > 0, read_BND) if many else (length[:, None] > 0, read_BND[:, None])
            terms["vt"] = nce(self.net.coarser(fine_BD), read_BND, options.tau, there_BN)
        return {**terms, "loss": torch.stack(list(terms.values())).mean()}

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """In the space of words where these are looked at, else in that of sound."""
        other = "t" if "t" in self.spec.modality else "a"
        space = self.net.coarse if other == "t" else self.net.fine
        seen_BD = self.net.fine["v"](self.feature(batch, "v"))
        seen_BD = self.net.coarser(seen_BD) if other == "t" else seen_BD
        return {"embedding": {"v": seen_BD, other: space[other](self.feature(batch, other))}}


class Features(FrozenNetwork[VATTConfig, Options]):
    """What AGG has become of a clip's pictures, or of its sound."""

    net: Towers

    def __init__(self, spec: StageSpec[VATTConfig, Options]):
        super().__init__(spec, Towers(spec.model, spec.inputs, spec.modality), spec.model.width(spec.modality))

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def embed(self, batch: Batch) -> Tensor:
        return self.net(self.spec.modality, read(batch, self.spec.modality))


class LowRank(Features[LowRankOptions], LowRankProbe[VATTConfig]):
    """The authors' classifier on the features."""


class SVM(Features[SVMOptions], LinearSVM[VATTConfig]):
    """A linear SVM on the features."""


@dataclass
class FinetuneOptions:
    """Defaults are Kinetics'."""

    dropout: float = 0.5
    """Before the classifier."""
    label_smoothing: float = 0.1
    """Of the targets, where a clip has one label."""
    mixup_alpha: float = 0.0
    """Of the Beta(alpha, alpha) from which the share is drawn by which a device's clips are mixed; 0 = no mix-up."""
    clip: float = 0.0
    """Largest norm of the gradient of all but the classifier; 0 = any."""


class Finetune(Classifier[VATTConfig, FinetuneOptions]):
    """A transformer goes on learning, under a linear layer on what AGG becomes; no token is dropped."""

    net: Towers

    def __init__(self, spec: StageSpec[VATTConfig, FinetuneOptions]):
        super().__init__(spec)
        self.net = Towers(spec.model, spec.inputs, spec.modality)
        self.dropout = nn.Dropout(spec.options.dropout)
        self.head = nn.Linear(spec.model.width(spec.modality), spec.num_classes)
        nn.init.xavier_uniform_(self.head.weight)
        start_at_prior(self.head, 1 / spec.num_classes if spec.multilabel else 0.5)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def logits(self, batch: Batch) -> Tensor:
        return self.classified(read(batch, self.spec.modality))

    def classified(self, values_B: Tensor) -> Tensor:
        """[B, C] of pictures or sound."""
        return self.head(self.dropout(self.net(self.spec.modality, values_B)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        share = mixing_shares("x", self.spec.options.mixup_alpha, apart=False)["x"]
        values_B, label_BC = (mixed_with_reverse(x, share) for x in (read(batch, self.spec.modality), batch["label"]))
        logits_BC = self.classified(values_B)
        if self.spec.multilabel:
            return {"loss": tagging_loss(logits_BC, label_BC)}
        return {"loss": self.label_loss(logits_BC, label_BC)}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.spec.options.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.spec.options.clip)
