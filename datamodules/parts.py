"""The types that pass between data, methods and the harness where a stage trains on several datasets. Nothing here
imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from datamodules.types import Inputs, Modality, RawBatch

Schedule = Literal["shares", "weighted", "uniform", "alternating", "task_by_task"]
"""How steps go over the datasets of a mixture. `shares`: a batch has clips of each, by their weights. Else a batch is
of one of them: `weighted`: steps by weights, exactly, in a random order; `uniform`: each as often, in a random order;
`alternating`: in turn; `task_by_task`: all steps of the first, then all of the second, ..., by weights."""


@dataclass
class PartSpec:
    """What a method sees of one of the datasets of a mixture."""

    name: str
    inputs: Inputs
    modality: Modality
    num_classes: int
    multilabel: bool
    label: str
    """Key of its labels in a batch; empty: they are not read, or there are none."""
    batch_size: int
    """Clips of it in a step over all devices; on average, where that is no whole number."""
    clips_per_video: int = 1


class RawParts(TypedDict):
    """What the workers return of a mixture of datasets."""

    parts: dict[int, RawBatch]
    """By their places in `StageSpec.parts`."""
