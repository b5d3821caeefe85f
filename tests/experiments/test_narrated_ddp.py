"""AVLnet, MCN and Everything at Once: two processes (gloo, DistributedDataParallel) against one with the whole batch.

Some clips lack words, sound or pictures, and one rank has more of them than the other. A device's batch norms know its
own clips alone, as in the authors' DataParallel, so that here they are those of evaluation.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bench.contract.ranks import RANKS, on_two_ranks
from tests.experiments.narrated_tiny import CLIPS, avlnet_stage, batch_of, chosen, everything_stage, mcn_stage

OBJECTIVES = {
    "avlnet AVLnet": lambda: avlnet_stage("AVLnet"),
    "avlnet Tri": lambda: avlnet_stage("Tri"),
    "avlnet TriSum": lambda: avlnet_stage("TriSum"),
    "avlnet Fused": lambda: avlnet_stage("Fused"),
    "mcn": lambda: mcn_stage(),
    "mcn without clusters": lambda: mcn_stage(cluster_weight=0.0, reconstruction_weight=0.0),
    "everything_at_once": lambda: everything_stage(),
}
MOMENTS = {"mcn": [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1), (1, 1)]}
"""(step, epoch): the memory is full after the second batch or so, centroids move at even steps and begin anew."""


class Objective(nn.Module):
    """A stage as DistributedDataParallel wants it: its forward is the loss."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, batch, *moment):
        return (self.stage.losses_at if moment else self.stage.losses)(batch, *moment)["loss"]


def steps(name, model, stage, clips):
    """(loss, gradients, the memory's and centroids' sums) of each step; parameters stay as they are."""
    for number, moment in enumerate(MOMENTS.get(name, [(0, 0)])):
        stage.zero_grad(set_to_none=True)
        loss = model(chosen(batch_of(seed=number), clips), *(moment if name.startswith("mcn") else ()))
        loss.backward()
        gradients = {key: None if p.grad is None else p.grad.clone() for key, p in stage.named_parameters()}
        joint = {key: value.clone() for key, value in stage.joint.state().items()} if name == "mcn" else {}
        yield loss.detach().clone(), gradients, joint


def on_a_rank(rank):
    results = {}
    for name, make in OBJECTIVES.items():
        stage = make().eval()
        torch.manual_seed(rank)  # what must be alike on all ranks does not come from torch's own numbers
        model = DistributedDataParallel(Objective(stage))  # a parameter without gradient would be an error
        share = CLIPS // RANKS
        results[name] = []
        for loss, gradients, joint in steps(name, model, stage, slice(rank * share, (rank + 1) * share)):
            dist.all_reduce(loss)
            results[name].append((loss / RANKS, gradients, joint))
    return results


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    return on_two_ranks(on_a_rank, tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_agree_with_one(name, distributed):
    stage = OBJECTIVES[name]().eval()
    alone = list(steps(name, Objective(stage), stage, slice(None)))
    assert len(alone) == len(distributed[name])
    for (loss, gradients, joint), (expected, expected_gradients, expected_joint) in zip(
        distributed[name], alone, strict=True
    ):
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
        largest = torch.stack([value.abs().max() for value in expected_gradients.values()])
        assert largest.median() > 1e-3  # or the next lines would say nothing
        for key, value in expected_gradients.items():
            assert (gradients[key] - value).abs().max() < 1e-5 * max(1.0, value.abs().max().item()), key
        for key, value in expected_joint.items():
            torch.testing.assert_close(joint[key], value, rtol=1e-5, atol=1e-5)


def test_the_memory_filled_and_centroids_were_found_again_and_begun_anew(distributed):
    joints = [joint for _, _, joint in distributed["mcn"]]
    sizes = [len(joint["memory"]) for joint in joints]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 2 * CLIPS // 2
    moved = [not torch.equal(one["centroids"], other["centroids"]) for one, other in pairwise(joints)]
    assert moved == [False, True, False, True, True, False]
