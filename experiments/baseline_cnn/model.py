"""A small convolutional network on log-mels. Shape suffixes: B clips, F frames, M mel bins, C channels."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from experiments.common.networks.convolutions import conv_norm_relu


@dataclass
class CNNConfig:
    """The network's size."""

    widths: list[int] = field(default_factory=lambda: [16, 32, 64, 128])
    """Channels of each block; a block halves frames and mel bins."""
    dropout: float = 0.3
    """Before the linear layer."""


class Block(nn.Sequential):
    """3 x 3 convolution of stride 2, then one of stride 1, each with batch norm and ReLU."""

    def __init__(self, before: int, after: int):
        super().__init__(
            *conv_norm_relu(before, after, kernel_size=3, stride=2, padding=1),
            nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False),
            *conv_norm_relu(after, after, kernel_size=1),
        )


class CNN(nn.Module):
    """Blocks, then the mean over mel bins, then the sum of mean and maximum over time (PANNs' pooling), then linear."""

    def __init__(self, config: CNNConfig, num_classes: int):
        super().__init__()
        channels = [1, *config.widths]
        self.norm = nn.BatchNorm2d(1)
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip(channels, channels[1:], strict=False)))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, audio_B1FM: Tensor) -> Tensor:
        """[B, 1, F, M] normalised log-mel -> [B, num_classes] logits."""
        hidden_BCF = self.blocks(self.norm(audio_B1FM)).mean(dim=3)
        pooled_BC = hidden_BCF.mean(dim=2) + torch.amax(hidden_BCF, dim=2)
        return self.head(self.dropout(pooled_BC))
