"""What UAVM's networks start from: pictures' networks, and the authors' files of other variants and classes."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from torch import Tensor
from torchvision import models

from experiments.uavm.checkpoints import from_imagenet, imagenet, load, load_extractor
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig, VideoConvNeXt
from tests.experiments.recorded.uavm import CASES, EXTRACTOR, fresh


def sound() -> AudioConvNeXt:
    return AudioConvNeXt(ConvNeXtConfig("tiny"), 5)


def shapes(of: dict) -> dict[str, Tensor]:
    """A released file that does not come as far as to be loaded."""
    return {f"module.{key}": torch.empty(shape, device="meta") for key, shape in of["keys"].items()}


@torch.no_grad()
def test_extractors_from_imagenet_see_frames_and_grey_sound_as_the_picture_network_does():
    torch.manual_seed(0)
    theirs, audio, video = models.convnext_tiny(), sound(), VideoConvNeXt(ConvNeXtConfig("tiny"), 5)
    for value in theirs.parameters():
        value.add_(0.1 * torch.randn_like(value))  # blocks start as if they were not there
    theirs.eval()
    for net in (audio.eval(), video.eval()):
        head = net.head[1].weight.clone()
        load_extractor(net, theirs.state_dict())
        assert torch.equal(net.head[1].weight, head) and torch.equal(net.head[0].bias, theirs.classifier[0].bias)
    frames, mels = torch.randn(2, 3, 2, 64, 96), torch.randn(2, 1, 96, 64)
    expected = torch.stack([theirs.features(frames[:, :, step]).mean(dim=(2, 3)) for step in range(2)], dim=1)
    torch.testing.assert_close(video.features(frames), expected, rtol=1e-4, atol=1e-4)
    expected = theirs.features(mels.transpose(2, 3).expand(2, 3, 64, 96)).mean(dim=2).transpose(1, 2)
    torch.testing.assert_close(audio.features(mels), expected, rtol=1e-4, atol=1e-4)


def test_the_released_extractor_is_trained_on_with_a_new_classifier_of_any_classes():
    with torch.device("meta"):
        load_extractor(sound(), shapes(EXTRACTOR), new_head=True)


def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"https://.*init=FILE"):
        imagenet("base")


@pytest.mark.parametrize(
    ("load_them", "message"),
    [
        (lambda: load(fresh("unified"), shapes(CASES["full_attention"])), r"shared\.av\.positions: shape \[60, 48\]"),
        (lambda: load(fresh("separate"), shapes(CASES["unified"])), r"shared\.a\.positions: missing"),
        (lambda: load_extractor(sound(), shapes(EXTRACTOR)), r"head\.1\.weight: shape \[11, 768\], not \[5, 768\]"),
        (lambda: from_imagenet({"neck.weight": torch.zeros(1)}, 3), r"neck\.weight: unknown"),
        (lambda: imagenet("tiny_cpu"), "tiny_cpu is no network with ImageNet weights"),
    ],
)
def test_what_does_not_fit_is_named(load_them, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        load_them()
