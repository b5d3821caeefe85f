"""What a network costs before it has run: parameters, and FLOPs of one clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from datamodules.mixed import joined_example
from datamodules.streams.example import example_batch
from datamodules.types import FEATURE_KEYS, Batch, Outputs
from experiments.common.stage import Stage, StageSpec


def parameters(module: torch.nn.Module) -> int:
    """Trainable and fixed parameters that the stage's result consists of."""
    return sum(p.numel() for p in module.parameters())


def flops_of(run: Callable[[], object]) -> int:
    """FLOPs (two a multiply-add) of all products and convolutions in `run`, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def fake_batch(spec: StageSpec, clips: int, device: torch.device | str) -> Batch:
    """A batch of zeros as the stage's inputs shape it."""
    if spec.parts:
        return joined_example(spec.parts, spec.mixes_parts, clips, device)
    batch: dict[str, Any] = example_batch(spec.inputs, spec.num_classes, clips, device)
    for modality, shape in spec.features.items():
        batch[FEATURE_KEYS[modality]] = torch.zeros(clips, *shape, device=device)
    return cast(Batch, batch)


def build_on_meta(stage_class: type[Stage], spec: StageSpec) -> Stage:
    """The stage's network without memory for its weights."""
    with torch.device("meta"):
        return stage_class(spec).to("meta")


def inference_flops(stage_class: type[Stage], spec: StageSpec) -> int:
    """FLOPs (two a multiply-add) to measure one clip; 0 for a stage that measures nothing."""
    try:
        return flops_of(lambda: _predict_on_meta(stage_class, spec))
    except NotImplementedError:
        return 0


def features_shape(stage_class: type[Stage], spec: StageSpec) -> tuple[int, int]:
    """(moments, length of a vector) of what the stage extracts of a clip."""
    _, moments, length = _predict_on_meta(stage_class, spec)["features"].shape
    return moments, length


@torch.no_grad()
def _predict_on_meta(stage_class: type[Stage], spec: StageSpec) -> Outputs:
    return build_on_meta(stage_class, spec).eval().predict_step(fake_batch(spec, 1, "meta"), 0)
