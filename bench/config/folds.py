"""Cross-validation and official splits: a stage that is measured on a board of folds becomes one stage a fold."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.errors import UserError
from datamodules.boards import Board

if TYPE_CHECKING:  # it imports torch, which tables, which name stages by their folds, do without
    from bench.config.schema import BenchConfig, PartConfig, StageConfig

REST = "rest"
"""In `train`: all folds but the one that is scored. On a board of official splits it is the name of these without their
number, as `train`, that means the one of the fold."""


def expand(config: BenchConfig) -> BenchConfig:
    """Replaces `x`, measured on a board of n folds, by `x_fold1` … `x_fold<n>`, and what starts from it likewise.

    `stage=x` then means all of its folds.

    Raises:
        UserError: a fold that the board does not have, a stage that would start from several folds at once, or one
            that would train on what it is scored on.
    """
    names: dict[str, list[str]] = {}
    stages: dict[str, StageConfig] = {}
    for name, stage in config.stages.items():
        folds = _folds(name, stage)
        names[name] = [fold_name(name, fold) for fold in folds]
        stages |= {fold_name(name, fold): _of_fold(name, stage, fold) for fold in folds}
    for name, stage in stages.items():
        for role in ("after", "teacher"):
            if (other := getattr(stage, role)) in names:
                setattr(stage, role, _related(name, stage, role, other, names[other]))
        stage.ensemble = [
            _related(name, stage, "ensemble", other, names[other]) if other in names else other
            for other in stage.ensemble
        ]
    wanted = [each for name in config.stage for each in names.get(name, [name])]
    return replace(config, stages=stages, stage=wanted)


def fold_name(name: str, fold: int) -> str:
    """The name of a stage's fold; the stage's own name where it has no folds (0)."""
    return f"{name}_fold{fold}" if fold else name


def base_name(name: str, fold: int) -> str:
    """The stage's name in the configuration, which its folds share on the boards."""
    return name.removesuffix(f"_fold{fold}") if fold else name


def scored_split(stage: StageConfig, board: Board) -> str:
    """The split on which the stage is measured."""
    return board.scored(stage.fold)


def searched_splits(stage: StageConfig, board: Board) -> list[str]:
    """The board's training splits, whether or not the stage trains on them."""
    return board.trained(stage.fold) if board.folds else board.train.split("+")


def _folds(name: str, stage: StageConfig) -> list[int]:
    board = stage.objects.board
    count = board.folds if board else 0
    if stage.fold > count or stage.fold < 0:
        have = f"has folds 1 to {count}" if count else "has no folds"
        raise UserError(f"stages.{name}.fold={stage.fold}: its board {stage.board} {have}")
    if not count:
        return [0]
    return [stage.fold] if stage.fold else list(range(1, count + 1))


def _of_fold(name: str, stage: StageConfig, fold: int) -> StageConfig:
    stage, board = deepcopy(stage), stage.objects.board
    stage.fold = fold
    if not (fold and board):
        return stage
    each: list[StageConfig | PartConfig] = [stage, *parts_of_own(stage).values()]
    for own in each:
        own.train = board.trained(fold) if own.train == [board.train] else own.train
    if board.scored(fold) in stage.train:
        raise UserError(
            f"stages.{name}.train has {board.scored(fold)}, on which it would be scored; train=[{board.train}] has "
            f"{'the rest' if board.cross_validates else 'what goes with it'}"
        )
    if not board.cross_validates and stage.train and stage.train != board.trained(fold):
        raise UserError(
            f"stages.{name}.train={stage.train}: of the official splits of {board.dataset} others overlap with "
            f"{board.scored(fold)}, on which it would be scored; train=[{board.train}] means {board.trained(fold)[0]}"
        )
    return stage


def parts_of_own(stage: StageConfig) -> dict[str, PartConfig]:
    """The parts of a stage's mixture that are of its own dataset."""
    return {name: part for name, part in stage.mixture.parts.items() if part.dataset == stage.dataset}


def _related(name: str, stage: StageConfig, role: str, other: str, folds: list[str]) -> str:
    """Of the folds of the stage `other`, the one that `stage` is to be related to."""
    if folds == [other]:
        return other
    if (same := fold_name(other, stage.fold)) in folds:
        return same
    raise UserError(f"stages.{name}.{role}: {other} has several folds; give this stage a board with the same")
