from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from experiments.common.optim import LARCAdam, OptimConfig, lr_factor, schedule_factor
from experiments.common.stage import Stage, StageSpec
from tests.experiments import golden


class TwoLayers(Stage):
    def __init__(self, spec):
        super().__init__(spec)
        self.first, self.norm, self.last = nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.cls_token = nn.Parameter(torch.zeros(3))

    def layer_of(self, name):
        return {"first": 0, "cls_token": 0, "norm": 1, "last": 2}[name.split(".")[0]], 2


def made(**changes):
    optim = OptimConfig(**{"base_lr": 1e-3, "weight_decay": 0.1, **changes})
    stage = TwoLayers(StageSpec(None, None, optim=optim, batch_size=64, steps_per_epoch=10, epochs=6))
    result = stage.configure_optimizers()
    assert result["lr_scheduler"]["interval"] == "step"
    return stage, result["optimizer"], result["lr_scheduler"]["scheduler"]


def rates(optimizer, scheduler, steps=60):
    """The rate that each step of training is done with."""
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        scheduler.step()
    return [*result, optimizer.param_groups[-1]["lr"]]


def test_rate_rises_linearly_each_step_and_falls_by_half_a_cosine():
    _, optimizer, scheduler = made(warmup_epochs=2.0, min_lr=1e-5)
    lr, peak = rates(optimizer, scheduler), 1e-3 * 64 / 256
    assert lr[0] == 0 and lr[10] == pytest.approx(peak / 2) and lr[11] > lr[10]
    assert lr[20] == pytest.approx(peak)
    for step in (30, 47, 60):  # AudioMAE util/lr_sched.py
        expected = 1e-5 + (peak - 1e-5) * 0.5 * (1 + math.cos(math.pi * (step / 10 - 2) / (6 - 2)))
        assert lr[step] == pytest.approx(expected)
    assert lr[60] == pytest.approx(1e-5)


def test_without_warm_up_training_starts_at_the_peak():
    _, optimizer, scheduler = made()
    assert rates(optimizer, scheduler, 1)[0] == pytest.approx(1e-3 * 64 / 256)


def test_warm_up_longer_than_training_only_rises():
    factors = [lr_factor(step / 10, 1, 3, 0.0) for step in range(11)]
    assert factors == sorted(factors) and factors[-1] == pytest.approx(1 / 3)


def test_every_trainable_parameter_is_in_exactly_one_group_and_no_frozen_one():
    stage, optimizer, _ = made(layer_decay=0.5)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    trainable = [p for p in stage.parameters() if p.requires_grad]
    assert len(grouped) == len({id(p) for p in grouped}) == len(trainable) == 7


def test_biases_norms_and_tokens_are_not_decayed():
    stage, optimizer, _ = made()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    decayed = {name for name, p in stage.named_parameters() if decay.get(id(p))}
    assert decayed == {"first.weight", "last.weight"}


def test_layer_i_of_n_has_the_rate_times_decay_to_the_n_minus_i():
    stage, optimizer, scheduler = made(layer_decay=0.5, warmup_epochs=1.0)
    rates(optimizer, scheduler, 10)
    lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    peak = 1e-3 * 64 / 256
    for name, factor in (("first.weight", 0.25), ("cls_token", 0.25), ("norm.bias", 0.5), ("last.weight", 1.0)):
        assert lr[id(stage.get_parameter(name))] == pytest.approx(peak * factor)


def test_config_is_a_structured_config():
    from omegaconf import OmegaConf

    config = OmegaConf.merge(OmegaConf.structured(OptimConfig), {"betas": [0.9, 0.999], "warmup_epochs": 2})
    assert OmegaConf.to_object(config) == OptimConfig(betas=[0.9, 0.999], warmup_epochs=2.0)


def test_steps_down_are_those_of_multi_step_lr_at_the_ends_of_epochs():
    """AST's AudioSet-20K recipe on 10 steps an epoch: milestones 3, 5, 7, ... halve the rate."""
    _, optimizer, scheduler = made(lr=5e-5, schedule="step", step_first=3, step_every=2, step_factor=0.5)
    lr = rates(optimizer, scheduler)[:60]
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=5e-5)
    milestones = torch.optim.lr_scheduler.MultiStepLR(reference, [3, 5, 7], gamma=0.5)
    for epoch in range(6):
        assert lr[10 * epoch : 10 * epoch + 10] == pytest.approx([reference.param_groups[0]["lr"]] * 10)
        reference.step()
        milestones.step()


MCN_RATES = golden.recorded("mcn")["schedule"]["rates"]


@pytest.mark.parametrize("steps", MCN_RATES)
def test_a_cosine_after_the_warm_up_has_the_rates_of_the_authors_scheduler_at_every_step(steps):
    warm, total = map(int, steps.split(" of "))
    optim = OptimConfig(lr=1e-4, schedule="cosine", cosine_from="warmup", warmup_steps=warm)
    rates = [1e-4 * schedule_factor(optim, 64, step, total // 6, 6) for step in range(total)]
    assert rates == pytest.approx(MCN_RATES[steps], rel=1e-9, abs=1e-18)


def test_warm_up_in_stairs_leaves_the_first_steps_at_zero_and_multiplies_the_schedule():
    _, optimizer, scheduler = made(lr=1.0, schedule="step", step_first=1, warmup_steps=20, warmup_stairs=5)
    lr = rates(optimizer, scheduler)
    assert lr[:5] == [0] * 5 and lr[5:10] == [0.25] * 5  # AST changes it every so many steps, from 0
    assert lr[10:15] == [0.25] * 5 and lr[15:20] == [0.375] * 5  # of half the rate: epoch 1 has begun
    assert lr[20:30] == [0.25] * 10


def test_a_rate_of_its_own_does_not_scale_with_the_batch():
    _, optimizer, scheduler = made(lr=0.3)
    assert rates(optimizer, scheduler, 1)[0] == pytest.approx(0.3)


@pytest.mark.parametrize(("algorithm", "kind"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_adam_and_sgd_decay_every_parameter_as_the_authors_trainers_do(algorithm, kind):
    _, optimizer, _ = made(algorithm=algorithm, betas=[0.95, 0.999])
    assert type(optimizer) is kind
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    first = optimizer.param_groups[0]
    assert first["momentum"] == 0.95 if algorithm == "sgd" else first["betas"] == (0.95, 0.999)


class KeepsLast(TwoLayers):
    def keeps_rate(self, name):
        return name.startswith("last")

    def share_of_rate(self, name):
        return 10.0 if name.startswith("last") else 1.0


def test_a_rate_that_is_kept_is_the_same_in_every_step():
    optim = OptimConfig(lr=1e-3, warmup_epochs=1.0)
    stage = KeepsLast(StageSpec(None, None, optim=optim, batch_size=64, steps_per_epoch=10, epochs=6))
    configured = stage.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for step in range(60):
        rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert rate[id(stage.last.weight)] == pytest.approx(1e-2)
        assert rate[id(stage.first.weight)] == pytest.approx(1e-3 * lr_factor(step / 10, 6, 1, 0.0))
        optimizer.step()
        scheduler.step()


LARC = golden.recorded("larc")


def test_larc_around_adam_takes_the_steps_of_the_authors_wrapper():
    drawn, shapes, config = golden.Recording("crisscross").drawn, LARC["keys"], LARC["config"]
    groups = [
        {"params": [nn.Parameter(drawn(name, *shapes[name]) * (name != "zero")) for name in names], "lr": rate,
         "weight_decay": decay}
        for names, rate, decay in config["groups"]
    ]  # fmt: skip
    optimizer = LARCAdam(groups, config["trust"], (0.9, 0.999))
    for step, expected in enumerate(LARC["steps"]):
        for group, (names, _, _) in zip(groups, config["groups"], strict=True):
            for name, parameter in zip(names, group["params"], strict=True):
                parameter.grad = LARC["gains"][name] * drawn(f"{name} gradient {step}", *shapes[name])
        optimizer.step()
        for group, (names, _, _) in zip(groups, config["groups"], strict=True):
            for name, parameter in zip(names, group["params"], strict=True):
                torch.testing.assert_close(parameter.flatten().tolist(), expected[name], rtol=1e-6, atol=1e-7)


def test_larc_is_for_adam():
    with pytest.raises(ValueError, match=r"optim\.larc=0\.001 .* not adamw"):
        made(larc=1e-3)
    assert isinstance(made(algorithm="adam", larc=1e-3)[1], LARCAdam)
