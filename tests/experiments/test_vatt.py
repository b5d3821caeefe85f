"""What is VATT's own: one transformer for all, tokens that are dropped, and the hierarchy of spaces.

Features, losses and gradients are compared with the authors' in `recorded/vatt.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.contract.cases import META, Case, at_step, built, composed, made_up_batch, spec
from datamodules.types import Inputs, VideoInputs
from experiments.common.losses.contrastive import mil_nce
from experiments.common.networks.positions import splined
from experiments.common.stage import StageSpec
from experiments.common.stages.low_rank import LowRankOptions
from experiments.vatt.method import LowRank, Pretrain
from experiments.vatt.model import VATT, Size, Towers, VATTConfig
from experiments.vatt.objective import noisy

SHARED = Case("vatt", "pretrain", "shared")
OWN = Case("vatt", "pretrain")
GRIDS = {"v": 8 * 14 * 14, "a": 1200}


@cache
def stage(case: Case = SHARED) -> Pretrain:
    torch.manual_seed(0)
    made = built(case, torch.device("cpu"))
    assert isinstance(made, Pretrain)
    return made


def reached(case: Case, modality: str) -> set[str]:
    """The transformers that a modality's feature gives a gradient."""
    made = stage(case)
    made.zero_grad()
    made.feature(made_up_batch(case), modality).square().sum().backward()
    return {name.split(".")[2] for name, p in made.named_parameters() if "transformers" in name and p.grad is not None}


def test_one_set_of_weights_gets_gradients_from_all_three_modalities_or_each_has_its_own():
    assert [reached(SHARED, modality) for modality in "vat"] == [{"shared"}] * 3
    assert [reached(OWN, modality) for modality in "vat"] == [{"v"}, {"a"}, {"t"}]
    with META:
        own, shared = (
            Towers(replace(VATTConfig(), shared=one), composed("vatt", "", "paper").data.inputs, "vat", 16)
            for one in (False, True)
        )
    each = {name: sum(p.numel() for p in part.parameters()) for name, part in own.transformers.named_children()}
    (one,) = (sum(p.numel() for p in part.parameters()) for part in shared.transformers.children())
    assert one == each["v"] and sum(each.values()) - one > 100e6


@torch.no_grad()
def test_other_sound_leaves_pictures_as_they_are_to_the_bit_and_nothing_is_dropped_in_evaluation():
    made, batch = stage().eval(), made_up_batch(SHARED)
    seen = made.feature(batch, "v")
    at_step(made, 7)
    other: Any = {**batch, "sound": batch["sound"].flip(1), "key": batch["key"] + 1}  # type: ignore[typeddict-item]
    assert torch.equal(made.feature(other, "v"), seen) and made.keep("v", batch["key"]) is None
    made.train()


def dropped(rate: float) -> tuple[dict[str, int], float]:
    """Modality -> tokens within the blocks, and FLOPs of a clip, of the paper's network."""
    config = composed("vatt", "", "paper", (f"stages.pretrain.options.drop_rate={rate}",))
    with META:
        made = Pretrain(spec(config, "pretrain"))
        made.words = None
        lengths: dict[str, int] = {}
        for modality in "va":
            made.net.transformers[modality].register_forward_pre_hook(
                lambda _, args, modality=modality: lengths.update({modality: args[0].shape[1]})
            )
        video, sound = torch.empty(1, 3, 32, 224, 224), torch.empty(1, 153600)
        words = torch.empty(5, 16, 300), torch.ones(5, 16, dtype=torch.bool)
        with FlopCounterMode(display=False) as counter:
            for modality, values in (("v", video), ("a", sound)):
                made.net(modality, values, made.keep(modality, torch.zeros(1, dtype=torch.int64)))
            made.net("t", words[0], there_BL=words[1])
    return lengths, counter.get_total_flops() / 1e9


def test_dropping_half_of_the_tokens_halves_what_layers_see_and_lowers_flops_as_it_should():
    (all_tokens, whole), (half_tokens, half) = dropped(0.0), dropped(0.5)
    assert all_tokens == {"v": 1 + 1568, "a": 1 + 1200} and half_tokens == {"v": 1 + 784, "a": 1 + 600}

    def blocks(length: int, size: Size) -> float:
        """Multiplications and additions of linear layers, 12 d^2 a token, and of attention."""
        return size.depth * 2 * (12 * length * size.dim**2 + 2 * length**2 * size.dim) / 1e9

    config = VATTConfig()
    saved = sum(
        blocks(all_tokens[m], config.size(m))
        - blocks(half_tokens[m], config.size(m))
        + 2 * GRIDS[m] / 2 * patch * config.size(m).dim / 1e9
        for m, patch in (("v", 4 * 16 * 16 * 3), ("a", 128))
    )
    assert whole - half == pytest.approx(saved, rel=1e-3)
    assert 0.44 < half / whole < 0.5, "the paper's share is 375.4 of 784.8"


@torch.no_grad()
def test_kept_tokens_are_where_they_were_and_all_clips_of_a_step_drop_the_same():
    made, key_B = stage(), torch.arange(8)
    front = made.net.fronts["v"]
    keep_BK = made.keep("v", key_B)
    assert keep_BK is not None and keep_BK.shape == (8, front.places.length // 2)
    video = made_up_batch(SHARED)["video"]
    whole_BLD, kept_BKD = front(video), front(video, keep_BK)
    torch.testing.assert_close(kept_BKD[:, 1:], whole_BLD[:, 1:][torch.arange(8)[:, None], keep_BK])
    assert (keep_BK == keep_BK[:1]).all()
    at_step(made, 1)
    later_BK = made.keep("v", key_B)
    at_step(made, 0)
    assert later_BK is not None and not torch.equal(later_BK, keep_BK)
    own = stage(replace(SHARED, variant="per_sample_drop")).keep("v", key_B)
    assert own is not None and not (own == own[:1]).all()


@torch.no_grad()
def test_places_have_no_mean_over_channels_and_a_vector_for_each_row_column_and_moment():
    places = stage().net.fronts["v"].places
    assert [len(table) for table in places.tables] == [4, 4, 4] and places().shape == (64, 128)
    torch.testing.assert_close(places().mean(1), torch.zeros(64), atol=1e-6, rtol=0)
    expected = sum(table[i] for table, i in zip(places.tables, (1, 2, 3), strict=True))
    torch.testing.assert_close(places()[1 * 16 + 2 * 4 + 3], places.norm(expected))


@torch.no_grad()
def test_pictures_reach_words_through_the_space_of_sound_alone():
    net: VATT = stage(OWN).net.eval()
    feature_BD = torch.randn(6, 128)
    assert net.coarser(net.fine["v"](feature_BD)).std(0).max() > 1e-3
    last = net.fine["v"][-1]
    kept = last.weight.clone()
    last.weight.zero_()
    assert net.coarser(net.fine["v"](feature_BD)).std(0).max() == 0
    last.weight.copy_(kept)
    net.train()


def test_a_clip_without_words_is_left_out_and_no_term_is_below_log_2():
    draw = torch.Generator().manual_seed(0)
    x_BD, y_BND = torch.randn(6, 8, generator=draw), torch.randn(6, 3, 8, generator=draw, requires_grad=True)
    there_BN = torch.tensor([[True, True, False], [True] * 3, [False] * 3] * 2)
    loss = mil_nce(x_BD, y_BND, 0.07, there_BN)
    loss.backward()
    assert y_BND.grad is not None and (y_BND.grad[~there_BN] == 0).all() and (y_BND.grad[there_BN] != 0).any(1).all()
    assert torch.equal(mil_nce(x_BD, y_BND.detach().masked_fill(~there_BN[..., None], 9.0), 0.07, there_BN), loss)
    same = x_BD.detach()[:, None]
    assert mil_nce(100 * torch.eye(6), 100 * torch.eye(6)[:, None], 0.01).item() == pytest.approx(math.log(2), abs=1e-5)
    assert mil_nce(x_BD, same, 1e3).item() == pytest.approx(math.log(12), abs=0.01), "it starts at log 2B"


def inputs(side: int, **sound: Any) -> Inputs:
    return Inputs(None, VideoInputs(4, size=side), streams={"sound": {"kind": "waveform", "seconds": 1.0, **sound}})


SMALL = VATTConfig(video=Size(16, 1, 2), audio=Size(16, 1, 2), video_patch=[2, 8], dropout=0.0)


@torch.no_grad()
def test_places_of_larger_pictures_lie_on_a_spline_through_those_that_were_learned():
    small, large = (LowRank(StageSpec(SMALL, LowRankOptions(), inputs(side), "v", 3)) for side in (16, 24))
    large.load_parent({f"net.{key}": value for key, value in small.net.state_dict().items()})
    tables, own = (made.net.fronts["v"].places.tables for made in (large, small))
    assert [len(table) for table in tables] == [2, 3, 3] and torch.equal(tables[0], own[0])
    assert torch.equal(tables[1], splined(own[1], 3)) and torch.equal(tables[1][0], own[1][0])


def test_noise_is_finite_whatever_is_drawn_and_a_hundredth_of_the_loudest_sample(monkeypatch):
    sound_BT, key_B = torch.zeros(2, 40_000), torch.arange(2)
    sound_BT[1, 0] = 0.5
    added_BT = noisy(sound_BT, key_B, 0.01) - sound_BT
    assert (added_BT[0] == 0).all() and added_BT[1].std().item() == pytest.approx(0.005, rel=0.02)
    ends_B2T = torch.tensor([0.0, 1 - 2.0**-24]).expand(2, 2, 20_000, 2).flatten(2)
    monkeypatch.setattr("datamodules.keyed.uniform", lambda *_: ends_B2T)
    assert noisy(sound_BT, key_B, 0.01).isfinite().all()


@torch.no_grad()
def test_sound_may_be_a_spectrogram():
    net = Towers(SMALL, inputs(16, kind="compressed_mel", sample_rate=8000, hop=200, window_samples=512), "a")
    assert net.fronts["a"].places.grid == (2, 16), (
        "of 40 frames of 80 mel bins, 16 by 5 in a token; the last 8 are left"
    )
    assert net("a", torch.randn(2, 1, 40, 80)).shape == (2, 16)


def test_the_probe_is_of_low_rank_and_learns_what_can_be_told_apart():
    options = LowRankOptions(rank=3, passes=60, clips=16, dropout=0.3, lr=0.05)
    made = LowRank(StageSpec(SMALL, options, inputs(16), "v", 6))
    draw = torch.Generator().manual_seed(0)
    class_N = torch.arange(96) % 6
    features_ND = 3 * torch.randn(6, 16, generator=draw)[class_N] + torch.randn(96, 16, generator=draw)
    said = made.fit(features_ND.numpy(), torch.eye(6)[class_N].numpy(), seed=1)
    assert said == "a classifier of rank 3 of 96 windows, 360 steps"
    first, _, second = made.head
    weight_CD: Tensor = second.weight @ first.weight
    assert torch.linalg.matrix_rank(weight_CD) == 3
    assert (made.head.eval()(features_ND).argmax(1) == class_N).float().mean() > 0.9
