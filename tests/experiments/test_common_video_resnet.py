"""R(2+1)D at full size; its numbers are compared in `recorded/xdc.py`."""

from __future__ import annotations

import torch
from torchvision.models.video import r2plus1d_18

from experiments.common.networks.video_resnet import VideoResNet, VideoResNetConfig
from tests.experiments.golden import recorded

WIDER = {f"layer{layer}.0.conv2.0.{number}" for layer in (2, 3, 4) for number in (0, 1, 3)}
"""Convolutions and norms whose channels in the middle are more than torchvision's."""


def test_names_and_shapes_are_the_official_ones_and_torchvision_s_but_for_three_convolutions():
    with torch.device("meta"):
        own, theirs = VideoResNet(VideoResNetConfig()).state_dict(), r2plus1d_18().state_dict()
    golden = recorded("xdc")["full_size"]
    assert {name: list(value.shape) for name, value in own.items()} == golden["layout"]
    assert sum(each.numel() for each in VideoResNet(VideoResNetConfig()).parameters()) == golden["parameters"]
    assert own.keys() == theirs.keys() - {"fc.weight", "fc.bias"}
    other = {name.rpartition(".")[0] for name, value in own.items() if value.shape != theirs[name].shape}
    assert other == WIDER
    middle = [own[f"layer{layer}.0.conv2.0.0.weight"].shape[0] for layer in (2, 3, 4)]
    assert middle == [288, 576, 1152]
