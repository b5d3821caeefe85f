"""XKD's network: a ViT and a head of prototypes a modality, decoders that predict masked patches, and the refinement.

Modules by modality have the keys `a` and `v`. Shape suffixes: B clips, L patches, S = 1 + patches with CLS first,
D channels, H heads. Sizes in comments are the paper's: 32 x 112 x 112 pictures in tubelets of 4 x 16 x 16, log-mels of
448 frames and 80 bins in patches of 16 frames and 4 bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from datamodules.types import Inputs, Modality
from experiments.common.networks.layers import init_mae, transformer
from experiments.common.networks.masking import scatter_tokens
from experiments.common.networks.patches import looked_at
from experiments.common.networks.prototypes import PrototypeConfig, PrototypeHead
from experiments.common.networks.vit import PatchViT

INPUT = {"a": "audio", "v": "video"}
"""Modality -> its key in a batch."""
vit_blocks = partial(transformer, mlp_ratio=4.0, qkv_bias=False, norm_layer=nn.LayerNorm)
"""Of encoders and decoders (`models/modules/vit2.py`)."""


@dataclass
class XKDConfig:
    """The size of the network; defaults are the paper's ViT-B."""

    dim: int = 768
    """Channels of the encoders."""
    depth: int = 12
    """Blocks of each encoder."""
    heads: int = 12
    decoder_dim: int = 384
    """Channels of the decoders."""
    decoder_depth: int = 4
    decoder_heads: int = 12
    patch: int = 16
    """Side of a video patch in pixels, and frames of an audio patch."""
    tubelet: int = 4
    """Pictures of a video patch."""
    mel_patch: int = 4
    """Mel bins of an audio patch."""
    head: PrototypeConfig = field(default_factory=PrototypeConfig)
    shared: Literal["none", "student", "both"] = "none"
    """Whose encoders of both modalities have the same blocks: nobody's (XKD), the student's (XKD-MAS), or the
    student's and the teacher's (XKD-MATS)."""


def encoder_of(modality: str, config: XKDConfig, inputs: Inputs, blocks: nn.Sequential | None = None) -> PatchViT:
    """Of `v`: [B, 3, T, H, W] -> [B, 1 + 392, D]; of `a`: [B, 1, mels, frames] -> [B, 1 + 560, D].

    Args:
        modality: `v` or `a`.
        config: of the network.
        inputs: for whose size positions are learned.
        blocks: that another encoder has, too.

    Raises:
        ValueError: an input does not divide into patches.
    """
    size: tuple[int, ...]
    patch: tuple[int, ...]
    if modality == "v":
        video = looked_at(inputs.video, "video")
        size, patch, channels = (video.frames, video.size, video.size), (config.tubelet, config.patch, config.patch), 3
    else:
        audio = looked_at(inputs.audio, "audio")
        size, patch, channels = (audio.mel_bins, audio.frames), (config.mel_patch, config.patch), 1
    if any(whole % part for whole, part in zip(size, patch, strict=True)):
        raise ValueError(f"data.inputs: {modality} of {size} does not divide into patches of {patch}")
    grid = tuple(whole // part for whole, part in zip(size, patch, strict=True))
    blocks = vit_blocks(config.dim, config.depth, config.heads) if blocks is None else blocks
    return PatchViT(channels, patch, grid, blocks, config.dim, nn.LayerNorm(config.dim))


class Encoders(nn.ModuleDict):
    """Modality -> its encoder; shared ones have the same blocks and their own embeddings, positions, CLS and norm."""

    def __init__(self, config: XKDConfig, inputs: Inputs, modality: Modality, shared: bool):
        super().__init__()
        blocks = vit_blocks(config.dim, config.depth, config.heads) if shared else None
        for each in modality:
            self[each] = encoder_of(each, config, inputs, blocks)

    def __getitem__(self, modality: str) -> PatchViT:
        return cast(PatchViT, super().__getitem__(modality))


class Encoding(nn.Module):
    """An encoder a modality, and nothing else."""

    def __init__(self, config: XKDConfig, inputs: Inputs, modality: Modality, shared: bool = False):
        super().__init__()
        self.encoder = Encoders(config, inputs, modality, shared)


class Network(Encoding):
    """A student, or a teacher: an encoder and a head a modality."""

    def __init__(self, config: XKDConfig, inputs: Inputs, shared: bool):
        super().__init__(config, inputs, "av", shared)
        self.head = nn.ModuleDict({modality: PrototypeHead(config.dim, config.head) for modality in "av"})


class Decoder(nn.Module):
    """Predicts the values of every patch of one modality from its visible tokens (MAE), without a final norm."""

    def __init__(self, config: XKDConfig, encoder: PatchViT):
        super().__init__()
        dim, length = config.decoder_dim, encoder.length
        self.embed = nn.Linear(config.dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + length, dim))
        self.blocks = vit_blocks(dim, config.decoder_depth, config.decoder_heads)
        self.predict = nn.Linear(dim, encoder.patch_embed.in_features)
        self.apply(init_mae)
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, tokens_BSD: Tensor, keep_BK: Tensor) -> Tensor:
        """[B, 1 + K, D] tokens, whose patches are at `keep_BK` -> [B, L, 3072 of video, 64 of audio]."""
        cls_B1D, visible_BKD = self.embed(tokens_BSD).split([1, keep_BK.shape[1]], dim=1)
        length = self.positions.shape[1] - 1
        patches_BLD = scatter_tokens(visible_BKD, keep_BK, self.mask_token[0, 0], length)
        tokens_BSD = torch.cat([cls_B1D, patches_BLD], dim=1) + self.positions
        return self.predict(self.blocks(tokens_BSD))[:, 1:]


def cross_weights(own_BHL: Tensor, other_BHL: Tensor) -> Tensor:
    """[B, L] weights of a modality's patches by both modalities' attention (`models/xkd.py`, `cross_modal_attn`).

    The mean over the other modality's patches of the outer product of both, divided by the mean of its own: each head
    of its own attention counts by how much the other modality's same head attends to patches at all.
    """
    other_BH1 = other_BHL.mean(-1, keepdim=True)
    return (own_BHL * other_BH1 / own_BHL.mean(-1, keepdim=True)).mean(1)


def refined(patches_BLD: Tensor, weight_BL: Tensor) -> Tensor:
    """[B, D]: the weighted mean of patches, as long as their plain mean is (`models/xkd.py`, `align_feats`)."""
    plain_BD, weighted_BD = patches_BLD.mean(1), (patches_BLD * weight_BL[..., None]).mean(1)
    return weighted_BD * (plain_BD.norm(dim=1, keepdim=True) / weighted_BD.norm(dim=1, keepdim=True))


def whole_share(length: int, ratio: float) -> float:
    """The mask ratio next to `ratio` that keeps a whole number of patches, to which XKD rounds (`models/mask.py`): 59
    of 392 at 0.85, where rounding down keeps 58."""
    return 1 - max(1, math.floor(length * (1 - ratio) + 0.5)) / length
