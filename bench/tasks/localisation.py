"""Temporal localisation: step recall, and overlap after alignment (CrossTask, Mining YouTube; PROTOCOLS.md section 7).

A row is a second of a video. Recall places each step that the video may show, in order, on one second; it is found if
that second is annotated with it (`place_steps`). IoD and IoU compare the segments of the annotation with those that
`align` finds when it is told their order, background included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.localisation import align, log_softmax, overlaps, place_steps, spread_segments, spread_steps, transcript
from bench.metrics import Floats, bootstrap, macro
from bench.tasks import Evaluation, EvaluationError, Predictions, as_metrics
from datamodules.types import Board


class _Video(NamedTuple):
    """A video and the U distinct classes that are to be found in it."""

    score_TU: Floats
    target_TU: NDArray[np.bool_]
    step_K: NDArray[np.intp]
    """The steps in order, as columns of the two above."""

    @property
    def solvable(self) -> bool:
        """Whether every step can have a second of its own."""
        return len(self.step_K) <= len(self.score_TU)

    @property
    def annotated(self) -> int:
        """Steps that the video shows; a step that is listed twice counts twice."""
        return int(self.target_TU.any(0)[self.step_K].sum())


class _Outcome(NamedTuple):
    """What is measured of a video; columns of these are measured together."""

    annotated: ArrayLike
    found: ArrayLike
    iod: ArrayLike
    iou: ArrayLike


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """The official recall where it is known; where it is not, or not unique:

    - `recall` is MCN's (brian7685/Multimodal-Clustering-Network `eval_cross.py`): the share of a video's annotated
      steps, averaged over videos. With `board.average` "task" it is averaged over the videos of a task (those with the
      same steps), then over tasks. `recall_pooled` is DmZhukov/CrossTask's: the steps of all videos, or of those of a
      task, are counted together.
    - With `board.normalise` "log_softmax", a second's scores of the listed steps are made log probabilities before
      the steps are placed: MCN does so on Mining YouTube.
    - A video with fewer seconds than steps: nothing is found in it. A video without annotations is left out of all
      metrics. `notes` counts both.
    - IoD and IoU are averaged over the segments of a video that are not background, then over videos, as is usual for
      alignment; MCN published neither code nor a description of this.
    - Background has no scores: its logit is the mean of the video's logits of the classes that are to be found.

    Chance is what steps at even distances and segments of equal lengths get. Intervals are over videos.
    """
    videos = list(_videos(board, predictions, modality))
    if not any(video.annotated for video in videos):
        raise EvaluationError(f"{board.name}: none of the {len(videos)} videos has an annotated step")
    task_GN = _tasks(board, predictions)
    normalise = log_softmax if getattr(board, "normalise", "") == "log_softmax" else np.asarray
    measured = [_measure(video, place_steps(normalise(video.score_TU[:, video.step_K])), _align(video)) for video in videos]
    uniform = [_measure(video, None, None) for video in videos]
    return None
