"""What every method does, for whatever the registry finds: its configurations compose, and of each stage that trains
(in preset tiny, on made-up clips) every parameter learns, the loss falls, a checkpoint brings the step back, and
weights are read by name."""

from __future__ import annotations

import io

import pytest
import torch
from omegaconf import OmegaConf

from bench import registry
from bench.config.compose import compose
from bench.errors import UserError
from experiments.common.optim import make_optimizer
from tests.experiments import every_stage as stages

CPU = torch.device("cpu")
NEVER_LEARNED = {"everything_at_once": {"net.masking_token"}}
"""Parameters that no loss reaches, in the authors' code neither (`test_narrated_stages.py`)."""
STEPS = 24
"""In which the loss of one batch must fall."""


def configurations() -> list[tuple[str, str, str]]:
    """(method, preset, variant) of all that can be asked for."""
    found = []
    for method in registry.methods():
        content = OmegaConf.load(registry.method_folder(method) / "config.yaml")
        variants = ["", *content.get("variants", {})]
        found += [(method, preset, variant) for preset in content.presets for variant in variants]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("method", "preset", "variant"), configurations())
def test_every_preset_and_variant_composes(method: str, preset: str, variant: str):
    """But for a variant of stages that the preset leaves out, which says so."""
    try:
        config = compose(method, [f"preset={preset}", *([f"variant={variant}"] if variant else [])])
    except UserError as error:
        assert variant and preset != "paper" and f"is left out by {registry.method_folder(method)}" in str(error)
    else:
        assert config.stages and (config.preset, config.variant) == (preset, variant)


@stages.every_stage
def test_the_loss_falls_and_every_parameter_gets_a_gradient(case: stages.Case):
    torch.manual_seed(0)
    module, batch = stages.built(case, CPU), stages.made_up_batch(case)
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-3, weight_decay=0.0)
    idle, losses = set(trainable), []
    module.trainer.log_every_n_steps = module.trainer.estimated_stepping_batches  # no curves
    for step in range(STEPS):
        batch["key"] = torch.arange(stages.CLIPS) + stages.CLIPS * step
        module.trainer.global_step = 1 + step % 5  # between two refits of MCN
        optimizer.zero_grad()
        loss = module.training_step(batch, step)
        loss.backward()
        losses.append(loss.item())
        idle -= {name for name, p in trainable.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert idle == NEVER_LEARNED.get(case.method, set())
    third = STEPS // 3
    assert sum(losses[-third:]) < sum(losses[:third])


@stages.every_stage
def test_a_checkpoint_brings_the_next_step_back_to_the_bit(case: stages.Case):
    torch.manual_seed(0)
    module, batch = stages.built(case, CPU), stages.made_up_batch(case)
    configured = make_optimizer(module)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]

    def step(number: int) -> None:
        torch.manual_seed(number)
        optimizer.zero_grad()
        module.training_step(batch, number).backward()
        optimizer.step()
        schedule.step()

    step(1)
    kept, file = {}, io.BytesIO()
    module.on_save_checkpoint(kept)
    torch.save([module.state_dict(), optimizer.state_dict(), schedule.state_dict(), kept], file)
    step(2)
    went_on = {name: value.clone() for name, value in module.state_dict().items()}
    step(3)
    file.seek(0)
    weights, of_optimizer, of_schedule, kept = torch.load(file, weights_only=True)
    module.load_state_dict(weights)
    optimizer.load_state_dict(of_optimizer)
    schedule.load_state_dict(of_schedule)
    module.on_load_checkpoint(kept)
    step(2)
    assert [name for name, value in module.state_dict().items() if not torch.equal(value, went_on[name])] == []


FOLLOWING = [case for case in stages.cases() if stages.config(case.method).stages[case.stage].after]


@pytest.mark.parametrize("case", FOLLOWING, ids=str)
def test_a_stage_starts_from_the_one_before_and_names_what_is_missing_or_strange(case: stages.Case):
    torch.manual_seed(0)
    before = stages.Case(case.method, str(stages.config(case.method).stages[case.stage].after))
    weights = stages.built(before, CPU).state_dict()
    module = stages.built(case, CPU)
    fresh = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_parent(weights)
    own = module.state_dict()
    taken = [name for name in weights if name in own and torch.equal(own[name], weights[name])]
    assert [name for name in taken if not torch.equal(own[name], fresh[name])], "nothing of it was taken"
    with pytest.raises(ValueError, match="nobody.weight"):
        module.load_parent(weights | {"nobody.weight": torch.zeros(1)})
    missing = next(name for name in taken if own[name].is_floating_point())
    with pytest.raises(ValueError, match=missing.rpartition(".")[2]):
        module.load_parent({name: value for name, value in weights.items() if name != missing})
