"""Batches of the recorded runs of AVLnet, MCN and Everything at Once for our stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.types import Batch, TextInputs
from experiments.common.stages.narrated import NarratedStage

WORD2VEC = TextInputs("word2vec")
"""Of a stage that `batch_of` brings the word vectors."""


def batch_of(stage: NarratedStage, values: Mapping[str, Tensor], lengths: Mapping[str, Any]) -> Batch:
    """A batch of these log-mels, features and word vectors, which become the stage's; zeros are no word's."""
    words_BLD = values["t"]
    if stage.words is not None:
        stage.words._table = (F.pad(words_BLD.flatten(0, 1), (0, 0, 1, 0)),)
    clips, places = words_BLD.shape[:2]
    return Batch(
        audio=values["a"][:, None],
        audio_length=torch.as_tensor(lengths["a"]),
        video_feat=values["v"],
        video_feat_length=torch.as_tensor(lengths["v"]),
        text=torch.arange(1, clips * places + 1).view(clips, places) * words_BLD.any(2),
        text_length=torch.as_tensor(lengths["t"]),
    )
