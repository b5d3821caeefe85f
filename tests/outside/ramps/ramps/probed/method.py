"""A linear SVM on what a sound says of its video, written down as it is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.stage import StageSpec
from experiments.common.stages.neighbours import NearestNeighbours, NeighboursOptions
from experiments.common.stages.svm import LinearSVM, SVMOptions
from ramps import HIGHEST


@dataclass
class Nothing:
    """The network has no settings."""


@dataclass
class Options(SVMOptions):
    log: str = ""
    """File for what it is fitted to."""


class Probe(LinearSVM[Nothing]):
    options_config = Options

    def __init__(self, spec: StageSpec[Nothing, SVMOptions]):
        super().__init__(spec, nn.Identity(), 3)

    def embed(self, batch: Batch) -> Tensor:
        """One of three directions, by the number of the video, and a little of the second at which it begins."""
        number_B = batch["wave"][:, 0] * HIGHEST
        return F.one_hot((number_B.floor() % 3).long(), 3) + 1e-3 * number_B[:, None]

    def fit(self, features_ND: np.ndarray, label_NC: np.ndarray, seed: int) -> str:
        np.savez(Path(self.spec.options.log), features=features_ND, label=label_NC, seed=seed)
        torch.manual_seed(seed)
        return super().fit(features_ND, label_NC, seed)


class Near(NearestNeighbours[Nothing]):
    """A video lies on a circle, next to those before and after it."""

    def __init__(self, spec: StageSpec[Nothing, NeighboursOptions]):
        super().__init__(spec, nn.Identity(), 2)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """There are none."""

    def embed(self, batch: Batch) -> Tensor:
        number_B = batch["wave"][:, 0] * HIGHEST / 20
        return torch.stack([number_B.cos(), number_B.sin()], dim=1)
