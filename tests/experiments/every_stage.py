"""Every stage that trains, of every method: its tiny preset, built without memory or data, and a batch for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from bench import registry
from bench.config.compose import compose
from bench.config.schema import StageConfig
from bench.plan import cost
from datamodules.types import Batch
from experiments.common.stage import Stage, StageSpec
from experiments.common.teacher import Taught

CLIPS, CLASSES = 8, 5
META = torch.device("meta")


@dataclass(frozen=True)
class Case:
    """One stage of a method."""

    method: str
    stage: str

    def __str__(self) -> str:
        return f"{self.method}-{self.stage}"


@cache
def config(method: str):
    return compose(method, ["preset=tiny"])


@cache
def cases() -> list[Case]:
    """The stages that train, of those that differ in numbers alone the first."""
    found: dict[str, Case] = {}
    for method in registry.methods():
        for name, stage in config(method).stages.items():
            if stage.train:
                kinds = {key: value for key, value in vars(stage.options).items() if isinstance(value, (str, bool))}
                alike = (method, stage.module, stage.modality, kinds, bool(stage.teacher))
                found.setdefault(repr(alike), Case(method, name))
    return list(found.values())


def every_stage(function):
    """Runs a test once for every stage that trains, as its argument `case`."""
    return pytest.mark.parametrize("case", cases(), ids=str)(function)


def spec(method: str, name: str) -> StageSpec:
    """What the harness would build the stage from, of made-up data: 8 clips a step, 5 classes."""
    whole = config(method)
    stage: StageConfig = whole.stages[name]
    text = stage.data.inputs.text
    features = {m: _features_shape(method, other) for m, other in stage.features.items()}
    inputs = replace(stage.data.inputs)
    if "a" not in stage.modality or "a" in features:
        inputs.audio = None
    if "v" not in stage.modality or "v" in features:
        inputs.video = inputs.features = None
    if "t" not in stage.modality:
        inputs.text = None
    return StageSpec(
        model=whole.model,
        options=stage.options,
        inputs=inputs,
        modality=stage.modality,
        num_classes=CLASSES,
        multilabel=registry.dataset(stage.dataset).multilabel,
        optim=stage.optim,
        batch_size=CLIPS,
        clips_per_video=2 if stage.data.narration.per_video > 1 else 1,
        steps_per_epoch=100,
        epochs=1,
        text=text,
        features=features,
    )


def _features_shape(method: str, name: str) -> tuple[int, int]:
    return cost.features_shape(config(method).stages[name].objects.stage_class, spec(method, name))


def built(case: Case, device: torch.device = META) -> Stage:
    """The stage in training, with its teacher where it has one, in the middle of an epoch."""
    whole = config(case.method)
    with torch.device(device):
        module = whole.stages[case.stage].objects.stage_class(spec(case.method, case.stage))
        if isinstance(module, Taught):
            stage = whole.stages[case.stage]
            source = stage.teacher or stage.after
            weights = built(Case(case.method, source), device).state_dict()
            if stage.teacher:
                module.load_teacher(spec(case.method, source), weights)
            else:
                module.load_parent(weights)
    module.trainer = SimpleNamespace(global_step=1, log_every_n_steps=10, estimated_stepping_batches=100)
    if hasattr(module, "joint"):  # MCN's clusters, as an earlier step left them
        module.joint.centroid_KD = torch.randn(module.spec.options.clusters, module.spec.model.dim, device=device)
    return module.to(device).train()


def batch(case: Case, device: torch.device = META) -> Batch:
    """Zeros, as the stage's inputs shape them."""
    return cost.fake_batch(spec(case.method, case.stage), CLIPS, device)


def made_up_batch(case: Case) -> Batch:
    """Clips of noise and of random words, each with one label, on the CPU; the same at each call. The last one is
    shorter than the others, and the one before it has no feature file of its pictures."""
    whole, draw = batch(case, torch.device("cpu")), torch.Generator().manual_seed(1)
    for name in ("audio", "video", "video_feat", "audio_feat"):
        if name in whole:
            whole[name] = torch.randn(whole[name].shape, generator=draw)
    for name in ("audio", "text", "video_feat"):
        if f"{name}_length" in whole:
            moments = whole[name].shape[2 if name == "audio" else 1]
            whole[f"{name}_length"] = torch.tensor([moments] * (CLIPS - 1) + [moments // 2])
    if "video_feat_length" in whole:
        whole["video_feat_length"][-2] = 0
    if "text" in whole:
        whole["text"] = torch.randint(1, 50, whole["text"].shape, generator=draw)
    whole["label"] = torch.eye(CLASSES)[torch.arange(CLIPS) % CLASSES]
    return whole
