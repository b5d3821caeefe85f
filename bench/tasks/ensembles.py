"""Several networks' predictions as one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, logsumexp, softmax

from bench.tasks import Predictions
from datamodules.types import Board


def mean_probability(
    board: Board, modality: str, each: Sequence[Predictions], modalities: Sequence[str]
) -> Predictions:
    """The mean of several networks' probabilities, on the clips that all of them have, as logits again.

    It is summed as logarithms, so that no answer, however sure, is rounded to 0 or 1 and ties with others.

    Where a network gives out numbers like probabilities in the place of logits, so does the result: these may leave
    0..1, and are averaged as they are (PSLA `ensemble.py`).

    Args:
        board: of tagging (a sigmoid a class) or classification (softmax).
        modality: under which the result is scored.
        each: the networks' predictions.
        modalities: whose scores are taken of each.
    """
    common = sorted(set.intersection(*(set(map(str, predictions.clip_id)) for predictions in each)))
    aligned = [p.take(pd.Index(np.asarray(p.clip_id, dtype=str)).get_indexer(common)) for p in each]
    logits = [np.asarray(p.scores[m], np.float64) for p, m in zip(aligned, modalities, strict=True)]
    if any(p.scale == "probabilities" for p in aligned):
        probability = expit if board.task == "tagging" else partial(softmax, axis=1)
        given = [x if p.scale == "probabilities" else probability(x) for p, x in zip(aligned, logits, strict=True)]
        return Predictions(common, aligned[0].target, {modality: np.mean(given, axis=0)}, scale="probabilities")
    if board.task == "tagging":
        scores = _log_sum([log_expit(x) for x in logits]) - _log_sum([log_expit(-x) for x in logits])
    else:
        scores = _log_sum([log_softmax(x, axis=1) for x in logits]) - np.log(len(logits))
    return Predictions(common, aligned[0].target, {modality: scores})


def _log_sum(logarithms: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(logsumexp(logarithms, axis=0))
