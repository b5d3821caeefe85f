from __future__ import annotations

import torch
from torch import nn

from experiments.common.networks.davenet import DAVEnetConfig
from experiments.mcn.model import MCN, MCNConfig

CLIPS, DIM = 3, 12


def network(reconstruction=6):
    torch.manual_seed(0)
    audio = DAVEnetConfig(mel_bins=8, first=4, widths=[4, 6], blocks=[1, 1])
    return MCN(MCNConfig(DIM, audio, [5, 4], 7, reconstruction))


def inputs():
    return (
        torch.randn(CLIPS, 32, 8),
        torch.tensor([32, 20, 9]),
        torch.rand(CLIPS, 3, 9),
        torch.tensor([3, 1, 2]),
        torch.randn(CLIPS, 4, 7),
    )


def test_the_released_size_has_the_authors_parameters_but_for_the_two_that_never_act():
    with torch.device("meta"):
        net = MCN(MCNConfig())
    batchnorm1 = 2
    assert sum(p.numel() for p in net.parameters()) == 223_776_770 - batchnorm1
    assert sum(p.numel() for p in net.decoders["t"].parameters()) == 6144 * 1024 + 1024 + 1024 * 6144 + 6144


def test_every_parameter_has_a_gradient():
    net = network()
    embedding, error = net(*inputs())
    sum(x.square().mean() for x in [*embedding.values(), *error.values()]).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_training_s_embeddings_are_those_of_each_modality_alone():
    net = network().eval()
    audio, length, features, video_length, words = inputs()
    embedding, _ = net(audio, length, features, video_length, words)
    alone = {"a": net.audio(audio, length), "v": net.video(features, video_length), "t": net.text(words)}
    for modality, x in alone.items():
        assert x.shape == (CLIPS, DIM)
        torch.testing.assert_close(embedding[modality], x)


def test_each_decoder_gives_back_what_its_branch_projected():
    net = network().eval()
    audio, length, features, video_length, words = inputs()
    moments = [row[:n] for row, n in zip(features, video_length, strict=True)]
    video = torch.stack([nn.functional.normalize(row.amax(0)[:5], dim=0) for row in moments])
    target = {
        "a": torch.stack(
            [row[: n // 4].mean(0) for row, n in zip(net.audio_branch.davenet(audio), length, strict=True)]
        ),
        "v": torch.cat((video, torch.stack([nn.functional.normalize(row.amax(0)[5:], dim=0) for row in moments])), 1),
        "t": torch.relu(net.text_branch.pool.fc(words)).amax(1),
    }
    embedding, error = net(audio, length, features, video_length, words)
    for modality, decoder in net.decoders.items():
        expected = [nn.functional.mse_loss(decoder(embedding[modality])[i], target[modality][i]) for i in range(CLIPS)]
        torch.testing.assert_close(error[modality], torch.stack(expected))


def test_the_error_teaches_what_is_given_back_as_well():
    """As in the official code: with decoders that give zeros, gradients can come by way of the targets alone."""
    net = network()
    for p in net.decoders.parameters():
        nn.init.zeros_(p)
    _, error = net(*inputs())
    sum(x.sum() for x in error.values()).backward()
    assert net.audio_branch.davenet.conv1.weight.grad.abs().sum() > 0
    assert net.text_branch.pool.fc.weight.grad.abs().sum() > 0
    assert net.audio_branch.projection.weight.grad.abs().sum() == 0


def test_without_decoders_there_are_no_errors_and_the_embeddings_are_the_same():
    with_decoders, without = network().eval(), network(reconstruction=0).eval()
    weights = {key: value for key, value in with_decoders.state_dict().items() if not key.startswith("decoders")}
    without.load_state_dict(weights)
    batch = inputs()
    embedding, error = without(*batch)
    assert error == {}
    for modality, x in with_decoders(*batch)[0].items():
        torch.testing.assert_close(embedding[modality], x)
