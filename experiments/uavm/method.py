"""UAVM's stages: `TrainExtractor`, `Extract`, `Train` of the unified network, `Retrieve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from datamodules import keyed
from datamodules.streams.mixed import mix_in
from datamodules.types import FEATURE_KEYS, Batch, Outputs
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.classifier import INPUT, Classifier
from experiments.common.stages.network import NetworkStage
from experiments.uavm.checkpoints import imagenet, load, load_extractor
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig, VideoConvNeXt
from experiments.uavm.model import UAVM, OneModality, UAVMConfig, prepare


def make_extractor(spec: StageSpec) -> AudioConvNeXt | VideoConvNeXt:
    """The ConvNeXt of the stage's one modality.

    Raises:
        ValueError: if the stage looks at more than one, or the unified network expects other features.
    """
    if spec.modality not in INPUT:
        raise ValueError(f"modality={spec.modality}: an extractor looks at a or at v")
    make = AudioConvNeXt if spec.modality == "a" else VideoConvNeXt
    net = make(spec.model.extractor, spec.num_classes)
    if net.dim != spec.model.feature_dim:
        raise ValueError(f"model.feature_dim={spec.model.feature_dim}, but the extractor gives {net.dim}")
    return net


# --- extractors -----------------------------------------------------------------------------------------------


@dataclass
class TrainExtractorOptions:
    """Of an extractor's training."""

    label_smoothing: float = 0.1
    """Of the targets."""


class TrainExtractor(Classifier[UAVMConfig, TrainExtractorOptions]):
    """A classifier whose last feature map is what the unified network will look at."""

    channels_last = True
    net: AudioConvNeXt | VideoConvNeXt

    @classmethod
    def model_of(cls, model: UAVMConfig, options: TrainExtractorOptions) -> ConvNeXtConfig:
        return model.extractor

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.net = make_extractor(spec)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' audio extractor, ImageNet's ConvNeXt or our own; the classifier is new."""
        load_extractor(self.net, weights, new_head=True)

    def imagenet(self) -> Mapping[str, Tensor]:
        return imagenet(self.spec.model.extractor.size)


@dataclass
class ExtractOptions:
    """Extraction has no numbers of its own."""


class Extract(NetworkStage[UAVMConfig, ExtractOptions]):
    """No training: [B, T, D] features of each clip, by a frozen extractor; zeros for frames that are not there."""

    channels_last = True
    net: AudioConvNeXt | VideoConvNeXt

    @classmethod
    def model_of(cls, model: UAVMConfig, options: ExtractOptions) -> ConvNeXtConfig:
        return model.extractor

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.net = make_extractor(spec).requires_grad_(False)
        del self.net.head

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From `TrainExtractor`, the authors' audio extractor or ImageNet's ConvNeXt, of any classes."""
        load_extractor(self.net, weights)

    def imagenet(self) -> Mapping[str, Tensor]:
        return imagenet(self.spec.model.extractor.size)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        features_BTD = self.net.features(batch[INPUT[self.spec.modality]])
        if self.spec.modality == "v" and "video_length" in batch:
            step_T = torch.arange(features_BTD.shape[1], device=features_BTD.device)
            features_BTD = features_BTD * (step_T < batch["video_length"][:, None])[..., None]
        return {"features": features_BTD}


# --- the unified network --------------------------------------------------------------------------------------


@dataclass
class TrainOptions:
    """Of the unified network's training; defaults are the published code's."""

    audio_share: float = 0.5
    """Probability that a step looks at sound; else it looks at pictures (official `a_tr_prob`)."""
    roll: int = 15
    """Features are rolled in a circle by -roll..roll - 1 steps, both modalities of a clip alike; 0 = not."""
    label_smoothing: float = 0.1
    """Of the targets."""


class OnFeatures(NetworkStage[UAVMConfig, Options]):
    """The network on the features of both modalities, or of one."""

    net: UAVM

    def __init__(self, spec: StageSpec[UAVMConfig, Options]):
        super().__init__(spec)
        for modality, (_, dim) in spec.features.items():
            if dim != spec.model.feature_dim:
                raise ValueError(f"features of {modality} have {dim} numbers, but model.feature_dim differs")
        self.net = UAVM(spec.model, spec.num_classes)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' file of the same variant and classes, or our own."""
        load(self.net, weights)

    def features(self, batch: Batch, modality: OneModality) -> Tensor:
        """[B, steps, D], each step of length 1."""
        return prepare(batch[FEATURE_KEYS[modality]], self.spec.model.steps)


class Train(OnFeatures[TrainOptions], Classifier[UAVMConfig, TrainOptions]):
    """Each step sees one modality; the last layers see one modality as often as the other.

    At test time the logits of both are averaged. With `model.fusion=cross_attention`, the contrast to all this, every
    step and every prediction looks at both.
    """

    some_parameters_idle = True  # the other modality's
    mixes_features = True

    def modality_of_step(self, step: int) -> OneModality:
        """A coin that falls alike on all ranks, so that a step sees one modality in its whole batch."""
        key = torch.tensor([keyed.stable_hash("modality of step", self.spec.seed, step)])
        return "a" if float(keyed.uniform(key, "coin")) < self.spec.options.audio_share else "v"

    def features(self, batch: Batch, modality: OneModality) -> Tensor:
        """In training mixed and rolled, both modalities of a clip alike."""
        feature_BTD = super().features(batch, modality)
        if not self.training:
            return feature_BTD
        if (partner := batch.get("partner")) is not None:
            other_MTD = prepare(partner[FEATURE_KEYS[modality]], self.spec.model.steps)
            feature_BTD = mix_in(feature_BTD, other_MTD, partner["place"], partner["weight"])
        return rolled(feature_BTD, batch["key"], self.spec.options.roll)

    def logits(self, batch: Batch, modality: str | None = None) -> Tensor:
        """[B, C] of one modality, or of both; of the stage's, unless another is named."""
        modality = modality or self.spec.modality
        if modality == "av":
            return self.net.joint(self.features(batch, "a"), self.features(batch, "v"))
        one = cast(OneModality, modality)
        return self.net(self.features(batch, one), one)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        together = self.spec.model.fusion == "cross_attention"
        modality = "av" if together else self.modality_of_step(self.global_step)
        return {"loss": self.label_loss(self.logits(batch, modality), batch["label"])}


@dataclass
class RetrieveOptions:
    layer: int = 6
    """After how many blocks clips are compared (official `retrieval`: after the last one)."""


class Retrieve(OnFeatures[RetrieveOptions]):
    """No training: clips are compared by their time-means after a layer that no loss ever aligned."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        layer = self.spec.options.layer
        embedding = {m: self.net.representation(self.features(batch, m), m, layer) for m in ("a", "v")}
        return {"embedding": embedding}


def rolled(feature_BTD: Tensor, key_B: Tensor, furthest: int) -> Tensor:
    """Rolled in a circle by t from -furthest..furthest - 1 steps; the same t for all that a clip has."""
    if furthest == 0:
        return feature_BTD
    steps = feature_BTD.shape[1]
    shift_B = (keyed.uniform(key_B, "feature roll") * 2 * furthest).long() - furthest
    source_BT = (torch.arange(steps, device=key_B.device) - shift_B[:, None]) % steps
    return feature_BTD.gather(1, source_BT[:, :, None].expand_as(feature_BTD))
