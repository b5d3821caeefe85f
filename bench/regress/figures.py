"""What got worse: two measurements of a run become figures, each with a verdict. Nothing here runs or prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bench import registry
from bench.compare.paired import Difference, compare
from bench.errors import UserError
from bench.regress.measure import MeasuredRun, Scored
from bench.run.results import read_predictions
from bench.tasks import task_of
from bench.tasks.metrics import CONFIDENCE, RESAMPLES, interval

QUANTILE = 0.25
"""Of the steps' times. Other work on the machine makes steps longer, never shorter, so the quick ones say most."""


class Verdict(StrEnum):
    """WORSE and FAILED are regressions."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    FAILED = "failed"
    NEW = "new"


@dataclass
class Tolerances:
    """By how much a figure may grow, as a share."""

    step: float = 0.2
    memory: float = 0.15


@dataclass(frozen=True)
class Figure:
    """One line of the report, its numbers as they are shown."""

    method: str
    stage: str
    board: str
    name: str
    before: str
    after: str
    change: str
    """With its interval."""
    verdict: Verdict

    @property
    def regressed(self) -> bool:
        return self.verdict in (Verdict.WORSE, Verdict.FAILED)

    def __str__(self) -> str:
        where = " ".join(filter(None, (self.method, self.stage, self.board)))
        return f"{where} {self.name}: {self.before} -> {self.after}, {self.change} ({self.verdict})"


def figures(before: MeasuredRun, after: MeasuredRun, tolerances: Tolerances) -> list[Figure]:
    """All that can be said of a run."""
    method = after.run.method
    if after.failure:
        return [Figure(method, "", "", "run", before.failure or "ran", "failed", after.failure, Verdict.FAILED)]
    if before.failure:
        return [Figure(method, "", "", "run", "failed", "ran", before.failure, Verdict.NEW)]
    found: list[Figure] = []
    now = {scored.key: scored for scored in after.scored}
    for scored in before.scored:
        if scored.key in now:
            found += metric_figures(before, scored, after, now[scored.key])
        else:
            found.append(Figure(method, scored.stage, scored.board, "run", "measured", "missing", "", Verdict.FAILED))
    stages = ", ".join(dict.fromkeys(scored.stage for scored in after.scored))
    if before.seconds and after.seconds:
        found.append(step_figure(method, stages, before.seconds, after.seconds, tolerances.step))
    if before.memory and after.memory:
        found.append(memory_figure(method, stages, before.memory, after.memory, tolerances.memory))
    return found


def metric_figures(before: MeasuredRun, was: Scored, after: MeasuredRun, now: Scored) -> list[Figure]:
    """The board's metrics on the clips that both sides measured."""
    board = registry.board(now.board)
    shape = task_of(board).predictions
    try:
        compared = compare(
            board,
            read_predictions(before.folder / was.predictions, shape),
            read_predictions(after.folder / now.predictions, shape),
            (was.modality, now.modality),
        )
    except UserError as error:
        return [Figure(after.run.method, now.stage, now.board, "clips", "", "", str(error), Verdict.FAILED)]
    stage = " ".join(filter(None, (now.stage, now.fold)))
    return [
        metric_figure(after.run.method, stage, now.board, difference, len(compared.differences))
        for difference in compared.differences.values()
    ]


def metric_figure(method: str, stage: str, board: str, difference: Difference, metrics: int) -> Figure:
    """Worse, or better, if chance alone would rarely change one of a board's `metrics` so much (Bonferroni)."""
    info = difference.info

    def shown(value: float, sign: str = "") -> str:
        return f"{value * (100 if info.percent else 1):{sign}.{info.decimals}f}"

    verdict = Verdict.SAME
    if difference.p <= (1 - CONFIDENCE) / metrics:
        verdict = Verdict.BETTER if difference.gain > 0 else Verdict.WORSE
    change = f"{shown(difference.change, '+')} [{shown(difference.low, '+')}, {shown(difference.high, '+')}]"
    numbers = shown(difference.before), shown(difference.after), change
    return Figure(method, stage, board, info.label, *numbers, verdict)


def step_figure(method: str, stage: str, before: Sequence[float], after: Sequence[float], tolerance: float) -> Figure:
    """Worse if the whole interval of the ratio is above the tolerance."""
    ratio, low, high = ratio_of_quantiles(before, after)
    verdict = _verdict(low, high, tolerance)
    was, now = (f"{1000 * np.quantile(seconds, QUANTILE):.1f} ms" for seconds in (before, after))
    return Figure(method, stage, "", "training step", was, now, f"x {ratio:.2f} [{low:.2f}, {high:.2f}]", verdict)


def memory_figure(method: str, stage: str, before: int, after: int, tolerance: float) -> Figure:
    """Worse if the ratio is above the tolerance."""
    ratio = after / before
    was, now = (f"{peak / 2**20:.0f} MiB" for peak in (before, after))
    return Figure(method, stage, "", "peak memory", was, now, f"x {ratio:.2f}", _verdict(ratio, ratio, tolerance))


def _verdict(low: float, high: float, tolerance: float) -> Verdict:
    if low > 1 + tolerance:
        return Verdict.WORSE
    return Verdict.BETTER if high < 1 / (1 + tolerance) else Verdict.SAME


def ratio_of_quantiles(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """After's quantile over before's, and the bootstrap's interval of it; the same for the same times."""
    rng = np.random.default_rng(0)
    drawn = [np.quantile(rng.choice(side, (RESAMPLES, len(side))), QUANTILE, axis=1) for side in (before, after)]
    ratio = float(np.quantile(after, QUANTILE) / np.quantile(before, QUANTILE))
    return ratio, *interval(drawn[1] / drawn[0], ratio)
