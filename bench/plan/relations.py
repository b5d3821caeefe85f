"""Which stages a stage uses, and what a board of zero-shot asks of them."""

from __future__ import annotations

from collections.abc import Iterator

from bench.config.schema import BenchConfig, StageConfig
from bench.errors import UserError
from bench.tasks import task_of


def uses(stage: StageConfig) -> Iterator[str]:
    """The names of the stages that it uses directly."""
    yield from (name for name in (stage.after, stage.teacher, stage.epochs_of) if name is not None)
    yield from stage.features.values()
    yield from stage.labels.values()
    yield from stage.ensemble


def check_zero_shot(config: BenchConfig, name: str) -> None:
    """Raises UserError: what a board of zero-shot would measure has learned on the board's dataset."""
    board = config.stages[name].objects.board
    if board is None or not task_of(board).zero_shot:
        return
    for other in _lineage(config, name, {}):
        stage = config.stages[other]
        trained = {stage.dataset, *(part.dataset for part in stage.mixture.parts.values())} if stage.train else set()
        if board.dataset in trained:
            raise UserError(
                f"stages.{name}.board={board.name} measures what has learned nothing on {board.dataset}, and the stage "
                f"{other} trains on it; leave out its train, or report to another board"
            )


def _lineage(config: BenchConfig, name: str, found: dict[str, None]) -> dict[str, None]:
    """The stage and all that it builds on, as keys."""
    if name in config.stages and name not in found:
        found[name] = None
        for other in uses(config.stages[name]):
            _lineage(config, other, found)
    return found
