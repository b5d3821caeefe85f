"""The ideas without which it would not be MBT's network; each test fails when its idea is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.mbt.model import MBT, MBTConfig, bottleneck_layer, cross_layer, encoder, full_layer, mean_logits

TINY = MBTConfig(dim=48, depth=4, heads=4, mlp_ratio=2.0, fusion_layer=2, drop_path=0.0)
INPUTS = Inputs(AudioInputs(frames=96, mel_bins=64), VideoInputs(frames=2, size=64))
PAPER = Inputs(AudioInputs(frames=800), VideoInputs(frames=8))
FUSIONS = {"bottleneck": TINY, "cross": replace(TINY, fusion="cross")}
FUSIONS["full"] = replace(TINY, fusion="full", share_encoder=True)


def mbt(config: MBTConfig = TINY, modality: str = "av", **changes) -> MBT:
    """With a classifier that is not zero, so that logits tell something."""
    torch.manual_seed(0)
    model = MBT(replace(config, **changes), INPUTS, modality, num_classes=5)
    nn.init.normal_(model.head.weight)
    return model


def random_batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "audio": torch.randn(3, 1, 96, 64, generator=generator),
        "video": torch.randn(3, 3, 2, 64, 64, generator=generator),
    }


@torch.no_grad()
def change_of_the_other(model: MBT, replaced: str) -> float:
    """Largest change of a stream's logits when the other stream's clip is another one."""
    batch = random_batch()
    name, watched = {"a": ("audio", "v"), "v": ("video", "a")}[replaced]
    other = {**batch, name: random_batch(1)[name]}
    before, after = model(batch), model(other)
    assert not torch.equal(before[replaced], after[replaced])
    return (before[watched] - after[watched]).abs().max().item()


def first_gradients(loss: Tensor, model: MBT, name: str) -> list[bool]:
    """Which layers of the blocks `name` get a gradient of `loss`."""
    gradients = [
        torch.autograd.grad(loss, list(block.parameters()), allow_unused=True, retain_graph=True)
        for block in model.blocks[name]
    ]
    return [any(g is not None and g.any() for g in layer) for layer in gradients]


# --- the bottleneck is the only path between the streams ----------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("replaced", ["a", "v"])
def test_with_late_fusion_the_streams_never_meet(fusion, replaced):
    assert change_of_the_other(mbt(FUSIONS[fusion], fusion_layer=4), replaced) == 0.0


@pytest.mark.parametrize("share_encoder", [False, True])
@pytest.mark.parametrize("replaced", ["a", "v"])
def test_news_of_the_other_stream_needs_two_layers_of_fusion(replaced, share_encoder):
    assert change_of_the_other(mbt(fusion_layer=3, share_encoder=share_encoder), replaced) == 0.0
    for fusion_layer in (0, 1, 2):
        assert change_of_the_other(mbt(fusion_layer=fusion_layer, share_encoder=share_encoder), replaced) > 1e-3


@pytest.mark.parametrize("fusion", ["full", "cross"])
def test_attention_over_all_tokens_needs_one_layer_of_fusion(fusion):
    assert change_of_the_other(mbt(FUSIONS[fusion], fusion_layer=3), "v") > 1e-3


@pytest.mark.parametrize("replaced", ["a", "v"])
def test_nothing_crosses_where_a_streams_copy_of_the_bottleneck_is_cut(replaced):
    model = mbt(fusion_layer=0)
    assert change_of_the_other(model, replaced) > 1e-3
    for block in model.blocks[replaced]:
        block.register_forward_hook(
            lambda _, inputs, out: torch.cat([out[:, :-5], torch.zeros_like(out[:, -5:])], dim=1)
        )
    assert change_of_the_other(model, replaced) == 0.0


def test_only_fusion_layers_see_the_bottleneck():
    model, lengths = mbt(), {"a": [], "v": []}
    for modality, seen in lengths.items():
        for block in model.blocks[modality]:
            block.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].shape[1]))
    model(random_batch())
    assert lengths == {"a": [25, 25, 30, 30], "v": [33, 33, 38, 38]}


# --- copies of the bottleneck are averaged ------------------------------------------------------------------------


def test_a_layer_reads_one_bottleneck_and_averages_its_copies():
    blocks = {"a": lambda z: 2 * z, "v": lambda z: 4 * z}
    z, z_fsn = {"a": torch.randn(2, 7, 8), "v": torch.randn(2, 9, 8)}, torch.randn(2, 3, 8)
    z_new, z_fsn_new = bottleneck_layer(blocks, z, z_fsn)
    assert torch.equal(z_new["a"], 2 * z["a"]) and torch.equal(z_new["v"], 4 * z["v"])
    assert torch.allclose(z_fsn_new, 3 * z_fsn)


@pytest.mark.parametrize("modality", ["a", "v"])
def test_gradient_reaches_the_bottleneck_and_the_other_stream_up_to_the_last_layer_but_one(modality):
    model = mbt(fusion_layer=1)
    loss = model(random_batch())[modality].square().sum()
    assert torch.autograd.grad(loss, model.bottleneck, retain_graph=True)[0].abs().sum(dim=1).all()
    assert first_gradients(loss, model, modality) == [True] * 4
    assert first_gradients(loss, model, "v" if modality == "a" else "a") == [True, True, True, False]


# --- where and how they fuse, and how many bottlenecks, are settings ----------------------------------------------


@pytest.mark.parametrize("extra_bottleneck", [False, True])
@pytest.mark.parametrize("bottlenecks", [4, 16, 64])
def test_any_number_of_bottlenecks_trains(bottlenecks, extra_bottleneck):
    model, batch = mbt(bottlenecks=bottlenecks, extra_bottleneck=extra_bottleneck), random_batch()
    assert model.bottleneck.shape == (bottlenecks + extra_bottleneck, 48)
    optimizer, label, losses = torch.optim.SGD(model.parameters(), lr=0.01), torch.arange(3), []
    start = model.bottleneck.detach().clone()
    for _ in range(4):
        losses.append(sum(F.cross_entropy(logits, label) for logits in model(batch).values()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] and (model.bottleneck != start).any(dim=1).all()


def test_bottlenecks_start_as_numbers_of_deviation_002_that_all_clips_share():
    model = mbt(dim=768, heads=12, depth=1, fusion_layer=0, bottlenecks=64, extra_bottleneck=False)
    assert model.bottleneck.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.tokens["a"].positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(tokens.cls_token.any() for tokens in model.tokens.values())


@pytest.mark.parametrize("modality", ["a", "v", "av"])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("fusion_layer", [0, 2, 4])
def test_every_parameter_is_trained(fusion, fusion_layer, modality):
    """So there is no bottleneck where nothing is fused through it; DDP would stop at one."""
    model = mbt(FUSIONS[fusion], modality, fusion_layer=fusion_layer)
    sum(logits.square().sum() for logits in model(random_batch()).values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    fused = fusion == "bottleneck" and modality == "av" and fusion_layer < 4
    assert (model.bottleneck is not None) == fused


def test_cross_attention_with_shared_weights_is_joint_self_attention():
    block = encoder(TINY)[1]
    blocks, z = {"a": block, "v": block}, {"a": torch.randn(2, 7, 48), "v": torch.randn(2, 9, 48)}
    full, cross = full_layer(blocks, z), cross_layer(blocks, z)
    assert all(torch.allclose(full[m], cross[m], atol=1e-5) and full[m].shape == z[m].shape for m in "av")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "full"}, "set model.share_encoder=true"),
        ({"fusion": "sum"}, "bottleneck, full or cross, not sum"),
        ({"fusion_layer": 5}, "from 0 to model.depth 4, not 5"),
        ({"fusion_layer": -1}, "from 0 to model.depth 4, not -1"),
        ({"bottlenecks": 0}, "at least 1, not 0"),
        ({"patch": 15}, "audio.frames must be a multiple of the patch size 15, not 96"),
        ({"tubelet": 3}, "video.frames must be a multiple of the patch size 3, not 2"),
    ],
)
def test_settings_without_a_meaning_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        mbt(**changes)


def test_a_modality_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="a, v or av, not t"):
        mbt(modality="t")
    with pytest.raises(ValueError, match="data.inputs.video is null"):
        MBT(TINY, Inputs(AudioInputs(), None), "av", 5)


# --- weights of each modality, one classifier ---------------------------------------------------------------------


def test_streams_have_weights_of_their_own_unless_shared():
    own, shared = mbt(), mbt(share_encoder=True)
    assert set(own.blocks) == {"a", "v"} and set(shared.blocks) == {"shared"}
    assert own.blocks_of("a") is not own.blocks_of("v") and shared.blocks_of("a") is shared.blocks_of("v")
    size = sum(p.numel() for p in own.blocks["a"].parameters())
    difference = sum(p.numel() for p in own.parameters()) - sum(p.numel() for p in shared.parameters())
    assert difference == size


def test_each_stream_has_its_logits_by_one_classifier_on_its_cls():
    model, batch = mbt().eval(), random_batch()
    logits, tokens = model(batch), model.encode(batch)
    assert list(logits) == ["a", "v"] and all(values.shape == (3, 5) for values in logits.values())
    assert all(torch.equal(logits[m], model.head(tokens[m][:, 0])) for m in "av")
    assert torch.equal(mean_logits(logits), (logits["a"] + logits["v"]) / 2)


@pytest.mark.parametrize("modality", ["a", "v"])
def test_a_model_of_one_modality_is_its_stream_alone(modality):
    both, one = mbt(fusion_layer=4).eval(), mbt(modality=modality).eval()
    one.load_state_dict({key: both.state_dict()[key] for key in one.state_dict()})
    batch = random_batch()
    alone = one({key: value for key, value in batch.items() if key[0] == modality})
    assert list(alone) == [modality] and torch.equal(alone[modality], both(batch)[modality])
    assert torch.equal(mean_logits(alone), alone[modality])


def test_a_new_classifier_gives_zero():
    logits = MBT(TINY, INPUTS, "av", 5)(random_batch())
    assert not logits["a"].any() and not logits["v"].any()


# --- stochastic depth ---------------------------------------------------------------------------------------------


def test_stochastic_depth_rises_linearly_and_drops_clips_without_rescaling_the_others():
    blocks = encoder(replace(TINY, drop_path=0.3))
    rates = [[module.drop_prob for module in block.modules() if isinstance(module, DropPath)] for block in blocks]
    assert rates == [[], *([pytest.approx(rate)] * 2 for rate in (0.1, 0.2, 0.3))]
    torch.manual_seed(0)
    kept = blocks[3].drop_path1(torch.ones(4000, 2, 2))
    assert kept.unique().tolist() == [0.0, 1.0]
    assert kept.mean().item() == pytest.approx(0.7, abs=0.03)
    assert (kept == kept[:, :1, :1]).all()  # a whole branch of a clip
    assert (blocks.eval()[3].drop_path2(torch.ones(100, 2, 2)) == 1).all()


# --- the paper's size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "inputs", "modality", "millions"),
    [
        (MBTConfig(tubelet=2), Inputs(AudioInputs(frames=800), VideoInputs(frames=32)), "av", 175.0),
        (MBTConfig(), PAPER, "av", 173.2),
        (MBTConfig(tubelet=2, share_encoder=True), Inputs(PAPER.audio, VideoInputs(frames=32)), "av", 90.0),
        (MBTConfig(), PAPER, "a", 86.4),
    ],
)
def test_parameters_are_as_many_as_in_the_authors_class(config, inputs, modality, millions):
    """Within 1 %: theirs has the kernel of a log-mel in three channels, 0.4 M more than ours."""
    with torch.device("meta"):
        model = MBT(config, inputs, modality, 527)
    log_mel_kernel = 2 * 16 * 16 * 768 / 1e6
    count = sum(p.numel() for p in model.parameters()) / 1e6 + log_mel_kernel
    assert count == pytest.approx(millions, abs=0.06)


def test_at_full_size_401_audio_and_1569_video_tokens_are_encoded():
    with torch.device("meta"):
        model = MBT(MBTConfig(), PAPER, "av", 527)
        tokens = model.encode({"audio": torch.empty(1, 1, 800, 128), "video": torch.empty(1, 3, 8, 224, 224)})
    assert tokens["a"].shape == (1, 401, 768) and tokens["v"].shape == (1, 1569, 768)
    assert model.bottleneck.shape == (5, 768)
