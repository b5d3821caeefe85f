"""What distillation by prototypes and the alignment of modalities are made of, against formulas in float64."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from bench.contract.processes import on_two_ranks
from experiments.common.losses.centring import CentredTargets, view_cross_entropy
from experiments.common.losses.discrepancy import GAMMAS, gaussian_mmd
from experiments.common.networks.positions import resized
from experiments.common.networks.prototypes import PrototypeConfig, PrototypeHead
from experiments.common.teacher import cosine_momentum

N, D = 8, 256


def vectors(seed: int, rows: int = N, shift: float = 0.0) -> torch.Tensor:
    return F.layer_norm(torch.randn(rows, D, generator=torch.Generator().manual_seed(seed)), (D,)) + shift


def reference(x: torch.Tensor, y: torch.Tensor) -> float:
    """Pair by pair."""

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        pairs = [math.exp(-g * float((p - q).square().sum())) for p in a.double() for q in b.double() for g in GAMMAS]
        return sum(pairs) / (len(a) * len(b))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def test_the_discrepancy_is_the_sum_over_all_pairs_and_kernels():
    near = vectors(0), vectors(0, 6) + 0.01 * vectors(1, 6)
    for x, y in (near, (vectors(2), vectors(3, 6, shift=0.1))):
        assert gaussian_mmd(x, y).item() == pytest.approx(reference(x, y), abs=1e-5)


def step(x: torch.Tensor, y: torch.Tensor, rank: int, ranks: int = 2) -> dict[str, torch.Tensor]:
    """Loss, gradient of this rank's rows and centre."""
    own = slice(rank * N // ranks, (rank + 1) * N // ranks)
    mine, targets = x[own].clone().requires_grad_(), CentredTargets(D, 0.9)
    loss = gaussian_mmd(mine, y[own])
    loss.backward()
    targets(y[own], 0.1)
    return {"loss": loss.detach(), "gradient": mine.grad, "centre": targets.centre}


def test_two_ranks_have_the_discrepancy_and_the_centre_of_one(tmp_path):
    x, y = vectors(0), 0.98 * vectors(0).flip(0) + 0.02 * vectors(1)
    ours, whole = on_two_ranks(partial(step, x, y), tmp_path), step(x, y, 0, 1)
    torch.testing.assert_close(ours["loss"], whole["loss"])
    assert whole["gradient"].abs().max() > 1e-3
    torch.testing.assert_close(ours["gradient"] / 2, whole["gradient"][: N // 2])  # DDP takes the mean over ranks
    torch.testing.assert_close(ours["centre"], 0.1 * y.mean(0, keepdim=True))


def test_the_centre_stays_where_nothing_is_learned():
    targets = CentredTargets(D, 0.9).eval()
    targets(vectors(0), 0.1)
    assert not targets.centre.any()


def test_cross_entropy_is_the_mean_over_views_and_clips():
    targets = CentredTargets(D, 0.9)
    targets.centre.copy_(vectors(5, 1))
    teacher, student = vectors(0, 3), vectors(1, 6)
    target = ((teacher.double() - vectors(5, 1).double()) / 0.07).softmax(1)
    terms = [-(target[i % 3] * (student[i].double() / 0.1).log_softmax(0)).sum() for i in range(6)]
    found = view_cross_entropy(student, targets(teacher, 0.07), 0.1)
    assert found.item() == pytest.approx(sum(terms).item() / 6, rel=1e-5)


def test_scores_of_prototypes_have_variance_1_and_know_directions_alone():
    head = PrototypeHead(12, PrototypeConfig(16, 8, 32))
    scores = head(torch.randn(4, 12))
    torch.testing.assert_close(scores.var(1, unbiased=False), torch.ones(4), rtol=1e-2, atol=0)
    with torch.no_grad():
        head.prototypes.weight.mul_(torch.rand(32, 1) + 1)
    torch.manual_seed(0)
    x = torch.randn(4, 12)
    before = head(x)
    with torch.no_grad():
        head.prototypes.weight.mul_(torch.rand(32, 1) + 1)
    torch.testing.assert_close(head(x), before)


def test_the_momentum_rises_over_half_a_cosine_to_1():
    assert [cosine_momentum(0.99, done) for done in (0, 0.5, 1)] == pytest.approx([0.99, 0.995, 1])


@pytest.mark.parametrize(("grid", "wanted"), [((4, 6), (4, 2)), ((8, 7, 7), (2, 6, 6)), ((2, 4, 4), (2, 8, 8))])
def test_positions_are_resized_over_their_grid_and_cls_keeps_its_own(grid, wanted):
    """A table that rises along the last axis alone still does, by as much over the whole, and nowhere else."""
    along = torch.arange(grid[-1], dtype=torch.float32).expand(grid).reshape(1, -1, 1)
    table = torch.cat([torch.full((1, 1, 1), -5.0), along], dim=1)
    found = resized(table, grid, wanted)
    assert found[0, 0, 0] == -5
    places = found[0, 1:, 0].view(wanted)
    assert (places - places[(0,) * (len(grid) - 1)]).abs().max() < 1e-5
    middle = grid[-1] * (torch.arange(wanted[-1]) + 0.5) / (wanted[-1] + 0.1) - 0.5
    inside = (middle > 1) & (middle < grid[-1] - 2)
    assert (places[..., inside] - middle[inside]).abs().max() < 0.1
    assert resized(table, grid, grid) is table
