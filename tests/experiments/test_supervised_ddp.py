"""CMKD, UAVM and MBT: two processes (gloo, DistributedDataParallel) against one with the same global batch.

Without what a device draws for its own clips: MBT's lambda, the partners of UAVM's mix-up, stochastic depth.
"""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bench.contract.ranks import RANKS, on_two_ranks
from tests.experiments.supervised_tiny import (
    cmkd_batch,
    cmkd_distill,
    cmkd_train,
    mbt_batch,
    mbt_train,
    uavm_batch,
    uavm_train,
)

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer
CLIPS = 6
OBJECTIVES = {
    "cmkd train": lambda: (cmkd_train("ast"), cmkd_batch(CLIPS)),
    "cmkd cnn to ast": lambda: (cmkd_distill("ast", "cnn", temperature=2.5), cmkd_batch(CLIPS)),
    "cmkd cnn to ast, one label": lambda: (cmkd_distill("ast", "cnn", False), cmkd_batch(CLIPS, multilabel=False)),
    # A device's batch norm is of its own clips, as in the authors' DataParallel; here it is that of evaluation.
    "cmkd ast to cnn": lambda: (cmkd_distill("cnn", "ast").eval(), cmkd_batch(CLIPS)),
    "uavm": lambda: (uavm_train(roll=15), uavm_batch(CLIPS)),
    "uavm, several labels": lambda: (uavm_train(multilabel=True), uavm_batch(CLIPS, multilabel=True)),
    "uavm independent": lambda: (uavm_train(model={"fusion": "independent"}), uavm_batch(CLIPS)),
    "uavm cross_attention": lambda: (uavm_train(model={"fusion": "cross_attention"}), uavm_batch(CLIPS)),
    "mbt a": lambda: (mbt_train("a", mixup_alpha=0.0), mbt_batch(CLIPS)),
    "mbt av": lambda: (mbt_train("av", mixup_alpha=0.0), mbt_batch(CLIPS)),
    "mbt av, one label": lambda: (mbt_train("av", False, mixup_alpha=0.0), mbt_batch(CLIPS, multilabel=False)),
}
SIDES = (1.0, 0.0, 0.5)
"""UAVM's steps: of sound, of pictures, and as the coin falls."""


class Objective(nn.Module):
    """A stage as DistributedDataParallel wants it: its forward is the loss of a training step."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, batch):
        return self.stage.training_step(batch, 0)


def steps(model, stage, batch):
    """(loss, parameter -> its gradient or None) of each step; parameters stay as they are."""
    for share in SIDES if stage.some_parameters_idle else [None]:
        if share is not None:
            stage.spec.options.audio_share = share
        stage.zero_grad(set_to_none=True)
        loss = model(batch)
        loss.backward()
        gradients = {key: None if p.grad is None else p.grad.clone() for key, p in stage.named_parameters()}
        yield loss.detach().clone(), gradients


def on_a_rank(rank):
    results = {}
    for name, make in OBJECTIVES.items():
        stage, whole = make()
        batch = {key: value[rank * CLIPS // RANKS :][: CLIPS // RANKS] for key, value in whole.items()}
        torch.manual_seed(rank)  # what must be alike on all ranks does not come from torch's own numbers
        model = DistributedDataParallel(Objective(stage), find_unused_parameters=stage.some_parameters_idle)
        results[name] = []
        for loss, gradients in steps(model, stage, batch):
            dist.all_reduce(loss)
            results[name].append((loss / RANKS, gradients))
    return results


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    return on_two_ranks(on_a_rank, tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_processes_agree_with_one(name, distributed):
    stage, batch = OBJECTIVES[name]()
    alone = list(steps(Objective(stage), stage, batch))
    assert len(alone) == len(distributed[name]) == (len(SIDES) if name.startswith("uavm") else 1)
    for (loss, gradients), (expected, expected_gradients) in zip(distributed[name], alone, strict=True):
        assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
        used = [value for value in expected_gradients.values() if value is not None]
        assert torch.stack([value.abs().max() for value in used]).median() > 1e-4  # or the rest would say nothing
        for key, value in expected_gradients.items():
            assert (gradients[key] is None) == (value is None), key
            if value is not None:
                allowed = min(1e-5, 1e-2 * value.abs().max().item() + 1e-7)  # of small gradients, a part
                assert (gradients[key] - value).abs().max() < allowed, key


def test_a_step_of_uavm_leaves_idle_what_the_other_modality_has_alone(distributed):
    for name, parts in (("uavm", ("specific",)), ("uavm independent", ("specific", "shared", "head"))):
        for (_, gradients), idle in zip(distributed[name][:2], "va", strict=True):
            prefixes = tuple(f"net.{part}.{idle}." for part in parts)
            assert all((value is None) == key.startswith(prefixes) for key, value in gradients.items()), (name, idle)
