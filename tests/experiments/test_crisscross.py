"""What is CrissCross's own: six pairs of four views, targets that do not learn, and where the windows lie.

Losses, maps and gradients are compared with the authors' in `recorded/crisscross.py`.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bench.contract.cases import composed
from datamodules.loading.windows import places, seconds_needed, window_lengths
from experiments.common.networks.batch_norm import GlobalBatchNorm
from experiments.common.networks.r2plus1d import R2Plus1DConfig
from experiments.common.networks.resnet import ResNetConfig
from experiments.common.optim import LARCAdam, OptimConfig
from experiments.common.stage import StageSpec
from experiments.crisscross import objective
from experiments.crisscross.method import Pretrain, PretrainOptions
from experiments.crisscross.model import CrissCrossConfig, conv5_width
from experiments.crisscross.objective import GROUPS, criss_cross

TINY = CrissCrossConfig(R2Plus1DConfig([8, 16], [1, 1]), ResNetConfig([8, 16], [1, 1]), projection=32, bottleneck=16)
PAIRS = {"v1v2", "a1a2", "v1a1", "v2a2", "v1a2", "v2a1"}


def stage(*groups: str, **optim) -> Pretrain:
    torch.manual_seed(0)
    options = PretrainOptions(list(groups or GROUPS))
    return Pretrain(StageSpec(TINY, options, optim=OptimConfig(**optim), batch_size=24, steps_per_epoch=40, epochs=3))


def clips(seed: int = 0, count: int = 24) -> dict[str, torch.Tensor]:
    """Of four kinds: a band that sounds goes with a place that is bright; the windows differ in noise and loudness."""
    draw = torch.Generator().manual_seed(seed)
    kind = torch.arange(count) % 4
    batch = {}
    for name in ("audio", "audio_2"):
        batch[name] = 0.5 * torch.randn(count, 1, 24, 16, generator=draw)
        batch[name][torch.arange(count), 0, :, 4 * kind] += 3
    for name in ("video_1", "video_2"):
        batch[name] = 0.5 * torch.randn(count, 3, 2, 16, 16, generator=draw)
        batch[name][torch.arange(count), :, :, 4 * kind] += 3
    return batch


@torch.no_grad()
def test_asynchronous_pairs_are_of_the_other_window():
    made = stage().eval()
    same = clips() | {"audio_2": clips()["audio"], "video_2": clips()["video_1"]}
    terms = made.losses(same)
    assert torch.equal(terms["v1a2"], terms["v1a1"]) and torch.equal(terms["v2a1"], terms["v2a2"])
    other = made.losses({**same, "audio_2": clips(1)["audio_2"]})
    assert torch.equal(other["v1a1"], terms["v1a1"]) and torch.equal(other["v2a1"], terms["v2a1"])
    assert not torch.isclose(other["v1a2"], terms["v1a2"]) and not torch.isclose(other["v2a2"], terms["v2a2"])


@torch.no_grad()
def test_the_loss_is_the_mean_over_the_pairs_of_the_groups_that_are_on():
    every = stage().eval().losses(clips())
    assert every.keys() > PAIRS
    torch.testing.assert_close(every["loss"], sum(every[pair] for pair in PAIRS) / 6)
    for groups in (["intra"], ["synchronous", "asynchronous"]):
        found = stage(*groups).eval().losses(clips())
        own = PAIRS & found.keys()
        assert own == {x + y for group in groups for x, y in GROUPS[group]}
        torch.testing.assert_close(found["loss"], sum(every[pair] for pair in own) / len(own))


def test_groups_that_are_not_there_are_named():
    for groups, why in ((["sync"], r"options\.groups=\['sync'\]: name some of intra"), ([], r"options\.groups=\[\]")):
        with pytest.raises(ValueError, match=why):
            Pretrain(StageSpec(TINY, PretrainOptions(groups)))


def test_what_is_predicted_gets_no_gradient():
    z, p = ({view: torch.randn(4, 8, requires_grad=True) for view in ("v1", "v2", "a1", "a2")} for _ in "zp")
    criss_cross(z, p, GROUPS)["loss"].backward()
    assert all(x.grad is None for x in z.values()) and all(x.grad.any() for x in p.values())


def test_pictures_predict_the_sound_of_their_own_clip():
    made = stage()
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for step in range(30):
        optimizer.zero_grad()
        made.losses(clips(step))["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        made.eval()
        (_, p_BP), (z_BP, _) = made.net("v", clips(99)["video_1"]), made.net("a", clips(99)["audio"])
        own, other = (F.cosine_similarity(p_BP, z_BP.roll(by, 0)).mean() for by in (0, 1))
    assert own > other + 0.3, "the next clip is of another kind"


def spreads() -> list[float]:
    """Of pictures and sound that have nothing in common, after some steps; 1 = in all directions."""
    net, draw = stage().net, torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([*net.projectors.parameters(), *net.predictors.parameters()], lr=3e-2)
    z: dict[str, torch.Tensor] = {}
    for _ in range(60):
        z = {view: net.projectors[view[0]](torch.randn(24, 16, generator=draw)) for view in ("v1", "v2", "a1", "a2")}
        optimizer.zero_grad()
        criss_cross(z, {view: net.predictors[view[0]](x) for view, x in z.items()}, GROUPS)["loss"].backward()
        optimizer.step()
    return [float(objective.spread(z[view])) * TINY.projection**0.5 for view in ("v1", "a1")]


def test_nothing_collapses_but_without_the_stopped_gradient_everything_does(monkeypatch):
    assert min(spreads()) > 0.9
    monkeypatch.setattr(objective, "target", lambda z: z)
    assert max(spreads()) < 0.2


def test_predictors_learn_ten_times_as_fast_at_a_rate_that_stays_and_norms_see_all_processes():
    made = stage(algorithm="adam", lr=2e-4, min_lr=1e-4, warmup_epochs=1, larc=1e-3)
    configured = made.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, LARCAdam)
    seen = []
    for _ in range(121):
        seen.append({id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]})
        optimizer.step()
        schedule.step()
    for name, parameter in made.named_parameters():
        rates = [rate[id(parameter)] for rate in seen]
        if "predictors" in name:
            assert rates == pytest.approx([2e-3] * 121)
        else:
            assert rates[0] == 0 and max(rates) == pytest.approx(2e-4) and rates[120] == pytest.approx(1e-4)
    assert not any(isinstance(module, torch.nn.modules.batchnorm.BatchNorm1d) for module in made.modules())
    assert sum(isinstance(module, GlobalBatchNorm) for module in made.modules()) > 20


def test_windows_overlap_by_half_and_pictures_lie_anywhere_in_the_span_of_the_sound():
    inputs = composed("crisscross", preset="paper").stages["pretrain"].data.inputs
    lengths = window_lengths(inputs)
    assert lengths == {"": 2.0, "sound_2": 2.0, "pictures": 0.5, "pictures_2": 0.5} and seconds_needed(inputs) == 3.0
    for u in (0.0, 0.3, 1.0):
        begins = {name: at[0] for name, at in places(inputs.windows, lengths, 10.0, 0.5, lambda _, u=u: u).items()}
        assert begins["sound_2"] - begins[""] == pytest.approx(1.0)
        assert begins["pictures_2"] - begins["pictures"] == pytest.approx(0.25)
        assert begins["pictures"] - begins[""] == pytest.approx(2.25 * u)


@pytest.mark.parametrize(("frames", "width"), [(201, 4608), (501, 10752), (101, 1536)])
def test_features_of_sound_are_as_long_as_the_authors_say(frames, width):
    assert conv5_width(ResNetConfig(), frames, 80) == width
