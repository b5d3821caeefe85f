"""The base of stages on narrated videos: sound, feature files of the pictures, and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor

from datamodules.types import Batch, Similarity
from experiments.common.networks.words import WordVectors
from experiments.common.stage import StageSpec
from experiments.common.stages.network import NetworkStage
from experiments.common.weights import load_strict, without_prefix

LENGTHS: dict[str, Literal["audio_length", "video_feat_length", "text_length"]] = {
    "a": "audio_length",
    "v": "video_feat_length",
    "t": "text_length",
}
"""Modality -> key of how much of it a clip has; 0 = none, which is a mask and never zeros to learn from."""


@dataclass(kw_only=True)
class NarratedOptions:
    """Options of the stages of every narrated method."""

    mode: Literal["train", "eval"] = "train"
    """In which the network is while it is trained. In `eval` batch norms neither use nor change a batch's statistics,
    and a branch pools the clip's own sound only, without the padding."""


class WordsConfig(Protocol):
    """A network that reads words."""

    word_dim: int
    """Length of the word vectors."""


WordsModel = TypeVar("WordsModel", bound=WordsConfig)
Narrated = TypeVar("Narrated", bound=NarratedOptions)


class NarratedStage(NetworkStage[WordsModel, Narrated]):
    """Subclasses build `net` and write `load_net`; those that read words set `knows_words`."""

    knows_words = True
    compares_clips = True

    def __init__(self, spec: StageSpec[WordsModel, Narrated]):
        super().__init__(spec)
        self.words = None
        if self.knows_words:
            if spec.text is None:
                raise ValueError("data.inputs.text is not set: name the tokenizer whose words have vectors")
            self.words = WordVectors(spec.text, spec.model.word_dim)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' file or our own. Learned word vectors are in ours only, word2vec's in neither."""
        words = {key: value for key, value in weights.items() if key.startswith("words.")}
        if self.words is not None:
            load_strict(self.words, without_prefix(words, "words."))
        super().load_parent({key: value for key, value in weights.items() if key not in words})

    def on_train_start(self) -> None:
        self.net.train(self.spec.options.mode == "train")

    def present(self, batch: Batch, modalities: str) -> Tensor:
        """[B] bool, the clips that have all of these modalities."""
        return torch.stack([batch[LENGTHS[modality]] > 0 for modality in modalities]).all(0)

    def word_vectors(self, batch: Batch) -> Tensor:
        """[B, L, word_dim] of what is said, zero after the end."""
        assert self.words is not None
        return self.words(batch["text"])

    def class_words(self) -> tuple[Tensor, Tensor]:
        """([C, L, word_dim] vectors of the classes' names, [C] number of words)."""
        assert self.words is not None and self.spec.text is not None
        ids_CL = torch.zeros(len(self.spec.class_text), self.spec.text.length, dtype=torch.int64)
        for row_L, ids in zip(ids_CL, self.spec.class_text, strict=True):
            row_L[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        ids_CL = ids_CL.to(self.device)
        return self.words(ids_CL), (ids_CL > 0).sum(1)


class Branches(Protocol):
    """A network with a branch a modality, each from its input to [B, D]."""

    def audio(self, audio_BFM: Tensor, length_B: Tensor) -> Tensor: ...

    def video(self, features_BTD: Tensor, length_B: Tensor) -> Tensor: ...

    def text(self, words_BLD: Tensor) -> Tensor: ...


class BranchedStage(NarratedStage[WordsModel, Narrated]):
    """Of a network with a branch a modality, whose embeddings are compared by their dot product (AVLnet, MCN)."""

    similarity: ClassVar[Similarity] = "dot"

    def embed(self, batch: Batch, modality: str) -> Tensor:
        """[B, D] of one branch."""
        net = cast(Branches, self.net)
        if modality == "a":
            return net.audio(batch["audio"][:, 0], batch["audio_length"])
        if modality == "v":
            return net.video(batch["video_feat"], batch["video_feat_length"])
        return net.text(self.word_vectors(batch))
