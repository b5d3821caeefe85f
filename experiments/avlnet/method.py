"""AVLnet's stages: `AVLnet` knows sound and pictures; `Tri` (fine-tuned as `TriSum`) and `Fused` know words, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.avlnet import model
from experiments.avlnet.checkpoints import load
from experiments.common.losses.contrastive import masked_margin_softmax
from experiments.common.stage import StageSpec
from experiments.common.stages.narrated import BranchedStage, NarratedOptions


@dataclass
class Options(NarratedOptions):
    margin: float = 0.001
    """By which the score of a right pair is lowered in the loss (official `loss.py`)."""


class AVLnet(BranchedStage[model.AVLnetConfig, Options]):
    """Sound and pictures of a clip find each other among all clips of the batch; no word is ever read."""

    text: ClassVar[model.Text] = "none"
    knows_words = False
    net: model.AVLnet

    def __init__(self, spec: StageSpec[model.AVLnetConfig, Options]):
        super().__init__(spec)
        self.net = model.AVLnet(spec.model, self.text)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def agreement(self, x_BD: Tensor, y_BD: Tensor, batch: Batch, modalities: str) -> Tensor:
        """Masked margin softmax over the clips that have these modalities."""
        return masked_margin_softmax(x_BD, y_BD, self.spec.options.margin, self.present(batch, modalities))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.agreement(self.embed(batch, "a"), self.embed(batch, "v"), batch, "av")}

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"embedding": {modality: self.embed(batch, modality) for modality in "av"}}


class Tri(AVLnet):
    """Three branches; each pair of them agrees. A clip is found by its sound and pictures, whose embeddings are
    added."""

    text = "tri"
    knows_words = True

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = {modality: self.embed(batch, modality) for modality in "avt"}
        terms = {pair: self.agreement(x[pair[0]], x[pair[1]], batch, pair) for pair in ("av", "at", "tv")}
        return {**terms, "loss": cast(Tensor, sum(terms.values()))}  # 0 only of no terms

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        x = {modality: self.embed(batch, modality) for modality in self.spec.modality}
        return {"embedding": x | {"av": x["a"].float() + x["v"].float()}}


class TriSum(Tri):
    """Words find the sum of sound and pictures (official `fuse_videoaudio_additive`)."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = {modality: self.embed(batch, modality) for modality in "avt"}
        return {"loss": self.agreement(x["t"], x["a"] + x["v"], batch, "avt")}


class Fused(AVLnet):
    """Sound and words together find the pictures."""

    text = "fused"
    knows_words = True

    def embed(self, batch: Batch, modality: str) -> Tensor:
        if modality != "at":
            return super().embed(batch, modality)
        return self.net.audio_text(batch["audio"][:, 0], batch["audio_length"], self.word_vectors(batch))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.agreement(self.embed(batch, "at"), self.embed(batch, "v"), batch, "avt")}

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"embedding": {modality: self.embed(batch, modality) for modality in ("at", "v")}}
