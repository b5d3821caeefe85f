"""How MBT is trained, and of its network what the authors' numbers (`recorded/mbt.py`) do not show."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from bench.contract.cases import CLASSES, Case, made_up_batch, spec
from datamodules.types import Batch, Inputs
from experiments.mbt.method import Train, TrainOptions
from experiments.mbt.model import MBT
from tests.experiments.recorded import mbt as recorded

CASE = Case("mbt", "train_audioset_av")
SPEC, BATCH = spec(CASE.config, CASE.stage), made_up_batch(CASE)
NAME = {"a": "audio", "v": "video"}


def mbt(modality: str = "av", inputs: Inputs = SPEC.inputs, **changes) -> MBT:
    """Of four layers, with a classifier that is not zero, so that logits tell something."""
    torch.manual_seed(0)
    model = MBT(replace(SPEC.model, **changes), inputs, modality, CLASSES)
    nn.init.normal_(model.head.weight)
    return model


def train(multilabel: bool = True, **options) -> Train:
    torch.manual_seed(4)
    stage = Train(replace(SPEC, options=TrainOptions(**options), multilabel=multilabel))
    nn.init.normal_(stage.net.head.weight, std=0.5)  # it starts at zero, which hides the trunk's gradients
    for tokens in stage.net.tokens.values():
        nn.init.normal_(tokens.cls_token)  # at zero as well, and so alike in both streams
    return stage


def batch_of(clips: int, multilabel: bool) -> Batch:
    """Of one label each, or of about two."""
    batch = {key: BATCH[key][:clips] for key in ("key", "audio", "video", "label")}
    if multilabel:
        batch["label"] = batch["label"].maximum(batch["label"].roll(2, 0))
    return batch


# --- training -----------------------------------------------------------------------------------------------------


def mixed(values: Tensor, share: float) -> Tensor:
    """`share` of clip i and the rest of clip B - 1 - i."""
    return torch.stack([share * values[i] + (1 - share) * values[-1 - i] for i in range(len(values))])


@torch.no_grad()
@pytest.mark.parametrize("multilabel", [True, False], ids=["several labels", "one label"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("shares", [{"a": 1.0, "v": 1.0}, {"a": 0.3, "v": 0.8}])
def test_the_loss_is_the_mean_of_each_modality_s_own_by_what_it_was_mixed_by(
    shares, smoothing, multilabel, monkeypatch
):
    """Binary cross-entropy is summed over classes; both are averaged over clips."""
    stage, batch = train(multilabel, label_smoothing=smoothing), batch_of(5, multilabel)
    monkeypatch.setattr(stage, "weights_of_mixing", lambda: shares)
    terms = stage.losses(batch)
    logits = stage.net({NAME[m]: mixed(batch[NAME[m]], share) for m, share in shares.items()})
    expected = {}
    for modality, share in shares.items():
        label = (1 - smoothing) * mixed(batch["label"], share) + smoothing / CLASSES
        summed = F.binary_cross_entropy_with_logits if multilabel else F.cross_entropy
        expected[modality] = summed(logits[modality], label, reduction="sum") / 5
    assert abs(expected["a"] - expected["v"]) > 1e-3
    torch.testing.assert_close(terms, {"loss": (expected["a"] + expected["v"]) / 2, **expected}, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 2.0])
@pytest.mark.parametrize("modality_mixup", [False, True])
def test_lambda_is_of_beta_alpha_alpha_and_of_each_modality_only_where_asked(alpha, modality_mixup):
    stage = train(mixup_alpha=alpha, modality_mixup=modality_mixup)
    torch.manual_seed(0)
    drawn = torch.tensor([[w["a"], w["v"]] for w in (stage.weights_of_mixing() for _ in range(3000))])
    for column in drawn.T:
        assert column.mean().item() == pytest.approx(0.5, abs=0.04)
        assert column.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert torch.corrcoef(drawn.T)[0, 1].item() == pytest.approx(0.0 if modality_mixup else 1.0, abs=0.1)


@torch.no_grad()
def test_measured_are_the_mean_logits_of_both_unmixed():
    stage, batch = train(mixup_alpha=2.0, modality_mixup=True).eval(), BATCH
    streams = stage.net(batch)
    assert not torch.allclose(streams["a"], streams["v"], atol=1e-2)
    torch.testing.assert_close(stage.predict_step(batch, 0), {"logits": {"av": (streams["a"] + streams["v"]) / 2}})


# --- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("modality", "other"), ["av", "va"])
def test_gradient_reaches_the_bottleneck_and_the_other_stream_up_to_the_last_layer_but_one(modality, other):
    model = mbt(fusion_layer=1)
    model(BATCH)[modality].square().sum().backward()
    assert model.bottleneck.grad.abs().sum(dim=1).all()
    reached = {m: [any(p.grad is not None for p in block.parameters()) for block in model.blocks[m]] for m in "av"}
    assert reached == {modality: [True] * 4, other: [True, True, True, False]}


@pytest.mark.parametrize("modality", ["a", "v", "av"])
@pytest.mark.parametrize("fusion", ["bottleneck", "cross", "full"])
@pytest.mark.parametrize("fusion_layer", [0, 2, 4])
def test_every_parameter_is_trained(fusion, fusion_layer, modality):
    """So there is no bottleneck where nothing is fused through it; DDP would stop at one."""
    model = mbt(modality, fusion=fusion, fusion_layer=fusion_layer, share_encoder=fusion == "full")
    sum(logits.square().sum() for logits in model(BATCH).values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert (model.bottleneck is not None) == (fusion == "bottleneck" and modality == "av" and fusion_layer < 4)


def test_without_an_image_vit_the_network_starts_as_in_flax():
    model = MBT(replace(SPEC.model, dim=768, depth=1, fusion_layer=0, bottlenecks=64), SPEC.inputs, "av", CLASSES)
    for normal in (model.bottleneck, *(tokens.positions for tokens in model.tokens.values())):
        assert normal.std().item() == pytest.approx(0.02, rel=0.05)
    assert not any(zero.any() for zero in (model.head.weight, *(tokens.cls_token for tokens in model.tokens.values())))


def test_stochastic_depth_rises_linearly():
    blocks = mbt("v", drop_path=0.3).blocks["v"]
    rates = [[module.drop_prob for module in block.modules() if isinstance(module, DropPath)] for block in blocks]
    assert rates == [[], *([pytest.approx(rate)] * 2 for rate in (0.1, 0.2, 0.3))]


@torch.no_grad()
def test_each_recorded_draw_of_stochastic_depth_is_one_of_ours_without_rescaling():
    """Two layers of rates 0 and 0.5: each clip keeps or loses the branches of the second, so has one of four logits."""
    model = recorded.network("drop_path_video", drop_path=0.5, depth=2)
    last = model.blocks["v"][1]
    assert isinstance(last.drop_path1, DropPath) and not last.drop_path1.scale_by_keep
    possible = []
    for kept in itertools.product((True, False), repeat=2):
        last.drop_path1, last.drop_path2 = (nn.Identity() if keep else nn.Threshold(math.inf, 0.0) for keep in kept)
        possible.append(model(recorded.batch())["v"])
    draws = torch.tensor(recorded.NETWORK["runs"]["drop_path_video"]["logits"])  # [seeds, B, C]
    distance = (draws[:, None] - torch.stack(possible)).abs().amax(dim=-1)  # [seeds, 4, B]
    nearest = distance.min(dim=1)
    assert nearest.values.max() < recorded.TOLERANCE
    assert len(nearest.indices.unique()) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "full"}, "set model.share_encoder=true"),
        ({"fusion": "sum"}, "bottleneck, full or cross, not sum"),
        ({"fusion_layer": 5}, "from 0 to model.depth 4, not 5"),
        ({"fusion_layer": -1}, "from 0 to model.depth 4, not -1"),
        ({"bottlenecks": 0}, "at least 1, not 0"),
        ({"modality": "t"}, "a, v or av, not t"),
        ({"inputs": Inputs(video=None)}, "data.inputs.video is null"),
    ],
)
def test_settings_without_a_meaning_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        mbt(**changes)
