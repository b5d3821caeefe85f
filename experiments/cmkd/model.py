"""CMKD's networks: the Audio Spectrogram Transformer, CNNs with mean pooling, and PSLA's CNN with attention.

All take this suite's normalised log-mel, [B, 1, frames, mels], and give logits, [B, classes].

Shape suffixes: B clips, L patches of a clip (frequency-major), S = 2 + L tokens with CLS and DIST first, D channels,
F mel bins or rows of a map, T frames or columns of a map, C classes, H attention heads of the pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from datamodules.types import AudioInputs
from experiments.common.networks.convolutions import conv_norm_relu
from experiments.common.networks.layers import LayerNorm, transformer

Network = Literal["ast", "cnn", "psla"]
Backbone = Literal["efficientnet_b0", "efficientnet_b2", "efficientnet_b6", "densenet121", "small"]


@dataclass
class ASTConfig:
    """The size of the transformer; defaults are AST-Base. Tiny has 192 channels and 3 heads, Small 384 and 6."""

    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    patch: int = 16
    """Side of a patch, in mel bins and frames."""
    stride: int = 10
    """From patch to patch, in mel bins; less than `patch` makes them overlap (AST `fstride`)."""
    time_stride: int = 0
    """The same in frames (AST `tstride`); 0 = `stride`."""
    mono: Literal["sum", "mean"] = "sum"
    """How ImageNet's RGB patch kernel becomes one of a single channel: `sum` as AST's code does (`ast_models.py`),
    `mean` as CMKD's text says."""

    @property
    def strides(self) -> tuple[int, int]:
        """In mel bins and in frames."""
        return self.stride, self.time_stride or self.stride


@dataclass
class CNNConfig:
    """The CNN; defaults are CMKD's main one."""

    backbone: Backbone = "efficientnet_b2"
    """One of torchvision's, or `small`: depthwise-separable convolutions, for CPUs."""
    pooling: Literal["mean", "attention"] = "mean"
    """`mean` is CMKD's, `attention` PSLA's."""
    heads: int = 4
    """Of the attention pooling."""
    widths: list[int] = field(default_factory=lambda: [16, 32, 64, 96, 192])
    """Channels of `small`: of the stem and of each block. Each halves frames and mel bins."""


@dataclass
class PSLAConfig:
    """PSLA's EfficientNet-B2 with attention pooling."""

    heads: int = 4


@dataclass
class CMKDConfig:
    """All networks that a stage can train or learn from."""

    ast: ASTConfig = field(default_factory=ASTConfig)
    cnn: CNNConfig = field(default_factory=CNNConfig)
    psla: PSLAConfig = field(default_factory=PSLAConfig)


def build(network: Network, model: CMKDConfig, inputs: AudioInputs, num_classes: int) -> AST | CNN | PSLA:
    """The network of that name, freshly initialised: [B, 1, frames, mels] -> [B, num_classes] logits.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    if network == "ast":
        return AST(model.ast, inputs.frames, inputs.mel_bins, num_classes)
    if network == "cnn":
        return CNN(model.cnn, num_classes)
    if network == "psla":
        return PSLA(model.psla, num_classes)
    raise ValueError(f"CMKD's networks are ast, cnn and psla, not {network}")


# --- AST ------------------------------------------------------------------------------------------------------


def patch_grid(config: ASTConfig, frames: int, mel_bins: int) -> tuple[int, int]:
    """(frequency, time): 12 x 101 overlapping patches of 128 mel bins and 1024 frames."""
    for name, size in (("audio.mel_bins", mel_bins), ("audio.frames", frames)):
        if size < config.patch:
            raise ValueError(f"{name} must be at least the patch size {config.patch}, not {size}")
    of_bins, of_frames = config.strides
    return (mel_bins - config.patch) // of_bins + 1, (frames - config.patch) // of_frames + 1


def adapt_positions(positions_SD: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Learned positions of the grid `old` -> those of the grid `new`, both (frequency, time): [2 + L, D] each.

    Along time, then along frequency, the middle is cut out, or, where there is too little, the whole is stretched
    bilinearly; the rows of CLS and DIST stay. AST does so from ImageNet's 24 x 24 or 14 x 14 to audio, and from
    AudioSet's 12 x 101 to other lengths (`ast_models.py`).
    """
    special_2D, patches_LD = positions_SD[:2], positions_SD[2:]
    grid_1DFT = patches_LD.T.reshape(1, -1, *old)
    for axis, size in ((3, new[1]), (2, new[0])):
        have = grid_1DFT.shape[axis]
        if size <= have:
            grid_1DFT = grid_1DFT.narrow(axis, have // 2 - size // 2, size)
        else:
            shape = (size, grid_1DFT.shape[3]) if axis == 2 else (grid_1DFT.shape[2], size)
            grid_1DFT = F.interpolate(grid_1DFT, size=shape, mode="bilinear")
    return torch.cat([special_2D, grid_1DFT[0].flatten(1).T])


class AST(nn.Module):
    """DeiT with a distillation token on overlapping patches of a log-mel, without DeiT's own two heads."""

    def __init__(self, config: ASTConfig, frames: int, mel_bins: int, num_classes: int):
        super().__init__()
        self.config = config
        self.grid = patch_grid(config, frames, mel_bins)
        """(frequency, time)"""
        self.patch_embed = nn.Conv2d(1, config.dim, config.patch, config.strides)
        self.cls_token = nn.Parameter(torch.empty(config.dim))
        self.dist_token = nn.Parameter(torch.empty(config.dim))
        self.positions = nn.Parameter(torch.empty(2 + self.grid[0] * self.grid[1], config.dim))
        self.blocks = transformer(config.dim, config.depth, config.heads, config.mlp_ratio)
        self.norm = LayerNorm(config.dim)
        self.head = nn.Sequential(nn.LayerNorm(config.dim, eps=1e-5), nn.Linear(config.dim, num_classes))
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):  # as timm's ViT
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for parameter in (self.cls_token, self.dist_token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)

    def tokens(self, audio_B1TF: Tensor) -> Tensor:
        """[B, 1, frames, mels] -> [B, S, D]: what the blocks see."""
        patches_BLD = self.patch_embed(audio_B1TF.transpose(2, 3)).flatten(2).transpose(1, 2)
        special_2D = torch.stack([self.cls_token, self.dist_token])
        return torch.cat([special_2D.expand(len(patches_BLD), -1, -1), patches_BLD], dim=1) + self.positions

    def forward(self, audio_B1TF: Tensor) -> Tensor:
        hidden_BSD = self.norm(self.blocks(self.tokens(audio_B1TF)))
        return self.head((hidden_BSD[:, 0] + hidden_BSD[:, 1]) / 2)


# --- CNNs -----------------------------------------------------------------------------------------------------


class MeanHead(nn.Linear):
    """CMKD's pooling, [B, D, F, T] -> [B, C] logits: the mean over frequency and time, then linear."""

    def forward(self, map_BDFT: Tensor) -> Tensor:
        return super().forward(map_BDFT.mean(dim=(2, 3)))


def attend(att_BCT: Tensor, cla_BCT: Tensor) -> Tensor:
    """A head's attention and its predictions at each place, before the sigmoid -> [B, C], their weighted mean."""
    look_BCT = att_BCT.float().sigmoid().clamp(1e-7, 1 - 1e-7)
    return (look_BCT / look_BCT.sum(dim=2, keepdim=True) * cla_BCT.float().sigmoid()).sum(dim=2)


class AttentionHead(nn.Module):
    """PSLA's pooling (`HigherModels.py`, `MHeadAttention`), [B, D, F, T] -> [B, C].

    Each head says at every moment how much a class is there, and how far it looks at that moment. Heads are added with
    free weights, so a sum can leave 0..1.
    """

    def __init__(self, dim: int, num_classes: int, heads: int):
        super().__init__()
        self.att = nn.ModuleList(nn.Conv1d(dim, num_classes, 1) for _ in range(heads))
        self.cla = nn.ModuleList(nn.Conv1d(dim, num_classes, 1) for _ in range(heads))
        self.weight_H = nn.Parameter(torch.full((heads,), 1 / heads))

    def probabilities(self, map_BDFT: Tensor) -> Tensor:
        """[B, C], about 0..1."""
        map_BDT = map_BDFT.mean(dim=2)
        heads = zip(self.att, self.cla, self.weight_H, strict=True)
        return sum(weight * attend(att(map_BDT), cla(map_BDT)) for att, cla, weight in heads)

    def forward(self, map_BDFT: Tensor) -> Tensor:
        """For the loss: logits whose sigmoid is `probabilities`, clamped as PSLA's `traintest.py` clamps before it."""
        return torch.logit(self.probabilities(map_BDFT), eps=1e-7)


class ConvNet(nn.Module):
    """`features` makes a map of a log-mel, `head` pools it into logits."""

    def __init__(self, features: nn.Sequential, head: MeanHead | AttentionHead):
        super().__init__()
        self.features = features
        self.head = head

    def maps(self, audio_B1TF: Tensor) -> Tensor:
        """[B, 1, frames, mels] -> [B, D, F, T], e.g. [B, 1408, 4, 32] of 1000 frames and 128 mel bins."""
        return self.features(audio_B1TF.transpose(2, 3))

    def forward(self, audio_B1TF: Tensor) -> Tensor:
        return self.head(self.maps(audio_B1TF))

    def probabilities(self, audio_B1TF: Tensor) -> Tensor:
        """[B, C], of attention pooling, about 0..1 and not clamped."""
        assert isinstance(self.head, AttentionHead)
        return self.head.probabilities(self.maps(audio_B1TF))


class CNN(ConvNet):
    """CMKD's CNN."""

    def __init__(self, config: CNNConfig, num_classes: int):
        features, dim = backbone(config)
        head: MeanHead | AttentionHead
        if config.pooling == "mean":
            head = MeanHead(dim, num_classes)
        elif config.pooling == "attention":
            head = AttentionHead(dim, num_classes, config.heads)
        else:
            raise ValueError(f"cnn.pooling is mean or attention, not {config.pooling}")
        super().__init__(features, head)
        self.config = config


class PSLA(ConvNet):
    """PSLA's EfficientNet-B2 with attention pooling (`Models.py`, `EffNetAttention`).

    Their backbone is efficientnet_pytorch 0.7.0's. It has torchvision's layers with TensorFlow's batch norm, and pads
    by (kernel - 1) / 2 at both sides as torchvision does (0.7.1, which PSLA does not use, pads one side less).
    """

    def __init__(self, config: PSLAConfig, num_classes: int):
        net = models.efficientnet_b2(norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01))
        dim = net.classifier[-1].in_features
        super().__init__(mono_stem(net.features, "0.0"), AttentionHead(dim, num_classes, config.heads))
        self.config = config


TORCHVISION: dict[str, Callable[..., nn.Module]] = {
    name: getattr(models, name) for name in ("efficientnet_b0", "efficientnet_b2", "efficientnet_b6", "densenet121")
}


def backbone(config: CNNConfig) -> tuple[nn.Sequential, int]:
    """What makes the map, and its channels."""
    if config.backbone == "small":
        return small_features(config.widths), config.widths[-1]
    if config.backbone not in TORCHVISION:
        raise ValueError(f"cnn.backbone is one of {', '.join(TORCHVISION)} or small, not {config.backbone}")
    net: Any = TORCHVISION[config.backbone]()  # torchvision has no types
    if config.backbone == "densenet121":
        net.features.add_module("relu5", nn.ReLU(inplace=True))  # torchvision has it between features and pooling
        return mono_stem(net.features, "conv0"), net.classifier.in_features
    return mono_stem(net.features, "0.0"), net.classifier[-1].in_features


def mono_stem(features: nn.Sequential, name: str) -> nn.Sequential:
    """`features` with the convolution of that name for one channel, still as freshly drawn."""
    stem = features.get_submodule(name)
    assert isinstance(stem, nn.Conv2d)
    stem.weight = nn.Parameter(stem.weight.detach()[:, :1].clone())
    stem.in_channels = 1
    return features


def small_features(widths: list[int]) -> nn.Sequential:
    """A strided 3 x 3 stem, then strided depthwise-separable blocks, each convolution with batch norm and ReLU."""
    layers = conv_norm_relu(1, widths[0], kernel_size=3, stride=2, padding=1)
    for before, after in pairwise(widths):
        layers += conv_norm_relu(before, before, kernel_size=3, stride=2, padding=1, groups=before)
        layers += conv_norm_relu(before, after, kernel_size=1)
    return nn.Sequential(*layers)
