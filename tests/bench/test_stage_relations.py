"""How stages use each other, in the plan: order, identities, what is kept, and the errors when it cannot be."""

from __future__ import annotations

import shutil
import types
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest

from bench.config.compose import compose
from bench.config.folds import expand
from bench.config.schema import BenchConfig, StageConfig
from bench.errors import UserError
from bench.plan.graph import PlannedStage, make_plan
from tests.bench.hand_made import looked_up
from tests.sample_data import SampleMaker

FOLDS = range(1, 6)
COUNTS = {
    "audioset": {"unbalanced_train": 8, "balanced_train": 12, "eval": 8},
    "vggsound": {"train": 8, "test": 8},
    "esc50": {f"fold{n}": 8 for n in FOLDS},
}
ENSEMBLE = [
    "train_cnn_audioset20k",
    "distill_ast_audioset20k",
    "average_distilled_ast_audioset20k",
    "train_ast_audioset20k",
    "distill_cnn_audioset20k",
    "average_distilled_cnn_audioset20k",
    "ensemble_audioset20k",
]
"""What the ensemble needs, in an order in which it can be made."""
AUDIOSET = ["ensemble_audioset20k", "average_ast_audioset20k", "checkpoints_ast_audioset20k"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> dict[str, str]:
    root = tmp_path_factory.mktemp("relations")
    make_sample(root / "sample", list(COUNTS), counts=COUNTS)
    return {"sample_root": str(root / "sample"), "runs": str(root / "runs")}


@pytest.fixture(scope="module")
def planned(places):
    """The wanted stages (none: all) and changes (dotted key -> value) -> the planned stages by name, in their order."""
    composed = {method: compose(method, ["preset=tiny"]) for method in ("cmkd", "uavm")}

    def make(wanted: Sequence[str] = (), changes: Mapping[str, Any] = types.MappingProxyType({}), method="cmkd"):
        config = deepcopy(composed[method])
        for stage in config.stages.values():
            stage.batch_size = 4
        for key, value in {**places, **changes, "stage": list(wanted)}.items():
            *path, last = key.split(".")
            place: Any = config
            for name in path:
                place = place[name] if isinstance(place, dict) else getattr(place, name)
            setattr(place, last, value)
        return {stage.name: stage for stage in make_plan(config).stages}

    return make


def changed(before: dict[str, PlannedStage], after: dict[str, PlannedStage]) -> set[str]:
    """The stages, without their dataset's name, whose identity differs; both plans have the same ones."""
    assert before.keys() == after.keys()
    return {name.removesuffix("_audioset20k") for name in before if before[name].identity != after[name].identity}


# --- order


def test_each_stage_stands_after_what_it_uses_and_once(planned):
    stages = planned(["ensemble_audioset20k"])
    assert list(stages) == ENSEMBLE
    for stage in stages.values():
        before = list(stages)[: list(stages).index(stage.name)]
        assert {used.name for used in stage.used} <= set(before)


def test_ancestors_are_what_a_result_comes_from_each_once_and_in_order(planned):
    stages = planned(["ensemble_audioset20k"])
    assert [each.name for each in stages["ensemble_audioset20k"].ancestors] == ENSEMBLE[:-1]
    assert [each.name for each in stages["distill_ast_audioset20k"].ancestors] == ["train_cnn_audioset20k"]
    assert stages["train_ast_audioset20k"].ancestors == []


def test_what_is_used_in_two_ways_is_one_ancestor(planned):
    """The retrieval reads features itself, and starts from a stage that was trained on them."""
    stages = planned(["retrieval_vggsound_a2v"], method="uavm")
    names = [each.name for each in stages["retrieval_vggsound_a2v"].ancestors]
    assert names == [name for name in stages if name != "retrieval_vggsound_a2v"] and len(set(names)) == len(names) == 5
    assert names.index("train_extractor_vggsound") < names.index("extract_vggsound_a") < names.index("train_vggsound")


def test_a_stage_on_request_runs_when_it_is_named_and_not_otherwise(planned, tmp_path):
    (tmp_path / "weights.pt").touch()
    assert not {"evaluate_ast", "evaluate_psla"} & planned().keys()
    assert list(planned(["evaluate_ast"], {"init": str(tmp_path / "weights.pt")})) == ["evaluate_ast"]


@pytest.mark.parametrize("user", ["distill_ast_audioset20k", "average_cnn_audioset20k"])
def test_a_stage_on_request_runs_when_something_named_uses_it(planned, user):
    requested = {"stages.train_cnn_audioset20k.on_request": True}
    assert list(planned([user], requested)) == ["train_cnn_audioset20k", user]
    assert "train_cnn_audioset20k" not in planned(["train_ast_audioset20k"], requested)


def test_a_member_on_request_runs_with_its_ensemble(planned):
    requested = {"stages.average_distilled_cnn_audioset20k.on_request": True}
    assert list(planned(["ensemble_audioset20k"], requested)) == ENSEMBLE


@pytest.mark.parametrize(
    ("method", "key", "value", "circle"),
    [
        ("cmkd", "train_cnn_audioset20k.teacher", "distill_ast_audioset20k", ["distill_ast_audioset20k"]),
        ("cmkd", "train_cnn_audioset20k.after", "average_cnn_audioset20k", ["average_cnn_audioset20k"]),
        ("cmkd", "ensemble_audioset20k.ensemble", ["ensemble_audioset20k"], []),
        ("uavm", "train_extractor_vggsound.features", {"a": "extract_vggsound_a"}, ["extract_vggsound_a"]),
    ],
)
def test_circles_of_every_kind_are_refused(planned, method, key, value, circle):
    first = key.split(".")[0]
    with pytest.raises(UserError, match=f"in a circle: {' -> '.join([first, *circle, first])}$"):
        planned([first], {f"stages.{key}": value}, method)


@pytest.mark.parametrize(
    ("role", "value"), [("after", "train_cn"), ("teacher", "train_cn"), ("features", {"a": "train_cn"})]
)
def test_a_missing_stage_is_named_with_the_stage_that_uses_it(planned, role, value):
    with pytest.raises(UserError, match=r"no such stage \(stages\.distill_ast_audioset20k\): 'train_cn'. Did you mean"):
        planned(["distill_ast_audioset20k"], {f"stages.distill_ast_audioset20k.{role}": value})


# --- identities

TWO = ("distill_ast", "average_distilled_cnn")
"""Other members."""
STUDENT_OF_CNN = {"distill_ast", "average_distilled_ast", "ensemble"}
OF_AST = {"train_ast", "average_ast", "checkpoints_ast", "distill_cnn", "average_distilled_cnn", "ensemble"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train_cnn_audioset20k.optim.lr", 0.5, {"train_cnn"} | STUDENT_OF_CNN),
        ("train_ast_audioset20k.repeat", 1, OF_AST),
        ("train_ast_audioset20k.init", "imagenet", OF_AST),
        ("train_ast_audioset20k.data.loader.weighted_draws", -1, OF_AST),
        ("distill_ast_audioset20k.teacher", "distill_cnn_audioset20k", STUDENT_OF_CNN),
        ("distill_ast_audioset20k.options.ground_truth", 0.25, STUDENT_OF_CNN),
        ("average_ast_audioset20k.average_weights", [17, 20], {"average_ast"}),
        ("checkpoints_ast_audioset20k.average_outputs", [17, 20], {"checkpoints_ast"}),
        ("ensemble_audioset20k.ensemble", [f"{name}_audioset20k" for name in TWO], {"ensemble"}),
    ],
)
def test_what_changes_a_result_changes_its_identity_and_of_what_comes_from_it(planned, key, value, expected):
    wanted = [*AUDIOSET, *(f"{name}_audioset20k" for name in ("average_distilled_ast", "average_distilled_cnn"))]
    wanted.append("train_cnn_audioset20k")
    assert changed(planned(wanted), planned(wanted, {f"stages.{key}": value})) == expected


def test_drawing_with_replacement_is_another_result(planned):
    loader = "stages.train_ast_audioset20k.data.loader"
    without = {f"{loader}.weighted_draws": -1}
    within = {**without, f"{loader}.weighted_replacement": True}
    assert changed(planned(AUDIOSET, without), planned(AUDIOSET, within)) == OF_AST


def test_nothing_else_changes_an_identity(planned, places, tmp_path):
    before = planned(AUDIOSET)
    shutil.copytree(places["sample_root"], tmp_path / "moved")
    for changes in (
        {"sample_root": str(tmp_path / "moved"), "runs": str(tmp_path), "leaderboards": str(tmp_path / "boards")},
        {"stages.train_cnn_audioset20k.on_request": True, "stages.train_ast_audioset20k.data.loader.workers": 2},
        {"trainer.checkpoint_every": 7, "trainer.devices": 2, "trainer.accelerator": "cpu"},
    ):
        assert changed(before, planned(AUDIOSET, changes)) == set()


def test_a_given_file_counts_by_what_is_in_it(planned, tmp_path):
    plans = []
    for folder, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights.pt").write_bytes(content)
        plans.append(planned(AUDIOSET, {"stages.train_ast_audioset20k.init": f"{tmp_path / folder}/weights.pt"}))
    a, b, c = plans
    assert changed(a, b) == set() and changed(a, c) == changed(planned(AUDIOSET), a) == OF_AST


def test_the_run_s_file_takes_the_place_of_imagenet_but_not_of_the_stage_s_own_file(planned, tmp_path):
    for name in ("mine", "all"):
        (tmp_path / name).write_text(name)
    stages = planned(
        ["train_ast_audioset20k", "train_cnn_audioset20k"],
        {
            "init": str(tmp_path / "all"),
            "stages.train_ast_audioset20k.init": "imagenet",
            "stages.train_cnn_audioset20k.init": str(tmp_path / "mine"),
        },
    )
    assert stages["train_ast_audioset20k"].start == str(tmp_path / "all")
    assert stages["train_cnn_audioset20k"].start == str(tmp_path / "mine")


def test_a_reader_of_features_changes_with_what_made_them(planned):
    before = planned(method="uavm")
    after = planned((), {"stages.train_extractor_vggsound.optim.lr": 0.5}, "uavm")
    same = {"extract_vggsound_v", "train_extractor_vggsound_v"}
    assert changed(before, after) == before.keys() - same
    # Those of pictures are not read by what looks at sound alone, though that starts from a stage that reads both.
    assert before["measure_vggsound_a"].features.keys() == {"a"}


def test_features_of_other_clips_are_other_features(planned):
    """Or a stage that extracted few clips would count as done when more are wanted."""
    before = planned(["extract_vggsound_a"], method="uavm")
    after = planned(["extract_vggsound_a"], {"stages.extract_vggsound_a.extract": ["test"]}, "uavm")
    assert changed(before, after) == {"extract_vggsound_a"}


def test_a_repetition_draws_other_numbers(planned):
    """In the order of clips and their augmentation, and in what a stage draws for a whole step."""
    first, again = (
        planned(AUDIOSET, {"seed": 3, "stages.train_ast_audioset20k.repeat": n})["train_ast_audioset20k"]
        for n in (0, 1)
    )
    assert first.spec.seed == 3 != again.spec.seed


# --- what is kept and how long it takes


def test_epochs_are_kept_for_the_stages_that_average_them_whatever_is_run(planned):
    spans = {
        "stages.average_ast_audioset20k.average_weights": [18, 20],
        "stages.checkpoints_ast_audioset20k.average_outputs": [1, 2],
    }
    for wanted in (AUDIOSET, ["train_ast_audioset20k"]):
        assert planned(wanted, spans)["train_ast_audioset20k"].kept_epochs == {1, 2, 18, 19, 20}
    stages = planned(AUDIOSET)
    assert stages["distill_ast_audioset20k"].kept_epochs == set(range(16, 21))
    assert stages["ensemble_audioset20k"].kept_epochs == stages["average_ast_audioset20k"].kept_epochs == frozenset()


@pytest.mark.parametrize(
    ("draws", "replacement", "steps"),
    [(0, False, 3), (-1, True, 3), (-1, False, 3), (40, True, 10), (40, False, 3), (5, False, 1), (5, True, 1)],
)
def test_steps_of_an_epoch(planned, draws, replacement, steps):
    """Of 12 clips in batches of 4; without replacement no clip is drawn twice."""
    loader = "stages.train_cnn_audioset20k.data.loader"
    changes = {f"{loader}.weighted_draws": draws, f"{loader}.weighted_replacement": replacement}
    assert planned(["train_cnn_audioset20k"], changes)["train_cnn_audioset20k"].spec.steps_per_epoch == steps


def test_the_readers_of_features_know_their_shape_and_read_no_media(planned):
    stages = planned(method="uavm")
    spec = stages["train_vggsound"].spec
    assert spec.features == {"a": (15, 96), "v": (8, 96)}
    assert spec.inputs.audio is None and spec.inputs.video is None
    assert stages["measure_vggsound_v"].spec.features.keys() == {"v"}


# --- folds


def stage(**options) -> StageConfig:
    usual = {"module": "Train", "dataset": "esc50", "board": "esc50", "train": ["rest"]}
    return looked_up(StageConfig(**(usual | options)))


def test_a_student_s_teacher_is_of_its_own_fold(planned):
    stages = planned([f"distill_ast_esc10_fold{n}" for n in FOLDS])
    assert len(stages) == 10
    for n in FOLDS:
        student = stages[f"distill_ast_esc10_fold{n}"]
        assert student.teacher is stages[f"train_cnn_esc10_fold{n}"]
        assert not set(student.teacher.train.table["clip_id"]) & set(student.scored.table["clip_id"])
    assert len({stages[f"distill_ast_esc10_fold{n}"].recipe for n in FOLDS}) == 1


def test_the_recipe_of_a_student_is_that_of_its_teacher_too(planned):
    one, other = (
        planned(["distill_ast_esc10_fold1"], {"stages.train_cnn_esc10_fold1.epochs": n})["distill_ast_esc10_fold1"]
        for n in (7, 8)
    )
    assert one.recipe != other.recipe


def test_an_ensemble_is_of_members_of_its_own_fold():
    together = stage(module=None, train=[], ensemble=["x", "y"])
    found = expand(BenchConfig(method="m", stages={"x": stage(), "y": stage(), "both": together})).stages
    for n in FOLDS:
        assert found[f"both_fold{n}"].ensemble == [f"x_fold{n}", f"y_fold{n}"]


@pytest.mark.parametrize(("role", "value"), [("teacher", "x"), ("ensemble", ["x"])])
def test_all_folds_together_are_neither_teacher_nor_member(role, value):
    wrong = stage(board=None, train=["fold1"], **{role: value})
    with pytest.raises(UserError, match=rf"stages\.y\.{role}: x has several folds; give this stage a board"):
        expand(BenchConfig(method="m", stages={"x": stage(), "y": wrong}))
