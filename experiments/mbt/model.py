"""MBT's network: a ViT over log-mel patches and a ViT over video patches that meet in a few shared tokens.

Shape suffixes: B clips, L patches of a clip, S = 1 + L tokens with CLS first, K bottleneck tokens, D channels.
Sizes in comments are those of the paper: audio 800 x 128, video 8 x 224 x 224, patches 16 x 16 and 1 x 16 x 16.
Streams are keyed by their modality, `a` or `v`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from datamodules.types import Batch, Inputs, Modality
from experiments.common.networks.layers import LayerNorm
from experiments.common.networks.patches import looked_at
from experiments.common.networks.scenic import audio_tokens, encoder, init_scenic, video_tokens

Streams = dict[str, Tensor]
"""Modality -> its tokens [B, S, D]."""


@dataclass
class MBTConfig:
    """The network; defaults are the paper's ViT-B, as in scenic `configs/audioset/balanced_audioset_base.py`."""

    dim: int = 768
    depth: int = 12
    """Layers, L."""
    heads: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    """Side of a patch, in frames and mel bins, or in pixels."""
    tubelet: int = 1
    """Video frames of a patch; 1 is the paper's, the released configuration has 2 (of 32 frames)."""
    fusion_layer: int = 8
    """The streams meet from this layer on, L_f: 0 is early fusion, `depth` late fusion, where they never meet."""
    fusion: Literal["bottleneck", "full", "cross"] = "bottleneck"
    """How they meet. `full` is joint self-attention of one encoder (with `share_encoder`); in `cross` each stream
    attends to all tokens with its own weights."""
    bottlenecks: int = 4
    """Shared tokens, B."""
    extra_bottleneck: bool = True
    """The authors' code adds one bottleneck to those asked for, as it does one token to the patches for CLS."""
    drop_path: float = 0.3
    """Stochastic depth of the last layer; rises linearly from 0."""
    share_encoder: bool = False
    """One set of blocks for both streams, in all layers."""

    @property
    def bottleneck_tokens(self) -> int:
        """K, 5 in the authors' code."""
        return self.bottlenecks + int(self.extra_bottleneck)


# --- fusion -------------------------------------------------------------------------------------------------------


def bottleneck_layer(blocks: Mapping[str, nn.Module], z: Streams, z_fsn: Tensor) -> tuple[Streams, Tensor]:
    """One layer of fusion through the bottleneck z_fsn [B, K, D], the only way from one stream to the other.

    [z_m' || z_fsn_m] = Transformer([z_m || z_fsn]; theta_m) for each modality m, then z_fsn' = Avg_m(z_fsn_m).
    All modalities read the same z_fsn, so that news of the other stream needs two layers to arrive.
    """
    out = {m: blocks[m](torch.cat([z_m, z_fsn], dim=1)) for m, z_m in z.items()}
    z_new = {m: out_m[:, : z[m].shape[1]] for m, out_m in out.items()}
    z_fsn_of = [out_m[:, z[m].shape[1] :] for m, out_m in out.items()]
    return z_new, torch.stack(z_fsn_of).mean(dim=0)


def full_layer(blocks: Mapping[str, nn.Module], z: Streams) -> Streams:
    """One layer of joint self-attention: [z_a' || z_v'] = Transformer([z_a || z_v]; theta)."""
    joint = blocks["a"](torch.cat([z["a"], z["v"]], dim=1))
    lengths = [z["a"].shape[1], z["v"].shape[1]]
    return dict(zip("av", joint.split(lengths, dim=1), strict=True))


def cross_layer(blocks: Mapping[str, nn.Module], z: Streams) -> Streams:
    """One layer in which each stream attends to all tokens: [z_m' || .] = Transformer([z_m || z_n]; theta_m)."""
    other = {"a": z["v"], "v": z["a"]}
    return {m: blocks[m](torch.cat([z_m, other[m]], dim=1))[:, : z_m.shape[1]] for m, z_m in z.items()}


# --- network --------------------------------------------------------------------------------------------------


class MBT(nn.Module):
    """A classifier over audio, video or both; what `modality` does not look at is not built.

    Attributes:
        tokens: modality -> `Tokens`.
        blocks: modality -> blocks, or `shared` -> blocks with `share_encoder`.
        bottleneck: [K, D], where there is something to fuse through it, else None.
        norm, head: of all streams.
    """

    def __init__(self, config: MBTConfig, inputs: Inputs, modality: Modality, num_classes: int):
        super().__init__()
        _check(config, modality)
        self.config, self.modality = config, modality
        self.tokens = nn.ModuleDict()
        if "a" in modality:
            self.tokens["a"] = audio_tokens(looked_at(inputs.audio, "audio"), config.dim, config.patch)
        if "v" in modality:
            video = looked_at(inputs.video, "video")
            self.tokens["v"] = video_tokens(video, config.dim, config.patch, config.tubelet)
        owners = ["shared"] if config.share_encoder else list(modality)
        sizes = config.dim, config.depth, config.heads, config.mlp_ratio, config.drop_path
        self.blocks = nn.ModuleDict({owner: encoder(*sizes) for owner in owners})
        self.fusion_layer = config.fusion_layer if modality == "av" else config.depth  # one stream meets no other
        self.bottleneck = None
        if config.fusion == "bottleneck" and self.fusion_layer < config.depth:
            self.bottleneck = nn.Parameter(torch.empty(config.bottleneck_tokens, config.dim))
            nn.init.normal_(self.bottleneck, std=0.02)
        self.norm = LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, num_classes)
        self.apply(init_scenic)
        nn.init.zeros_(self.head.weight)

    def blocks_of(self, modality: str) -> nn.ModuleList:
        """The layers of a stream, its own or those of both."""
        return cast(nn.ModuleList, self.blocks["shared" if self.config.share_encoder else modality])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The batch's `audio` and `video` -> logits [B, C] of each stream, both from one classifier."""
        return {m: self.head(z_m[:, 0]) for m, z_m in self.encode(batch).items()}

    def encode(self, batch: Batch) -> Streams:
        """The batch's `audio` [B, 1, frames, mels] and `video` [B, 3, T, H, W] -> normalised tokens."""
        names: dict[str, Literal["audio", "video"]] = {"a": "audio", "v": "video"}
        z: Streams = {m: self.tokens[m](batch[names[m]]) for m in self.modality}
        z_fsn = None
        if self.bottleneck is not None:
            z_fsn = self.bottleneck.expand(len(next(iter(z.values()))), -1, -1)
        for layer in range(self.config.depth):
            blocks = {m: self.blocks_of(m)[layer] for m in z}
            if layer < self.fusion_layer:
                z = {m: blocks[m](z_m) for m, z_m in z.items()}
            elif self.config.fusion == "bottleneck":
                assert z_fsn is not None
                z, z_fsn = bottleneck_layer(blocks, z, z_fsn)
            elif self.config.fusion == "full":
                z = full_layer(blocks, z)
            else:
                z = cross_layer(blocks, z)
        return {m: self.norm(z_m) for m, z_m in z.items()}


def mean_logits(logits: Mapping[str, Tensor]) -> Tensor:
    """Modality -> [B, C], to [B, C]: what is measured; in training each modality has its own loss."""
    return torch.stack(list(logits.values())).mean(dim=0)


def _check(config: MBTConfig, modality: str) -> None:
    if modality not in ("a", "v", "av"):
        raise ValueError(f"MBT looks at a, v or av, not {modality}")
    if config.fusion not in ("bottleneck", "full", "cross"):
        raise ValueError(f"model.fusion is bottleneck, full or cross, not {config.fusion}")
    if not 0 <= config.fusion_layer <= config.depth:
        raise ValueError(f"model.fusion_layer must be from 0 to model.depth {config.depth}, not {config.fusion_layer}")
    if config.bottlenecks < 1:
        raise ValueError(f"model.bottlenecks must be at least 1, not {config.bottlenecks}")
    if config.fusion == "full" and not config.share_encoder:
        raise ValueError("model.fusion=full is joint self-attention of one encoder: set model.share_encoder=true")
