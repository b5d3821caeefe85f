from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist

from bench.contract.processes import RANKS, on_two_ranks
from experiments.common.losses.contrastive import info_nce, mil_nce, symmetric_info_nce

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


def mil_written_out(x, y, there, tau):
    """MIL-NCE term by term, in float64."""
    x, y = (torch.nn.functional.normalize(each.double(), dim=-1) for each in (x, y))
    losses = []
    for i in range(len(x)):
        if not there[i].any():
            continue
        row = [x[i] @ y[j, n] for j in range(len(y)) for n in range(y.shape[1]) if there[j, n]]
        column = [x[j] @ y[i, n] for j in range(len(x)) for n in range(y.shape[1]) if there[i, n]]
        own = [x[i] @ y[i, n] for n in range(y.shape[1]) if there[i, n]]
        every, right = (sum(math.exp(score / tau) for score in scores) for scores in (row + column, own))
        losses.append(math.log(every) - math.log(right))
    return sum(losses) / max(len(losses), 1)


def test_mil_nce_is_the_formula_over_the_candidates_that_there_are():
    x, y, there = torch.randn(6, DIM), torch.randn(6, 3, DIM), torch.rand(6, 3) < 0.7
    there[2] = False
    assert mil_nce(x, y, 0.07, there).item() == pytest.approx(mil_written_out(x, y, there, 0.07), rel=1e-5)
    assert mil_nce(x, y, 0.07).item() == pytest.approx(mil_written_out(x, y, torch.ones(6, 3) > 0, 0.07), rel=1e-5)
    assert mil_nce(x, y, 0.07, torch.zeros(6, 3) > 0) == 0


def test_mil_nce_is_never_less_than_log_2_and_as_many_of_each_candidate_are_as_one():
    x, y = torch.eye(8), torch.eye(8)[:, None]
    assert mil_nce(x, y, 0.01).item() == pytest.approx(math.log(2), abs=1e-4)
    assert mil_nce(torch.ones(8, DIM), torch.ones(8, 1, DIM), 0.07).item() == pytest.approx(math.log(16), rel=1e-5)
    drawn = torch.randn(8, 1, DIM)
    assert torch.isclose(mil_nce(x[:, :DIM] + 1, drawn, 0.1), mil_nce(x[:, :DIM] + 1, drawn.repeat(1, 4, 1), 0.1))


def test_missing_candidates_give_no_gradient_that_is_not_a_number():
    x, y = torch.randn(4, DIM, requires_grad=True), torch.zeros(4, 2, DIM, requires_grad=True)
    mil_nce(x, y, 0.07, torch.zeros(4, 2) > 0).backward()
    assert not x.grad.any() and not y.grad.any()
