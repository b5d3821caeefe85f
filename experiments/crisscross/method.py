"""CrissCross's stages: `Pretrain`; and what its encoders are judged by, `SVM`, `Nearest` and `Finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.networks.batch_norm import over_processes
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import INPUT, Classifier
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.neighbours import NearestNeighbours, NeighboursOptions
from experiments.common.stages.network import NetworkStage
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.crisscross.checkpoints import load, load_encoder
from experiments.crisscross.model import CrissCross, CrissCrossConfig, conv5_features, conv5_width, encoder, mapped
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
        groups = spec.options.groups
        if not groups or set(groups) - GROUPS.keys():
            raise ValueError(f"options.groups={list(groups)}: name some of {', '.join(GROUPS)}")
        self.net = CrissCross(spec.model)
        over_processes(self.net)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

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

    def __init__(self, spec: StageSpec[CrissCrossConfig, Options]):
        net, audio = encoder(spec.model, spec.modality), spec.inputs.audio
        width = conv5_width(spec.model.audio, audio.frames, audio.mel_bins) if audio is not None else net.width
        super().__init__(spec, net, width)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load_encoder(self.net, weights, self.spec.modality)

    def embed(self, batch: Batch) -> Tensor:
        """[B, width]."""
        map_BDXX = mapped(self.net, batch[INPUT[self.spec.modality]])
        return conv5_features(map_BDXX) if self.spec.modality == "a" else map_BDXX.flatten(2).mean(2)


class SVM(Features[SVMOptions], LinearSVM[CrissCrossConfig]):
    """A linear SVM on the features (official `evaluate/audio/audio_svm.py`)."""


class Nearest(Features[NeighboursOptions], NearestNeighbours[CrissCrossConfig]):
    """Clips of the test split find those of the training split by the features."""


@dataclass
class FinetuneOptions:
    """Defaults are the official `configs/downstream/ucf101/kinetics400/full_ft_32f_fold1.yaml`."""

    pool: Literal["max", "mean"] = "max"
    """Of the last map."""
    dropout: float = 0.0
    """Before the classifier."""
    label_smoothing: float = 0.0
    """Of the targets."""


class Finetune(Classifier[CrissCrossConfig, FinetuneOptions]):
    """The encoder of pictures or of sound goes on learning, under a classifier."""

    def __init__(self, spec: StageSpec[CrissCrossConfig, FinetuneOptions]):
        super().__init__(spec)
        self.net = made = encoder(spec.model, spec.modality)
        self.head = nn.Linear(made.width, spec.num_classes)
        nn.init.orthogonal_(self.head.weight)  # official `evaluate/models/classifier.py`
        nn.init.zeros_(self.head.bias)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load_encoder(self.net, weights, self.spec.modality)

    def logits(self, batch: Batch) -> Tensor:
        map_BDS = mapped(self.net, batch[INPUT[self.spec.modality]]).flatten(2)
        pooled_BD = map_BDS.amax(2) if self.spec.options.pool == "max" else map_BDS.mean(2)
        dropped = torch.nn.functional.dropout(pooled_BD, self.spec.options.dropout, self.training)
        return self.head(dropped)
