"""XDC's stages: `Cluster` labels the clips, `Train` learns these labels; `SVM`, `Linear` and `Finetune` judge what that
gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch, Outputs
from experiments.common.clustering import ClusteringOptions, clustered
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import Classifier
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.linear import LinearOptions, LinearProbe
from experiments.common.stages.network import NetworkStage
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.xdc.checkpoints import load
from experiments.xdc.model import TARGETS, Encoders, Heads, XDCConfig

CLUSTERS = "clusters_"
"""Streams of pseudo-labels are called so, and by the modality whose clusters they are."""


class Encoded(NetworkStage[XDCConfig, Options]):
    """What all stages share: the encoders of what they look at."""

    net: Encoders

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Encoder -> [B, D]."""
        read = {"v": lambda: self.net.see(batch["video"]), "a": lambda: self.net.hear(batch["audio"])}
        return {encoder: read[encoder]() for encoder in self.net}


# --- rounds of clustering and training ------------------------------------------------------------------------


@dataclass
class ClusterOptions(ClusteringOptions):
    """Of the clusters."""

    found_in: list[str] = field(default_factory=list)
    """Splits in which clusters are found; clips of the others that are extracted go to the nearest. None = all."""


class Cluster(Encoded[ClusterOptions]):
    """Clusters of the features of a whole dataset, in evaluation mode; they stay as they are until the next round."""

    def __init__(self, spec: StageSpec[XDCConfig, ClusterOptions]):
        super().__init__(spec)
        self.net = Encoders(spec.model, spec.modality)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        features = self.features(batch)
        return {"features": torch.stack([features["v"], features["a"]], dim=1)}

    def pseudo_labels(
        self, features_NTD: np.ndarray, clip_ids: pd.Series, splits: pd.Series, seed: int
    ) -> dict[str, Tensor | np.ndarray]:
        """y_v and y_a, each of its own modality's features; with `cdc` both are y of the concatenated ones."""
        options, k = self.spec.options, self.spec.model.clusters
        found_N = splits.isin(options.found_in or list(splits.unique())).to_numpy()
        if self.spec.model.form == "cdc":
            both_N = clustered(features_NTD.reshape(len(features_NTD), -1), k, found_N, options, seed)
            return {"v": both_N, "a": both_N}
        each = {"v": features_NTD[:, 0], "a": features_NTD[:, 1]}
        return {of: clustered(np.ascontiguousarray(x_ND), k, found_N, options, seed) for of, x_ND in each.items()}


@dataclass
class NoOptions:
    """The stage has no numbers of its own."""


class Train(Encoded[NoOptions]):
    """CE(W_v E_v(x_v), y_a) + CE(W_a E_a(x_a), y_v): two classifications, which share neither weights nor gradients.

    The classifiers are new in each round, as clusters have no identity from round to round; encoders are kept.
    """

    def __init__(self, spec: StageSpec[XDCConfig, NoOptions]):
        """Builds the encoders and new classifiers.

        Raises:
            ValueError: labels are of another number of clusters.
        """
        super().__init__(spec)
        k = spec.model.clusters
        for name, stream in spec.inputs.streams.items():
            if (classes := stream.get("classes", k)) != k:
                raise ValueError(
                    f"model.clusters={k}, but data.inputs.streams.{name}.classes={classes} of the stage; set both"
                )
        self.net = Encoders(spec.model, spec.modality)
        self.heads = Heads(spec.model)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        features, label = self.features(batch), cast(Mapping[str, Tensor], batch)
        terms = {
            f"{encoder}_{of}": F.cross_entropy(
                cast(nn.ModuleDict, self.heads[encoder])[of](features[encoder]), label[CLUSTERS + of]
            )
            for encoder, targets in TARGETS[self.spec.model.form].items()
            for of in targets
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}


# --- what judges them -----------------------------------------------------------------------------------------


class Judge(Encoded[Options]):
    """Of one encoder, to which it is all the same whose clusters it has learnt."""

    @classmethod
    def model_of(cls, model: XDCConfig, options: Options) -> XDCConfig:
        return replace(model, form="xdc", clusters=0)

    @staticmethod
    def encoder(spec: StageSpec[XDCConfig, Options]) -> Encoders:
        """That of the stage's modality.

        Raises:
            ValueError: there are two, or none.
        """
        if spec.modality not in ("v", "a"):
            raise ValueError(f"modality={spec.modality}: one encoder is judged, v or a")
        return Encoders(spec.model, spec.modality)


class Frozen(Judge[Options], FrozenNetwork[XDCConfig, Options]):
    """Features of the encoder as it is."""

    def __init__(self, spec: StageSpec[XDCConfig, Options]):
        net = self.encoder(spec)
        super().__init__(spec, net, net.width)

    def embed(self, batch: Batch) -> Tensor:
        return self.features(batch)[self.spec.modality]


class SVM(Frozen[SVMOptions], LinearSVM[XDCConfig]):
    """A linear SVM on them."""


class Linear(Frozen[LinearOptions], LinearProbe[XDCConfig]):
    """A linear layer on them."""


@dataclass
class FinetuneOptions:
    """Of fine-tuning."""

    label_smoothing: float = 0.0
    """Of the targets."""


class Finetune(Judge[FinetuneOptions], Classifier[XDCConfig, FinetuneOptions]):
    """The encoder goes on learning, under a new linear layer."""

    def __init__(self, spec: StageSpec[XDCConfig, FinetuneOptions]):
        super().__init__(spec)
        self.net = self.encoder(spec)
        self.head = nn.Linear(self.net.width, spec.num_classes)

    def logits(self, batch: Batch) -> Tensor:
        return self.head(self.features(batch)[self.spec.modality])
