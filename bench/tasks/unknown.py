"""The task of a board whose package is not installed: its records are shown, and nothing is measured."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from bench.errors import UserError
from bench.tasks.base import MetricInfo, Statistic, Task
from bench.tasks.predictions import Predictions
from datamodules.boards import UnknownTask


class Unmeasured(Task[UnknownTask]):
    """What its records say of its metrics is all that is known of it."""

    metrics: ClassVar[dict[str, MetricInfo]] = {}

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Raises UserError, always."""
        self.refuse()

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """Raises UserError, always."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raises UserError, saying what to install."""
        raise UserError(
            f"{self.board.name}: its task {self.options.name!r} is not known here; install the package that brings it"
        )
