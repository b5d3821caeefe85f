"""What a stage's training may be validated on, and by which task and metric it is measured there.

A split that a board scores is what a result is reported on. An epoch that is chosen by it makes the result better than
it is, so it is refused, whichever stage reports it; boards whose names end in `-val` are there to choose by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from bench.config.configured import unlike_defaults
from bench.config.folds import scored_split
from bench.config.schema import StageConfig
from bench.errors import UserError, unknown
from bench.tasks import Task, task_of
from datamodules.boards import Board
from datamodules.manifest.build import Manifest

LOSS = "loss"
"""As `validation.metric`: the mean of the stage's own loss, which needs no board."""
SHOWN = 3
"""Clips of an error."""


def check_validation(stage: StageConfig, where: str) -> None:
    """The stage's training can be validated as it says.

    Args:
        stage: as composed.
        where: its key, `stages.<name>`.

    Raises:
        UserError: naming the key.
    """
    if stage.train and stage.optim.schedule == "plateau" and stage.validation.split is None:
        raise UserError(f"{where}.optim.schedule=plateau goes by validations; name a split: {where}.validation.split")
    own, where = stage.validation, f"{where}.validation"
    if own.split is None:
        if said := unlike_defaults(own):
            key, value = next(iter(said.items()))
            raise UserError(f"{where}.{key}={value}: nothing is validated; name a split with {where}.split")
        return
    board = stage.objects.board
    if own.split not in stage.objects.source.splits:
        raise unknown(f"split of {stage.dataset} ({where}.split)", own.split, stage.objects.source.splits)
    if not stage.train:
        raise UserError(f"{where}.split={own.split}: the stage does not train, so there is no epoch to choose")
    _check_split(stage, board, f"{where}.split={own.split}")
    if own.metric == LOSS:
        _check_loss(stage, f"{where}.metric={LOSS}")
    elif board is None:
        raise UserError(
            f"{where}.split={own.split}: the stage's board says what is measured, and it has none; go by the stage's "
            f"own loss ({where}.metric={LOSS}), name a board of {stage.dataset} "
            f"({where.removesuffix('.validation')}.board), or leave validation out"
        )
    elif task_of(board).searches_training:
        raise UserError(
            f"{where}.split={own.split}: {board.name} compares clips with all that are trained on, which no validation "
            f"does; go by the stage's own loss ({where}.metric={LOSS}), or leave validation out"
        )
    elif own.metric is not None and own.metric not in (metrics := task_of(board).metrics):
        raise unknown(f"metric of {board.task.name} ({where}.metric)", own.metric, [*metrics, LOSS])
    if own.every < 1:
        raise UserError(f"{where}.every={own.every}: validate every epoch (1) or more rarely")
    if own.patience < 0:
        raise UserError(f"{where}.patience={own.patience}: 1 validation or more, or 0 for a training that goes on")


def _check_loss(stage: StageConfig, setting: str) -> None:
    """The mean of the stage's loss over a split is one number, whatever the batches and processes."""
    own_class = stage.objects.stage_class
    if own_class is not None and own_class.compares_clips:
        raise UserError(
            f"{setting}: the loss of {stage.module} compares the clips of a batch, so that its mean would be another "
            f"for other batches: on other numbers of processes, and where a clip cannot be read; name a metric of a "
            f"board, or keep the last epoch"
        )
    if stage.mixture.parts:
        raise UserError(
            f"{setting}: the loss is that of batches of several datasets, and a split is of one; name a metric of a "
            f"board"
        )
    if stage.objects.source.narrated:
        raise UserError(
            f"{setting}: clips are cut out of the videos of {stage.dataset} in training alone; name a metric of a board"
        )


def _check_split(stage: StageConfig, board: Board | None, setting: str) -> None:
    split, others = str(stage.validation.split), _cure(stage, board)
    if split in stage.train:
        raise UserError(f"{setting}: the stage trains on it, so it would choose what it has learned by heart; {others}")
    scoring = [each.name for each in _reporting(stage) if split in each.splits and not each.cross_validates]
    if board is not None and split == scored_split(stage, board):
        scoring = [board.name]
    if scoring:
        raise UserError(
            f"{setting}: it is scored by {', '.join(scoring)}, and an epoch that was chosen by what is scored makes "
            f"the score better than it is; {others}"
        )


def _reporting(stage: StageConfig) -> list[Board]:
    """The boards of its dataset that are not there to choose by."""
    return [board for board in stage.objects.source.boards if not board.to_choose_by]


def _cure(stage: StageConfig, board: Board | None) -> str:
    """The splits that can be named instead."""
    scored = {split for each in _reporting(stage) if not each.cross_validates for split in each.splits}
    taken = {*stage.train, *scored, *([scored_split(stage, board)] if board else [])}
    free = [split for split in stage.objects.source.splits if split not in taken]
    return f"name {' or '.join(free)}" if free else f"{stage.dataset} has no other: leave validation out"


def task_of_validation(stage: StageConfig) -> Task[Any]:
    """The task of the stage's board, on the split that is validated."""
    board = stage.objects.board
    assert board is not None
    name = f"{stage.dataset} {stage.validation.split}"
    return task_of(replace(board, name=name, split=str(stage.validation.split), folds=0))


def metric_of_validation(stage: StageConfig) -> str:
    """The metric that decides."""
    if stage.validation.metric is not None:
        return stage.validation.metric
    board = stage.objects.board
    assert board is not None
    return board.main


def better_of_validation(stage: StageConfig) -> Literal["higher", "lower"]:
    """Which of its values are better."""
    metric = metric_of_validation(stage)
    return "lower" if metric == LOSS else task_of_validation(stage).metrics[metric].better


def require_unseen(name: str, stage: StageConfig, validated: Manifest, train: Manifest | None) -> None:
    """Raises UserError: clips that are validated are trained on, in splits that overlap."""
    shared = [] if train is None else _shared(validated.table["clip_id"], train.table["clip_id"])
    if shared:
        raise UserError(
            f"stage {name} trains on {_some(shared)} also in the split {stage.validation.split}, by which "
            f"stages.{name}.validation would choose; name another split there"
        )


def require_unchosen(name: str, scored: Manifest, chosen_by: Mapping[str, Manifest]) -> None:
    """Raises UserError: the stage is scored on videos by which it, or a stage that it comes from, chooses its weights.

    Args:
        name: the stage's.
        scored: the clips of its board.
        chosen_by: stage -> the clips that it validates, of this dataset.
    """
    for other, validated in chosen_by.items():
        if shared := _shared(validated.table["video_id"], scored.table["video_id"]):
            raise UserError(
                f"stage {name} is scored on {_some(shared)} also in the split by which stages.{other}.validation would "
                f"choose; name another split there, or leave it out"
            )


def _shared(one: Any, other: Any) -> Sequence[str]:
    return sorted(set(one[one.isin(other)]))


def _some(ids: Sequence[str]) -> str:
    names = ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
    return f"{len(ids)} {'clip that is' if len(ids) == 1 else 'clips that are'} ({names})"
