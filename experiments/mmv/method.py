"""MMV's stages: `Train`, which also measures retrieval, and what its towers are judged by: `SVM` and `Finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from datamodules.types import Batch, Outputs
from experiments.common.losses.contrastive import mil_nce
from experiments.common.networks.batch_norm import over_processes
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import INPUT, Classifier
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.narrated import NarratedOptions, NarratedStage
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.mmv.checkpoints import load
from experiments.mmv.model import MMV, MMVConfig, Towers, widths


@dataclass
class TrainOptions(NarratedOptions):
    """Of the two losses."""

    tau: float = 0.07
    """Temperature of both."""
    sound_weight: float = 1.0
    """Of pictures and sound, NCE."""
    text_weight: float = 1.0
    """Of pictures and text, MIL-NCE."""


class Train(NarratedStage[MMVConfig, TrainOptions]):
    """Pictures find their sound and their words, and these find them. Clips that have none are masked."""

    net: MMV

    def __init__(self, spec: StageSpec[MMVConfig, TrainOptions]):
        super().__init__(spec)
        self.net = MMV(spec.model, spec.modality)
        over_processes(self.net)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights, self.spec.model.graph)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options, modalities = self.spec.options, self.spec.modality
        fine_BD, coarse_BD = self.net.see(batch["video"])
        terms = {}
        if "a" in modalities:
            heard_B1D = self.net.hear(batch["audio"])[:, None]
            there_B1 = batch["audio_length"][:, None] > 0
            terms["va"] = options.sound_weight * mil_nce(fine_BD, heard_B1D, options.tau, there_B1)
        if "t" in modalities:
            words_BNLD = self.word_vectors(batch)
            read_BND = self.net.read(words_BNLD.flatten(0, 1)).unflatten(0, words_BNLD.shape[:2])
            terms["vt"] = options.text_weight * mil_nce(coarse_BD, read_BND, options.tau, batch["text_length"] > 0)
        return {**terms, "loss": cast(Tensor, sum(terms.values()))}

    def embed(self, batch: Batch, modality: str) -> Tensor:
        """In the space of text, if that is looked at, or else in that of sound."""
        if modality == "t":
            return self.net.read(self.word_vectors(batch))
        if "t" in self.spec.modality:
            return self.net.see(batch["video"])[1] if modality == "v" else self.net.hear_as_text(batch["audio"])
        return self.net.see(batch["video"])[0] if modality == "v" else self.net.hear(batch["audio"])

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"embedding": {modality: self.embed(batch, modality) for modality in self.spec.modality}}


class Features(FrozenNetwork[MMVConfig, Options]):
    """What one tower makes of a clip."""

    net: Towers

    def __init__(self, spec: StageSpec[MMVConfig, Options]):
        super().__init__(spec, Towers(spec.model, spec.modality), widths(spec.model)[spec.modality])

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights, self.spec.model.graph)

    def embed(self, batch: Batch) -> Tensor:
        return tower(self.net, self.spec.modality)(batch[INPUT[self.spec.modality]])


def tower(net: Towers, modality: str) -> nn.Module:
    """That of a modality."""
    return net.video if modality == "v" else net.audio


class SVM(Features[SVMOptions], LinearSVM[MMVConfig]):
    """A linear SVM on standardised features (official `eval_ucf101.py`)."""


@dataclass
class FinetuneOptions:
    """No recipe is known."""

    label_smoothing: float = 0.0
    """Of the targets."""


class Finetune(Classifier[MMVConfig, FinetuneOptions]):
    """The tower goes on learning, under a linear layer."""

    net: Towers

    def __init__(self, spec: StageSpec[MMVConfig, FinetuneOptions]):
        super().__init__(spec)
        self.net = Towers(spec.model, spec.modality)
        self.head = nn.Linear(widths(spec.model)[spec.modality], spec.num_classes)
        over_processes(self.net)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights, self.spec.model.graph)

    def logits(self, batch: Batch) -> Tensor:
        return self.head(tower(self.net, self.spec.modality)(batch[INPUT[self.spec.modality]]))
