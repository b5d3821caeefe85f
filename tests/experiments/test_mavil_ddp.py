"""Every MAViL objective: two processes (gloo, DistributedDataParallel) against one with the same global batch."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bench.contract.ranks import RANKS, on_two_ranks
from tests.experiments.mavil_tiny import objectives, random_batch

CLIPS = 6
NAMES = list(objectives())


class Objective(nn.Module):
    """A stage as DistributedDataParallel wants it: its forward is the loss."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, batch):
        return self.stage.losses(batch)["loss"]


def on_a_rank(rank):
    batch = {key: value[rank * CLIPS // RANKS :][: CLIPS // RANKS] for key, value in random_batch(CLIPS).items()}
    results = {}
    for name, stage in objectives().items():
        model = DistributedDataParallel(Objective(stage))  # a parameter without gradient would be an error
        loss = model(batch)
        loss.backward()
        loss = loss.detach().clone()
        dist.all_reduce(loss)
        gradients = {key: parameter.grad.clone() for key, parameter in stage.named_parameters()}
        results[name] = (loss / RANKS, gradients)
    return results


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    return on_two_ranks(on_a_rank, tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_agree_with_one(name, distributed):
    loss, gradients = distributed[name]
    stage = objectives()[name]
    expected = stage.losses(random_batch(CLIPS))["loss"]
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    largest = [parameter.grad.abs().max() for _, parameter in stage.trunk.named_parameters()]
    assert torch.stack(largest).median() > 1e-3  # or the next line would say nothing
    for key, parameter in stage.named_parameters():
        assert (gradients[key] - parameter.grad).abs().max() < 1e-5, key
