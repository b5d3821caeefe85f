"""What every stage that trains must do. Each check raises an AssertionError that says what went wrong."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.contract.cases import (
    CLIPS,
    CPU,
    Case,
    at_step,
    built,
    built_after_a_step,
    empty_batch,
    made_up_batch,
    parts_in_turn,
    state_of,
)
from experiments.common.optim import make_optimizer
from experiments.common.stage import Stage

STEPS = 9
"""In which the loss of one batch must fall."""
LEARNING_RATE = 2e-3


def keeps_the_contract(case: Case, never: Collection[str] = ()) -> None:
    """All checks of a stage in one process; `never` as in `learns`."""
    learns(case, never)
    resumes(case)
    never_waits(case)
    if case.config.stages[case.stage].after:
        starts_from_parent(case)


def learns(case: Case, never: Collection[str] = ()) -> None:
    """The loss of one batch falls, and every parameter gets a gradient, not necessarily in the same step.

    Args:
        never: parameters that no loss reaches, as the authors have it.
    """
    torch.manual_seed(0)
    module, clips = built(case, CPU), made_up_batch(case)
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=LEARNING_RATE, weight_decay=0.0)
    without_gradient, losses = set(trainable), []
    for step in range(STEPS):
        at_step(module, step)
        clips["key"] = torch.arange(CLIPS) + CLIPS * step
        optimizer.zero_grad()
        loss = module.training_step(clips, step)
        loss.backward()
        losses.append(loss.item())
        without_gradient -= with_gradient(trainable)
        optimizer.step()
    for part in 2 * list(range(1, parts_in_turn(case))):  # twice, as a classifier may begin with zeros
        optimizer.zero_grad()
        module.training_step(made_up_batch(case, part), STEPS).backward()
        without_gradient -= with_gradient(trainable)
        optimizer.step()
    assert without_gradient == set(never), f"{case}: no gradient in {STEPS} steps: {sorted(without_gradient)}"
    third = STEPS // 3
    first, last = sum(losses[:third]) / third, sum(losses[-third:]) / third
    assert last < first, f"{case}: the loss of one batch went from {first:.4g} to {last:.4g} in {STEPS} steps"


def with_gradient(parameters: Mapping[str, Tensor]) -> set[str]:
    """The names of those whose last gradient is not zero."""
    return {name for name, p in parameters.items() if p.grad is not None and p.grad.any()}


def resumes(case: Case) -> None:
    """From a checkpoint, the next step changes the weights to the very bit as it did without."""
    torch.manual_seed(0)
    module, clips = built(case, CPU), made_up_batch(case)
    configured = make_optimizer(module)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]

    def take_step(number: int) -> None:
        torch.manual_seed(number)
        at_step(module, number)
        optimizer.zero_grad()
        module.training_step(clips, number).backward()
        optimizer.step()
        schedule.step()

    take_step(0)
    file = io.BytesIO()
    torch.save([module.state_dict(), optimizer.state_dict(), schedule.state_dict(), state_of(module)], file)
    take_step(1)
    expected = {name: value.clone() for name, value in module.state_dict().items()}
    take_step(2)
    file.seek(0)
    weights, of_optimizer, of_schedule, kept = torch.load(file, weights_only=True)
    module.load_state_dict(weights)
    optimizer.load_state_dict(of_optimizer)
    schedule.load_state_dict(of_schedule)
    module.on_load_checkpoint(kept)
    take_step(1)
    differing = [name for name, value in module.state_dict().items() if not torch.equal(value, expected[name])]
    assert not differing, f"{case}: after a checkpoint these are others: {differing}"


def never_waits(case: Case) -> None:
    """A training step between two others asks for no value: on the meta device, which has shapes alone, `.item()`,
    indexing by a mask, a copy to the host are errors."""
    module = built_after_a_step(case)
    loss = module.training_step(empty_batch(case), 1)
    assert loss.is_meta and loss.requires_grad
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    configured = make_optimizer(module)
    configured["optimizer"].step()
    configured["lr_scheduler"]["scheduler"].step()


def starts_from_parent(case: Case) -> None:
    """A stage with `after` takes weights of that stage; a key that is missing or has no place is named. Where it says
    that features are `frozen`, a step leaves what it has taken as it is, running means included."""
    torch.manual_seed(0)
    parent = case.config.stages[case.stage].after
    assert parent is not None, f"{case} starts from no other stage"
    weights = built(case.of(parent), CPU).state_dict()
    module = built(case, CPU)
    fresh = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_parent(weights)
    own = module.state_dict()
    taken = [name for name in weights if name in own and torch.equal(own[name], weights[name])]
    assert any(not torch.equal(own[name], fresh[name]) for name in taken), f"{case}: nothing of {parent} is loaded"
    if module.frozen:
        stays_frozen(case, module, taken)
    _refuses(module, {**weights, "nobody.weight": torch.zeros(1)}, "nobody.weight")
    left_out = next(name for name in taken if own[name].is_floating_point())
    _refuses(module, {name: value for name, value in weights.items() if name != left_out}, left_out.rpartition(".")[2])


def stays_frozen(case: Case, module: Stage[Any, Any], names: Collection[str]) -> None:
    """A step leaves the tensors of these names as they are, running means included."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = make_optimizer(module)["optimizer"]
    module.training_step(made_up_batch(case), 0).backward()
    optimizer.step()
    after = module.state_dict()
    changed = [name for name in names if not torch.equal(after[name], before[name])]
    assert not changed, f"{case}: it says that features are frozen, and a step changes {', '.join(changed[:5])}"


def _refuses(module: Stage[Any, Any], weights: dict[str, Tensor], key: str) -> None:
    try:
        module.load_parent(weights)
    except ValueError as error:
        assert key in str(error), f"the error does not name {key}: {error}"
    else:
        raise AssertionError(f"{key}: weights that do not fit are taken")
