"""Boards of frozen features: what they take, and how they stand beside those on which a whole network is trained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

from bench import registry
from bench.config import compose as composing
from bench.config.compose import compose
from bench.contract import checks
from bench.errors import UserError
from datamodules.boards import Board, Classification, and_linear
from experiments.baseline_cnn.method import Train
from experiments.common.stage import FittedStage, Stage
from experiments.common.stages.linear import LinearProbe
from experiments.common.stages.svm import LinearSVM

LINEAR = [name for name in registry.boards() if name.endswith("-linear")]


def test_a_board_and_its_linear_twin_differ_in_the_features_alone():
    board = Board("b", "world", "train", "test", Classification(), "top1", folds=3)
    same, linear = and_linear(board)
    assert same is board and linear.name == "b-linear"
    assert linear.protocol() == board.protocol() | {"name": "b-linear", "features": "frozen"}


def test_boards_of_frozen_features_are_called_linear_and_stand_beside_others():
    assert {"esc50-linear", "fsd50k-linear", "ucf101-linear", "hmdb51-linear"} <= set(LINEAR)
    for name, board in registry.boards().items():
        assert (board.features == "frozen") == (name in LINEAR)
    assert {name.removesuffix("-linear") for name in LINEAR} <= set(registry.boards())


def test_a_stage_that_trains_a_network_is_refused_on_a_board_of_frozen_features():
    with pytest.raises(
        UserError,
        match=r"stages\.train_esc50\.board=esc50-linear measures frozen features, and Train .*report to esc50",
    ):
        compose("baseline_cnn", ["preset=paper", "stages.train_esc50.board=esc50-linear"])


def test_a_stage_of_frozen_features_is_taken_and_named_where_another_is_not(monkeypatch):
    assert LinearProbe.frozen and LinearSVM.frozen and FittedStage.frozen and not Stage.frozen
    frozen = type("OnFrozen", (Train,), {"frozen": True})
    monkeypatch.setattr(composing, "stage_classes", lambda method: {"Train": Train, "OnFrozen": frozen})
    of = "stages.train_esc50.{}".format
    config = compose("baseline_cnn", ["preset=paper", of("module=OnFrozen"), of("board=esc50-linear")])
    assert config.stages["train_esc50_fold1"].objects.board == registry.board("esc50-linear")


class Claims(nn.Module):
    """Says that its network is frozen, and trains it."""

    frozen = True

    def __init__(self, learns: bool):
        super().__init__()
        self.net = nn.Linear(2, 2).requires_grad_(learns)
        self.head = nn.Linear(2, 2)

    def training_step(self, batch, step):
        return self.head(self.net(batch)).square().sum()


@pytest.mark.parametrize("learns", [True, False])
def test_the_contract_finds_a_network_that_is_not_frozen_though_its_stage_says_so(monkeypatch, learns):
    import torch

    stage = Claims(learns)
    optimizer = torch.optim.SGD([p for p in stage.parameters() if p.requires_grad], lr=0.1)
    monkeypatch.setattr(checks, "make_optimizer", lambda module: {"optimizer": optimizer})
    monkeypatch.setattr(checks, "made_up_batch", lambda case: torch.ones(3, 2))
    if learns:
        with pytest.raises(AssertionError, match=r"frozen, and a step changes net\.weight, net\.bias"):
            checks.stays_frozen(SimpleNamespace(), stage, ["net.weight", "net.bias"])
    else:
        checks.stays_frozen(SimpleNamespace(), stage, ["net.weight", "net.bias"])
