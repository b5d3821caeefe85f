"""Two processes (gloo, DistributedDataParallel), each with half of a batch, compute what one does with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bench.contract.cases import CLIPS, CPU, Case, built, made_up_batch
from bench.contract.processes import RANKS, on_two_ranks
from datamodules.types import Batch
from experiments.common.stage import Stage

OF_A_DEVICE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout, DropPath)
"""What draws or averages for a device's own clips, as in the authors' DataParallel: here as in evaluation."""
Step = tuple[float, dict[str, Tensor | None]]
"""The loss, and parameter -> its gradient, or None where the step does not reach it."""


class Objective(nn.Module):
    """A stage as DistributedDataParallel wants it: its forward is the loss of a training step."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.stage = stage

    def forward(self, batch: Batch) -> Tensor:
        return self.stage.training_step(batch, 0)


def steps_on_two_ranks(cases: Sequence[Case], folder: Path) -> dict[str, Step]:
    """A training step of each stage on two processes, by the name of the case.

    Args:
        folder: an empty one, for the processes to meet in.
    """
    found: dict[str, Step] = on_two_ranks(partial(_steps_on_a_rank, cases), folder)
    return found


def agrees(case: Case, step: Step) -> None:
    """The loss and the gradients of `steps_on_two_ranks` are those of one process with all clips."""
    module = _ready(case)
    loss = module.training_step(made_up_batch(case), 0)
    loss.backward()
    expected = {name: p.grad for name, p in module.named_parameters()}
    there, gradients = step
    assert abs(there - loss.item()) <= 1e-5 * max(1.0, abs(loss.item())), f"{case}: loss {there}, not {loss.item()}"
    idle = {name for name, gradient in expected.items() if gradient is None}
    assert {name for name, gradient in gradients.items() if gradient is None} == idle, f"{case}: others are idle"
    sizes = {name: gradient.abs().max().item() for name, gradient in expected.items() if gradient is not None}
    rounding = 1e-5 * max(sizes.values())
    assert sum(size > 10 * rounding for size in sizes.values()) > len(sizes) / 2, f"{case}: hardly any gradient"
    for name, size in sizes.items():
        difference = (gradients[name] - expected[name]).abs().max().item()  # type: ignore[operator]
        assert difference <= 1e-3 * size + rounding, f"{case}: the gradient of {name} is another by {difference:.3g}"


def _steps_on_a_rank(cases: Sequence[Case], rank: int) -> dict[str, Step]:
    steps: dict[str, Step] = {}
    for case in cases:
        module, share = _ready(case), CLIPS // RANKS
        mine = slice(rank * share, (rank + 1) * share)
        clips = {key: value if key == "part_name" else value[mine] for key, value in made_up_batch(case).items()}  # type: ignore[index]
        torch.manual_seed(rank)  # what must be alike on all ranks does not come from torch's own numbers
        model = DistributedDataParallel(Objective(module), find_unused_parameters=module.some_parameters_idle)
        loss = model(clips)
        loss.backward()
        loss = loss.detach().clone()
        dist.all_reduce(loss)
        gradients = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
        steps[str(case)] = (loss.item() / RANKS, gradients)
    return steps


def _ready(case: Case) -> Stage:
    """The same stage in each process, with no weight at zero, which would hide the gradients of those before it."""
    torch.manual_seed(0)
    module = built(case, CPU)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    for part in module.modules():
        if isinstance(part, OF_A_DEVICE):
            part.eval()
    return module
