"""Runs of the authors' code of AVLnet, MCN and Everything at Once, and batches of them for our stages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.types import Batch, TextInputs
from experiments.common.stages.narrated import NarratedStage
from tests.experiments.golden import drawn, recorded

_drawn = cache(drawn)
WORD2VEC = TextInputs("word2vec")
"""Of a stage that `batch_of` brings the word vectors."""


@dataclass(frozen=True)
class Recording:
    """What was recorded of one method, and how large its drawn weights are."""

    method: str
    kernels: float = 12.0
    """At 12 the outputs of a layer have about the deviation of its inputs."""
    vectors: float = 0.2
    """Deviation of biases and of the weights of norms, which are about 1."""
    variances: float = 1.0

    @cached_property
    def values(self) -> dict[str, Any]:
        return recorded(self.method)

    def drawn(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
        return _drawn(f"{self.method.replace('_', ' ')} parity", name, shape).clone()

    def weights(self, shapes: Mapping[str, list[int]]) -> dict[str, Tensor]:
        """The authors' names -> weights."""
        return {name: self._weight(name, *shape) for name, shape in shapes.items()}

    def _weight(self, name: str, *shape: int) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.zeros(shape, dtype=torch.long)
        if name.endswith("running_var"):
            return 1 + self.variances * self.drawn(name, *shape)
        if len(shape) == 1:
            return self.vectors * self.drawn(name, *shape) + float(name.endswith("weight"))
        return self.drawn(name, *shape) * (self.kernels / math.prod(shape[1:])) ** 0.5


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


def close(ours: Tensor, golden: Any, tolerance: float = 1e-5) -> bool:
    """Whether these are the recorded numbers, in the same shape."""
    expected = torch.tensor(golden)
    return ours.shape == expected.shape and (ours.detach() - expected).abs().max().item() < tolerance
