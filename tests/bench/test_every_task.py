"""What every task must do, whatever it measures: one contract over all that the boards name."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.random import Generator

from bench import registry
from bench.errors import UserError
from bench.run.results import read_predictions, write_predictions
from bench.tasks import (
    EvaluationError,
    MetricInfo,
    Predictions,
    board_of,
    evaluate,
    known,
    metric_infos,
    statistic,
    task_of,
)
from bench.tasks.classification import ClassificationTask
from bench.tasks.graded import GradedPredictions
from bench.tasks.sound_sources import MapPredictions
from bench.tasks.voc import PartlyJudged
from datamodules import boards
from datamodules.boards import (
    Board,
    Classification,
    ClassRetrieval,
    Correspondence,
    GradedRetrieval,
    Localisation,
    Neighbours,
    RankedClassification,
    Retrieval,
    SoundSources,
    Tagging,
    UnknownTask,
    VOCTagging,
)
from tests.conftest import REPOSITORY


class Example(NamedTuple):
    """A board of a task, and predictions for it of which those with skill 0 know nothing."""

    board: Board
    predictions: Callable[[Generator, float], Predictions]
    chance_is_random: bool = True
    """Whether a scorer that knows nothing gets what `chance` says, or it is by a rule that tests of its own check."""


def _names(n: int, rng: Generator) -> list[str]:
    return [f"clip{i:03}" for i in rng.permutation(n)]


def _tagging(rng: Generator, skill: float) -> Predictions:
    target = np.maximum(np.eye(6)[rng.integers(6, size=40)], rng.random((40, 6)) < 0.2).astype(np.float32)
    return Predictions(_names(40, rng), target, {"a": rng.normal(size=(40, 6)) + skill * target})


def _voc(rng: Generator, skill: float) -> PartlyJudged:
    given = _tagging(rng, skill)
    ignored = [np.flatnonzero((rng.random(6) < 0.2) & (target_C == 0)).tolist() for target_C in given.target]
    return PartlyJudged(given.clip_id, given.target, given.scores, ignored=ignored)


def _classification(rng: Generator, skill: float) -> Predictions:
    target = np.eye(6, dtype=np.float32)[rng.permutation(np.arange(40) % 6)]
    return Predictions(_names(40, rng), target, {"a": rng.normal(size=(40, 6)) + skill * target})


def _retrieval(rng: Generator, skill: float) -> Predictions:
    seen = rng.normal(size=(40, 8))
    heard = skill * seen + rng.normal(size=(40, 8))
    return Predictions(_names(40, rng), np.ones((40, 3), np.float32), {"a": heard, "v": seen}, similarity="dot")


def _neighbours(rng: Generator, skill: float) -> Predictions:
    target, of_training = _labels(40, rng), _labels(300, rng)
    query, gallery = (rng.normal(size=each.shape) + 2 * skill * each for each in (target, of_training))
    names = [f"training {number}" for number in range(300)]
    return task_of(NEIGHBOURS).searched(
        Predictions(_names(40, rng), target, {"a": query}), Predictions(names, of_training, {"a": gallery})
    )


def _labels(n: int, rng: Generator) -> np.ndarray:
    return np.eye(60, dtype=np.float32)[rng.permutation(np.arange(n) % 60)]


def _localisation(rng: Generator, skill: float) -> Predictions:
    label = np.array([3, 3, 0, 0, 3, 1, 1, 1, 3, 2])
    target = np.tile(np.eye(4, dtype=np.float32)[label][:, :3], (6, 1))
    group = np.repeat([f"video{i}" for i in range(6)], len(label))
    clips = [f"{video}/{second:05}" for video in np.unique(group) for second in range(len(label))]
    steps = dict.fromkeys(np.unique(group).tolist(), [0, 1, 2])
    return Predictions(clips, target, {"a": rng.normal(size=target.shape) + skill * target}, group, steps)


def _graded(rng: Generator, skill: float) -> GradedPredictions:
    given = _retrieval(rng, skill)
    kind = rng.integers(6, size=40)
    relevance = 6 - np.abs(np.arange(6)[:, None] - np.arange(6))
    seen = {"a": given.scores["a"] + skill * np.eye(6, 8)[kind], "v": given.scores["v"] + skill * np.eye(6, 8)[kind]}
    target = np.eye(6, dtype=np.float32)[kind]
    return GradedPredictions(given.clip_id, target, seen, similarity="dot", relevance=relevance)


def _correspondence(rng: Generator, skill: float) -> Predictions:
    target = np.tile(np.array([[1, 0]], np.float32), (40, 1))
    return Predictions(_names(40, rng), target, {"a": rng.normal(size=(40, 2)) + skill * (target - 0.5)})


def _sound_sources(rng: Generator, skill: float) -> MapPredictions:
    """The thing is in the left or in the right of the picture, and never in the middle."""
    left = np.array([0.0, 0.55])[rng.integers(2, size=40)]
    boxes = [[[x, 0.0, x + 0.45, 1.0]] for x in left]
    column = (np.arange(8) + 0.5) / 8
    inside = (column > left[:, None]) & (column < left[:, None] + 0.45)
    maps = rng.normal(size=(40, 8, 8)) + rng.random((40, 1, 1)) * skill * inside[:, None]
    return MapPredictions(_names(40, rng), np.ones((40, 3), np.float32), {"a": maps}, boxes=boxes)


NEIGHBOURS = Board("b", "world", "train", "test", Neighbours(), "near@1")
EXAMPLES = {
    "tagging": Example(Board("b", "world", "train", "test", Tagging(), "mAP"), _tagging),
    "tagging (VOC 2007)": Example(Board("b", "world", "train", "test", VOCTagging(), "mAP11"), _voc),
    "classification": Example(Board("b", "world", "train", "test", Classification(), "top1"), _classification),
    "ranked classification": Example(
        Board("b", "world", "train", "test", RankedClassification(), "MAP@3"), _classification
    ),
    "retrieval": Example(Board("b", "world", "none", "test", Retrieval("a", "v"), "R@1"), _retrieval),
    "graded retrieval": Example(Board("b", "world", "none", "test", GradedRetrieval("a", "v"), "nDCG@30"), _graded),
    "correspondence": Example(Board("b", "world", "none", "test", Correspondence(), "accuracy"), _correspondence),
    "sound source localisation": Example(
        Board("b", "world", "none", "test", SoundSources(), "cIoU@0.5"), _sound_sources, chance_is_random=False
    ),
    "class retrieval": Example(Board("b", "world", "none", "test", ClassRetrieval("a", "a"), "class_nDCG@30"), _graded),
    "neighbours": Example(NEIGHBOURS, _neighbours),
    "localisation": Example(
        Board("b", "world", "none", "test", Localisation(), "recall"), _localisation, chance_is_random=False
    ),
}
every_task = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


def some(example: Example, seed: int = 0, skill: float = 1.5) -> Predictions:
    return example.predictions(np.random.default_rng(seed), skill)


def plain(board: Board, given: Predictions) -> dict[str, float]:
    """The metrics by the statistic, with each unit once."""
    found = statistic(board, "a", given)
    return {name: float(value_1[0]) for name, value_1 in found.measure(np.ones((len(found.units), 1))).items()}


def test_every_task_of_a_board_has_an_example_here():
    assert set(known()) == set(EXAMPLES)


@every_task
def test_what_is_evaluated_is_the_statistic_with_each_unit_once(example: Example):
    given, task = some(example), task_of(example.board)
    found = evaluate(example.board, "a", given)
    assert {name: metric.value for name, metric in found.metrics.items()} == pytest.approx(plain(example.board, given))
    assert list(found.metrics) == list(found.chance) == list(task.metrics)
    units = statistic(example.board, "a", given).units
    assert len(set(units)) == len(units) > 1 and found.n > 0


@every_task
def test_every_metric_has_chance_and_an_interval_around_it_and_skill_beats_chance(example: Example):
    found = evaluate(example.board, "a", some(example))
    for name, info in task_of(example.board).metrics.items():
        metric, sign = found.metrics[name], 1 if info.better == "higher" else -1
        assert info.lowest <= metric.low <= metric.value <= metric.high <= info.highest
        assert metric.low < metric.high
        assert sign * metric.value > sign * found.chance[name]


@every_task
def test_the_order_of_clips_changes_neither_values_nor_intervals(example: Example):
    given = some(example)
    order = np.random.default_rng(7).permutation(len(given.clip_id))
    assert evaluate(example.board, "a", given) == evaluate(example.board, "a", given.take(order))


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.chance_is_random])
def test_chance_is_what_predictions_that_know_nothing_get(name: str):
    example = EXAMPLES[name]
    found: dict[str, list[float]] = {name: [] for name in task_of(example.board).metrics}
    chances = []
    for seed in range(100):
        given = some(example, seed, skill=0)
        checked = task_of(example.board).checked("a", given)
        chances.append(task_of(example.board).chance("a", checked))
        for metric, value in plain(example.board, given).items():
            found[metric].append(value)
    for metric, values in found.items():
        error = np.std(values) / np.sqrt(len(values))
        expected = np.mean([chance[metric] for chance in chances])
        assert abs(np.mean(values) - expected) < 4 * error + 1e-9, metric


@every_task
def test_stored_predictions_are_read_back_equal_and_measure_the_same(example: Example, tmp_path: Path):
    task, given = task_of(example.board), some(example)
    write_predictions(given, tmp_path / "predictions.parquet")
    read = read_predictions(tmp_path / "predictions.parquet", task.predictions)
    assert type(read) is type(given) and list(read.clip_id) == list(given.clip_id)
    np.testing.assert_array_equal(read.target, given.target)
    assert list(read.scores) == list(given.scores)
    for modality, scores in given.scores.items():
        np.testing.assert_array_equal(read.scores[modality], scores)
    assert evaluate(example.board, "a", read) == evaluate(example.board, "a", given)


@every_task
def test_parts_that_share_no_clip_are_joined_to_the_whole(example: Example):
    given = some(example)
    half = len(given.clip_id) // 2
    parts = [given.take(rows) for rows in (np.arange(half), np.arange(half, len(given.clip_id)))]
    joined = task_of(example.board).predictions.joined(parts)
    assert evaluate(example.board, "a", joined) == evaluate(example.board, "a", given)


@every_task
def test_a_method_s_outputs_are_measured_by_their_key_or_refused_by_name(example: Example):
    task, scores = task_of(example.board), {"a": np.ones((2, 3))}
    for key in task.outputs:
        assert task.given({"features": scores, key: scores}).scores is scores
    with pytest.raises(EvaluationError, match=f"measures {' or '.join(task.outputs)}; the method gave: features"):
        task.given({"features": scores})


@every_task
def test_numbers_that_are_not_finite_are_an_error(example: Example):
    given = some(example)
    next(iter(given.scores.values()))[0, 0] = np.nan
    with pytest.raises(EvaluationError, match="NaN or infinite for 1 clip"):
        evaluate(example.board, "a", given)


@every_task
def test_what_is_shown_of_it_is_text_and_json(example: Example):
    task = task_of(example.board)
    checked = task.checked("a", some(example))
    assert all((task.title, task.unit, task.hub_name("a"), task.rule.endswith(".")))
    if task.class_score:
        shown = json.loads(json.dumps(task.run_page("a", checked)))
        assert len(shown["names"]) == len(shown["n"]) == len(shown["value"]) == checked.target.shape[1]
    if task.averages:
        probability = task.probability(checked.scores["a"])
        mean = task.mean_logits([checked.scores["a"]] * 2)
        np.testing.assert_allclose(task.probability(mean), probability, rtol=1e-9)


# ---- how they are found


@pytest.mark.parametrize("name", sorted(registry.boards()))
def test_a_board_sorts_by_a_metric_of_its_task_and_can_be_made_of_its_definition(name: str):
    board = registry.board(name)
    assert board.main in task_of(board).metrics
    assert board_of(json.loads(json.dumps(board.definition()))) == board


def test_each_metric_is_of_one_task_and_of_those_derived_from_it():
    having = {name: [type(task_of(board)) for board in known().values()] for name in metric_infos()}
    for name, tasks in having.items():
        own = [task for task in tasks if name in task.metrics]
        assert any(all(issubclass(task, first) for task in own) for first in own), name


def test_two_tasks_that_show_one_metric_in_two_ways_are_refused(monkeypatch: pytest.MonkeyPatch):
    other = {**ClassificationTask.metrics, "mAP": MetricInfo("mAP", better="lower")}
    monkeypatch.setattr(ClassificationTask, "metrics", other)
    with pytest.raises(UserError, match="the metric mAP of classification is shown in another way"):
        metric_infos()


OLD = {"query": "", "gallery": "", "unit": "", "missing": "", "normalise": "", "average": ""}
"""Options that every definition had when a task was a name."""


@pytest.mark.parametrize(
    ("task", "options", "made"),
    [
        ("classification", {}, Classification()),
        ("retrieval", {"query": "t", "gallery": "v", "missing": "misses"}, Retrieval("t", "v", missing="misses")),
        ("localisation", {"average": "task"}, Localisation(average="task")),
        ("theirs", {"query": "t"}, UnknownTask("theirs", (("query", "t"),))),
    ],
)
def test_the_definitions_of_older_records_are_boards_with_the_protocols_of_these(task, options, made):
    own = {"name": "gone", "dataset": "d", "train": "none", "split": "test", "main": "score"}
    counts = {"views": 4, "folds": 0, "per_class": 5, "version": 2}
    definition = {**own, "task": task, **OLD, **options, **counts}
    board = board_of(definition)
    assert board == Board("gone", "d", "none", "test", made, "score", views=4, per_class=5, version=2)
    assert board.protocol() == {k: v for k, v in definition.items() if v not in ("", 0) and k != "main"}


def test_what_a_board_needs_of_a_dataset_s_table_is_asked_for_by_name():
    import pandas as pd

    with pytest.raises(UserError, match="board b: localisation needs group of each clip, which world does not list"):
        task_of(EXAMPLES["localisation"].board).require_columns(pd.DataFrame({"clip_id": ["a"]}))


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def test_no_file_but_a_task_s_own_compares_the_name_of_a_task_or_knows_its_options():
    """Tasks are found by what a board carries: a new one changes no other file."""
    names = set(known())
    options = {name for name, of in vars(boards).items() if isinstance(of, type) and issubclass(of, boards.BoardTask)}
    found = []
    for path in python_files("bench"):
        if path.parent == REPOSITORY / "bench" / "tasks":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if isinstance(node, ast.Match):
                compared = [node.subject]
            of_task = any(isinstance(each, ast.Attribute) and each.attr == "task" for each in compared)
            named = isinstance(node, ast.Constant) and node.value in names
            imported = isinstance(node, ast.ImportFrom) and node.module == "datamodules.boards"
            known_here = imported and {alias.name for alias in node.names} & (options - {"BoardTask"})
            if of_task or named or known_here:
                found.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert not found


def test_two_modules_of_the_harness_never_share_a_name():
    names = [path.stem for path in python_files("bench") if path.stem != "__init__" and "template" not in path.parts]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("change", [{"query": None}, {"depth": 3}])
def test_a_definition_of_another_version_of_a_task_is_shown_as_it_is(change: dict[str, int | None]):
    """With options that this version does not have, or without one that it needs."""
    board = replace(EXAMPLES["retrieval"].board, name="gone")
    definition = {key: value for key, value in (board.definition() | change).items() if value is not None}
    found = board_of(definition)
    assert isinstance(found.task, UnknownTask) and found.task.name == "retrieval"
    assert found.protocol() == {key: value for key, value in (board.protocol() | change).items() if value is not None}
