"""Which clips of a split a stage measures, whether they are enough, and how often each is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bench.config.folds import searched_splits
from bench.config.schema import StageConfig
from bench.errors import UserError
from bench.tasks import task_of
from datamodules.boards import Board
from datamodules.manifest.build import Manifest
from datamodules.manifest.exclusions import explain_exclusions


def measurable(name: str, stage: StageConfig, board: Board | None, clips: Manifest, what: str) -> Manifest:
    """Of the clips of a split those that the board's protocol measures; all where it is the stage's own loss.

    Args:
        name: the stage's.
        what: the clips' name in an error.

    Raises:
        UserError: too few of them can be used.
    """
    if board is not None:
        task_of(board).require_columns(clips.table)
        described = [name for name in task_of(board).columns if name != "group"]  # which the videos' ids say
        clips = replace(clips, described=(*clips.described, *described)) if described else clips
        if board.per_class:
            clips = clips.first_of_each_class(board.per_class)
    if clips.coverage < stage.data.min_coverage:
        reasons = explain_exclusions(clips.excluded, clips.examples)
        raise UserError(
            f"stage {name}: only {clips.used} of the {clips.official} official clips of {what} can be used "
            f"({clips.coverage:.1%}; {reasons}); the least is data.min_coverage={stage.data.min_coverage}"
        )
    return clips


def searched_clips(
    name: str, stage: StageConfig, board: Board | None, clips_of: Callable[..., Manifest]
) -> Manifest | None:
    """The training clips that the scored ones are compared with; None where the board's task searches none.

    Args:
        name: the stage's.
        stage: measured on the board.
        board: of its dataset.
        clips_of: splits -> their clips.

    Raises:
        UserError: too few of them can be used.
    """
    if board is None or not task_of(board).searches_training:
        return None
    splits = searched_splits(stage, board)
    return measurable(name, stage, None, clips_of(*splits), f"{'+'.join(splits)}, which {board.name} searches,")


def protocol_of(board: Board, views: int, crops: int) -> dict[str, Any]:
    """The board's protocol with as many windows of a clip, and squares of each window's pictures, as a stage has."""
    protocol = {name: value for name, value in board.protocol().items() if name != "crops"}
    return protocol | {"views": views} | ({"crops": crops} if crops > 1 else {})
