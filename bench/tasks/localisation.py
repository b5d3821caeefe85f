"""Temporal localisation: step recall, and overlap after alignment (docs/protocols.md, section 7).

A row is a second of a video. Recall: every step that the video may show is placed, in order, on a second of its own,
and is found if that second is annotated with it. IoD and IoU: the segments of the annotation against those that the
alignment finds when it is given their order, background included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.tasks.alignment import (
    BACKGROUND,
    Places,
    align,
    log_softmax,
    overlaps,
    place_steps,
    spread_segments,
    spread_steps,
    transcript,
)
from bench.tasks.base import EvaluationError, MetricInfo, Statistic, Task
from bench.tasks.metrics import Floats, interval, macro
from bench.tasks.predictions import Predictions
from datamodules.boards import Localisation


class _Video(NamedTuple):
    """A video of T seconds and the U distinct classes of its K steps."""

    score_TU: Floats
    target_TU: NDArray[np.bool_]
    step_K: Places
    """The steps in order, as columns of the two above."""

    @property
    def too_short(self) -> bool:
        """Whether there is not a second for every step."""
        return len(self.score_TU) < len(self.step_K)


class _Outcome(NamedTuple):
    """What is measured of a video, or [N] of each."""

    found: Floats
    annotated: Floats
    """Of the video's steps; one that is listed twice counts twice."""
    iod: Floats
    iou: Floats
    """Means over the segments that are not background."""


class LocalisationTask(Task[Localisation]):
    """What the official codes leave open, or do differently from each other.

    - `recall` is that of MCN (brian7685/Multimodal-Clustering-Network `eval_cross.py`): the share of a video's
      annotated steps that is found, averaged over videos. With `average` "task": over the videos of each task
      (those with the same steps), then over tasks. `recall_pooled` is that of DmZhukov/CrossTask: the steps of all
      videos, or of all videos of a task, are counted together.
    - With `normalise` "log_softmax", a second's scores of the listed steps become log probabilities before the
      steps are placed, as MCN does on Mining YouTube.
    - In a video with fewer seconds than steps nothing is found. A video without annotated steps is left out of every
      metric. `notes` counts both.
    - IoD and IoU are averaged over the segments of a video, then over videos. This is usual for alignment; how MCN
      averages is not published.
    - Background is no class, and MCN's score of it is not published: here its logit is the mean over a video of the
      logits of the classes that are to be found.

    Chance is what steps at even distances and segments of equal lengths get. The intervals are over videos.
    """

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "recall": MetricInfo("recall", percent=True),
        "recall_pooled": MetricInfo("pooled recall", percent=True),
        "IoD": MetricInfo("IoD", percent=True),
        "IoU": MetricInfo("IoU", percent=True),
    }
    rule = "Videos without annotated steps are left out; a remark counts them. Chance is what evenly spaced steps give."
    columns = ("group",)
    in_time = True
    names_classes = True

    @property
    def unit(self) -> str:
        return "videos"

    def hub_name(self, modality: str) -> str:
        return "temporal-action-localization"

    def groups(self, table: pd.DataFrame, clip_id: Sequence[str]) -> NDArray[np.str_]:
        """The video of each second."""
        group: NDArray[np.str_] = table["group"].to_numpy(str)[pd.Index(table["clip_id"]).get_indexer(clip_id)]
        return group

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over videos."""
        outcome = self._find(list(self._videos(modality, predictions)))
        return Statistic(np.unique(self._group(predictions)), _statistic(outcome, self._tasks(predictions)), interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What steps at even distances and segments of equal lengths get."""
        videos = list(self._videos(modality, predictions))

        def spread(video: _Video) -> Places:
            return spread_steps(len(video.score_TU), len(video.step_K))

        def split(video: _Video, label_S: Places) -> Places:
            return spread_segments(len(video.score_TU), len(label_S))

        found = _statistic(_measure(videos, spread, split), self._tasks(predictions))(np.ones((len(videos), 1)))
        return {name: float(value_1[0]) for name, value_1 in found.items()}

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        videos = list(self._videos(modality, predictions))
        return {
            "videos_shorter_than_steps": sum(video.too_short for video in videos),
            "videos_without_annotated_steps": sum(not video.target_TU.any() for video in videos),
        }

    def count(self, modality: str, predictions: Predictions) -> int:
        """The videos."""
        return len(np.unique(self._group(predictions)))

    def _find(self, videos: list[_Video]) -> _Outcome:
        """What the scores find."""
        normalise = log_softmax if self.options.normalise == "log_softmax" else np.asarray

        def place(video: _Video) -> Places:
            return place_steps(normalise(video.score_TU[:, video.step_K]))

        def segment(video: _Video, label_S: Places) -> Places:
            background_T1 = np.full((len(video.score_TU), 1), video.score_TU.mean())
            return align(np.concatenate([video.score_TU, background_T1], axis=1)[:, label_S])

        outcome = _measure(videos, place, segment)
        if not outcome.annotated.any():
            raise EvaluationError(
                f"{self.board.name}: none of {len(videos)} videos has an annotated step; see the targets"
            )
        return outcome

    def _videos(self, modality: str, predictions: Predictions) -> Iterator[_Video]:
        """The videos in the order of their names."""
        group_N = self._group(predictions)
        score_NC, target_NC = predictions.scores[modality], predictions.target
        names, video_N, seconds = np.unique(group_N, return_inverse=True, return_counts=True)
        rows = np.split(np.argsort(video_N, kind="stable"), seconds.cumsum()[:-1])
        for name, row_T in zip(names.tolist(), rows, strict=True):
            steps = np.asarray(predictions.steps.get(name, ()), dtype=np.intp)
            if not len(steps):
                raise EvaluationError(
                    f"{self.board.name}: no steps for video {name!r}; they say which classes to find in it"
                )
            if steps.min() < 0 or steps.max() >= target_NC.shape[1]:
                raise EvaluationError(
                    f"{self.board.name}: steps {steps.tolist()} of video {name!r} must be classes 0 to "
                    f"{target_NC.shape[1] - 1}"
                )
            class_U, step_K = np.unique(steps, return_inverse=True)
            present_TC = target_NC[row_T] > 0
            strange = np.setdiff1d(np.flatnonzero(present_TC.any(0)), class_U)
            if len(strange):
                raise EvaluationError(
                    f"{self.board.name}: video {name!r} is annotated with classes {strange.tolist()} that are not in "
                    f"its steps"
                )
            yield _Video(score_NC[row_T][:, class_U].astype(np.float64), present_TC[:, class_U], step_K)

    def _group(self, predictions: Predictions) -> NDArray[np.str_]:
        """[N] the video of each second."""
        if predictions.group is None:
            raise EvaluationError(f"{self.board.name}: no group; it must name the video of every second")
        return predictions.group

    def _tasks(self, predictions: Predictions) -> NDArray[np.bool_]:
        """[G, N] which videos belong to which task; all to the same one unless the board averages over tasks."""
        names = np.unique(self._group(predictions)).tolist()
        by_task = self.options.average == "task"
        task_N = [tuple(predictions.steps[name]) if by_task else () for name in names]
        return np.array([[task == other for other in task_N] for task in sorted(set(task_N))])


def _measure(
    videos: list[_Video], place: Callable[[_Video], Places], segment: Callable[[_Video, Places], Places]
) -> _Outcome:
    """What two searches find: a second for each step, and borders for segments whose labels are given."""
    outcomes = []
    for video in videos:
        annotated_K = np.asarray(video.target_TU.any(0))[video.step_K]
        found = 0 if video.too_short else video.target_TU[place(video), video.step_K].sum()
        label_S, border = transcript(video.target_TU)
        action_S = label_S != BACKGROUND
        iod = iou = 0.0
        if action_S.any():
            iod, iou = (overlap_S[action_S].mean() for overlap_S in overlaps(border, segment(video, label_S)))
        outcomes.append((found, annotated_K.sum(), iod, iou))
    return _Outcome(*np.array(outcomes, np.float64).T)


def _statistic(outcome: _Outcome, task_GN: NDArray[np.bool_]) -> Callable[[Floats], dict[str, Floats]]:
    """Weights [N, B] -> metric -> [B]; tasks without weight are left out."""
    known_N = outcome.annotated > 0

    def ratio(over_GN: Floats, under_GN: Floats | NDArray[np.bool_], weight_NB: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return macro((over_GN @ weight_NB / (under_GN @ weight_NB)).T)

    def statistic(weight_NB: Floats) -> dict[str, Floats]:
        share_N = outcome.found / np.maximum(outcome.annotated, 1)
        return {
            "recall": ratio(task_GN * share_N, task_GN * known_N, weight_NB),
            "recall_pooled": ratio(task_GN * outcome.found, task_GN * outcome.annotated, weight_NB),
            "IoD": ratio(outcome.iod[None], known_N[None], weight_NB),
            "IoU": ratio(outcome.iou[None], known_N[None], weight_NB),
        }

    return statistic
