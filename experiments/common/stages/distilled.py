"""The base of classifiers that learn from the labels and from the answers of a frozen teacher."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from datamodules.types import Batch
from experiments.common.losses.distillation import distillation_loss
from experiments.common.stage import Model, StageSpec
from experiments.common.stages.classifier import INPUT, Classifier, Smoothed
from experiments.common.teacher import Taught


class Distilled(Smoothed, Protocol):
    """Options of a student."""

    ground_truth: float
    """Weight of the labels, lambda; the teacher's is the rest."""
    temperature: float
    """tau, by which the teacher's logits are divided, and the student's are not."""


DistilledOptions = TypeVar("DistilledOptions", bound=Distilled)


class DistilledClassifier(Taught, Classifier[Model, DistilledOptions]):
    """Subclasses write `load_teacher`."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """lambda * L_g(Z_s, y) + (1 - lambda) * L_d(Z_s, Z_t / tau), both from one augmented batch."""
        options = self.spec.options
        student_BC = self.logits(batch)
        with torch.no_grad():
            teacher_BC = self.teacher(batch[INPUT[self.spec.modality]])
        ground_truth = self.label_loss(student_BC, batch["label"])
        distillation = distillation_loss(student_BC, teacher_BC / options.temperature, self.spec.multilabel)
        loss = options.ground_truth * ground_truth + (1 - options.ground_truth) * distillation
        return {"loss": loss, "ground_truth": ground_truth, "distillation": distillation}

    def check_teacher(self, teacher: StageSpec[Any, Any]) -> None:
        """For `load_teacher`.

        Raises:
            ValueError: for a teacher that saw other inputs or learnt other classes.
        """
        if teacher.inputs.audio != self.spec.inputs.audio or teacher.num_classes != self.spec.num_classes:
            raise ValueError(
                f"the teacher was trained on {teacher.inputs.audio} and {teacher.num_classes} classes, "
                f"the student is on {self.spec.inputs.audio} and {self.spec.num_classes}"
            )
