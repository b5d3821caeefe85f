"""What a network costs before it has run: parameters, and FLOPs of one clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from datamodules.joined import joined_example
from datamodules.streams.example import example_batch
from datamodules.types import FEATURE_KEYS, Batch, Modality, Outputs
from experiments.common.stage import Stage, StageSpec


class UnknownModality(ValueError):
    """A stage's class does not know its modality."""


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
    """The stage's network without memory for its weights.

    Raises:
        UnknownModality: the class has no network for the stage's modality.
    """
    with torch.device("meta"), knowing_modality(stage_class, spec):
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


def _predict_on_meta(stage_class: type[Stage], spec: StageSpec) -> Outputs:
    return predict_on_meta(build_on_meta(stage_class, spec), spec)


@torch.no_grad()
def predict_on_meta(module: Stage, spec: StageSpec) -> Outputs:
    """What a network on the meta device gives out for one clip.

    Raises:
        UnknownModality: the class has no outputs for the stage's modality.
    """
    with knowing_modality(type(module), spec):
        return module.eval().predict_step(fake_batch(spec, 1, "meta"), 0)


@contextmanager
def knowing_modality(stage_class: type[Stage], spec: StageSpec) -> Iterator[None]:
    """A modality that a method's code looks up in vain is an error that names it."""
    try:
        yield
    except KeyError as error:
        if not error.args or error.args[0] not in get_args(Modality):
            raise
        raise UnknownModality(f"{stage_class.__name__} cannot do modality={spec.modality}") from error
