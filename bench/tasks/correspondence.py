"""Audio-visual correspondence: the accuracy over pairs of which half belong together (docs/protocols.md, section 10).

Each clip's picture makes two pairs: with its own sound, and with that of a clip of another video, which is the same for
everybody (`which: fixed` of `data.inputs.rows`). So the halves are of one size, and both sounds lie at the same place
of their clips: nothing but what is heard can tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bench.tasks.base import EvaluationError, MetricInfo, Statistic, Task
from bench.tasks.metrics import Floats, interval
from bench.tasks.predictions import Predictions
from datamodules.boards import Correspondence

if TYPE_CHECKING:
    from torch import Tensor

OTHER = "other"
"""The rows of the clips whose sound does not belong to the picture."""


class CorrespondenceTask(Task[Correspondence]):
    """A pair is taken to belong together if its logit is above 0; at 0 it is half right."""

    metrics: ClassVar[dict[str, MetricInfo]] = {"accuracy": MetricInfo("accuracy", percent=True)}
    rule = "Each picture is asked with its own sound and with that of another video, the same one for everybody."
    outputs = ("correspondence",)

    def hub_name(self, modality: str) -> str:
        return "zero-shot-classification"

    def target(self, batch: Mapping[str, Any]) -> Tensor:
        """[B, 2] the own sound belongs to the picture, the other one does not.

        Raises:
            EvaluationError: there is no other sound.
        """
        there = batch.get(f"{OTHER}_there")
        if there is None:
            raise EvaluationError(
                f"{self.board.name}: nothing stands beside the clips; set data.inputs.rows.{OTHER}={{which: fixed}}"
            )
        if not there.all():
            clip_id = batch["clip_id"][int(there.flatten().logical_not().nonzero()[0])]
            raise EvaluationError(f"{self.board.name}: there is no clip of another video for {clip_id}")
        label_BC: Tensor = batch["label"]
        return label_BC.new_tensor([1.0, 0.0]).repeat(len(there), 1)

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over clips, of two pairs each."""
        right_N2 = np.sign(predictions.scores[modality]) * (2 * (predictions.target > 0) - 1)
        right_N = ((1 + right_N2) / 2).mean(1)

        def measure(weight_NB: Floats) -> dict[str, Floats]:
            return {"accuracy": right_N @ weight_NB / weight_NB.sum(0, dtype=np.float64)}

        return Statistic(np.asarray(predictions.clip_id), measure, interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """Whoever does not look says the same of both pairs, or either."""
        return {"accuracy": 0.5}
