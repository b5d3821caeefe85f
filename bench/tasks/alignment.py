"""Finding the steps of a video: a second for each, or a border between any two (DmZhukov/CrossTask, Mining YouTube).

Suffixes: T seconds, K steps to be found, C classes, S segments. The S segments of a video are written as S + 1 borders
in seconds, from 0 to T. Both searches are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from bench.tasks.metrics import Floats

Places = NDArray[np.intp]

BACKGROUND = -1
MEAN_LENGTH = 5.0
"""Seconds of a segment under the Poisson model: the 150 frames that hildekuehne/Weak_YouTube_dataset gives every class,
at 30 a second."""


def log_softmax(score_TK: ArrayLike) -> Floats:
    """Logits -> log probabilities over the last axis, float64."""
    score: Floats = np.asarray(score_TK, np.float64)
    score = score - score.max(-1, keepdims=True)
    return np.asarray(score - np.log(np.exp(score).sum(-1, keepdims=True)))


def place_steps(score_TK: ArrayLike) -> Places:
    """[K] one second for each step, each after the one before, with the largest sum of scores.

    The seconds between cost nothing, and no second holds two steps, as in DmZhukov/CrossTask `dp.pyx` with
    `exactly_one`. The earliest of equally good seconds is taken.

    Raises:
        ValueError: if there are fewer seconds than steps.
    """
    score_TK = np.asarray(score_TK, np.float64)
    seconds, steps = score_TK.shape
    if seconds < steps:
        raise ValueError(f"{steps} steps do not fit into {seconds} seconds")
    sum_KT = np.empty((steps, seconds))  # the best sum of the steps so far if this one takes this second
    before_T = np.zeros(seconds)
    for k in range(steps):
        sum_KT[k] = before_T + score_TK[:, k]
        before_T = np.r_[-np.inf, np.maximum.accumulate(sum_KT[k])[:-1]]
    place_K, end = np.empty(steps, np.intp), seconds
    for k in reversed(range(steps)):
        place_K[k] = end = sum_KT[k, :end].argmax()
    return place_K


def spread_steps(seconds: int, steps: int) -> Places:
    """[K] the middle second of each of `steps` equal parts: what can be placed without looking at the video."""
    return (2 * np.arange(steps) + 1) * seconds // (2 * steps)


def transcript(target_TC: ArrayLike) -> tuple[Places, Places]:
    """The segments of an annotation: runs of seconds with one label.

    A second with several classes has the label of the one that began first and has lasted since; of those that began
    together, the lowest.

    Args:
        target_TC: above 0 where the second has the class.

    Returns:
        (label_S, border): classes, or `BACKGROUND` for seconds without any; [S + 1] borders.
    """
    present_TC = np.asarray(target_TC) > 0
    seconds = len(present_TC)
    second_T1 = np.arange(seconds)[:, None]
    began_TC = np.maximum.accumulate(np.where(present_TC, 0, second_T1 + 1))
    label_T = np.where(present_TC.any(1), np.where(present_TC, began_TC, seconds).argmin(1), BACKGROUND)
    border = np.r_[0, np.flatnonzero(np.diff(label_T)) + 1, seconds]
    return label_T[border[:-1]], border


def align(score_TS: ArrayLike, mean_length: float = MEAN_LENGTH) -> Places:
    """[S + 1] the borders of the most likely segments (Viterbi), each of them at least a second long.

    The likelihood of a segment is the sum of its scores in its seconds, plus the log of the Poisson probability of its
    length. What is added to all scores of a second alike, as by a log-softmax, changes nothing.

    The decoder of hildekuehne/Weak_YouTube_dataset finds every border one sampling step too early, since the first
    frame of a segment is scored as the segment before, and counts the first frame twice. That is not repeated here.

    Args:
        score_TS: logits or log probabilities of the label of each segment.
        mean_length: of every segment, in seconds.

    Raises:
        ValueError: if there are fewer seconds than segments.
    """
    score_TS = np.asarray(score_TS, np.float64)
    seconds, segments = score_TS.shape
    if seconds < segments:
        raise ValueError(f"{segments} segments do not fit into {seconds} seconds")
    length = np.arange(1, seconds + 1)
    poisson = length * np.log(mean_length) - mean_length - np.log(length).cumsum()
    # Row `end`, column `start`: the length's log probability, -inf unless start < end.
    length_EE = sliding_window_view(np.r_[poisson[::-1], np.full(seconds + 1, -np.inf)], seconds + 1)[::-1]
    sum_ES = np.concatenate([np.zeros((1, segments)), score_TS.cumsum(0)])
    best_E = np.r_[0, np.full(seconds, -np.inf)]
    start_SE = np.empty((segments, seconds + 1), np.intp)
    for s in range(segments):
        whole_EE = length_EE + (best_E - sum_ES[:, s])
        start_SE[s] = whole_EE.argmax(1)
        best_E = np.take_along_axis(whole_EE, start_SE[s][:, None], 1)[:, 0] + sum_ES[:, s]
    border = np.full(segments + 1, seconds, np.intp)
    for s in reversed(range(segments)):
        border[s] = start_SE[s, border[s + 1]]
    return border


def spread_segments(seconds: int, segments: int) -> Places:
    """[S + 1] borders of segments of equal lengths."""
    return np.arange(segments + 1) * seconds // segments


def overlaps(true: Places, found: Places) -> tuple[Floats, Floats]:
    """(IoD_S, IoU_S): what segment s of `true` and segment s of `found` share, over the found one and over both."""
    shared_S = (np.minimum(true[1:], found[1:]) - np.maximum(true[:-1], found[:-1])).clip(0)
    true_S, found_S = np.diff(true), np.diff(found)
    return shared_S / found_S, shared_S / (true_S + found_S - shared_S)
