from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist

from bench.contract.processes import RANKS, on_two_ranks
from experiments.common.losses.contrastive import info_nce, symmetric_info_nce

LOCAL, DIM = 3, 5


def written_out(x, y, tau):
    """InfoNCE term by term, as in the paper."""
    total = 0.0
    for i in range(len(x)):
        scores = [math.exp(torch.cosine_similarity(x[i], y[j], dim=0).item() / tau) for j in range(len(y))]
        total -= math.log(scores[i] / sum(scores))
    return total / len(x)


def test_info_nce_is_the_formula():
    x, y = torch.randn(6, DIM), torch.randn(6, DIM)
    assert info_nce(x, y, 0.1).item() == pytest.approx(written_out(x, y, 0.1), rel=1e-5)
    both = (written_out(x, y, 0.1) + written_out(y, x, 0.1)) / 2
    assert symmetric_info_nce(x, y, 0.1).item() == pytest.approx(both, rel=1e-5)
    assert info_nce(x, y, 0.1).item() != pytest.approx(info_nce(y, x, 0.1).item())


def test_large_temperature_gives_the_log_of_the_batch():
    assert info_nce(torch.randn(8, DIM), torch.randn(8, DIM), 1e4).item() == pytest.approx(math.log(8), abs=1e-3)


def test_it_is_computed_in_float32_under_autocast():
    x, y = torch.randn(6, DIM), torch.randn(6, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        assert info_nce(x, y, 0.1) == info_nce(x, y, 0.1).float()
        assert info_nce(x, y, 0.1).item() == pytest.approx(written_out(x, y, 0.1), rel=1e-5)


def inputs():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, RANKS * LOCAL, 4, generator=generator)
    return x, y, torch.randn(DIM, 4, generator=generator)


def objective(weight, x, y):
    """Both sides go through the same weights, so that a gradient lost on either side shows."""
    return symmetric_info_nce(x @ weight.T, y @ weight.T, 0.1)


def on_a_rank(rank):
    x, y, weight = inputs()
    weight.requires_grad_()
    own = slice(rank * LOCAL, (rank + 1) * LOCAL)
    loss = objective(weight, x[own], y[own])
    loss.backward()
    for value in (weight.grad, loss.detach()):
        dist.all_reduce(value)
    return loss.detach() / RANKS, weight.grad / RANKS


def test_two_processes_give_the_loss_and_gradient_of_one_with_the_whole_batch(tmp_path):
    loss, grad = on_two_ranks(on_a_rank, tmp_path)
    x, y, weight = inputs()
    weight.requires_grad_()
    expected = objective(weight, x, y)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    assert (grad - weight.grad).abs().max() < 1e-6
