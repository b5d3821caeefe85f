from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from datamodules.types import AudioInputs
from experiments.cmkd.model import (
    AST,
    CNN,
    PSLA,
    ASTConfig,
    AttentionHead,
    CMKDConfig,
    CNNConfig,
    MeanHead,
    PSLAConfig,
    adapt_positions,
    build,
)


def tiny_ast(frames: int = 100, mel_bins: int = 64) -> AST:
    return AST(ASTConfig(dim=96, depth=3, heads=3), frames, mel_bins, 50).eval()


def millions(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


@pytest.fixture
def meta():
    with torch.device("meta"):
        yield


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "heads", "official", "dead"), [(192, 3, 6.11, 0.39), (384, 6, 22.83, 0.77)])
def test_parameters_of_ast_are_the_authors_without_the_two_heads_that_never_act(meta, dim, heads, official, dead):
    net = AST(ASTConfig(dim=dim, heads=heads), 1024, 128, 527)
    assert millions(net) == pytest.approx(official - dead, rel=0.002)


def test_parameters_of_ast_base_are_the_authors_without_the_two_heads_that_never_act(meta):
    assert millions(AST(ASTConfig(), 1024, 128, 527)) == pytest.approx(88.13 - 1.54, abs=0.01)


@pytest.mark.parametrize(
    ("backbone", "classes", "expected", "shape"),
    [
        ("efficientnet_b0", 200, 4.26, (1280, 4, 32)),
        ("efficientnet_b0", 527, 4.68, (1280, 4, 32)),
        ("efficientnet_b2", 200, 7.98, (1408, 4, 32)),
        ("efficientnet_b2", 527, 8.44, (1408, 4, 32)),
        ("efficientnet_b6", 200, 41.2, (2304, 4, 32)),
        ("efficientnet_b6", 527, 41.9, (2304, 4, 32)),
        ("densenet121", 200, 7.15, (1024, 4, 31)),
        ("densenet121", 527, 7.49, (1024, 4, 31)),
    ],
)
def test_parameters_and_maps_of_the_cnns_are_those_measured(meta, backbone, classes, expected, shape):
    net = CNN(CNNConfig(backbone=backbone), classes)
    assert millions(net) == pytest.approx(expected, rel=0.002)
    assert net.maps(torch.empty(1, 1, 1000, 128)).shape[1:] == shape


@pytest.mark.parametrize(("classes", "heads", "expected"), [(527, 4, 13.64), (200, 4, 9.96), (50, 4, 8.26)])
def test_parameters_of_psla_are_the_authors(meta, classes, heads, expected):
    assert millions(PSLA(PSLAConfig(heads), classes)) == pytest.approx(expected, rel=0.001)


def test_tiny_networks_are_of_the_size_for_cpus():
    assert millions(tiny_ast()) == pytest.approx(0.37, abs=0.005)
    assert millions(CNN(CNNConfig(backbone="small"), 50)) == pytest.approx(0.04, abs=0.005)


# --- every network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["ast", "cnn", "psla"])
def test_every_network_gives_logits_and_learns_from_them(network):
    config = CMKDConfig(ast=ASTConfig(dim=96, depth=2, heads=3), cnn=CNNConfig(backbone="small"))
    net = build(network, config, AudioInputs(frames=100, mel_bins=64), 7)
    logits = net(torch.randn(2, 1, 100, 64))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_unknown_names_are_errors_that_say_what_there_is():
    inputs = AudioInputs()
    with pytest.raises(ValueError, match="ast, cnn and psla, not vit"):
        build("vit", CMKDConfig(), inputs, 5)
    with pytest.raises(ValueError, match="cnn.backbone is one of efficientnet_b0, .* not resnet"):
        CNN(CNNConfig(backbone="resnet"), 5)
    with pytest.raises(ValueError, match="cnn.pooling is mean or attention, not max"):
        CNN(CNNConfig(backbone="small", pooling="max"), 5)


def test_inputs_smaller_than_a_patch_are_named():
    with pytest.raises(ValueError, match="audio.frames must be at least the patch size 16, not 12"):
        tiny_ast(frames=12)
    with pytest.raises(ValueError, match="audio.mel_bins must be at least the patch size 16, not 10"):
        tiny_ast(mel_bins=10)


def test_configuration_can_be_read_from_yaml():
    given = OmegaConf.create({"ast": {"mono": "mean"}, "cnn": {"backbone": "small", "widths": [8, 16]}})
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(CMKDConfig), given))
    assert (config.ast.mono, config.cnn.widths, config.psla.heads) == ("mean", [8, 16], 4)


# --- AST ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "grid"), [(1024, (12, 101)), (1000, (12, 99)), (512, (12, 50)), (128, (12, 12)), (100, (12, 9))]
)
def test_patches_overlap_by_six(meta, frames, grid):
    net = AST(ASTConfig(depth=1), frames, 128, 5)
    assert net.grid == grid
    assert net.tokens(torch.empty(1, 1, frames, 128)).shape == (1, 2 + grid[0] * grid[1], 768)


def test_1024_frames_make_1214_tokens(meta):
    assert AST(ASTConfig(depth=1), 1024, 128, 5).tokens(torch.empty(2, 1, 1024, 128)).shape == (2, 1214, 768)


def test_token_i_sees_its_own_patch_and_tokens_run_along_time_first():
    net = tiny_ast()
    assert net.grid == (5, 9)
    audio = torch.randn(1, 1, 100, 64, requires_grad=True)
    for token in (0, 7, 13, 44):
        (gradient,) = torch.autograd.grad(net.tokens(audio)[0, 2 + token].sum(), audio)
        frames, mels = gradient[0, 0].nonzero(as_tuple=True)
        row, column = divmod(token, 9)
        assert (frames.min(), frames.max()) == (10 * column, 10 * column + 15)
        assert (mels.min(), mels.max()) == (10 * row, 10 * row + 15)


@torch.no_grad()
def test_ast_pools_the_mean_of_cls_and_dist():
    """What leaves the last norm at any other token is not looked at, and both of these count the same."""
    net, audio, seen = tiny_ast(), torch.randn(1, 1, 100, 64), []
    net.norm.register_forward_hook(lambda _, __, output: seen.append(output))
    logits = net(audio)
    (hidden,) = seen
    assert torch.allclose(logits, net.head(hidden[:, :2].mean(dim=1)), atol=1e-6)
    assert not torch.allclose(hidden[:, 0], hidden[:, 1], atol=1e-3)


def test_norms_have_the_authors_epsilons():
    net = tiny_ast()
    assert {norm.eps for norm in net.blocks.modules() if isinstance(norm, nn.LayerNorm)} == {1e-6}
    assert (net.norm.eps, net.head[0].eps) == (1e-6, 1e-5)
    assert {norm.eps for norm in PSLA(PSLAConfig(), 5).modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-3}


def test_positions_of_12_rows_are_rows_6_to_17_of_24():
    positions = torch.randn(2 + 24 * 24, 8)
    adapted = adapt_positions(positions, (24, 24), (12, 24))
    assert torch.equal(adapted[2:].view(12, 24, 8), positions[2:].view(24, 24, 8)[6:18])
    assert torch.equal(adapted[:2], positions[:2])


def test_positions_of_shorter_sound_are_the_middle_columns():
    positions = torch.randn(2 + 12 * 101, 8)
    adapted = adapt_positions(positions, (12, 101), (12, 50))
    assert torch.equal(adapted[2:].view(12, 50, 8), positions[2:].view(12, 101, 8)[:, 25:75])
    assert torch.equal(adapt_positions(positions, (12, 101), (12, 101)), positions)


def test_positions_of_longer_sound_are_stretched():
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(3.0), indexing="ij")
    table = torch.cat([torch.zeros(2, 2), torch.stack([rows, columns], dim=-1).view(12, 2)])
    adapted = adapt_positions(table, (4, 3), (4, 6))[2:].view(4, 6, 2)
    assert torch.allclose(adapted[..., 0], torch.arange(4.0)[:, None].expand(4, 6))
    assert torch.allclose(adapted[2, :, 1], torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.0]))


# --- CNNs -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_order_of_the_map_s_places_does_not_matter_to_cmkd_s_cnn():
    net = CNN(CNNConfig(backbone="small"), 5).eval()
    assert isinstance(net.head, MeanHead)
    maps = net.maps(torch.randn(2, 1, 320, 64))
    shuffled = maps.flatten(2)[:, :, torch.randperm(maps[0, 0].numel())].view_as(maps)
    assert maps.shape[2:] == (2, 10) and not torch.equal(maps, shuffled)
    assert torch.allclose(net.head(shuffled), net.head(maps), atol=1e-6)
    assert torch.allclose(net.head(maps), maps.mean((2, 3)) @ net.head.weight.T + net.head.bias, atol=1e-6)


@torch.no_grad()
def test_frequency_is_the_map_s_rows():
    """One quiet mel band changes rows, not columns: the input is time first, the networks' pictures are not."""
    net = CNN(CNNConfig(backbone="small", widths=[4, 8]), 5).eval()
    audio = torch.randn(1, 1, 64, 32)
    other = audio.clone()
    other[..., 0] += 1.0
    changed = (net.maps(other) != net.maps(audio)).any(dim=1)[0]
    assert changed.shape == (8, 16) and changed[0].any() and not changed[3:].any()


def plain_attention() -> AttentionHead:
    """One class and one head that looks by channel 0 and tells by channel 1."""
    head = AttentionHead(2, 1, 1)
    for conv, channel in ((head.att[0], 0), (head.cla[0], 1)):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
        conv.weight.data[0, channel] = 1.0
    return head


@torch.no_grad()
def test_attention_weighs_moments_by_where_it_looks():
    att, cla = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 3.0, -2.0])
    maps = torch.stack([att, cla])[None, :, None].repeat(1, 1, 4, 1)  # [1, 2, 4, 3], the same in every row
    weights = att.sigmoid() / att.sigmoid().sum()
    expected = (weights * cla.sigmoid()).sum()
    head = plain_attention()
    assert torch.allclose(head.probabilities(maps), expected.view(1, 1))
    assert torch.allclose(head(maps).sigmoid(), expected.view(1, 1))
    maps[:, :, 0] += 1.0
    maps[:, :, 1] -= 1.0
    assert torch.allclose(head.probabilities(maps), expected.view(1, 1))  # rows are averaged first


@torch.no_grad()
def test_attention_heads_start_equal_and_their_weights_are_free():
    head, maps = AttentionHead(6, 3, 4), torch.randn(2, 6, 4, 5)
    assert torch.equal(head.weight_H, torch.full((4,), 0.25))
    before = head.probabilities(maps)
    head.weight_H.mul_(20.0)
    assert torch.allclose(head.probabilities(maps), 20 * before, rtol=1e-5)
    assert (head.probabilities(maps) > 1).all()
    assert torch.allclose(head(maps), torch.tensor(1 - 1e-7).logit().expand(2, 3))  # clamped before the loss


def test_backbones_see_one_channel(meta):
    for backbone, stem in (("efficientnet_b0", "0.0"), ("densenet121", "conv0")):
        net = CNN(CNNConfig(backbone=backbone), 5)
        kernel = net.features.get_submodule(stem)
        assert kernel.in_channels == kernel.weight.shape[1] == 1
        assert net(torch.empty(1, 1, 100, 128)).shape == (1, 5)


@torch.no_grad()
def test_map_of_densenet_is_rectified():
    maps = CNN(CNNConfig(backbone="densenet121"), 5).eval().maps(torch.randn(1, 1, 64, 64))
    assert maps.min() == 0 and maps.max() > 0
