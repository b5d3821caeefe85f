"""Boards on which classes are found by their names: what a stage gets for it, and what may not have learned."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest

from bench import registry
from bench.config.compose import compose
from bench.config.schema import BenchConfig, PartConfig
from bench.errors import UserError
from bench.plan.combinations import check_combinations
from bench.plan.graph import make_plan
from bench.plan.relations import check_zero_shot
from bench.tasks import task_of
from datamodules.sample.narration import VOCABULARY
from tests.sample_data import SampleMaker

BOARDS = {name: board for name, board in registry.boards().items() if task_of(board).zero_shot}


def test_boards_of_zero_shot_are_called_so_and_train_on_nothing():
    assert {"ucf101-zero-shot", "hmdb51-zero-shot"} <= set(BOARDS)
    assert set(BOARDS) == {name for name in registry.boards() if name.endswith("-zero-shot")}
    for board in BOARDS.values():
        assert task_of(board).names_classes and task_of(board).title == "zero-shot classification"
        assert board.train == "none" and not board.split.startswith("train") and not board.folds


@pytest.mark.parametrize(("dataset", "first"), [("ucf101", "black square"), ("hmdb51", "bounce black square")])
def test_a_stage_on_such_a_board_gets_the_names_of_the_classes_as_token_ids(
    dataset, first, make_sample: SampleMaker, tmp_path: Path
):
    make_sample(tmp_path, [dataset], counts={dataset: {"videos": 2}})
    (tmp_path / "e1.pth").touch()
    stage = f"recognise_{dataset}"
    given = (f"stage={stage}", f"stages.{stage}.after=null", f"init={tmp_path / 'e1.pth'}", f"runs={tmp_path / 'runs'}")
    (planned,) = make_plan(compose("mcn", ["preset=tiny", f"sample_root={tmp_path}", *given])).stages
    names = [" ".join(VOCABULARY[token - 1] for token in ids) for ids in planned.spec.class_text]
    assert names[0] == first and len(set(names)) == len(names) == planned.spec.num_classes == 10


@cache
def _mcn() -> BenchConfig:
    return compose("mcn", ["preset=tiny"])


def mcn(**changes) -> BenchConfig:
    """Its stage `recognise_ucf101` builds on `pretrain`; changes are of a stage's field, `stage__field`."""
    config = deepcopy(_mcn())
    for key, value in changes.items():
        stage, _, field = key.partition("__")
        setattr(config.stages[stage], field, value)
    return config


def test_what_has_learned_elsewhere_is_measured():
    check_combinations(mcn(), ["pretrain", "recognise_ucf101", "recognise_hmdb51"])


@pytest.mark.parametrize(
    ("changes", "trains"),
    [
        ({"recognise_ucf101__train": ["train1"]}, "recognise_ucf101"),
        ({"pretrain__dataset": "ucf101"}, "pretrain"),
        ({"recognise_ucf101__after": "finetune", "finetune__dataset": "ucf101"}, "finetune"),
        ({"finetune__dataset": "ucf101", "finetune__after": None, "pretrain__teacher": "finetune"}, "finetune"),
    ],
)
def test_what_has_learned_on_the_dataset_is_refused_however_far_back(changes, trains):
    config, message = mcn(**changes), rf"^stages\.recognise_ucf101\.board=ucf101-zero-shot .* the stage {trains} trains"
    with pytest.raises(UserError, match=message):
        check_zero_shot(config, "recognise_ucf101")
    check_zero_shot(config, "recognise_hmdb51")


def test_so_is_a_part_of_a_mixture_and_a_plan_says_so():
    config = mcn()
    config.stages["pretrain"].mixture.parts["other"] = PartConfig(dataset="ucf101")
    with pytest.raises(UserError, match="nothing on ucf101, and the stage pretrain trains on it"):
        check_combinations(config, ["recognise_ucf101"])
