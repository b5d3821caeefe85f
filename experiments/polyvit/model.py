"""PolyViT's network: tokens of a modality, one encoder for all of them, and a linear classifier of each dataset.

google-research/scenic `projects/polyvit/{layers, model}.py`. Shape suffixes: B clips, S tokens with CLS first, D
channels, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from timm.layers import DropPath
from torch import Tensor, nn

from datamodules.types import Inputs
from experiments.common.networks.layers import LayerNorm
from experiments.common.networks.patches import looked_at
from experiments.common.networks.scenic import Tokens, audio_tokens, encoder, init_scenic, video_tokens

IMAGE = "image"
"""The stream of datasets of pictures (`datamodules/picture_sets.py`)."""
PLACE = {"a": "audio", "v": "video", "i": IMAGE}
"""Modality -> key in a batch."""


@dataclass
class PolyViTConfig:
    """The network; defaults are the release's ViT-B/16."""

    dim: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    tubelet: int = 4
    """Video frames of a patch."""
    own_layers: int = 0
    """Of `depth`, the first blocks, which each modality has for itself (L_adapt); 0: all are shared."""


@dataclass
class Sizes:
    """Of what a modality looks at, and how many classes the datasets have."""

    inputs: dict[str, Inputs]
    """Modality -> the inputs of a dataset of it."""
    classes: dict[str, int]
    """Dataset -> its classes."""


def tokens_of(config: PolyViTConfig, modality: str, inputs: Inputs) -> Tokens:
    """The tokens of a modality; each has its kernel, its CLS and its positions."""
    if modality == "a":
        return audio_tokens(looked_at(inputs.audio, "audio"), config.dim, config.patch)
    if modality == "v":
        return video_tokens(looked_at(inputs.video, "video"), config.dim, config.patch, config.tubelet)
    where = f"data.inputs.streams.{IMAGE}"
    if IMAGE not in inputs.streams:
        raise ValueError(f"this stage looks at pictures: {where}, which datasets of pictures have, is not there")
    side, rest = divmod(inputs.streams[IMAGE]["size"], config.patch)
    if rest:
        raise ValueError(f"{where}.size must be a multiple of model.patch {config.patch}")
    return Tokens(nn.Conv2d(3, config.dim, config.patch, config.patch), (side, side))


class PolyViT(nn.Module):
    """Clips of one modality to logits of one dataset.

    Attributes:
        tokens: modality -> `Tokens`.
        own: modality -> the blocks that it has for itself.
        blocks, norm: of all modalities and datasets.
        heads: dataset -> its classifier.
    """

    def __init__(self, config: PolyViTConfig, sizes: Sizes):
        super().__init__()
        if not 0 <= config.own_layers <= config.depth:
            raise ValueError(f"model.own_layers must be from 0 to model.depth {config.depth}, not {config.own_layers}")
        self.config, modalities = config, sorted(sizes.inputs)

        def blocks(count: int) -> nn.ModuleList:
            # Of rates above 0, so that each block has something whose rate a dataset sets; the first one's is 0.
            return encoder(config.dim, count + 1, config.heads, drop_path=1e-3)[1:]

        self.tokens = nn.ModuleDict({m: tokens_of(config, m, sizes.inputs[m]) for m in modalities})
        self.own = nn.ModuleDict({m: blocks(config.own_layers) for m in modalities})
        self.blocks = blocks(config.depth - config.own_layers)
        self.norm = LayerNorm(config.dim)
        self.heads = nn.ModuleDict({name: nn.Linear(config.dim, count) for name, count in sizes.classes.items()})
        self.apply(init_scenic)
        for head in self.heads.values():
            nn.init.zeros_(cast(nn.Linear, head).weight)

    def encode(self, modality: str, x: Tensor, drop_path: float = 0.0) -> Tensor:
        """[B, C, *size] -> [B, D], the CLS token; blocks are dropped with a probability of 0 to `drop_path`."""
        z_BSD = self.tokens[modality](x)
        blocks = [*cast(nn.ModuleList, self.own[modality]), *self.blocks]
        for layer, block in enumerate(blocks):
            set_drop_path(block, drop_path * layer / max(len(blocks) - 1, 1))
            z_BSD = block(z_BSD)
        return self.norm(z_BSD)[:, 0]

    def forward(self, dataset: str, modality: str, x: Tensor, drop_path: float = 0.0) -> Tensor:
        """[B, C] logits."""
        return self.heads[dataset](self.encode(modality, x, drop_path))


def set_drop_path(block: nn.Module, rate: float) -> None:
    """Of both branches of a block; the survivors are as they are (scenic `layers.py`, `Encoder1DBlock`)."""
    for module in block.modules():
        if isinstance(module, DropPath):
            module.drop_prob = rate


def idle(network: nn.Module) -> Mapping[str, nn.Parameter]:
    """The parameters that got no gradient."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad and p.grad is None}
