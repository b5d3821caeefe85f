"""Deflation: what a network of clips makes of a picture repeated for ever, a network of pictures makes of the
picture."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from experiments.common.networks.deflation import Deflated, repeated
from experiments.common.networks.resnet_v2 import ResNetV2Config, TemporalShift, TSMResNetV2
from experiments.common.networks.s3d import S3D, S3DConfig
from experiments.common.networks.same_padding import SameConv2d, SameConv3d

CONFIGS = {
    "tsm": ResNetV2Config(16, [32, 64], [1, 2]),
    "s3d": S3DConfig(8),
    "s3d_stem7": S3DConfig(8, space_to_depth=False),
}


def networks(kind: str) -> tuple[nn.Module, Deflated]:
    """Of clips, with norms that remember something, and deflated."""
    torch.manual_seed(0)
    config = CONFIGS[kind]
    video = S3D(config) if isinstance(config, S3DConfig) else TSMResNetV2(config)
    for module in video.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for values in (module.weight, module.bias, module.running_mean):
                values.data += 0.3 * torch.randn_like(values)
            module.running_var.uniform_(0.5, 1.5)
    image = Deflated(config)
    image.load(video.state_dict())
    return video.eval(), image.eval()


def inputs_of_convolutions(net: nn.Module, given: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
    """Name -> the convolution, and what it is given."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    for name, module in net.named_modules():
        if isinstance(module, SameConv2d | SameConv3d):
            module.register_forward_pre_hook(partial(_note, found, name))
    with torch.no_grad():
        net(given)
    return found


def _note(found: dict[str, tuple[nn.Module, Tensor]], name: str, module: nn.Module, x: tuple[Tensor]) -> None:
    found[name] = module, x[0]


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_interior_frames_of_every_convolution_of_a_still_clip_are_the_deflated_one_s(kind: str):
    video, image = networks(kind)
    ours = inputs_of_convolutions(image.net, _picture(image))
    theirs = dict((video if isinstance(video, S3D) else video.frames).named_modules())
    frames = 16
    assert len(ours) == sum(isinstance(module, SameConv2d | SameConv3d) for module in theirs.values()) > 5
    for name, (conv, x) in ours.items():
        expected = conv(x)
        if isinstance(video, S3D):
            blocks = 2 if name == "stem.0.convs.0" and video.phases else 1
            still = x.repeat(1, blocks, frames, 1, 1)  # what lies in a block's two frames is among its channels
            found = theirs[name](still)
            interior = found[:, :, len(found[0, 0]) // 4 : -len(found[0, 0]) // 4]
            torch.testing.assert_close(interior, expected.expand_as(interior), atol=1e-5, rtol=0)
        else:
            shift = TemporalShift()
            shift.frames = frames
            still = x.repeat_interleave(frames, 0)
            found = theirs[name](shift(still) if name.endswith("conv0") else still).unflatten(0, (-1, frames))
            torch.testing.assert_close(found[:, 1:-1], expected[:, None].expand_as(found[:, 1:-1]), atol=1e-5, rtol=0)


def _picture(image: Deflated) -> Tensor:
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return picture[:, :, None] if isinstance(image.net, S3D) else picture


@torch.no_grad()
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_left_between_them_comes_from_the_ends_of_the_clip(kind: str):
    video, image = networks(kind)
    picture = torch.rand(2, 3, 32, 32)
    gaps = [(video(repeated(picture, frames)) - image(picture)).abs().mean().item() for frames in (4, 16, 128)]
    assert gaps[0] > 1.5 * gaps[1] and gaps[1] > 3 * gaps[2] > 0
