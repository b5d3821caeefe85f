from __future__ import annotations

import pytest
import torch

from experiments.avlnet.model import AVLnet, AVLnetConfig
from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig

TEXTS = ("none", "tri", "fused")
FRAMES = 64
TINY = {"dim": 8, "video_dims": [6, 4], "word_dim": 5}


def tiny(text: str) -> AVLnet:
    torch.manual_seed(0)
    audio = DAVEnetConfig(10, 4, [4, 4, 6, 8], [1, 1, 1, 2])
    return AVLnet(AVLnetConfig(audio=audio, tri_dim=TINY["dim"], **TINY), text)


def clips(seed: int = 0):
    """Inputs of each method of the network, of three clips."""
    random = torch.Generator().manual_seed(seed)
    audio = torch.randn(3, FRAMES, 10, generator=random), torch.tensor([64, 32, 20])
    video = torch.randn(3, 4, 10, generator=random), torch.tensor([4, 1, 2])
    words = torch.randn(3, 7, 5, generator=random)
    return {"audio": audio, "video": video, "text": (words,), "audio_text": (*audio, words)}


def parts(text: str) -> tuple[str, ...]:
    return {"none": ("audio", "video"), "tri": ("audio", "video", "text"), "fused": ("audio_text", "video")}[text]


@pytest.mark.parametrize("text", TEXTS)
def test_every_parameter_has_a_gradient_when_all_embeddings_are_used(text):
    net, inputs = tiny(text), clips()
    outputs = [getattr(net, part)(*inputs[part]) for part in parts(text)]
    assert all(output.shape == (3, TINY["dim"]) for output in outputs)
    sum(output.square().sum() for output in outputs).backward()
    idle = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not idle


def test_the_audio_encoder_learns_and_the_features_do_not():
    net, inputs = tiny("none"), clips()
    features, length = inputs["video"]
    (net.audio(*inputs["audio"]) @ net.video(features, length).T).sum().backward()
    assert net.audio_branch.davenet.conv1.weight.grad.abs().sum() > 0
    assert features.grad is None


@torch.no_grad()
@pytest.mark.parametrize("unit", ["audio_branch.gated", "video_unit", "text_branch.gated"])
def test_an_open_gate_makes_a_unit_linear(unit):
    net = tiny("tri").get_submodule(unit)
    x, y = torch.randn(2, 3, net.fc.in_features)

    def bend():
        return (net(x) + net(y) - 2 * net((x + y) / 2)).abs().max()

    assert bend() > 1e-3
    net.gate.fc.weight.zero_()
    net.gate.fc.bias.fill_(20)
    assert bend() < 1e-5


@torch.no_grad()
def test_sound_and_words_both_change_the_fused_query():
    net, inputs, other = tiny("fused").eval(), clips(), clips(1)
    audio, length, words = inputs["audio_text"]
    query = net.audio_text(audio, length, words)
    assert (net.audio_text(other["audio"][0], length, words) - query).abs().min(1).values.max() > 1e-4
    assert (net.audio_text(audio, length, other["text"][0]) - query).abs().min(1).values.max() > 1e-4


@torch.no_grad()
def test_the_fused_query_is_the_gated_sum_of_what_each_gives():
    net, (audio, length, words) = tiny("fused").eval(), clips()["audio_text"]
    branch = net.fused_branch
    mean = branch.audio.mean(audio, length)
    half_audio = mean @ branch.audio.projection.weight.T + branch.audio.projection.bias
    half_text = torch.relu(words @ branch.pool.fc.weight.T + branch.pool.fc.bias).max(1).values
    both = branch.fc_audio(half_audio) + branch.fc_text(half_text)
    assert half_audio.shape == half_text.shape == (3, TINY["dim"] // 2)
    expected = both * torch.sigmoid(both @ branch.gate.fc.weight.T + branch.gate.fc.bias)
    torch.testing.assert_close(net.audio_text(audio, length, words), expected)


@torch.no_grad()
@pytest.mark.parametrize(("text", "part"), [("none", "audio"), ("fused", "audio_text")])
def test_padding_counts_in_training_and_not_in_evaluation(text, part):
    net, (_, _, *words) = tiny(text), clips()[part]
    audio, length = torch.randn(3, 800, 10), torch.tensor([480, 320, 160])  # a step sees 308 frames on either side
    longer = torch.cat([audio, torch.zeros(3, 400, 10)], 1)
    davenet = next(module for module in net.modules() if isinstance(module, DAVEnet))
    davenet.eval()  # of the padding, only what the mean makes of it is looked at

    def moved():
        return (getattr(net, part)(longer, length, *words) - getattr(net, part)(audio, length, *words)).abs().max()

    assert moved() > 1e-2
    net.eval()
    assert moved() < 1e-5


@torch.no_grad()
def test_embeddings_are_not_normalised():
    net = tiny("none").eval()
    net.audio_branch.projection.weight.mul_(2)
    net.audio_branch.projection.bias.mul_(2)
    torch.testing.assert_close(net.audio(*clips()["audio"]), 2 * tiny("none").eval().audio(*clips()["audio"]))


@pytest.mark.parametrize("text", TEXTS)
def test_no_variant_has_the_parts_of_another(text):
    net = tiny(text)
    for part in {"audio", "text", "audio_text"} - set(parts(text)):
        with pytest.raises(AttributeError):
            getattr(net, part)(*clips()[part])
