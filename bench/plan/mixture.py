"""The datasets of a stage that trains on several: what it can train on, and how a step is made up of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import cast

from bench.config.folds import scored_split
from bench.config.mixtures import as_stages
from bench.config.schema import StageConfig
from bench.errors import UserError
from bench.plan.sources import Data
from datamodules.errors import DataError
from datamodules.joined import Joined
from datamodules.loading.mixture import Mixture, Part, quotas
from datamodules.manifest.build import Manifest
from datamodules.parts import PartSpec
from datamodules.streams.known import looked_at
from datamodules.types import Modality


def check_mixture(stage: StageConfig, where: str) -> None:
    """The stage can train on its parts, whatever clips they have.

    Args:
        stage: as composed.
        where: its key, `stages.<name>`.
    """
    mixture, board = stage.mixture, stage.objects.board
    if not mixture.parts:
        return
    if not stage.train:
        raise UserError(
            f"{where}.mixture: the stage trains on nothing of its own; set {where}.train, or take its parts out"
        )
    if stage.features or stage.labels or stage.extract or stage.ensemble:
        raise UserError(
            f"{where}.mixture: a stage of several datasets reads media; leave features, labels and extract out"
        )
    if mixture.steps < 0:
        raise UserError(
            f"{where}.mixture.steps={mixture.steps}: an epoch has 1 step or more; 0 = once through its own clips"
        )
    weights = {"weight": mixture.weight, **{f"parts.{name}.weight": p.weight for name, p in mixture.parts.items()}}
    for key, weight in weights.items():
        if not 0 < weight < math.inf:
            raise UserError(f"{where}.mixture.{key}={weight:g}: a weight is above 0, in relation to the other parts'")
    for name, part in mixture.parts.items():
        at = f"{where}.mixture.parts.{name}"
        if not name.isidentifier() or name == stage.dataset:
            raise UserError(
                f"{at}: a part is called by letters, digits and _, and not {stage.dataset}, as the stage's own is"
            )
        if not part.train:
            raise UserError(f"{at}.train: name the splits of {part.dataset} to train on")
        if board is not None and part.dataset == board.dataset and scored_split(stage, board) in part.train:
            raise UserError(
                f"{at}.train has {scored_split(stage, board)}, on which {board.name} scores the stage; take it out"
            )
        if part.batch_size and mixture.schedule == "shares":
            raise UserError(
                f"{at}.batch_size: with schedule=shares a batch has clips of all parts, by weight; leave it out"
            )


def reading_parts(stage: StageConfig) -> StageConfig:
    """The stage, of whose parts the inputs are those that are read."""
    parts = {
        name: replace(part, data=replace(part.data, inputs=looked_at(part.data.inputs, set(alone.modality))))
        for (name, part), alone in zip(stage.mixture.parts.items(), as_stages(stage).values(), strict=True)
    }
    return replace(stage, mixture=replace(stage.mixture, parts=parts)).carry(stage.objects)


def plan_mixture(name: str, stage: StageConfig, own: Manifest, data: Data) -> Mixture | None:
    """The datasets of a stage that trains on several, its own first.

    Args:
        name: of the stage.
        stage: as planned.
        own: the clips of its own dataset.
        data: where the others are found.

    Raises:
        UserError: for clips that do not go together, or too few of them.
    """
    if not stage.mixture.parts:
        return None
    where = f"stages.{name}.mixture"
    alone, clips = {stage.dataset: stage} | as_stages(stage), {stage.dataset: own}
    for part, each in as_stages(stage).items():
        try:
            clips[part] = data.train_manifest(each, each.data.inputs)
        except DataError as error:
            raise UserError(f"{where}.parts.{part}: {error}") from error
        if each.data.captions == "one":
            clips[part] = clips[part].once_each()
        if clips[part].steps:
            raise UserError(
                f"{where}.parts.{part}: of {each.dataset} each second is a row, in which steps are to be found; "
                f"it cannot be mixed with other datasets"
            )
    parts = tuple(_part(stage, part, alone[part], clips) for part in clips)
    mixture = Mixture(parts, stage.mixture.schedule, stage.batch_size, _steps(stage, parts))
    try:
        Joined([part.spec for part in parts], mixture.mixes)
    except DataError as error:
        raise UserError(f"{where}: {error}") from error
    for found in parts:
        if found.rows * found.unit < found.spec.batch_size:
            raise UserError(
                f"stage {name}: {found.spec.name} has {found.rows * found.unit} usable clips an epoch, fewer than its "
                f"{found.spec.batch_size} of one batch; set {where}.weight, or stages.{name}.batch_size"
            )
    return mixture


def _part(stage: StageConfig, name: str, alone: StageConfig, clips: Mapping[str, Manifest]) -> Part:
    manifest, own, mixes = clips[name], clips[stage.dataset], stage.mixture.schedule == "shares"
    is_own = name == stage.dataset
    weight = stage.mixture.weight if is_own else stage.mixture.parts[name].weight
    labelled = bool(manifest.classes) and (is_own or stage.mixture.parts[name].labels)
    same = not mixes or (manifest.classes, manifest.multilabel) == (own.classes, own.multilabel)
    spec = PartSpec(
        name=name,
        inputs=alone.data.inputs,
        modality=cast(Modality, alone.modality),
        num_classes=len(manifest.classes),
        multilabel=manifest.multilabel,
        label=("label" if same else f"label_{name}") if labelled else "",
        batch_size=round(_quota(stage, name)) if mixes else alone.batch_size,
        clips_per_video=manifest.clips_a_row(alone.data.narration),
    )
    return Part(spec, manifest, alone.data, weight)


def _quota(stage: StageConfig, name: str) -> Fraction:
    """Clips of a part in a batch by shares."""
    mixture = stage.mixture
    weights = {stage.dataset: mixture.weight} | {part: of.weight for part, of in mixture.parts.items()}
    return quotas(list(weights.values()), stage.batch_size)[list(weights).index(name)]


def _steps(stage: StageConfig, parts: tuple[Part, ...]) -> int:
    """Of an epoch."""
    if stage.mixture.steps:
        return stage.mixture.steps
    own = parts[0]
    clips = own.rows * own.unit
    if stage.mixture.schedule == "shares":
        return int(clips / _quota(stage, stage.dataset))
    by_weight = stage.mixture.schedule in ("weighted", "task_by_task")
    share = quotas([part.weight if by_weight else 1 for part in parts], 1)[0]
    return int(clips // own.spec.batch_size / share)


def rows_of_a_step(mixture: Mixture) -> list[Fraction]:
    """Of each part, where it has any."""
    if mixture.mixes:
        wanted = quotas([part.weight for part in mixture.parts], mixture.batch_size)
        return [quota / part.unit for quota, part in zip(wanted, mixture.parts, strict=True)]
    return [Fraction(part.spec.batch_size, part.unit) for part in mixture.parts]


def parts_of_a_step(name: str, mixture: Mixture, devices: int, device_batch: int) -> int:
    """In how many parts, of equal size and equally mixed, a device's share of a batch goes through it: as few as
    `trainer.device_batch` allows.

    Raises:
        UserError: the clips of a dataset in a batch do not divide over the devices.
    """
    rows = rows_of_a_step(mixture)
    clips = [own * part.unit / devices for own, part in zip(rows, mixture.parts, strict=True)]
    largest = sum(clips) if mixture.mixes else max(clips)
    fits = not device_batch or largest <= device_batch
    if devices == 1 and fits and all(part.unit == 1 for part in mixture.parts):
        return 1  # a share that is no whole number varies from batch to batch
    for part, own in zip(mixture.parts, rows, strict=True):
        if (own / devices).denominator != 1:
            videos = f" ({part.unit} of each video)" if part.unit > 1 else ""
            raise UserError(
                f"stage {name}: a batch has {float(own * part.unit):g} clips of {part.spec.name}{videos}, which do not "
                f"divide over trainer.devices x trainer.nodes = {devices}"
                + ("" if fits else f" and into parts of trainer.device_batch={device_batch}")
                + f"; change stages.{name}.batch_size={mixture.batch_size} or the weights in stages.{name}.mixture"
            )
    shares = [int(own / devices) for own in rows]
    possible = [n for n in range(1, min(shares) + 1) if all(own % n == 0 for own in shares)]
    return next((n for n in possible if not device_batch or largest / n <= device_batch), possible[-1])
