"""Distillation: a student learns from a teacher's answers. Shape suffixes: B clips, C classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(student_BC: Tensor, teacher_BC: Tensor, multilabel: bool) -> Tensor:
    """KL(teacher || student) of the classes' probabilities, from logits, in float32.

    Averaged over clips; with several labels a clip, each class is a distribution of its own (Bernoulli) and the mean is
    over clips and classes, as in binary cross-entropy, whose gradient it has.
    """
    student_BC, teacher_BC = student_BC.float(), teacher_BC.float()
    if not multilabel:
        teacher_log_BC = teacher_BC.log_softmax(dim=1)
        return F.kl_div(student_BC.log_softmax(dim=1), teacher_log_BC, log_target=True, reduction="batchmean")
    student_2BC, teacher_2BC = (torch.stack([F.logsigmoid(z), F.logsigmoid(-z)]) for z in (student_BC, teacher_BC))
    return F.kl_div(student_2BC, teacher_2BC, log_target=True, reduction="sum") / student_BC.numel()
