"""CrissCross's stages: `Pretrain`; and what its encoders are judged by, `SVM`, `Linear`, `Nearest` and `Finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.networks.batch_norm import over_processes
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import INPUT, Classifier
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.linear import LinearOptions, LinearProbe
from experiments.common.stages.neighbours import NearestNeighbours, NeighboursOptions
from experiments.common.stages.network import NetworkStage
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.crisscross.checkpoints import load
from experiments.crisscross.model import CrissCross, CrissCrossConfig, Encoders, conv5_width
from experiments.crisscross.objective import GROUPS, criss_cross, spread

VIEWS = {"v1": "video_1", "v2": "video_2", "a1": "audio", "a2": "audio_2"}
"""View -> its stream: two windows of each modality."""


@dataclass
class PretrainOptions:
    """Defaults are the official `configs/pretext/kinetics400/crisscross.yaml`."""

    groups: list[str] = field(default_factory=lambda: list(GROUPS))
    """Pairs of views that predict each other, of which the loss is the mean: `intra`, `synchronous`, `asynchronous`."""
    predictor_rate: float = 10.0
    """The predictors' learning rate, in shares of the others' highest; it stays the same in all steps."""


class Pretrain(NetworkStage[CrissCrossConfig, PretrainOptions]):
    """Two windows of a clip's pictures and two of its sound predict each other."""

    compares_clips = True  # by batch norm
    net: CrissCross

    def __init__(self, spec: StageSpec[CrissCrossConfig, PretrainOptions]):
        super().__init__(spec)
        if not (groups := spec.options.groups) or set(groups) - GROUPS.keys():
            raise ValueError(f"options.groups={list(groups)}: name some of {', '.join(GROUPS)}")
        self.net = CrissCross(spec.model)
        over_processes(self.net)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights, "va")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        streams: Mapping[str, Any] = batch
        both = {view: self.net(view[0], streams[stream]) for view, stream in VIEWS.items()}
        z, p = ({view: each[place] for view, each in both.items()} for place in (0, 1))
        terms = criss_cross(z, p, self.spec.options.groups)
        return {**terms, "spread_v": spread(z["v1"]), "spread_a": spread(z["a1"])}

    def share_of_rate(self, name: str) -> float:
        return self.spec.options.predictor_rate if self.keeps_rate(name) else 1.0

    def keeps_rate(self, name: str) -> bool:
        return name.startswith("net.predictors.")


class Features(FrozenNetwork[CrissCrossConfig, Options]):
    """One encoder: of sound the maxima of its last map, of pictures the mean."""

    net: Encoders

    def __init__(self, spec: StageSpec[CrissCrossConfig, Options]):
        model, audio = spec.model, spec.inputs.audio
        width = conv5_width(model.audio, audio.frames, audio.mel_bins) if audio else model.video.widths[-1]
        super().__init__(spec, Encoders(model, spec.modality), width)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights, self.spec.modality)

    def pooled(self, batch: Batch) -> Tensor:
        """[B, D, mels, places] of sound, [B, D] of pictures."""
        map_BDXX = self.net.mapped(self.spec.modality, batch[INPUT[self.spec.modality]])
        if self.spec.modality == "v":
            return map_BDXX.flatten(2).mean(2)
        return F.max_pool2d(map_BDXX, (1, 3), (1, 2))  # official `evaluate/models/classifier.py`

    def embed(self, batch: Batch) -> Tensor:
        return self.pooled(batch).flatten(1)


class SVM(Features[SVMOptions], LinearSVM[CrissCrossConfig]):
    """A linear SVM on the features, which are of length 1 along time (official `evaluate/audio/audio_svm.py`)."""

    def embed(self, batch: Batch) -> Tensor:
        pooled = self.pooled(batch)
        return F.normalize(pooled, dim=-1).flatten(1) if pooled.ndim > 2 else pooled


class Linear(Features[LinearOptions], LinearProbe[CrissCrossConfig]):
    """A linear layer on the features (official `evaluate/audio/audio_fctune.py`)."""


class Nearest(Features[NeighboursOptions], NearestNeighbours[CrissCrossConfig]):
    """Clips of the test split find those of the training split by the features."""


@dataclass
class FinetuneOptions:
    """Defaults are the official `configs/downstream/ucf101/kinetics400/full_ft_32f_fold1.yaml`."""

    dropout: float = 0.0
    """Before the classifier."""
    label_smoothing: float = 0.0
    """Of the targets."""


class Finetune(Classifier[CrissCrossConfig, FinetuneOptions]):
    """The encoder goes on learning, under a classifier of the maxima of its last map."""

    net: Encoders

    def __init__(self, spec: StageSpec[CrissCrossConfig, FinetuneOptions]):
        super().__init__(spec)
        self.net = Encoders(spec.model, spec.modality)
        of = spec.model.video if spec.modality == "v" else spec.model.audio
        self.head = nn.Linear(of.widths[-1], spec.num_classes)
        nn.init.orthogonal_(self.head.weight)  # official `evaluate/models/classifier.py`
        nn.init.zeros_(self.head.bias)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights, self.spec.modality)

    def logits(self, batch: Batch) -> Tensor:
        pooled_BD = self.net.mapped(self.spec.modality, batch[INPUT[self.spec.modality]]).flatten(2).amax(2)
        return self.head(F.dropout(pooled_BD, self.spec.options.dropout, self.training))
