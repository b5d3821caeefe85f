"""Convolutional stages compute with the channels last, and the same as with the channels first but for rounding."""

from __future__ import annotations

import copy

import pytest
import torch

from bench.config.schema import TrainerConfig
from bench.contract.cases import CPU, Case, built, empty_batch
from bench.run.blocks import prepare_blocks
from tests.experiments.every_stage import of_all_methods

CNNS = [case for case in of_all_methods() if case.method in ("baseline_cnn", "uavm") or "cnn" in case.stage]
CNNS = [case for case in CNNS if "distill" not in case.stage and case.stage != "train_vggsound"]


def trained(module, batch):
    """The loss and the gradients of a step."""
    torch.manual_seed(0)  # dropout
    loss = module.training_step(batch, 1)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", CNNS, ids=str)
def test_channels_last_computes_the_same(case: Case):
    torch.manual_seed(0)
    # In float64, in which rounding cannot hide a mistake.
    module, batch = built(case, CPU).double(), empty_batch(case, CPU)
    for name in batch.keys() & {"audio", "video"}:
        batch[name] = torch.randn_like(batch[name]).double()
    other = copy.deepcopy(module)
    prepare_blocks(other, TrainerConfig(), case.stage)
    kernels = [p for p in other.parameters() if p.ndim == 4]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
    assert all(p.is_contiguous() for p in module.parameters())
    loss, grads = trained(module, batch)
    other_loss, other_grads = trained(other, batch)
    torch.testing.assert_close(other_loss, loss)
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=1e-4, atol=1e-6)


def test_the_others_stay_as_they_are():
    case = next(case for case in of_all_methods() if case.method == "mavil")
    module = built(case, CPU)
    prepare_blocks(module, TrainerConfig(), case.stage)
    assert all(p.is_contiguous() for p in module.parameters())
