from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.common.weights import load_strict


def module():
    return nn.ModuleDict({"body": nn.Linear(2, 2), "bodyguard": nn.Linear(1, 1, bias=False), "head": nn.Linear(2, 3)})


def test_equal_keys_are_copied():
    ours, theirs = module(), module()
    load_strict(ours, theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_all_that_does_not_fit_is_named_and_nothing_is_loaded():
    ours, weights = module(), module().state_dict()
    before = ours["body"].bias.clone()
    del weights["bodyguard.weight"]
    weights["extra.weight"] = torch.zeros(1)
    weights["head.bias"] = torch.zeros(9)
    with pytest.raises(ValueError) as error:
        load_strict(ours, weights)
    for line in ("bodyguard.weight: missing", "extra.weight: unknown", "head.bias: shape [9], not [3]"):
        assert line in str(error.value)
    assert torch.equal(ours["body"].bias, before)


def test_new_and_unused_parts_are_prefixes_of_whole_names():
    weights = module().state_dict()
    del weights["body.weight"], weights["body.bias"]
    weights["decoder.x"] = torch.zeros(1)
    load_strict(module(), weights, new=("body",), unused=("decoder",))
    del weights["bodyguard.weight"]
    with pytest.raises(ValueError, match="bodyguard.weight: missing"):
        load_strict(module(), weights, new=("body",), unused=("decoder",))
