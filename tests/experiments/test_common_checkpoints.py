"""Tables of names: other people's weights under ours, and what of them has no place is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.common.checkpoints.heads import without_other_head
from experiments.common.checkpoints.library import offered
from experiments.common.checkpoints.table import Table
from experiments.common.networks.convolutions import one_channel

TABLE = Table(
    names=(
        (r"old\.(.+)", None),
        (r"body\.(\d)\.(.+)", lambda match: rf"blocks.{int(match[1]) + 1}.\2"),
        (r"all\.(.+)", (r"a.\1", r"v.\1")),
        (r".+\.bias", "never"),
    ),
    shapes=((r"a\..+", lambda value: value[0]),),
    exact={"body.0.odd": "odd"},
)


def test_of_entries_that_match_the_same_key_the_first_holds_and_whole_keys_stand_before_all():
    weights = {"old.bias": 0, "module.body.0.bias": 1, "body.0.odd": 2, "all.w": torch.ones(1, 3)}
    ours = TABLE.renamed(weights)
    assert list(ours) == ["blocks.1.bias", "odd", "a.w", "v.w"]
    assert ours["a.w"].shape == (3,) and ours["v.w"].shape == (1, 3)


def test_every_key_that_no_entry_matches_is_named_at_once():
    with pytest.raises(ValueError) as error:
        TABLE.renamed({"module.new.weight": 0, "body.x.y": 0, "old.x": 0})
    assert str(error.value) == "these weights do not fit:\n  new.weight: unknown\n  body.x.y: unknown"


def test_a_head_of_other_classes_is_left_out_and_one_of_the_same_is_not():
    own = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 3)}).state_dict()
    other = {**own, "head.weight": torch.zeros(5, 2), "head.bias": torch.zeros(5)}
    assert without_other_head(own, own) == (own, ())
    assert [[*weights] if isinstance(weights, dict) else weights for weights in without_other_head(other, own)] == [
        ["body.weight", "body.bias"],
        ("head",),
    ]
    body = {key: value for key, value in own.items() if key.startswith("body")}
    assert without_other_head(body, own) == (body, ()), "that a head is missing is for the loader to say"


@pytest.mark.parametrize("error", [OSError("no network"), RuntimeError("invalid hash value")])
def test_what_could_not_be_downloaded_is_told_with_where_it_is(error):
    def fail():
        raise error

    with pytest.raises(ValueError, match=rf"ImageNet's could not be downloaded \({error}\); fetch net.pth .*init=FILE"):
        offered(fail, "ImageNet's", "net.pth")


def test_a_kernel_of_one_channel_sees_three_equal_ones_or_a_third_of_them():
    kernel, grey = torch.randn(4, 3, 2, 2), torch.randn(1, 1, 5, 5)
    three = nn.functional.conv2d(grey.expand(1, 3, 5, 5), kernel)
    torch.testing.assert_close(nn.functional.conv2d(grey, one_channel(kernel)), three)
    torch.testing.assert_close(nn.functional.conv2d(grey, one_channel(kernel, "mean")), three / 3)
