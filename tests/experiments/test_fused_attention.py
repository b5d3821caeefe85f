"""Every attention is torch's own, which has a fused kernel: none multiplies queries by keys and takes the softmax."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.contract.cases import Case, built_after_a_step, empty_batch
from tests.experiments.every_stage import every_stage

SOFTMAX = {torch.ops.aten._softmax.default, torch.ops.aten._safe_softmax.default}

WEIGHTS_USED = {("xkd", "pretrain"): 2}
"""Where a method uses the weights themselves, which no fused kernel returns: each of XKD's two teachers says how much
one token, CLS, attends to the others, unless they refine nothing."""


class Watch(TorchDispatchMode):
    """Counts calls of torch's attention, which it leaves out, and softmax over anything with two or more axes of
    places: what is left of those is somebody's attention, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.fused, self.by_hand = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.by_hand += func in SOFTMAX and args[0].ndim > 2
        return func(*args, **(kwargs or {}))

    def attention(self, query: Tensor, key: Tensor, value: Tensor, *args, **kwargs) -> Tensor:
        self.fused += 1
        return query[..., : value.shape[-1]] + key.mean() + value.mean()


def watched(monkeypatch: pytest.MonkeyPatch, run) -> Watch:
    watch = Watch()
    monkeypatch.setattr(F, "scaled_dot_product_attention", watch.attention)
    with watch:
        run()
    return watch


@every_stage
def test_attention_is_torch_s_own(case: Case, monkeypatch: pytest.MonkeyPatch):
    module, batch = built_after_a_step(case), empty_batch(case)
    watch = watched(monkeypatch, lambda: module.training_step(batch, 1).backward())
    used = 0 if case.variant == "no_refinement" else WEIGHTS_USED.get((case.method, case.stage), 0)
    assert watch.by_hand == used
    assert watch.fused or not any("Attention" in type(part).__name__ for part in trained_parts(module))


def trained_parts(module: nn.Module) -> list[nn.Module]:
    """The modules whose parameters the step reached: UAVM's looks at one modality."""
    return [part for part in module.modules() if any(p.grad is not None for p in part.parameters())]


def test_attention_written_out_is_seen(monkeypatch: pytest.MonkeyPatch):
    query = torch.randn(2, 3, 4, 5, device="meta")
    watch = watched(monkeypatch, lambda: (query @ query.mT).softmax(-1) @ query)
    assert watch.by_hand == 1 and watch.fused == 0
