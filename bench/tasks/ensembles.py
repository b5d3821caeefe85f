"""Several networks' predictions as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax, logsumexp

from bench.tasks import Predictions
from datamodules.types import Board


def mean_probability(
    board: Board, modality: str, each: Sequence[Predictions], modalities: Sequence[str]
) -> Predictions:
    """The mean of several networks' probabilities, on the clips that all of them have, as logits again.

    It is summed as logarithms, so that no answer, however sure, is rounded to 0 or 1 and ties with others.

    Args:
        board: of tagging (a sigmoid a class) or classification (softmax).
        modality: under which the result is scored.
        each: the networks' predictions.
        modalities: whose scores are taken of each.
    """
    common = sorted(set.intersection(*(set(map(str, predictions.clip_id)) for predictions in each)))
    aligned = [p.take(pd.Index(np.asarray(p.clip_id, dtype=str)).get_indexer(common)) for p in each]
    logits = [np.asarray(p.scores[m], np.float64) for p, m in zip(aligned, modalities, strict=True)]
    if board.task == "tagging":
        scores = _log_sum([log_expit(x) for x in logits]) - _log_sum([log_expit(-x) for x in logits])
    else:
        scores = _log_sum([log_softmax(x, axis=1) for x in logits]) - np.log(len(logits))
    return Predictions(common, aligned[0].target, {modality: scores})


def _log_sum(logarithms: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(logsumexp(logarithms, axis=0))
