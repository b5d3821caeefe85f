"""UAVM's stages: `TrainExtractor`, `Extract`, `Train` of the unified network, `Retrieve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules import keyed
from datamodules.loading.mixing import mix_in
from datamodules.types import FEATURE_KEYS, Batch, Outputs
from experiments.common.losses.classification import classification_loss
from experiments.common.stage import Stage, StageSpec
from experiments.common.weights import without_prefix
from experiments.uavm.checkpoints import imagenet, load, load_extractor
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig, Extractor, VideoConvNeXt
from experiments.uavm.model import UAVM, OneModality, UAVMConfig, prepare

INPUT = {"a": "audio", "v": "video"}


def make_extractor(spec: StageSpec) -> Extractor:
    """The ConvNeXt of the stage's one modality.

    Raises:
        ValueError: if the stage looks at more than one, or the unified network expects other features.
    """
    if spec.modality not in INPUT:
        raise ValueError(f"modality={spec.modality}: an extractor looks at a or at v")
    net = {"a": AudioConvNeXt, "v": VideoConvNeXt}[spec.modality](spec.model.extractor, spec.num_classes)
    if net.dim != spec.model.feature_dim:
        raise ValueError(f"model.feature_dim={spec.model.feature_dim}, but the extractor gives {net.dim}")
    return net


# --- extractors -----------------------------------------------------------------------------------------------


@dataclass
class TrainExtractorOptions:
    """Of an extractor's training."""

    label_smoothing: float = 0.1
    """Of the targets."""


class TrainExtractor(Stage):
    """A classifier whose last feature map is what the unified network will look at."""

    model_config = UAVMConfig
    options_config = TrainExtractorOptions
    channels_last = True

    @classmethod
    def model_of(cls, model: UAVMConfig, options: TrainExtractorOptions) -> ConvNeXtConfig:
        return model.extractor

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.net = make_extractor(spec)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' audio extractor, ImageNet's ConvNeXt or our own; the classifier is new."""
        load_extractor(self.net, without_prefix(weights, "net."), new_head=True)

    def load_imagenet(self) -> None:
        self.load_parent(imagenet(self.spec.model.extractor.size))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits, smoothing = self.net(batch[INPUT[self.spec.modality]]), self.spec.options.label_smoothing
        return self.logged(
            {"loss": classification_loss(logits, batch["label"], self.spec.multilabel, smoothing)}, batch
        )

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: self.net(batch[INPUT[self.spec.modality]])}}


@dataclass
class ExtractOptions:
    """Extraction has no numbers of its own."""


class Extract(Stage):
    """No training: [B, T, D] features of each clip, by a frozen extractor; zeros for frames that are not there."""

    model_config = UAVMConfig
    options_config = ExtractOptions
    channels_last = True

    @classmethod
    def model_of(cls, model: UAVMConfig, options: ExtractOptions) -> ConvNeXtConfig:
        return model.extractor

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.net = make_extractor(spec).requires_grad_(False)
        del self.net.head

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From `TrainExtractor`, the authors' audio extractor or ImageNet's ConvNeXt, of any classes."""
        load_extractor(self.net, without_prefix(weights, "net."))

    def load_imagenet(self) -> None:
        self.load_parent(imagenet(self.spec.model.extractor.size))

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


class Train(Stage):
    """Each step sees one modality; the last layers see one modality as often as the other.

    At test time the logits of both are averaged. With `model.fusion=cross_attention`, the contrast to all this, every
    step and every prediction looks at both.
    """

    model_config = UAVMConfig
    options_config = TrainOptions
    some_parameters_idle = True  # the other modality's
    mixes_features = True

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        for modality, (_, dim) in spec.features.items():
            if dim != spec.model.feature_dim:
                raise ValueError(f"features of {modality} have {dim} numbers, but model.feature_dim differs")
        self.net = UAVM(spec.model, spec.num_classes)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' file of the same variant and classes, or our own."""
        load(self.net, without_prefix(weights, "net."))

    def modality_of_step(self, step: int) -> OneModality:
        """A coin that falls alike on all ranks, so that a step sees one modality in its whole batch."""
        key = torch.tensor([keyed.stable_hash("modality of step", self.spec.seed, step)])
        return "a" if float(keyed.uniform(key, "coin")) < self.spec.options.audio_share else "v"

    def features(self, batch: Batch, modality: OneModality) -> Tensor:
        """[B, steps, D], each step of length 1; in training mixed and rolled, both modalities of a clip alike."""
        name, steps = FEATURE_KEYS[modality], self.spec.model.steps
        feature_BTD = prepare(batch[name], steps)
        if not self.training:
            return feature_BTD
        if (partner := batch.get("partner")) is not None:
            feature_BTD = mix_in(feature_BTD, prepare(partner[name], steps), partner["place"], partner["weight"])
        return rolled(feature_BTD, batch["key"], self.spec.options.roll)

    def logits(self, batch: Batch, modality: str) -> Tensor:
        """[B, C] of one modality, or of both."""
        if modality == "av":
            return self.net.joint(self.features(batch, "a"), self.features(batch, "v"))
        return self.net(self.features(batch, modality), modality)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        together = self.spec.model.fusion == "cross_attention"
        modality = "av" if together else self.modality_of_step(self.global_step)
        smoothing = self.spec.options.label_smoothing
        loss = classification_loss(self.logits(batch, modality), batch["label"], self.spec.multilabel, smoothing)
        return self.logged({"loss": loss}, batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: self.logits(batch, self.spec.modality)}}


@dataclass
class RetrieveOptions:
    layer: int = 6
    """After how many blocks clips are compared (official `retrieval`: after the last one)."""


class Retrieve(Train):
    """No training: clips are compared by their time-means after a layer that no loss ever aligned."""

    options_config = RetrieveOptions

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
