"""Batch norm over processes: torch's in one, and in two that of all clips."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from bench.contract.processes import on_two_ranks
from experiments.common.networks.batch_norm import GlobalBatchNorm, over_processes


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 3),
        nn.BatchNorm1d(3, affine=False),
    )


def step(net: nn.Module, clips: slice) -> dict[str, torch.Tensor]:
    """Outputs, gradients (summed over processes) and running values."""
    x = torch.randn(10, 2, 5, 5, generator=torch.Generator().manual_seed(1)) + torch.arange(10.0).view(10, 1, 1, 1)
    x = x[clips].requires_grad_()
    y = net(x)
    (y * torch.linspace(-1, 1, 30).view(10, 3)[clips] ** 3).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    if dist.is_initialized():
        for gradient in gradients.values():
            dist.all_reduce(gradient)
    return {"y": y.detach(), "x": x.grad, **gradients, **{name: b.clone() for name, b in net.named_buffers()}}


def on_a_rank(rank: int) -> dict[str, torch.Tensor]:
    return step(over_processes(network()), slice(0, 6) if rank == 0 else slice(6, 10))


def test_two_processes_norm_by_the_clips_of_both_however_many_each_has(tmp_path):
    whole, part = step(network(), slice(0, 10)), on_two_ranks(on_a_rank, tmp_path)
    assert whole.keys() == part.keys()
    for name, value in whole.items():
        expected = value[:6] if name in "xy" else value
        torch.testing.assert_close(part[name], expected, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_in_one_process_it_is_torchs_and_has_its_names():
    theirs, ours = network(), over_processes(network())
    assert sum(isinstance(module, GlobalBatchNorm) for module in ours.modules()) == 2
    ours.load_state_dict(theirs.state_dict())
    expected, got = step(theirs, slice(0, 10)), step(ours, slice(0, 10))
    assert all(torch.equal(got[name], value) for name, value in expected.items())
    x = torch.randn(3, 2, 5, 5)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
