"""Cross-validation: one stage becomes five, none of which is scored on what it was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench import registry
from bench.config.compose import compose
from bench.config.folds import base_name, expand, fold_name, scored_split
from bench.config.schema import BenchConfig, StageConfig
from bench.errors import UserError
from bench.plan.graph import make_plan
from tests.bench.hand_made import looked_up
from tests.sample_data import SampleMaker

FOLDS = range(1, 6)


def stage(**options) -> StageConfig:
    usual = {"module": "Train", "dataset": "esc50", "board": "esc50", "train": ["rest"]}
    return looked_up(StageConfig(**(usual | options)))


def config(wanted: list[str] | None = None, **stages: StageConfig) -> BenchConfig:
    return BenchConfig(method="x", stages=stages, stage=wanted or [])


def test_a_stage_on_a_board_of_folds_becomes_one_a_fold():
    found = expand(config(x=stage())).stages
    assert list(found) == [f"x_fold{n}" for n in FOLDS]
    for n in FOLDS:
        assert found[f"x_fold{n}"].fold == n
        assert found[f"x_fold{n}"].train == [f"fold{other}" for other in FOLDS if other != n]
    assert len({id(each.data) for each in found.values()}) == 5  # what is changed in one is not in the others


def test_other_stages_stay_as_they_are():
    pretrain = stage(board=None, dataset="audioset", train=["balanced"])
    found = expand(config(pretrain=pretrain, x=stage(after="pretrain"))).stages
    assert found["pretrain"] == pretrain
    assert {found[f"x_fold{n}"].after for n in FOLDS} == {"pretrain"}


def test_a_stage_starts_from_the_same_fold():
    found = expand(config(x=stage(), y=stage(after="x"), z=stage(after="y", fold=2))).stages
    assert [found[f"y_fold{n}"].after for n in FOLDS] == [f"x_fold{n}" for n in FOLDS]
    assert found["z_fold2"].after == "y_fold2"


@pytest.mark.parametrize("child", [stage(after="x", board=None, train=["fold1"]), stage(after="x", fold=2)])
def test_a_stage_cannot_start_from_folds_that_it_has_not(child):
    parent = stage(fold=1) if child.fold else stage()
    with pytest.raises(UserError, match=r"stages\.y(_fold2)?\.after: x has several folds"):
        expand(config(x=parent, y=child))


def test_a_wanted_stage_means_all_of_its_folds_and_a_fold_itself():
    assert expand(config(["x"], x=stage(), y=stage())).stage == [f"x_fold{n}" for n in FOLDS]
    assert expand(config(["x_fold2"], x=stage())).stage == ["x_fold2"]


def test_one_fold_alone():
    found = expand(config(["x"], x=stage(fold=3)))
    assert list(found.stages) == found.stage == ["x_fold3"]
    assert found.stages["x_fold3"].train == ["fold1", "fold2", "fold4", "fold5"]


@pytest.mark.parametrize("fold", [9, -1])
def test_a_fold_that_the_board_has_not_is_refused(fold):
    with pytest.raises(UserError, match=rf"stages\.x\.fold={fold}: its board esc50 has folds 1 to 5"):
        expand(config(x=stage(fold=fold)))
    with pytest.raises(UserError, match=r"its board vggsound has no folds"):
        expand(config(x=stage(board="vggsound", fold=1)))


def test_training_on_the_fold_that_is_scored_is_refused():
    with pytest.raises(UserError, match=r"stages\.x\.train has fold1, on which it would be scored"):
        expand(config(x=stage(train=["fold1", "fold2"])))
    assert expand(config(x=stage(train=["fold2"], fold=1))).stages["x_fold1"].train == ["fold2"]


def test_names_lead_back_to_the_configuration():
    assert [base_name(fold_name("x", n), n) for n in (0, 3)] == ["x", "x"]
    assert base_name("x_fold3", 0) == "x_fold3"


# On the sample's ESC-50


@pytest.fixture(scope="module")
def esc50_root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("folds")
    make_sample(root, ["esc50"], counts={"esc50": {f"fold{n}": 16 for n in FOLDS}})
    return root


def plan(root: Path, folder: Path, *overrides: str):
    options = ["stages.train_esc10.batch_size=4", "preset=tiny", f"runs={folder}", "stage=train_esc10", *overrides]
    return make_plan(compose("baseline_cnn", [f"data_root={root}", *options]))


def test_no_clip_and_no_source_is_in_both_train_and_scored(esc50_root, tmp_path):
    stages = plan(esc50_root, tmp_path).stages
    assert [each.name for each in stages] == [f"train_esc10_fold{n}" for n in FOLDS]
    for each in stages:
        for column in ("clip_id", "video_id"):
            assert not set(each.train.table[column]) & set(each.scored.table[column])
    scored = pd.concat([each.scored.table["clip_id"] for each in stages])
    assert scored.is_unique and set(scored) == {c for each in stages for c in each.train.table["clip_id"]}


def test_folds_are_repetitions_of_one_recipe(esc50_root, tmp_path):
    stages = plan(esc50_root, tmp_path).stages
    assert len({each.recipe for each in stages}) == 1
    assert len({each.identity for each in stages}) == len({each.folder for each in stages}) == 5
    other = plan(esc50_root, tmp_path, "stages.train_esc10.epochs=7").stages
    assert {each.recipe for each in other}.isdisjoint({each.recipe for each in stages})
    assert {each.base_name for each in stages} == {"train_esc10"}


def test_missing_clips_are_ignored_and_counted_down_to_the_least_coverage(esc50_root, tmp_path):
    shutil.copytree(esc50_root, tmp_path / "data")
    whole = plan(tmp_path / "data", tmp_path / "runs", "stages.train_esc10.fold=1").stages[0].scored
    assert whole.coverage == 1.0 and whole.excluded == {}
    Path(whole.table["audio_path"][0]).unlink()
    least = "data.min_coverage={}".format
    some = plan(tmp_path / "data", tmp_path / "runs", "stages.train_esc10.fold=1", least(0.5)).stages[0].scored
    assert some.excluded == {"missing": 1} and some.official == len(some) + 1 == len(whole)
    assert some.examples["missing"] == [whole.table["clip_id"][0]]
    with pytest.raises(UserError, match=rf"only {len(some)} of the {len(whole)} official .* 1 missing"):
        plan(tmp_path / "data", tmp_path / "runs", "stages.train_esc10.fold=1", least(0.95))


# Official splits


def official(**options) -> StageConfig:
    return stage(dataset="ucf101", board="ucf101", **({"train": ["train"]} | options))


def test_a_stage_on_official_splits_becomes_one_a_split_trained_on_what_goes_with_it():
    found = expand(config(["x"], x=official(), y=official(after="x", train=[]))).stages
    assert [found[f"x_fold{n}"].train for n in (1, 2, 3)] == [["train1"], ["train2"], ["train3"]]
    scored = [scored_split(found[f"y_fold{n}"], registry.board("ucf101")) for n in (1, 2, 3)]
    assert scored == ["test1", "test2", "test3"]
    assert [found[f"y_fold{n}"].after for n in (1, 2, 3)] == ["x_fold1", "x_fold2", "x_fold3"]


@pytest.mark.parametrize("train", [["train2"], ["train1", "test2"], ["test1"]])
def test_training_on_another_official_split_is_refused(train):
    """Which holds clips that this one tests."""
    with pytest.raises(UserError, match=r"stages\.x\.train.* on which it would be scored; train=\[train\]"):
        expand(config(x=official(train=train, fold=1)))
    assert expand(config(x=official(train=["train2"], fold=2))).stages["x_fold2"].train == ["train2"]


def test_no_recording_is_in_both_lists_of_an_official_split(tmp_path, make_sample):
    make_sample(tmp_path, ["ucf101"], counts={"ucf101": {"videos": 24}})
    said = "train_esc10.{}".format
    changes = [said("dataset=ucf101"), said("board=ucf101"), said("train=[train]"), said("modality=a")]
    overrides = ["data.min_coverage=0", *(f"stages.{change}" for change in changes)]
    stages = plan(tmp_path, tmp_path / "runs", *overrides).stages
    assert len({each.recipe for each in stages}) == 1 and len(stages) == 3
    for each in stages:
        assert not set(each.train.table["video_id"]) & set(each.scored.table["video_id"])
