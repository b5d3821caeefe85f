"""What MAViL's pretrained encoders are used for: `Finetune`, `SVM` (they stay frozen), and `Retrieve` (no training)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.types import Batch, Outputs
from experiments.common.networks.layers import LayerNorm, start_at_prior
from experiments.common.networks.masking import random_places, random_places_2d
from experiments.common.stage import Stage, StageSpec
from experiments.common.stages.classifier import INPUT, Classifier
from experiments.common.stages.svm import LinearSVM, SVMOptions
from experiments.common.weights import load_strict, matches, without_prefix
from experiments.mavil.checkpoints import translated
from experiments.mavil.model import MAViLConfig, Trunk, pool

SLOWER = {
    "": ((), 1.0),
    "video": (("trunk.video",), 0.5),
    "encoders": (("trunk.audio", "trunk.video"), 0.1),
}
"""`FinetuneOptions.slower` -> the parts that learn more slowly, and their share of the rate."""
AT_FULL_RATE = {
    "": (),
    "video": ("trunk.video.cls_token",),  # no list names it
    "encoders": (
        "trunk.audio.cls_token",
        "trunk.video.cls_token",
        # Names that a missing comma joins to their neighbours' in the list, so that they match no parameter.
        "trunk.video.blocks.0.norm1.weight",
        "trunk.audio.blocks.11.mlp.fc2.bias",
        "trunk.video.blocks.11.mlp.fc2.bias",
        "trunk.audio.blocks.12.norm1.weight",
        "trunk.video.blocks.12.norm1.weight",
    ),
}
"""Parameters of these parts that the official lists leave out."""


@dataclass
class FinetuneOptions:
    """Of fine-tuning; defaults are the published code's."""

    ft_fusion_depth: int = 3
    """Fusion blocks; those beyond the pretrained ones start afresh."""
    drop_path: float = 0.1
    """Stochastic depth of the audio encoder; the video and fusion blocks have none."""
    mask_t: float = 0.2
    """Share of the rows in time that are masked in training, of audio."""
    mask_f: float = 0.2
    """Share of the mel columns that are masked in training."""
    mask_v: float = 0.0
    """Share of the video patches that are masked in training."""
    label_smoothing: float = 0.0
    """Of the cross-entropy."""
    prior: float = 0.5
    """Probability of a class before training, see `start_at_prior`."""
    slower: Literal["", "video", "encoders"] = ""
    """What learns more slowly than its layer does, by the names of av-superb's lists (`util/lr_decay.py`): the video
    encoder, at half the rate (`param_groups_lrd2`), or both encoders, at a tenth of it, so that the fusion and the head
    learn fastest (`param_groups_lrd_av_slow`)."""
    layer_decay_fusion: Literal["official", "top"] = "official"
    """`official` gives the fusion blocks the rates of the lowest encoder blocks, as the published code does by the
    accident that their names start with `blocks`; `top` gives them the rate of the head."""


class Finetune(Classifier[MAViLConfig, FinetuneOptions]):
    """A classifier over audio, video or both; only the encoders that `spec.modality` needs exist."""

    def __init__(self, spec: StageSpec[MAViLConfig, FinetuneOptions]):
        super().__init__(spec)
        options = spec.options
        if spec.multilabel and options.label_smoothing:
            raise ValueError("options.label_smoothing is for classification; this dataset has several labels a clip")
        self.trunk = Trunk(spec.model, spec.inputs, spec.modality, options.ft_fusion_depth, options.drop_path)
        features = spec.model.dim * len(spec.modality)
        self.norm = LayerNorm(features)
        self.head = nn.Linear(features, spec.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)  # AudioMAE main_finetune_as.py
        start_at_prior(self.head, options.prior)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From stage 1, stage 2 or a fine-tuned model of the same classes; ours or the authors'."""
        pretrained, depth = self.spec.model.fusion_depth, self.spec.options.ft_fusion_depth
        new = tuple(f"trunk.fusion.blocks.{block}" for block in range(pretrained, depth))
        other = {"a": ("trunk.video", "trunk.fusion"), "v": ("trunk.audio", "trunk.fusion"), "av": ()}
        unused = ("audio_decoder", "video_decoder", *other[self.spec.modality])
        load_strict(
            self, translated(weights, self.trunk, self.spec.modality), new=(*new, "norm", "head"), unused=unused
        )

    def tokens(self, batch: Batch) -> list[Tensor]:
        """[B, S, D] of each modality that is looked at; in training some patches are masked."""
        keep_a, keep_v = self.keep(batch) if self.training else (None, None)
        encoded = []
        if "a" in self.spec.modality:
            encoded.append(self.trunk.audio(batch["audio"], keep_a))
        if "v" in self.spec.modality:
            encoded.append(self.trunk.video(batch["video"], keep_v))
        return list(self.trunk.fusion(*encoded)) if self.spec.modality == "av" else encoded

    def keep(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """The visible places of audio (masked in time and mel: 51 x 6 = 306) and of video in training."""
        options, key = self.spec.options, batch["key"]
        keep_a = keep_v = None
        if "a" in self.spec.modality:
            keep_a = random_places_2d(key, "audio mask", self.trunk.audio.grid, (options.mask_t, options.mask_f))
        if "v" in self.spec.modality and options.mask_v:
            keep_v = random_places(key, "video mask", self.trunk.video.length, options.mask_v)
        return keep_a, keep_v

    def logits(self, batch: Batch) -> Tensor:
        """[B, num_classes]: mean tokens of each modality, side by side -> LayerNorm -> linear."""
        return self.head(self.norm(torch.cat([pool(tokens) for tokens in self.tokens(batch)], dim=1)))

    def layer_of(self, name: str) -> tuple[int, int]:
        """Embeddings are layer 0, encoder block i layer i + 1, the head the last (av-superb `util/lr_decay.py`)."""
        last = self.spec.model.depth + 1
        part, *rest = name.removeprefix("trunk.").split(".")
        if part in ("norm", "head") or (part == "fusion" and self.spec.options.layer_decay_fusion == "top"):
            return last, last
        return (int(rest[1]) + 1 if rest[0] == "blocks" else 0), last

    def share_of_rate(self, name: str) -> float:
        parts, share = SLOWER[self.spec.options.slower]
        return share if matches(name, parts) and name not in AT_FULL_RATE[self.spec.options.slower] else 1.0


class SVM(LinearSVM[MAViLConfig]):
    """A linear SVM on the mean tokens of the uni-modal encoders, side by side."""

    net: Trunk

    def __init__(self, spec: StageSpec[MAViLConfig, SVMOptions]):
        trunk = Trunk(spec.model, spec.inputs, spec.modality, fusion_depth=0)
        super().__init__(spec, trunk, spec.model.dim * len(spec.modality))

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From stage 1, stage 2 or a fine-tuned model; ours or the authors'."""
        other = {"a": ("video",), "v": ("audio",)}.get(self.spec.modality, ())
        own = without_prefix(translated(weights, self.net, self.spec.modality), "trunk.")
        unused = ("fusion", "audio_decoder", "video_decoder", "norm", "head", *other)
        load_strict(self.net, own, unused=unused)

    def embed(self, batch: Batch) -> Tensor:
        read = [INPUT[modality] for modality in self.spec.modality]
        return torch.cat([pool(self.net.get_submodule(name)(batch[name])) for name in read], dim=1)


@dataclass
class RetrieveOptions:
    """Retrieval has no numbers of its own."""


class Retrieve(Stage[MAViLConfig, RetrieveOptions]):
    """No training: clips are compared by the mean tokens of the uni-modal encoders."""

    def __init__(self, spec: StageSpec[MAViLConfig, RetrieveOptions]):
        super().__init__(spec)
        self.trunk = Trunk(spec.model, spec.inputs, fusion_depth=0)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From stage 1, stage 2 or a fine-tuned model of both modalities; ours or the authors'."""
        unused = ("trunk.fusion", "audio_decoder", "video_decoder", "norm", "head")
        load_strict(self, translated(weights, self.trunk), unused=unused)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        embedding = {"a": pool(self.trunk.audio(batch["audio"])), "v": pool(self.trunk.video(batch["video"]))}
        return {"embedding": embedding}
