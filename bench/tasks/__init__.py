"""What is measured: one file a task, with one object that holds all that is known of it (`base.Task`).

A board says of its task what `datamodules/boards.py` has a dataclass for, and by that dataclass the task is found. What
tasks share is in `base`, `predictions`, `metrics`, `ranks`, `ties`, `alignment` and `ensembles`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from bench import registry
from bench.errors import UserError
from bench.tasks.base import Evaluation, EvaluationError, MetricInfo, Statistic, Task
from bench.tasks.predictions import Predictions
from datamodules.boards import Board, BoardTask, UnknownTask

__all__ = [
    "Evaluation",
    "EvaluationError",
    "MetricInfo",
    "Predictions",
    "Statistic",
    "Task",
    "board_of",
    "evaluate",
    "known",
    "metric_infos",
    "statistic",
    "task_of",
]

ONCE_OF_ALL_BOARDS = ("query", "gallery", "unit", "missing", "normalise", "average")
"""Options that definitions of older records have for every task; empty where the task is another's."""


def task_of(board: Board) -> Task[Any]:
    """The task of a board, which its dataclass names.

    Raises:
        UserError: what it names cannot be imported.
    """
    module, _, name = board.task.measured_by.partition(":")
    try:
        task: type[Task[Any]] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"board {board.name}: its task {board.task.name} is to be measured by {board.task.measured_by}, which "
            f"cannot be imported: {error}"
        ) from error
    return task(board)


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """The metrics of a board.

    The order of the clips does not matter, not even for the intervals: they are sorted by id first.

    Args:
        board: what is measured.
        modality: whose logits are scored. Retrieval scores embeddings of its query against those of its gallery.
        predictions: each clip of the split once.

    Raises:
        EvaluationError: on a modality that is not there, a clip id that occurs twice, shapes that do not fit, scores or
            targets that are not finite, or no clips.
    """
    task = task_of(board)
    return task.evaluate(modality, task.checked(modality, predictions))


def statistic(board: Board, modality: str, predictions: Predictions) -> Statistic:
    """What `evaluate` bootstraps, for those who draw the clips themselves. Arguments and errors are the same."""
    task = task_of(board)
    return task.statistic(modality, task.checked(modality, predictions))


def known() -> dict[str, Board]:
    """Task name -> one of its boards, of all tasks of the boards that are here.

    Raises:
        UserError: two tasks have one name.
    """
    found: dict[str, Board] = {}
    for board in registry.boards().values():
        first = found.setdefault(board.task.name, board)
        if type(first.task) is not type(board.task):
            raise UserError(f"the boards {first.name} and {board.name} have two tasks of one name, {board.task.name}")
    return found


def metric_infos() -> dict[str, MetricInfo]:
    """Metric -> how it is read and shown, of all tasks.

    Raises:
        UserError: two tasks show metrics of one name in different ways.
    """
    found: dict[str, MetricInfo] = {}
    for task, board in known().items():
        for name, info in task_of(board).metrics.items():
            if found.setdefault(name, info) != info:
                raise UserError(f"the metric {name} of {task} is shown in another way by another task; rename it")
    return found


def board_of(definition: Mapping[str, Any]) -> Board:
    """The board that a record defines (`Board.definition`), be its package installed or not."""
    own = {f.name for f in fields(Board)}
    options = {key: value for key, value in definition.items() if key not in own}
    task = _task(str(definition["task"]), options)
    return Board(**{key: value for key, value in definition.items() if key in own} | {"task": task})


def _task(name: str, options: Mapping[str, Any]) -> BoardTask:
    given = {key: value for key, value in options.items() if value != "" or key not in ONCE_OF_ALL_BOARDS}
    board = known().get(name)
    if board is not None and given.keys() <= {f.name for f in fields(board.task)}:
        made: Callable[..., BoardTask] = type(board.task)
        with suppress(TypeError):  # of a version of the package whose task can do without what this one needs
            return made(**given)
    return UnknownTask(name, tuple(sorted(given.items())))
