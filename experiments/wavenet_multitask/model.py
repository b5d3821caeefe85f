"""A small WaveNet on raw waveforms, and the heads that read its features of each sample.

No code was published; the order of the heads' layers is that of the authors' diagram, their sizes are config.yaml's.

Shape suffixes: B clips, T samples, R channels of the trunk, K of its output, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.common.networks.batch_norm import GlobalBatchNorm

EPS = 1e-3
"""Of the batch norm over means over time, which hardly differ from clip to clip in an untrained network; [choice]."""
Head = Literal["tagging", "speaker", "command"]
"""A classifier: of the mean over time; likewise, deeper and with batch norm; or convolutions over time."""


@dataclass
class WaveNetConfig:
    """The network; defaults are those of `config.yaml`, where it says of each how sure it is."""

    blocks: int = 3
    layers: int = 6
    """Of each block, with dilations of 1, 2, 4, ...; a feature is of the last 1 + blocks * (2**layers - 1) samples."""
    width: int = 64
    """Channels of the trunk."""
    skip: int = 64
    """Channels of its output."""
    causal: bool = True
    """Whether a feature is of what came before alone; else half of what it is of comes after, the next sample too."""
    hidden: int = 512
    """Width of each hidden layer of the classifiers of tags and of speakers."""
    command_widths: list[int] = field(default_factory=lambda: [100, 50, 25])
    command_strides: list[int] = field(default_factory=lambda: [16, 8, 4])
    """Of the convolutions of the classifier of commands, whose kernels are twice as long."""
    dropout: float = 0.2
    """Of that classifier."""
    regression: int = 128
    """Channels of the hidden layer of what answers with samples."""
    levels: int = 0
    """The next sample is one of so many mu-law levels, as in the first WaveNet; 0: a number."""

    @property
    def receptive_field(self) -> int:
        """Samples that a feature is of."""
        return 1 + self.blocks * (2**self.layers - 1)


def padded(x_BRT: Tensor, by: int, causal: bool) -> Tensor:
    """With `by` zeros more: all of them in front, or half of them behind."""
    behind = 0 if causal else by - by // 2
    return F.pad(x_BRT, (by - behind, behind))


class GatedLayer(nn.Module):
    """tanh(filter * x) sigmoid(gate * x), which goes on as a residual, and to the output."""

    def __init__(self, config: WaveNetConfig, dilation: int):
        super().__init__()
        self.config, self.dilation = config, dilation
        self.gated = nn.Conv1d(config.width, 2 * config.width, 2, dilation=dilation)
        self.out = nn.Conv1d(config.width, config.width + config.skip, 1)

    def forward(self, x_BRT: Tensor) -> tuple[Tensor, Tensor]:
        """[B, R, T] -> ([B, R, T], [B, K, T])."""
        filter_BRT, gate_BRT = self.gated(padded(x_BRT, self.dilation, self.config.causal)).chunk(2, 1)
        made = self.out(filter_BRT.tanh() * gate_BRT.sigmoid())
        residual_BRT, skip_BKT = made.split([self.config.width, self.config.skip], 1)
        return x_BRT + residual_BRT, skip_BKT


class Trunk(nn.Module):
    """Samples to features of the same rate."""

    def __init__(self, config: WaveNetConfig):
        super().__init__()
        self.inlet = nn.Conv1d(1, config.width, 1)
        dilations = [2**layer for _ in range(config.blocks) for layer in range(config.layers)]
        self.layers = nn.ModuleList(GatedLayer(config, dilation) for dilation in dilations)

    def forward(self, wave_BT: Tensor) -> Tensor:
        """[B, T] -> [B, K, T], the sum of what the layers give."""
        x_BRT = self.inlet(wave_BT[:, None])
        total_BKT: Tensor | float = 0.0
        for layer in self.layers:
            x_BRT, skip_BKT = layer(x_BRT)
            total_BKT = total_BKT + skip_BKT
        assert isinstance(total_BKT, Tensor), "a trunk has layers"
        return total_BKT


def within(length_B: Tensor, samples: int) -> Tensor:
    """[B, samples] 1.0 where a clip has sound, 0.0 behind its end."""
    return (torch.arange(samples, device=length_B.device) < length_B[:, None]).float()


class OfMean(nn.Module):
    """A classifier of the mean over time: [fully connected -> batch norm, of speakers -> ReLU] x N -> classes."""

    def __init__(self, config: WaveNetConfig, classes: int, hidden: int, norm: bool):
        super().__init__()
        widths = [config.skip, *[config.hidden] * hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), *([GlobalBatchNorm(after, eps=EPS)] if norm else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, feature_BKT: Tensor, length_B: Tensor) -> Tensor:
        """[B, C]."""
        there_BT = within(length_B, feature_BKT.shape[2])
        return self.layers(torch.einsum("bkt,bt->bk", feature_BKT, there_BT) / length_B.clamp(min=1)[:, None])


class OfOrder(nn.Module):
    """A classifier that sees when: [convolution over time -> batch norm -> dropout -> ReLU] x N -> classes, the mean of
    whose scores over what moments are left is what counts."""

    def __init__(self, config: WaveNetConfig, classes: int):
        super().__init__()
        widths = [config.skip, *config.command_widths]
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths, widths[1:], config.command_strides, strict=False):
            layers += [nn.Conv1d(before, after, 2 * stride, stride, padding=stride // 2)]
            layers += [GlobalBatchNorm(after), nn.Dropout(config.dropout), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(widths[-1], classes, 1))

    def forward(self, feature_BKT: Tensor, length_B: Tensor) -> Tensor:
        """[B, C]; clips are of one length, so that what is behind a clip's end counts as silence."""
        return self.layers(feature_BKT).mean(2)


def classifier(config: WaveNetConfig, head: Head, classes: int) -> nn.Module:
    """The head of the main task; the layers' order is the authors' diagram's."""
    if head == "command":
        return OfOrder(config, classes)
    hidden, norm = {"tagging": (1, False), "speaker": (2, True)}[head]
    return OfMean(config, classes, hidden, norm)


class Regression(nn.Module):
    """Convolution -> ReLU -> convolution, an answer a sample; causal where the trunk is."""

    def __init__(self, config: WaveNetConfig, kernel: int, answers: int = 1):
        super().__init__()
        self.by, self.causal = kernel - 1, config.causal
        self.hidden = nn.Conv1d(config.skip, config.regression, kernel)
        self.out = nn.Conv1d(config.regression, answers, kernel)

    def forward(self, feature_BKT: Tensor) -> Tensor:
        """[B, answers, T]."""
        hidden_BHT = self.hidden(padded(feature_BKT, self.by, self.causal)).relu()
        return self.out(padded(hidden_BHT, self.by, self.causal))


def regressions(config: WaveNetConfig, tasks: Sequence[str]) -> nn.ModuleDict:
    """Task without labels -> its head."""
    made = {
        "next_step": lambda: Regression(config, 1, config.levels or 1),
        "denoise": lambda: Regression(config, 3),
        "upsample": lambda: Regression(config, 3),
    }
    return nn.ModuleDict({task: made[task]() for task in tasks})


class WaveNet(nn.Module):
    """The trunk, the heads of the tasks that are on, and the classifier, where there is one."""

    def __init__(self, config: WaveNetConfig, tasks: Sequence[str], main: nn.Module | None = None):
        super().__init__()
        self.trunk = Trunk(config)
        self.tasks = regressions(config, tasks)
        self.main = main

    def classify(self, wave_BT: Tensor, length_B: Tensor) -> Tensor:
        """[B, C]."""
        assert self.main is not None, "the network has no classifier"
        return self.main(self.trunk(wave_BT), length_B)
