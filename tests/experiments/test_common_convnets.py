"""R(2+1)D and ResNet: sizes and maps of the published networks, and torchvision's numbers."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from experiments.common.networks.r2plus1d import R2Plus1D, R2Plus1DConfig
from experiments.common.networks.resnet import ResNet, ResNetConfig


@pytest.mark.parametrize(
    ("made", "clip", "parameters", "maps"),
    [
        (
            lambda: R2Plus1D(R2Plus1DConfig()),
            (3, 8, 112, 112),
            15_379_136,
            [(64, 8, 28, 28), (128, 4, 14, 14), (256, 2, 7, 7), (512, 1, 4, 4)],
        ),
        (
            lambda: ResNet(ResNetConfig()),
            (1, 80, 201),
            11_170_240,
            [(64, 20, 51), (128, 10, 26), (256, 5, 13), (512, 3, 7)],
        ),
    ],
    ids=["R(2+1)D-18", "ResNet-18"],
)
def test_sizes_and_maps_are_those_of_crisscross(made, clip, parameters, maps):
    with torch.device("meta"):
        network = made()
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters
        x = network.stem(torch.empty(1, *clip))
        for stage, shape in zip(network.stages, maps, strict=True):
            x = stage(x)
            assert x.shape[1:] == shape
        assert network(torch.empty(1, *clip)).shape == x.shape and network.width == 512


def test_the_resnet_is_torchvisions():
    theirs = torchvision.models.resnet18().eval()
    theirs.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    ours, log_mel = ResNet(ResNetConfig()).eval(), torch.randn(2, 1, 40, 60)
    values = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc")}
    ours.load_state_dict(dict(zip(ours.state_dict(), values.values(), strict=True)))
    pooled = torch.nn.Sequential(*list(theirs.children())[:-1])(log_mel).flatten(1)
    torch.testing.assert_close(ours(log_mel).mean(dim=(2, 3)), pooled)


def test_an_r2plus1d_block_adds_its_shortcut_before_the_last_norm():
    from experiments.common.networks.r2plus1d import ResidualBlock

    block, x = ResidualBlock(3, 5, 2).eval(), torch.randn(2, 3, 4, 6, 6)
    nn.init.zeros_(block.main[-1].weight)
    block.norm.running_mean += 0.5
    expected = (nn.functional.conv3d(x, block.shortcut.weight, stride=2) - 0.5) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), expected.relu())
