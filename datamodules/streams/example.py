"""A batch of zeros in the shape of what a method sees of a dataset."""

from __future__ import annotations

import math
from typing import Any

import torch

from datamodules.streams.kind import apart, named
from datamodules.streams.known import streams_of
from datamodules.types import Inputs


def example_batch(inputs: Inputs, classes: int, clips: int, device: torch.device | str) -> dict[str, Any]:
    """Clips of zeros as the inputs shape them, of a dataset of so many classes."""
    batch: dict[str, Any] = {
        "clip_id": [str(i) for i in range(clips)],
        "key": torch.arange(clips, device=device),
        "label": torch.zeros(clips, classes, device=device),
    }
    for row, config in inputs.rows.items():
        several = (clips, config.count) if config.count > 1 else (clips,)
        batch |= {
            f"{row}_id": batch["clip_id"],
            f"{row}_key": torch.zeros(*several, dtype=torch.int64, device=device),
            f"{row}_label": torch.zeros(*several, classes, device=device),
            f"{row}_own": torch.zeros(*several, dtype=torch.bool, device=device),
            f"{row}_there": torch.ones(*several, dtype=torch.bool, device=device),
        }
    for name, stream in streams_of(inputs).items():
        batch |= named(apart(stream, stream.example(clips * math.prod(stream.copies), device)), name)
    return batch
