"""Classes that are found by their names alone, without training: zero-shot classification, steps of a video."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.common.stage import Model, Options, Stage


class ByName(Stage[Model, Options], ABC):
    """What a clip is most like of the names of the classes, whose token ids are `spec.class_text`: on boards whose task
    `names_classes`. Derive it together with the stage that has the network, this one first:
    `class Recognise(ByName[Config, Options], Train)`."""

    @abstractmethod
    def embed_clips(self, batch: Batch) -> Tensor:
        """[B, D]."""

    @abstractmethod
    def embed_names(self) -> Tensor:
        """[C, D] of the classes, in their order."""

    def temperature(self) -> float:
        """By which the similarity is divided; the order of classes does not depend on it, their probabilities do."""
        return 1.0

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        clip_BD, name_CD = self.embed_clips(batch), self.embed_names()
        if self.similarity == "cosine":
            clip_BD, name_CD = F.normalize(clip_BD, dim=1), F.normalize(name_CD, dim=1)
        return {"logits": {self.spec.modality: clip_BD @ name_CD.T / self.temperature()}}
