"""Several networks' predictions as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.tasks import task_of
from bench.tasks.predictions import Predictions
from datamodules.boards import Board


def mean_probability(
    board: Board, modality: str, each: Sequence[Predictions], modalities: Sequence[str]
) -> Predictions:
    """The mean of several networks' probabilities, on the clips that all of them have, as logits again.

    It is summed as logarithms, so that no answer, however sure, is rounded to 0 or 1 and ties with others.

    Where a network outputs numbers like probabilities instead of logits, so does the result: these may leave
    0..1, and are averaged as they are (PSLA `ensemble.py`).

    Args:
        board: whose task says what probabilities are (`Task.averages`).
        modality: under which the result is scored.
        each: the networks' predictions.
        modalities: whose scores are taken of each.
    """
    task = task_of(board)
    common = sorted(set.intersection(*(set(map(str, predictions.clip_id)) for predictions in each)))
    aligned = [p.take(pd.Index(np.asarray(p.clip_id, dtype=str)).get_indexer(common)) for p in each]
    logits = [np.asarray(p.scores[m], np.float64) for p, m in zip(aligned, modalities, strict=True)]
    if any(p.scale == "probabilities" for p in aligned):
        given = [x if p.scale == "probabilities" else task.probability(x) for p, x in zip(aligned, logits, strict=True)]
        return task.predictions(common, aligned[0].target, {modality: np.mean(given, axis=0)}, scale="probabilities")
    return task.predictions(common, aligned[0].target, {modality: task.mean_logits(logits)})
