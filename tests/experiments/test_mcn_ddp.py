"""MCN over several steps: two processes (gloo, DistributedDataParallel) keep the memory and the clusters of one.

Some clips lack words, sound or pictures, and one rank has more of them than the other.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bench.contract.processes import RANKS, on_two_ranks
from tests.experiments.narrated_tiny import CLIPS, batch_of, chosen, mcn_stage

MOMENTS = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (1, 1)]
"""(step, epoch): the memory is full after the second batch or so, centroids move at even steps and begin anew."""


class Objective(nn.Module):
    """A stage as DistributedDataParallel wants it: its forward is the loss."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, batch, step, epoch):
        return self.stage.losses_at(batch, step, epoch)["loss"]


def steps(model, stage, clips):
    """(loss, gradients, memory and centroids) of each step; parameters stay as they are."""
    for number, moment in enumerate(MOMENTS):
        stage.zero_grad(set_to_none=True)
        loss = model(chosen(batch_of(seed=number), clips), *moment)
        loss.backward()
        gradients = {key: p.grad.clone() for key, p in stage.named_parameters()}
        yield loss.detach().clone(), gradients, {key: value.clone() for key, value in stage.joint.state().items()}


def on_a_rank(rank):
    stage, share = mcn_stage().eval(), CLIPS // RANKS
    torch.manual_seed(rank)  # what must be alike on all ranks does not come from torch's own numbers
    model = DistributedDataParallel(Objective(stage))  # a parameter without gradient would be an error
    found = []
    for loss, gradients, joint in steps(model, stage, slice(rank * share, (rank + 1) * share)):
        dist.all_reduce(loss)
        found.append((loss / RANKS, gradients, joint))
    return found


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    return on_two_ranks(on_a_rank, tmp_path_factory.mktemp("ddp"))


def test_two_processes_agree_with_one_over_several_steps(distributed):
    stage = mcn_stage().eval()
    alone = list(steps(Objective(stage), stage, slice(None)))
    for (loss, gradients, joint), (expected, expected_gradients, expected_joint) in zip(
        distributed, alone, strict=True
    ):
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
        for key, value in expected_gradients.items():
            assert (gradients[key] - value).abs().max() < 1e-5 * max(1.0, value.abs().max().item()), key
        for key, value in expected_joint.items():
            torch.testing.assert_close(joint[key], value, rtol=1e-5, atol=1e-5)


def test_the_memory_filled_and_centroids_were_found_again_and_begun_anew(distributed):
    joints = [joint for _, _, joint in distributed]
    sizes = [len(joint["memory"]) for joint in joints]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 2 * CLIPS // 2
    moved = [not torch.equal(one["centroids"], other["centroids"]) for one, other in pairwise(joints)]
    assert moved == [False, True, False, True, True, False]
