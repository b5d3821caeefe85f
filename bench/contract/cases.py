"""The stages that train, of a method's tiny preset, built without a plan or data, and made-up batches for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from bench import registry
from bench.config.compose import compose
from bench.config.layers import read
from bench.config.mixtures import as_stages
from bench.config.schema import BenchConfig, StageConfig
from bench.errors import UserError
from bench.plan import cost
from bench.tasks import task_of
from datamodules.joined import Joined
from datamodules.parts import PartSpec
from datamodules.streams.example import example_batch
from datamodules.streams.kind import apart, named
from datamodules.streams.known import looked_at, streams_of
from datamodules.types import FEATURE_KEYS, Batch, Inputs
from experiments.common.stage import FittedStage, Stage, StageSpec
from experiments.common.teacher import Taught

CLIPS, CLASSES = 8, 5
META = torch.device("meta")
CPU = torch.device("cpu")
STEPS_PER_EPOCH = 100


@dataclass(frozen=True)
class Case:
    """One stage of a method under one of its variants."""

    method: str
    stage: str
    variant: str = ""
    settings: tuple[str, ...] = ()
    """`key=value` of the configuration, e.g. what `CLIPS` clips are too few for."""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.method, self.variant, self.stage)))

    @property
    def config(self) -> BenchConfig:
        """Of the method, in preset tiny."""
        return composed(self.method, self.variant, settings=self.settings)

    def of(self, stage: str) -> Case:
        """Another stage of the same method."""
        return replace(self, stage=stage)


@cache
def composed(method: str, variant: str = "", preset: str = "tiny", settings: tuple[str, ...] = ()) -> BenchConfig:
    """The method's configuration. No data are looked for."""
    chosen = [f"variant={variant}"] if variant else []
    return compose(method, [f"preset={preset}", *chosen, *settings])


def variants(method: str) -> list[str]:
    """The method's variants, the first of which is none (`""`)."""
    return ["", *_variants(method)]


def _variants(method: str) -> dict[str, Any]:
    """Variant -> what it changes."""
    return read(registry.method_folder(method) / "config.yaml").get("variants") or {}


def _chooses(changes: Any, of_network: bool = False) -> bool:
    """Whether some of a variant's changes may make another network or objective, and not only another size: composing
    takes its time."""
    if not isinstance(changes, Mapping):
        return of_network and isinstance(changes, (str, bool))
    parts = ("model", "options", "module", "teacher", "include")
    return any(_chooses(value, of_network or key in parts) for key, value in changes.items())


@cache
def cases(method: str, *settings: str) -> list[Case]:
    """The method's stages that train, one of each kind: of those that differ in numbers or data alone, the first; and
    of those that a variant makes another network or objective, one that looks at all modalities.

    Args:
        settings: of `Case`.
    """
    found: dict[str, Case] = {}
    config = composed(method, settings=settings)
    for name, stage in config.stages.items():
        if _takes_steps(stage):
            found.setdefault(repr((_kind(config, stage), stage.modality)), Case(method, name, "", settings))
    known = {repr(_kind(case.config, case.config.stages[case.stage])) for case in found.values()}
    for variant, content in _variants(method).items():
        if not _chooses(content):
            continue
        try:
            config = composed(method, variant, settings=settings)
        except UserError:  # of stages that preset tiny leaves out
            continue
        for name, stage in sorted(config.stages.items(), key=lambda item: -len(item[1].modality)):
            if _takes_steps(stage) and (kind := repr(_kind(config, stage))) not in known:
                known.add(kind)
                found[f"{variant} {kind}"] = Case(method, name, variant, settings)
    return list(found.values())


def _takes_steps(stage: StageConfig) -> bool:
    kind = stage.objects.stage_class
    return bool(stage.train) and kind is not None and not issubclass(kind, FittedStage)


def _kind(config: BenchConfig, stage: StageConfig) -> tuple[Any, ...]:
    """What makes a stage another than a stage of the same method, but for numbers and what it looks at."""
    kind = stage.objects.stage_class
    model = kind.model_of(config.model, stage.options) if kind else None
    schedule = stage.mixture.schedule if stage.mixture.parts else ""
    return stage.module, bool(stage.teacher), schedule, _choices(model), _choices(stage.options)


def _choices(settings: Any) -> dict[str, str | bool]:
    """The settings that are no numbers."""
    return {key: value for key, value in vars(settings).items() if isinstance(value, (str, bool))}


def spec(config: BenchConfig, name: str, classes: int = CLASSES) -> StageSpec[Any, Any]:
    """What the harness would build a stage from, if its dataset had so many classes, each of a name of two words."""
    stage = config.stages[name]
    text = stage.data.inputs.text
    features = {
        modality: _features_shape(config.method, config.variant, config.preset, other)
        for modality, other in stage.features.items()
    }
    board = stage.objects.board
    return StageSpec(
        model=config.model,
        options=stage.options,
        inputs=looked_at(stage.data.inputs, set(stage.modality) - features.keys()),
        modality=stage.modality,  # type: ignore[arg-type]  # checked where a plan is made
        num_classes=classes,
        multilabel=stage.objects.source.multilabel,
        optim=stage.optim,
        batch_size=CLIPS,
        clips_per_video=2 if stage.data.narration.per_video > 1 else 1,
        steps_per_epoch=STEPS_PER_EPOCH,
        epochs=1,
        text=text,
        class_text=[[1, 2]] * classes if board and task_of(board).names_classes else [],
        features=features,
        parts=_parts(stage, classes),
        mixes_parts=bool(stage.mixture.parts) and stage.mixture.schedule == "shares",
    )


def _parts(stage: StageConfig, classes: int) -> list[PartSpec]:
    """The datasets of a mixture, all of as many classes; of the stage's own are the made-up batches."""
    each = {stage.dataset: stage} | as_stages(stage) if stage.mixture.parts else {}
    return [
        PartSpec(
            name=name,
            inputs=looked_at(alone.data.inputs, set(alone.modality)),
            modality=alone.modality,  # type: ignore[arg-type]  # checked where a plan is made
            num_classes=classes,
            multilabel=alone.objects.source.multilabel,
            label=_label(stage, name),
            batch_size=CLIPS,
        )
        for name, alone in each.items()
    ]


def _label(stage: StageConfig, name: str) -> str:
    """Key of a part's labels."""
    if name == stage.dataset:
        return "label"
    if not stage.mixture.parts[name].labels:
        return ""
    return f"label_{name}" if stage.mixture.schedule == "shares" else "label"


def stage_class(config: BenchConfig, name: str) -> type[Stage[Any, Any]]:
    """The class of a stage that is no ensemble."""
    found = config.stages[name].objects.stage_class
    assert found is not None, f"stage {name} is an ensemble"
    return found


@cache
def _features_shape(method: str, variant: str, preset: str, name: str) -> tuple[int, int]:
    """(moments, length of a vector) of what a stage extracts of a clip."""
    config = composed(method, variant, preset)
    return cost.features_shape(stage_class(config, name), spec(config, name))


def built(case: Case, device: torch.device = META) -> Stage[Any, Any]:
    """The stage in training, before its first step, with its teacher where it has one; it logs no curves."""
    config = case.config
    with torch.device(device):
        module = stage_class(config, case.stage)(spec(config, case.stage))
        if isinstance(module, Taught):
            teacher = config.stages[case.stage].teacher
            source = case.of(teacher or str(config.stages[case.stage].after))
            weights = built(source, device).state_dict()
            if teacher:
                module.load_teacher(spec(config, teacher), weights)
            else:
                module.load_parent(weights)
    at_step(module, 0)
    return module.to(device).train()


def at_step(module: Stage[Any, Any], step: int) -> None:
    """Lets the stage believe that so many steps of training are done."""
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=step,
        current_epoch=0,
        log_every_n_steps=10 * STEPS_PER_EPOCH,
        estimated_stepping_batches=10 * STEPS_PER_EPOCH,
    )


def built_after_a_step(case: Case) -> Stage[Any, Any]:
    """The stage on the meta device, with what it keeps from step to step as its first step left that."""
    first = built(case, CPU)
    first.training_step(made_up_batch(case), 0)
    module = built(case)
    module.on_load_checkpoint(_on_meta(state_of(first)))
    at_step(module, 1)
    return module


def state_of(module: Stage[Any, Any]) -> dict[str, Any]:
    """What a checkpoint holds of the stage beside its weights."""
    kept: dict[str, Any] = {}
    module.on_save_checkpoint(kept)
    return kept


def empty_batch(case: Case, device: torch.device = META) -> Batch:
    """Zeros, as the stage's inputs shape them."""
    return cost.fake_batch(spec(case.config, case.stage), CLIPS, device)


def made_up_batch(case: Case, part: int = 0) -> Batch:
    """Clips of noise and of random words, each with one label, on the CPU; the same at each call. The last one is
    shorter than the others, and the one before it has no feature file of its pictures. Of a mixture by shares each half
    has as many clips of each dataset; where a step is of one, they are of the one at the place `part`."""
    draw = torch.Generator().manual_seed(1)
    of = spec(case.config, case.stage)
    if of.parts:
        return _made_up_of_parts(of, draw, part)
    whole = _made_up(dict(empty_batch(case, CPU)), of.inputs, draw)
    for modality, shape in of.features.items():
        whole[FEATURE_KEYS[modality]] = torch.randn(CLIPS, *shape, generator=draw)
    return cast(Batch, whole)


def _made_up(zeros: dict[str, Any], inputs: Inputs, draw: torch.Generator) -> dict[str, Any]:
    """Noise and labels in the shape of a batch."""
    clips = len(zeros["label"])
    made = dict(zeros)
    for name, stream in streams_of(inputs).items():
        made |= named(apart(stream, stream.made_up(clips * math.prod(stream.copies), draw)), name)
    made["label"] = torch.eye(CLASSES)[torch.arange(clips) % CLASSES]
    return made


def parts_in_turn(case: Case) -> int:
    """How many datasets a stage's steps are of, each step of one."""
    of = spec(case.config, case.stage)
    return 1 if of.mixes_parts else max(1, len(of.parts))


def _made_up_of_parts(of: StageSpec[Any, Any], draw: torch.Generator, part: int) -> Batch:
    share = 2 * (CLIPS // 2 // len(of.parts)) if of.mixes_parts else 0
    clips = [share] * len(of.parts)
    clips[part] = CLIPS - share * (len(of.parts) - 1)
    each = {
        place: _made_up(example_batch(part.inputs, CLASSES, count, CPU), part.inputs, draw)
        for place, (part, count) in enumerate(zip(of.parts, clips, strict=True))
        if count
    }
    whole: dict[str, Any] = dict(Joined(of.parts, of.mixes_parts)(each))
    order = sorted(range(CLIPS), key=lambda clip: _half_of(clip, clips))
    for key, value in whole.items():
        if not isinstance(value, str):
            whole[key] = value[order] if isinstance(value, Tensor) else [value[clip] for clip in order]
    return cast(Batch, whole)


def _half_of(clip: int, clips: list[int]) -> int:
    """In which half of a batch a clip is to be, whose parts lie one after the other in it: 0 or 1."""
    for count in clips:
        if clip < count:
            return int(clip >= count // 2)
        clip -= count
    raise IndexError(clip)


def _on_meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its tensors, however deep, on the meta device."""
    moved: dict[str, Any] = {}
    for key, value in values.items():
        value = _on_meta(value) if isinstance(value, Mapping) else value
        moved[key] = value.to(META) if isinstance(value, Tensor) else value
    return moved
