"""Boards on which classes are found by their names: what a stage gets for it, and what may not have learned."""

from __future__ import annotations

import pytest

from bench import registry
from bench.config.compose import compose
from bench.config.schema import BenchConfig, PartConfig
from bench.errors import UserError
from bench.plan.combinations import check_combinations
from bench.plan.relations import check_zero_shot, uses
from bench.plan.sources import Data
from bench.tasks import task_of
from tests.sample_data import SampleMaker

BOARDS = {name: board for name, board in registry.boards().items() if task_of(board).zero_shot}


def test_boards_of_zero_shot_are_called_so_name_their_classes_and_train_on_nothing():
    assert {"ucf101-zero-shot", "hmdb51-zero-shot"} <= set(BOARDS)
    assert set(BOARDS) == {name for name in registry.boards() if name.endswith("-zero-shot")}
    for board in BOARDS.values():
        assert task_of(board).names_classes and board.train == "none" and not board.folds
        assert not board.split.startswith(("train", "test"))


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_stage_on_such_a_board_gets_the_names_of_the_dataset_s_classes_as_text(
    name, make_sample: SampleMaker, tmp_path
):
    """Which `make_plan` hands over as `spec.class_text`; in the sample's classes are words that its narrators say."""
    board = BOARDS[name]
    make_sample(tmp_path, [board.dataset], counts={board.dataset: {"videos": 2}})
    config = compose("mcn", ["preset=tiny", f"sample_root={tmp_path}"])
    stages = [stage for stage in config.stages.values() if stage.board == name]
    assert stages
    data = Data(config)
    texts = data.source(stages[0]).class_texts
    assert all(text == text.lower() and " " in text for text in texts)
    ids = data.class_text(stages[0], stages[0].data.inputs.text)
    assert len(ids) == len(set(map(tuple, ids))) == len(texts) and all(len(each) >= 2 for each in ids)


def config_with(**changes) -> BenchConfig:
    """MCN's, whose stage `recognise_ucf101` builds on `pretrain`."""
    config = compose("mcn", ["preset=tiny"])
    for key, value in changes.items():
        stage, _, field = key.partition("__")
        setattr(config.stages[stage], field, value)
    return config


def test_what_has_learned_elsewhere_is_measured():
    config = config_with()
    check_combinations(config, ["pretrain", "recognise_ucf101", "recognise_hmdb51"])
    assert list(uses(config.stages["recognise_ucf101"])) == ["pretrain"]


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
    config = config_with(**changes)
    with pytest.raises(
        UserError,
        match=rf"^stages\.recognise_ucf101\.board=ucf101-zero-shot .* nothing on ucf101, and the stage {trains} ",
    ):
        check_zero_shot(config, "recognise_ucf101")
    check_zero_shot(config, "recognise_hmdb51")


def test_a_part_of_a_mixture_counts_as_well():
    config = config_with()
    config.stages["pretrain"].mixture.parts["other"] = PartConfig(dataset="ucf101")
    with pytest.raises(UserError, match="the stage pretrain trains on it"):
        check_zero_shot(config, "recognise_ucf101")
