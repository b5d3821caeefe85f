"""What a training may be validated on, before anything is read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from bench.config.schema import ValidationConfig
from bench.errors import UserError
from bench.plan.chosen_by import require_unseen
from bench.plan.combinations import check_combinations
from experiments.common.optim import OptimConfig
from tests.bench.test_combinations import message, of, stage


def validated(split: str | None = "val", **changes: Any) -> Any:
    settings = {name: changes.pop(name) for name in ("every", "metric", "keep", "patience") if name in changes}
    usual = {"dataset": "fsd50k", "train": ["train"], "board": "fsd50k"}
    return stage(**{**usual, "validation": ValidationConfig(split, **settings), **changes})


def test_what_can_be_validated_is_let_through():
    check_combinations(of(parent=stage(), x=validated(metric="lwlrap", every=2, patience=3)), ["x"])
    fold = {"dataset": "esc50", "board": "esc50", "fold": 1, "train": ["fold2", "fold3", "fold4"]}
    check_combinations(of(parent=stage(), x=validated("fold5", **fold)), ["x"])


FOLDS = {"dataset": "esc50", "board": "esc50", "fold": 1}


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (validated("eval"), "x.validation.split=eval: it is scored by fsd50k, .*; name val$"),
        (validated("val", board="fsd50k-val"), "x.validation.split=val: it is scored by fsd50k-val, "),
        (
            validated("fold1", **FOLDS, train=["fold2"]),
            "split=fold1: it is scored by esc50, .*; name fold3 or fold4",
        ),
        (validated("train"), "x.validation.split=train: the stage trains on it.*; name val$"),
        (validated("fold2", **FOLDS, train=[f"fold{n}" for n in (2, 3, 4, 5)]), "esc50 has no other: leave validation"),
        (validated("vla"), r"no such split of fsd50k \(stages.x.validation.split\): 'vla'. Did you mean 'val'"),
        (validated(train=[], after="parent"), "x.validation.split=val: the stage does not train"),
        (validated(board=None), "x.validation.split=val: the stage's board says what is measured, and it has none"),
        (
            validated(metric="map"),
            r"no such metric of tagging \(stages.x.validation.metric\): 'map'. Did you mean 'mAP'",
        ),
        (validated(metric="top1"), "no such metric of tagging"),
        (
            validated("train2", dataset="ucf101", board="ucf101-retrieval", fold=1, train=["train1"]),
            "ucf101-retrieval compares clips with all that are trained on, which no validation does; go by the stage's",
        ),
        (validated(every=0), "x.validation.every=0: validate every epoch"),
        (validated(patience=-1), "x.validation.patience=-1: 1 validation or more, or 0"),
        (validated(None, optim=OptimConfig(schedule="plateau")), "x.optim.schedule=plateau goes by validations; name"),
        (validated(None, patience=2), "x.validation.patience=2: nothing is validated; name a split"),
    ],
)
def test_what_cannot_be_validated_is_refused(x, expected: str):
    with pytest.raises(UserError, match=expected):
        check_combinations(of(parent=stage(), x=x), ["x"])


def test_epochs_that_may_not_come_cannot_be_averaged():
    average = stage(dataset="fsd50k", board="fsd50k", train=[], after="parent", average_weights=[1, 2])
    assert "set stages.parent.validation.patience to 0" in message(average, validated(patience=2))


def test_splits_that_overlap_are_refused():
    train, val = (SimpleNamespace(table=pd.DataFrame({"clip_id": ids})) for ids in (["a", "b"], ["b", "c"]))
    x = replace(validated(), train=["train"])
    with pytest.raises(UserError, match=r"stage x trains on 1 clip that is \(b\) also in the split val"):
        require_unseen("x", x, val, train)  # type: ignore[arg-type]
