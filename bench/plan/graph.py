"""A method's stages as a graph. Each stage's identity is the hash of all that determines its result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from bench.config.folds import base_name, scored_split
from bench.config.parts import parts_of_a_batch
from bench.config.schema import BenchConfig, StageConfig, ValidationConfig
from bench.errors import UserError, as_user_error, unknown
from bench.plan import cost, identity
from bench.plan.chosen_by import require_unchosen, require_unseen
from bench.plan.combinations import check_combinations
from bench.plan.labels import columns_of, with_labels
from bench.plan.layout import DONE, FEATURES, LABELS, RECORD, WEIGHTS, is_cut_off
from bench.plan.measured import measurable, protocol_of, searched_clips
from bench.plan.mixture import parts_of_a_step, plan_mixture, reading_parts
from bench.plan.relations import uses
from bench.plan.sources import Data
from bench.plan.wanted import reading, wanted_inputs
from bench.tasks import task_of
from datamodules.boards import Board
from datamodules.loading.mixture import Mixture
from datamodules.manifest.build import Manifest
from datamodules.manifest.exclusions import explain_exclusions
from datamodules.source import DataError
from datamodules.types import Modality
from experiments.common.stage import Stage, StageSpec


@dataclass
class PlannedStage:
    """A stage with its data found and its place on the disk known."""

    name: str
    config: StageConfig
    stage_class: type[Stage] | None
    """None: an ensemble."""
    train: Manifest | None
    """None: the stage does not train."""
    mixture: Mixture | None
    """The datasets that it trains on, where they are several."""
    scored: Manifest | None
    """The clips of the board's split; None: the stage is not measured."""
    searched: Manifest | None
    """The training clips that those are compared with, where the board's task searches them."""
    validated: Manifest | None
    """The clips that are measured while the stage trains; None: nothing is validated."""
    extracted: Manifest | None
    """The clips whose features are written; None: the stage extracts nothing."""
    board: Board | None
    parent: PlannedStage | None
    teacher: PlannedStage | None
    features: dict[str, PlannedStage]
    """Modality -> the stage whose features are read."""
    labels: dict[str, PlannedStage]
    """Stream -> the stage whose pseudo-labels it reads."""
    labelled: dict[str, int]
    """Column -> how many classes there may be, of the labels that it gives the clips whose features it extracts."""
    labelled_clips: dict[str, Manifest]
    """Split -> its clips, where it gives labels."""
    members: tuple[PlannedStage, ...]
    """Of an ensemble."""
    epochs_of: PlannedStage | None
    """The stage whose best epoch is this one's last."""
    start: str | None
    """Without a parent: the path of a checkpoint or of a folder of them, `imagenet`, or None for fresh weights."""
    kept_epochs: frozenset[int]
    """Epochs (the first is 1) at whose end the weights are kept for the stages that average them."""
    parts: int
    """In which a device's share of a batch goes through it."""
    identity: str
    """Hash of all that determines the stage's result."""
    drawn: str
    """Hash from which its random numbers are drawn: the identity that it has, or would have, without validation, which
    the training does not notice."""
    recipe: str
    """The same without the seed: equal for the stages that repeat one experiment."""
    folder: Path
    spec: StageSpec = field(repr=False)

    @property
    def base_name(self) -> str:
        """Its name in the configuration, which the folds of a cross-validation share."""
        return base_name(self.name, self.config.fold)

    @property
    def views(self) -> int:
        """Windows of each scored clip."""
        return self.config.data.views or (self.board.views if self.board else 1)

    @property
    def crops(self) -> int:
        """Squares of the pictures of each of these."""
        return self.config.data.crops or (self.board.crops if self.board else 0) or 1

    @property
    def scored_split(self) -> str:
        assert self.board is not None
        return scored_split(self.config, self.board)

    @property
    def protocol(self) -> dict[str, Any]:
        """How it is measured: the board's protocol, but for what the configuration changes of it."""
        assert self.board is not None
        return protocol_of(self.board, self.views, self.crops)

    @property
    def done(self) -> bool:
        return (self.folder / DONE).is_file() and (not self.labelled or (self.folder / LABELS).is_file())

    @property
    def outdated(self) -> bool:
        """Whether it is done, but measured by another version of its board's protocol."""
        if self.board is None or not self.done:
            return False
        try:
            protocol = json.loads((self.folder / RECORD).read_text())["protocol"]
        except FileNotFoundError:
            return False
        return protocol.get("version", 1) != self.board.version

    @property
    def state(self) -> str:
        """`done`, `to be measured again`, `cut off` (it goes on where it was) or `new`."""
        if self.done:
            return "to be measured again" if self.outdated else "done"
        return "cut off" if is_cut_off(self.folder) or (self.folder / WEIGHTS).is_file() else "new"

    @property
    def used(self) -> list[PlannedStage]:
        """The stages it uses directly."""
        read = [*self.features.values(), *self.labels.values()]
        parents = [self.parent, self.teacher, self.epochs_of, *read, *self.members]
        return [stage for stage in parents if stage is not None]

    @property
    def extracted_in(self) -> dict[str, Path]:
        """Modality -> the folder of the features that it reads instead of media."""
        return {modality: other.folder / FEATURES for modality, other in self.features.items()}

    @property
    def labelled_in(self) -> dict[str, Path]:
        """Stream -> the file of the pseudo-labels that it reads."""
        return {stream: other.folder / LABELS for stream, other in self.labels.items()}

    @property
    def ancestors(self) -> list[PlannedStage]:
        """The stages it builds on, each once and after those it builds on itself."""
        found: dict[str, PlannedStage] = {}
        for stage in self.used:
            found |= {each.name: each for each in (*stage.ancestors, stage)}
        return list(found.values())

    @property
    def is_sample(self) -> bool:
        """Whether what it is measured on is made-up sample data."""
        return self.scored is not None and self.scored.sample

    @property
    def learns_from_sample(self) -> bool:
        """Whether it, or a stage that it builds on, trains on made-up sample data."""
        chain = (*self.ancestors, self)
        parts = [part.manifest for each in chain if each.mixture is not None for part in each.mixture.parts]
        return any(train.sample for train in (*(each.train for each in chain), *parts) if train is not None)

    @property
    def steps(self) -> int:
        return self.spec.epochs * self.spec.steps_per_epoch if self.train is not None else 0

    @property
    def parameters(self) -> int:
        """Of the network, or of all networks of an ensemble."""
        if self.stage_class is None:
            return sum(member.parameters for member in self.members)
        with as_user_error(f"stage {self.name}"):
            one = cost.parameters(cost.build_on_meta(self.stage_class, self.spec))
        return one * max(1, len(identity.checkpoints(self.start)))

    @property
    def flops(self) -> int:
        """To measure one clip from what the stage reads; 0 if it measures nothing."""
        if self.stage_class is None:
            return sum(member.flops for member in self.members)
        networks = len(epochs_between(self.config.average_outputs)) + len(identity.checkpoints(self.start))
        with as_user_error(f"stage {self.name}"):
            return cost.inference_flops(self.stage_class, self.spec) * max(1, networks)


def epochs_between(span: list[int]) -> range:
    """[first, last] -> the epochs."""
    return range(span[0], span[1] + 1) if span else range(0)


@dataclass
class Plan:
    """The stages to run, each after the one it starts from."""

    config: BenchConfig
    stages: list[PlannedStage]


def make_plan(config: BenchConfig) -> Plan:
    """Resolves the stages of a configuration: their order, their data, their identities.

    Raises:
        UserError: for stages that do not fit together or data that is not there.
    """
    names = _selected(config)
    check_combinations(config, names)
    data = Data(config)
    planned: dict[str, PlannedStage] = {}
    for name in names:
        try:
            planned[name] = _plan_stage(config, name, data, planned)
        except DataError as error:
            raise UserError(f"stage {name}: {error}") from error
    return Plan(config, list(planned.values()))


def _selected(config: BenchConfig) -> list[str]:
    """The wanted stages and what they use, each after what it uses."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name not in config.stages:
            raise unknown(f"stage (stages.{path[-1]})" if path else "stage", name, config.stages)
        if name in path:
            raise UserError(f"the stages use each other in a circle: {' -> '.join((*path, name))}")
        if name not in order:
            for other in uses(config.stages[name]):
                visit(other, (*path, name))
            order.append(name)

    for name in config.stage or [name for name, stage in config.stages.items() if not stage.on_request]:
        visit(name, ())
    return order


def _plan_stage(config: BenchConfig, name: str, data: Data, planned: Mapping[str, PlannedStage]) -> PlannedStage:
    stage = config.stages[name]
    text = stage.data.inputs.text
    features = {modality: planned[other] for modality, other in stage.features.items()}
    labels = {stream: planned[other] for stream, other in stage.labels.items()}
    theirs = {other.name: other.extracted for other in labels.values() if other.extracted is not None}
    stage = reading_parts(reading(stage, features.keys()))
    wanted = wanted_inputs(stage.data.inputs, {modality: other.spec.inputs for modality, other in features.items()})
    board, own_class = stage.objects.board, stage.objects.stage_class
    train = with_labels(data.train_manifest(stage, wanted), theirs) if stage.train else None
    if train is not None and stage.data.captions == "one":
        train = train.once_each()
    mixture = plan_mixture(name, stage, train, data) if train else None

    def clips_of(*splits: str) -> Manifest:
        return with_labels(data.manifest(stage, splits, wanted), theirs)

    extracted = clips_of(*stage.extract) if stage.extract else None
    scored = clips_of(scored_split(stage, board)) if board else None
    validated = clips_of(stage.validation.split) if stage.validation.split else None
    labelled = columns_of(config, name)
    if board and scored:
        scored = measurable(name, stage, board, scored, board.name)
    searched = searched_clips(name, stage, board, clips_of)
    if validated:
        validated = measurable(name, stage, board, validated, f"{stage.dataset} {stage.validation.split}")
        require_unseen(name, stage, validated, train)
        for part in mixture.parts if mixture else ():
            own = stage.mixture.parts.get(part.spec.name)
            if own is not None and own.dataset == stage.dataset:
                require_unseen(name, stage, validated, part.manifest)
    any_manifest = train or extracted or scored
    assert any_manifest is not None
    spec = StageSpec(
        model=config.model,
        options=stage.options,
        inputs=stage.data.inputs,
        modality=cast(Modality, stage.modality),  # `combinations.py` has looked at it
        num_classes=len(any_manifest.classes),
        multilabel=any_manifest.multilabel,
        optim=stage.optim,
        batch_size=stage.batch_size,
        clips_per_video=train.clips_a_row(stage.data.narration) if train else 1,
        steps_per_epoch=mixture.steps if mixture else _steps_per_epoch(stage, train) if train else 0,
        epochs=stage.epochs,
        seed=identity.data_seed(config.seed, stage.repeat),
        text=text,
        class_text=data.class_text(stage, text) if board and task_of(board).names_classes else [],
        features={modality: _features_shape(other) for modality, other in features.items()},
        parts=[part.spec for part in mixture.parts] if mixture else [],
        mixes_parts=mixture is not None and mixture.mixes,
    )
    if train is not None and spec.steps_per_epoch == 0:
        reasons = explain_exclusions(train.excluded, train.examples)
        raise UserError(
            f"stage {name}: {'+'.join(stage.train)} has {len(train)} usable clips"
            + (f" ({reasons})" if reasons else "")
            + f", fewer than one batch of {stage.batch_size}; set stages.{name}.batch_size"
        )
    parent = planned[stage.after] if stage.after else None
    teacher = planned[stage.teacher] if stage.teacher else None
    epochs_of = planned[stage.epochs_of] if stage.epochs_of else None
    members = tuple(planned[member] for member in stage.ensemble)
    roles = {"teacher": teacher} if teacher else {}
    roles |= {"epochs": epochs_of} if epochs_of else {}
    roles |= {f"features {modality}": other for modality, other in features.items()}
    roles |= {f"labels {stream}": other for stream, other in labels.items()}
    roles |= {f"member {place}": member for place, member in enumerate(members)}
    start = None if parent or members else identity.start(config, name)
    devices = config.trainer.devices * config.trainer.nodes
    device_batch = config.trainer.device_batch
    if mixture:
        parts = parts_of_a_step(name, mixture, devices, device_batch)
    else:
        parts = parts_of_a_batch(stage.batch_size, devices, device_batch, spec.clips_per_video)
    started_hash = identity.start_hash(start)

    def identified(stage: StageConfig, validated: Manifest | None) -> tuple[dict[str, Any], str]:
        """What determines the stage's result, and its identity."""
        determining = identity.determining(
            config, stage, own_class, train, extracted, scored, board, spec.class_text, parts, mixture, validated,
            searched,
        )  # fmt: skip
        related = {role: other.identity for role, other in roles.items()}
        started = parent.identity if parent else started_hash
        return determining, identity.identity(determining, config.seed, started, related)

    determining, stage_identity = identified(stage, validated)
    _, drawn = identified(replace(stage, validation=ValidationConfig()).carry(stage.objects), None)
    found = PlannedStage(
        name=name,
        config=stage,
        stage_class=own_class,
        train=train,
        mixture=mixture,
        scored=scored,
        searched=searched,
        validated=validated,
        extracted=extracted,
        board=board,
        parent=parent,
        teacher=teacher,
        features=features,
        labels=labels,
        labelled=labelled,
        labelled_clips={split: clips_of(split) for split in stage.extract} if labelled else {},
        members=members,
        epochs_of=epochs_of,
        start=start,
        kept_epochs=_kept_epochs(config, name),
        parts=parts,
        identity=stage_identity,
        drawn=drawn,
        recipe=identity.recipe(
            determining,
            parent.recipe if parent else started_hash,
            {role: other.recipe for role, other in roles.items()},
            any_fold=bool(stage.fold),
        ),
        folder=Path(config.runs) / config.method / f"{name}-{stage_identity}",
        spec=spec,
    )
    if scored is not None:
        chosen_by = {each.name: each.validated for each in (*found.ancestors, found) if each.validated is not None}
        here = {other: clips for other, clips in chosen_by.items() if config.stages[other].dataset == stage.dataset}
        require_unchosen(name, scored, here)
    return found


def _steps_per_epoch(stage: StageConfig, train: Manifest) -> int:
    rows = stage.batch_size // train.clips_a_row(stage.data.narration)
    return stage.data.loader.draws(len(train)) // rows


def _features_shape(stage: PlannedStage) -> tuple[int, int]:
    """(moments, length of a vector) of what a stage extracts of a clip."""
    assert stage.stage_class is not None
    with as_user_error(f"stage {stage.name}"):
        return cost.features_shape(stage.stage_class, stage.spec)


def _kept_epochs(config: BenchConfig, name: str) -> frozenset[int]:
    children = [stage for stage in config.stages.values() if stage.after == name]
    spans = [span for child in children for span in (child.average_weights, child.average_outputs)]
    return frozenset(epoch for span in spans for epoch in epochs_between(span))
