"""Cross-validation: a stage that is measured on a board of folds becomes one stage a fold."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.errors import UserError
from datamodules.boards import Board

if TYPE_CHECKING:  # it imports torch, which tables, which name stages by their folds, do without
    from bench.config.schema import BenchConfig, PartConfig, StageConfig

REST = "rest"
"""In `train`: all folds but the one that is scored."""


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
    return f"fold{stage.fold}" if board.folds else board.split


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
    if fold and board:
        rest = [f"fold{other}" for other in range(1, board.folds + 1) if other != fold]
        each: list[StageConfig | PartConfig] = [stage, *parts_of_own(stage).values()]
        for own in each:
            own.train = rest if own.train == [REST] else own.train
    if fold and f"fold{fold}" in stage.train:
        raise UserError(f"stages.{name}.train has fold{fold}, on which it would be scored; train=[{REST}] has the rest")
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
