from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from experiments.common.checkpoints.davenet_names import davenet, layers
from experiments.common.checkpoints.table import Table
from experiments.common.networks.branches import AudioBranch, TextBranch, clip_vector
from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig, ResidualBlock
from experiments.common.networks.gated import ContextGating, GatedUnit, WordMaxPool

TINY = DAVEnetConfig(mel_bins=6, first=4, widths=[4, 4, 6, 8], blocks=[1, 1, 1, 1])

# --- visual features ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4), seed=st.integers(0, 2**31), negative=st.booleans())
def test_a_clip_s_vector_is_of_each_kind_the_maximum_at_length_one(lengths, seed, negative):
    features = torch.randn(len(lengths), 5, 7, generator=torch.Generator().manual_seed(seed))
    features = -features.abs() if negative else features  # the zeros after the clip's end would be the maximum
    for row, length in enumerate(lengths):
        features[row, length:] = 0
    ours = clip_vector(features, torch.tensor(lengths), [3, 4])
    for row, length in enumerate(lengths):
        kinds = features[row, :length].split([3, 4], dim=1)
        alone = [torch.zeros(kind.shape[1]) if not length else kind.max(0).values for kind in kinds]
        expected = torch.cat([kind / kind.norm().clamp(min=1e-12) for kind in alone])
        torch.testing.assert_close(ours[row], expected)


def test_what_lies_after_the_clip_s_end_has_no_part_and_the_features_are_not_changed():
    features = torch.rand(1, 4, 5)
    before, expected = features.clone(), clip_vector(features[:, :2], torch.tensor([2]), [5])
    torch.testing.assert_close(clip_vector(features, torch.tensor([2]), [5]), expected)
    assert torch.equal(features, before)
    assert clip_vector(features, torch.tensor([0]), [2, 3]).tolist() == [[0.0] * 5]


# --- DAVEnet ------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("frames", "steps"), [(800, 50), (1000, 63), (1024, 64), (3072, 192), (5120, 320)])
def test_steps_are_the_frames_sixteenth_rounded_up(frames, steps):
    net = DAVEnet(TINY)
    assert net.stride == 16 and net(torch.randn(1, frames, 6)).shape == (1, steps, 8)


def test_the_defaults_are_avlnet_s_network():
    with torch.device("meta"):
        net = DAVEnet(DAVEnetConfig())
    assert sum(parameter.numel() for parameter in net.parameters()) == 44_670_978 - 2  # never used: `batchnorm1`
    assert (net.dim, net.stride) == (1024, 16)


@torch.no_grad()
def test_a_step_is_of_the_time_where_it_stands():
    net = DAVEnet(DAVEnetConfig(6, 4, [4, 4], [1, 1])).eval()
    audio = torch.randn(1, 160, 6)
    changed = audio.clone()
    changed[:, 100] += 1
    moved = (net(changed) - net(audio)).abs().amax((0, 2))
    assert moved.argmax() in range(20, 31) and moved[:10].max() == moved[36:].max() == 0


@torch.no_grad()
def test_a_residual_block_adds_what_the_shortcut_brings():
    wider, same = ResidualBlock(4, 6, 2).eval(), ResidualBlock(4, 4, 1).eval()
    x = torch.randn(2, 4, 20)
    for block in (wider, same):
        nn.init.zeros_(block.bn2.weight)  # nothing comes through the convolutions
    convolution, norm = wider.shortcut
    expected = F.relu(norm(F.conv1d(x, convolution.weight, stride=2)))
    torch.testing.assert_close(wider(x.clone()), expected)
    assert isinstance(same.shortcut, nn.Identity)
    torch.testing.assert_close(same(x.clone()), F.relu(x))


def test_the_input_is_left_as_it_is():
    audio = torch.randn(2, 64, 6)
    before = audio.clone()
    DAVEnet(TINY)(audio)
    assert torch.equal(audio, before)


# --- the branches -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_mean_is_over_all_steps_in_training_and_over_the_clip_s_own_in_evaluation():
    branch, audio = AudioBranch(TINY, 5), torch.randn(6, 128, 6)
    length = torch.tensor([128, 100, 64, 16, 15, 0])
    expected = branch.davenet(audio).mean(1)
    torch.testing.assert_close(branch.mean(audio, length), expected)
    branch.eval()
    steps = branch.davenet(audio)
    for row, own in enumerate([8, 6, 4, 1, 1, 1]):  # whole sixteenths, but at least one
        torch.testing.assert_close(branch.mean(audio, length)[row], steps[row, :own].mean(0))
    assert torch.equal(branch.mean(audio, length + 1000), branch.mean(audio, torch.full((6,), 128)))


@torch.no_grad()
def test_sound_is_gated_before_its_numbers_become_many():
    branch, audio = AudioBranch(TINY, 30).eval(), torch.randn(2, 64, 6)
    length = torch.tensor([64, 32])
    assert branch.gated.fc.weight.shape == branch.gated.gate.fc.weight.shape == (8, 8)
    assert branch.projection.weight.shape == (30, 8)
    torch.testing.assert_close(branch(audio, length), branch.projection(branch.gated(branch.mean(audio, length))))


@torch.no_grad()
def test_padding_rows_take_part_in_the_maximum_over_words():
    pool, words = WordMaxPool(3, 4), torch.zeros(2, 5, 3)
    words[0, :2] = torch.randn(2, 3)
    nn.init.constant_(pool.fc.bias, 2.0)
    expected = torch.stack([pool.fc(row).clamp(min=0).max(0).values for row in words])
    torch.testing.assert_close(pool(words), expected)
    assert pool(words)[1].tolist() == [2.0] * 4 and pool(words)[0].min() >= 2
    nn.init.constant_(pool.fc.bias, -100.0)
    assert pool(words).abs().max() == 0


@torch.no_grad()
def test_text_is_gated_after_the_maximum():
    branch, words = TextBranch(3, 4), torch.randn(2, 5, 3)
    torch.testing.assert_close(branch(words), branch.gated(branch.pool(words)))


# --- gating -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_context_gating_is_pytorch_s_gated_linear_unit():
    gate, x = ContextGating(6), torch.randn(4, 6)
    torch.testing.assert_close(gate(x), F.glu(torch.cat([x, gate.fc(x)], 1), 1))


@torch.no_grad()
def test_a_gate_can_be_open_or_shut_and_the_result_is_not_normalised():
    unit, x = GatedUnit(5, 3), torch.randn(4, 5)
    nn.init.zeros_(unit.gate.fc.weight)
    for bias, share in ((20.0, 1.0), (0.0, 0.5), (-200.0, 0.0)):
        nn.init.constant_(unit.gate.fc.bias, bias)
        torch.testing.assert_close(unit(x), share * unit.fc(x))


# --- names of the authors' files ----------------------------------------------------------------------------------


def test_renamed_weights_of_davenet_lie_under_our_names_in_our_shapes():
    theirs = {
        "module.net.conv1.weight": torch.arange(12.0).view(3, 1, 4, 1),
        "module.net.layer6.1.conv2.weight": torch.zeros(3, 3, 1, 9),
        "module.net.layer1.0.downsample.0.weight": torch.zeros(3, 3, 1, 1),
        "module.net.layer1.0.downsample.1.running_mean": torch.zeros(3),
        "module.net.batchnorm1.weight": torch.ones(1),
    }
    table = Table(*davenet("net", "audio.davenet"))
    ours = table.renamed(theirs)
    assert {key: list(value.shape) for key, value in ours.items()} == {
        "audio.davenet.conv1.weight": [3, 4, 1],
        "audio.davenet.stages.5.1.conv2.weight": [3, 3, 9],
        "audio.davenet.stages.0.0.shortcut.0.weight": [3, 3, 1],
        "audio.davenet.stages.0.0.shortcut.1.running_mean": [3],
    }
    assert ours["audio.davenet.conv1.weight"].flatten().tolist() == list(range(12))
    for strange in ("net.layer1.0.conv3.weight", "network.weight"):
        assert table.translated({f"module.{strange}": torch.zeros(1)}) == ({}, [f"{strange}: unknown"])


def test_renamed_layers_keep_all_but_the_name_of_the_gate():
    theirs = {key: torch.randn(1) for key in ("module.GU.fc.bias", "GU.cg.fc.bias", "GU2.fc.bias", "plain.weight")}
    ours, strange = Table(layers({"GU": "video.unit", "plain": "linear"})).translated(theirs)
    assert list(ours) == ["video.unit.fc.bias", "video.unit.gate.fc.bias", "linear.weight"]
    assert strange == ["GU2.fc.bias: unknown"]
