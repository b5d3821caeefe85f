"""UAVM's network: layers of each modality, then layers and a classifier that both modalities share.

It looks at features that frozen ConvNeXts have extracted (`extractor.py`). Three variants differ in `fusion` alone:
the unified model, the modality-independent one and cross-modality attention (official `mm_trans.py`: `UnifiedTrans`,
`SeperateTrans`, `FullAttTrans`).

The official modules also hold parameters that no gradient ever reaches: `in_proj` of every tower whose width stays the
same, and `mlp_head` of the two specific towers. They are 3.8 of the unified model's 117.5 M, and are left out here.

Shape suffixes: B clips, T steps (30 of a third of a second), D channels, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from experiments.common.networks.layers import LayerNorm
from experiments.uavm.extractor import ConvNeXtConfig

OneModality = Literal["a", "v"]


@dataclass
class UAVMConfig:
    """The size of the network; defaults are the paper's."""

    fusion: Literal["unified", "independent", "cross_attention"] = "unified"
    """Both modalities go through the same last layers and classifier, each through its own, or through the same ones
    together, attending to each other."""
    dim: int = 1024
    """Channels of the modality-specific layers (official `embed_dim`)."""
    shared_dim: int = 1024
    """Channels of the last layers (official `s_embed_dim`); alignment is best at 128."""
    heads: int = 4
    specific_depth: int = 3
    """Blocks of each modality; 0 leaves a linear layer of each."""
    shared_depth: int = 3
    """Blocks after them; 0 leaves each modality its own classifier (as released: 6 and 0)."""
    steps: int = 30
    """T of both modalities."""
    feature_dim: int = 1024
    """Channels of the features, the extractor's last width."""
    extractor: ConvNeXtConfig = field(default_factory=ConvNeXtConfig)


def prepare(feature_BTD: Tensor, steps: int) -> Tensor:
    """[B, T', D] extracted features -> [B, steps, D]: cut or padded with zeros at the end, each step of length 1.

    Official `dataloader_mm.py`; it comes before mixup and roll. A padded step stays zero.
    """
    missing = steps - feature_BTD.shape[1]
    return F.normalize(F.pad(feature_BTD, (0, 0, 0, missing)), dim=2)


class Tower(nn.Module):
    """LayerNorm, positions and Transformer blocks (official `SingleTrans` without its head)."""

    def __init__(self, in_dim: int, dim: int, depth: int, heads: int, steps: int):
        super().__init__()
        self.norm = LayerNorm(in_dim)
        self.proj = nn.Identity() if in_dim == dim else nn.Linear(in_dim, dim)
        self.positions = nn.Parameter(torch.empty(steps, dim))
        nn.init.trunc_normal_(self.positions, std=0.02)
        # Unlike in ViT, queries, keys and values have no bias, and the LayerNorms have PyTorch's own epsilon.
        self.blocks = nn.ModuleList(Block(dim, heads, qkv_bias=False, norm_layer=nn.LayerNorm) for _ in range(depth))

    def forward(self, x_BTD: Tensor) -> list[Tensor]:
        """[B, T, in_dim] -> [B, T, dim] after 0, 1, ..., depth blocks."""
        if x_BTD.shape[1] != len(self.positions):
            raise ValueError(f"{x_BTD.shape[1]} steps come in, but model.steps has room for {len(self.positions)}")
        layers = [self.proj(self.norm(x_BTD)) + self.positions]
        for block in self.blocks:
            layers.append(block(layers[-1]))
        return layers


class Projection(nn.Sequential):
    """A linear layer instead of a specific tower without blocks (official `a_in_proj`, `v_in_proj`)."""

    def __init__(self, in_dim: int, dim: int):
        super().__init__(LayerNorm(in_dim), nn.Linear(in_dim, dim))

    def forward(self, x_BTD: Tensor) -> list[Tensor]:
        """[B, T, in_dim] -> [B, T, dim], as a tower's after 0 blocks."""
        return [super().forward(x_BTD)]


class UAVM(nn.Module):
    """Features of a modality -> logits.

    `specific` holds a tower of each modality. `shared` and `head` hold one for `av`, which both modalities go through,
    or one for `a` and one for `v` where nothing is shared.

    Raises:
        ValueError: for cross_attention without blocks in which to attend.
    """

    def __init__(self, config: UAVMConfig, num_classes: int):
        super().__init__()
        together = config.fusion == "cross_attention"
        if together and not config.shared_depth:
            raise ValueError("model.fusion=cross_attention needs a model.shared_depth of at least 1")
        self.config = config
        owners = ("a", "v") if config.fusion == "independent" or not config.shared_depth else ("av",)
        steps = 2 * config.steps if together else config.steps
        last_dim = config.shared_dim if config.shared_depth else config.dim
        self.specific = nn.ModuleDict({modality: _specific(config) for modality in ("a", "v")})
        self.shared = nn.ModuleDict()
        self.head = nn.ModuleDict()
        for owner in owners:
            if config.shared_depth:
                self.shared[owner] = Tower(config.dim, config.shared_dim, config.shared_depth, config.heads, steps)
            self.head[owner] = nn.Sequential(LayerNorm(last_dim), nn.Linear(last_dim, num_classes))

    @property
    def depth(self) -> int:
        """Blocks that a modality goes through: 6."""
        return self.config.specific_depth + self.config.shared_depth

    def forward(self, feature_BTD: Tensor, modality: OneModality) -> Tensor:
        """[B, T, D] features of one modality -> [B, C]; the other modality has no part in it.

        Raises:
            ValueError: with cross_attention, which has no logits of one modality.
        """
        if self.config.fusion == "cross_attention":
            raise ValueError("model.fusion=cross_attention has no logits of one modality; `joint` gives those of both")
        return self.head[self._owner(modality)](self.layers(feature_BTD, modality)[-1].mean(dim=1))

    def joint(self, audio_BTD: Tensor, video_BTD: Tensor) -> Tensor:
        """Both modalities -> [B, C]: the mean of their logits, or what comes of attending to each other."""
        if self.config.fusion != "cross_attention":
            return (self(audio_BTD, "a") + self(video_BTD, "v")) / 2
        specific = [self.specific["a"](audio_BTD)[-1], self.specific["v"](video_BTD)[-1]]
        together_BTD = self.shared["av"](torch.cat(specific, dim=1))[-1]
        return self.head["av"](together_BTD.mean(dim=1))

    def layers(self, feature_BTD: Tensor, modality: OneModality) -> list[Tensor]:
        """[B, T, D] after k = 0, 1, ..., `depth` blocks, for probes; with cross_attention, after the specific ones."""
        specific = self.specific[modality](feature_BTD)
        if not self.shared or self.config.fusion == "cross_attention":
            return specific
        shared = self.shared[self._owner(modality)](specific[-1])
        # A specific layer's output, not the shared tower's entry, stands between them (official `extract_feat`).
        return [*specific, *shared[1:]] if self.config.specific_depth else shared

    def representation(self, feature_BTD: Tensor, modality: OneModality, layer: int) -> Tensor:
        """[B, D]: the time-mean after `layer` blocks; `depth` + 1 stands for the logits (the paper's retrieval: 6).

        Raises:
            ValueError: for a layer that there is not, of one modality.
        """
        if layer == self.depth + 1:
            return self(feature_BTD, modality)
        layers = self.layers(feature_BTD, modality)
        if not 0 <= layer < len(layers):
            raise ValueError(f"layer {layer}: one modality has layers 0 to {len(layers) - 1}")
        return layers[layer].mean(dim=1)

    def _owner(self, modality: OneModality) -> str:
        """Whose last layers `modality` goes through."""
        return modality if modality in self.head else "av"


def _specific(config: UAVMConfig) -> Tower | Projection:
    if not config.specific_depth:
        return Projection(config.feature_dim, config.dim)
    return Tower(config.feature_dim, config.dim, config.specific_depth, config.heads, config.steps)
