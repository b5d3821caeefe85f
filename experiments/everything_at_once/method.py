"""Everything at Once's stages: `Train`, which also measures retrieval, `LateFusion` and `Localise`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.common.stage import StageSpec
from experiments.common.stages.by_name import ByName
from experiments.common.stages.narrated import LENGTHS, NarratedOptions, NarratedStage
from experiments.everything_at_once.checkpoints import load
from experiments.everything_at_once.model import EverythingAtOnce, EverythingAtOnceConfig, Tokens
from experiments.everything_at_once.objective import PairWeights, combinatorial_loss, embeddings_of


@dataclass
class TrainOptions(NarratedOptions):
    tau: float = 0.05
    """Temperature of the cosines (official `loss/contrastive_losses.py`)."""
    weights: PairWeights = field(default_factory=PairWeights)


class Train(NarratedStage[EverythingAtOnceConfig, TrainOptions]):
    """Every modality, alone, against every other and against both others together."""

    net: EverythingAtOnce

    def __init__(self, spec: StageSpec[EverythingAtOnceConfig, TrainOptions]):
        super().__init__(spec)
        self.net = EverythingAtOnce(spec.model)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def tokens(self, batch: Batch, modalities: Iterable[str]) -> dict[str, Tokens]:
        """What these modalities bring into the transformer."""
        return self.net.tokens({m: (self.values(batch, m), batch[LENGTHS[m]]) for m in modalities})

    def values(self, batch: Batch, modality: str) -> Tensor:
        """[B, ...] log-mels, features or word vectors."""
        if modality == "t":
            return self.word_vectors(batch)
        return batch["audio"][:, 0] if modality == "a" else batch["video_feat"]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        options, tokens = self.spec.options, self.tokens(batch, "avt")
        embeddings = self.net.embed(tokens, embeddings_of(options.weights))
        nonempty = {modality: own.nonempty_B for modality, own in tokens.items()}
        return combinatorial_loss(embeddings, nonempty, options.weights, options.tau)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Each modality alone, and each set of them fused."""
        tokens = self.tokens(batch, self.spec.modality)
        return {"embedding": self.net.embed(tokens, subsets(self.spec.modality))}


class LateFusion(Train):
    """No training: the mean of two embeddings of one modality each, for comparison with those that are fused
    (official `t2v+a`)."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        alone = self.net.embed(self.tokens(batch, self.spec.modality), self.spec.modality)
        means = {both: (alone[both[0]] + alone[both[1]]) / 2 for both in subsets(self.spec.modality) if len(both) == 2}
        return {"embedding": alone | means}


class Localise(ByName[EverythingAtOnceConfig, TrainOptions], Train):
    """No training: each second's sound and pictures, fused, against the names of the steps."""

    def embed_clips(self, batch: Batch) -> Tensor:
        modality = self.spec.modality
        return self.net.embed(self.tokens(batch, modality), [modality])[modality]

    def embed_names(self) -> Tensor:
        return self.net.embed(self.net.tokens({"t": self.class_words()}), ["t"])["t"]

    def temperature(self) -> float:
        return self.spec.options.tau


def subsets(modalities: str) -> list[str]:
    """All sets of one, two or more of them: `avt` -> a, v, t, av, at, vt, avt."""
    return ["".join(some) for size in range(1, len(modalities) + 1) for some in combinations(modalities, size)]
