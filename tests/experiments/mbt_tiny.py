"""A small MBT and random batches for the tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from datamodules.types import AudioInputs, Batch, Inputs, VideoInputs
from experiments.common.stage import StageSpec
from experiments.mbt import method as mbt
from experiments.mbt.model import MBTConfig

CLASSES = 5
MBT_INPUTS = Inputs(AudioInputs(frames=64, mel_bins=32), VideoInputs(frames=2, size=32))
MBT_MODEL = MBTConfig(dim=32, depth=3, heads=4, fusion_layer=1, drop_path=0.0)


def labels(clips: int, multilabel: bool, generator: torch.Generator) -> torch.Tensor:
    """[B, C]: one class a clip, or about two."""
    label = torch.zeros(clips, CLASSES)
    label[torch.arange(clips), torch.arange(clips) % CLASSES] = 1.0
    return label.maximum((torch.rand(clips, CLASSES, generator=generator) < 0.3).float()) if multilabel else label


def mbt_batch(clips: int = 4, multilabel: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(clips, 1, 64, 32, generator=generator)
    video = torch.randn(clips, 3, 2, 32, 32, generator=generator)
    audio += 2 * torch.randn(clips, 1, 1, 32, generator=generator)  # each clip has a timbre
    video += 2 * torch.randn(clips, 3, 1, 1, 1, generator=generator)  # and a colour
    label = labels(clips, multilabel, generator)
    return Batch(key=torch.arange(clips) + 1, audio=audio, video=video, label=label)


def mbt_train(multilabel: bool = True, **options: Any) -> mbt.Train:
    torch.manual_seed(4)
    spec = StageSpec(MBT_MODEL, mbt.TrainOptions(**options), MBT_INPUTS, num_classes=CLASSES, multilabel=multilabel)
    stage = mbt.Train(spec)
    nn.init.normal_(stage.net.head.weight, std=0.5)  # it starts at zero, which hides the trunk's gradients
    for tokens in stage.net.tokens.values():
        nn.init.normal_(tokens.cls_token)  # at zero as well, and so alike in both streams
    return stage
