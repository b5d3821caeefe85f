"""Stages that a test writes down itself, as composing would hand them over."""

from __future__ import annotations

from bench import registry
from bench.config.schema import StageConfig, StageObjects
from experiments.common.stage import Stage


def looked_up(stage: StageConfig) -> StageConfig:
    """The same stage with what its names stand for; its class is that of a method without anything of its own."""
    board = registry.board(stage.board) if stage.board else None
    return stage.carry(StageObjects(registry.dataset(stage.dataset), board, None if stage.ensemble else Stage))
