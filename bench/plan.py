"""A method's stages as a graph. Each stage's identity is the hash of all that determines its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import registry
from bench.config import BenchConfig, StageConfig, method_version, stage_class
from bench.devices import resolve_precision
from bench.errors import UserError, unknown
from bench.folds import base_name
from bench.progress import track
from datamodules import sample
from datamodules.checks import Checks
from datamodules.manifest import Manifest, build_manifest
from datamodules.shards import open_pack
from datamodules.source import DataError, Source, find_root
from datamodules.types import Board, Inputs
from experiments.common.stage import Stage, StageSpec

DONE = "done.json"
WEIGHTS = "weights.pt"
CHECKPOINT = "resume.ckpt"


@dataclass
class PlannedStage:
    """A stage with its data found and its place on the disk known."""

    name: str
    config: StageConfig
    stage_class: type[Stage]
    train: Manifest | None
    """None: the stage only measures."""
    scored: Manifest | None
    """The clips of the board's split; None: the stage is not measured."""
    board: Board | None
    parent: PlannedStage | None
    identity: str
    """Hash of all that determines the stage's result."""
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
    def scored_split(self) -> str:
        assert self.board is not None
        return scored_split(self.config, self.board)

    @property
    def protocol(self) -> dict[str, Any]:
        """How it is measured: the board's protocol, but for what the configuration changes of it."""
        assert self.board is not None
        return self.board.protocol() | {"views": self.views}

    @property
    def done(self) -> bool:
        return (self.folder / DONE).is_file()

    @property
    def state(self) -> str:
        """`done`, `cut off` (it goes on where it was) or `new`."""
        if self.done:
            return "done"
        return "cut off" if any((self.folder / name).is_file() for name in (CHECKPOINT, WEIGHTS)) else "new"

    @property
    def ancestors(self) -> list[PlannedStage]:
        """The stages it builds on, the first one first."""
        return [] if self.parent is None else [*self.parent.ancestors, self.parent]

    @property
    def steps(self) -> int:
        return self.spec.epochs * self.spec.steps_per_epoch if self.train is not None else 0


class Data:
    """Finds the data of a plan: the user's, or the sample data, which is made where it is not yet there."""

    def __init__(self, config: BenchConfig):
        self.config = config
        self.cache = Path(config.runs) / "cache"
        self._manifests: dict[Any, Manifest] = {}

    @cached_property
    def is_sample(self) -> bool:
        roots = [stage.data.root or stage.data.packed for stage in self.config.stages.values()]
        return self.config.data_root is None and not any(roots)

    def source(self, stage: StageConfig) -> Source:
        """The stage's dataset.

        Raises:
            DataError: saying which folders and files were looked for.
        """
        source = registry.dataset(stage.dataset)
        if self.is_sample:
            sample.make_for(stage.dataset, Path(self.config.sample_root), track)
            return source(find_root(source, Path(self.config.sample_root)), self.cache, track)
        root = Path(stage.data.root) if stage.data.root else find_root(source, Path(str(self.config.data_root)))
        found = source(root, self.cache, track)
        for name in source.required_files():
            found.find(name)
        return found

    def manifest(self, stage: StageConfig, splits: tuple[str, ...]) -> Manifest:
        inputs = stage.data.inputs
        needs = (inputs.audio is not None, inputs.video is not None, inputs.text is not None, repr(inputs.features))
        key = (stage.dataset, stage.data.root, stage.data.packed, stage.data.media, splits, *needs)
        if key not in self._manifests and stage.data.packed:
            self._manifests[key] = open_pack(stage.data.packed, list(splits), inputs, stage.dataset)
        if key not in self._manifests:
            checks = Checks(self.cache / "checks" / stage.dataset, track=track)
            self._manifests[key] = build_manifest(self.source(stage), splits, inputs, checks, stage.data.media)
        return self._manifests[key]


@dataclass
class Plan:
    """The stages to run, each after the one it starts from."""

    config: BenchConfig
    stages: list[PlannedStage]
    is_sample: bool


def make_plan(config: BenchConfig) -> Plan:
    """Resolves the stages of a configuration: their order, their data, their identities.

    Raises:
        UserError: for stages that do not fit together or data that is not there.
    """
    names = _selected(config)
    _check(config, names)
    data = Data(config)
    planned: dict[str, PlannedStage] = {}
    for name in names:
        try:
            planned[name] = _plan_stage(config, name, data, planned)
        except DataError as error:
            raise UserError(f"stage {name}: {error}") from error
    return Plan(config, list(planned.values()), data.is_sample)


def scored_split(stage: StageConfig, board: Board) -> str:
    return f"fold{stage.fold}" if board.folds else board.split


def _selected(config: BenchConfig) -> list[str]:
    """The wanted stages and what they start from, parents first."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name not in config.stages:
            raise unknown("stage" if not path else f"stage (stages.{path[-1]}.after)", name, config.stages)
        if name in path:
            raise UserError(f"the stages start from each other in a circle: {' -> '.join((*path, name))}")
        if name not in order:
            if config.stages[name].after is not None:
                visit(str(config.stages[name].after), (*path, name))
            order.append(name)

    for name in config.stage or config.stages:
        visit(name, ())
    return order


def _check(config: BenchConfig, names: list[str]) -> None:
    """Combinations that cannot work, told before anything is read."""
    for name in names:
        stage = config.stages[name]
        where = f"stages.{name}"
        source = registry.dataset(stage.dataset)
        for split in stage.train:
            if split not in source.splits:
                raise unknown(f"split of {stage.dataset} ({where}.train)", split, source.splits)
        if stage.board is not None:
            board = registry.board(stage.board)
            if board.dataset != stage.dataset:
                raise UserError(f"{where}.board: {board.name} is a board of {board.dataset}, not of {stage.dataset}")
        elif not stage.train:
            raise UserError(f"{where}: neither trains (train is empty) nor measures (board is empty)")
        if set(stage.modality) - set("avt") or not stage.modality:
            raise UserError(f"{where}.modality: {stage.modality!r} is not made of a, v and t")
        inputs = stage.data.inputs
        given = {"a": inputs.audio, "v": inputs.video or inputs.features, "t": inputs.text}
        for letter, wanted in given.items():
            if letter in stage.modality and wanted is None:
                raise UserError(f"{where}.modality is {stage.modality!r}, but data.inputs leaves {letter!r} out")
        processes = config.trainer.devices * config.trainer.nodes * config.trainer.accumulate
        if stage.train and stage.batch_size % processes:
            raise UserError(
                f"{where}.batch_size={stage.batch_size} does not divide over trainer.devices x trainer.nodes x "
                f"trainer.accumulate = {processes}"
            )
    used = {config.stages[name].dataset for name in names}
    if config.data.root and len(used) > 1:
        raise UserError(
            f"data.root names one dataset's folder, but the stages use {', '.join(sorted(used))}; give the folder "
            f"above them as data_root=FOLDER, or choose stages of one dataset with stage=NAME"
        )
    if config.init and not Path(config.init).is_file():
        raise UserError(f"init={config.init}: there is no such file")


def _plan_stage(config: BenchConfig, name: str, data: Data, planned: Mapping[str, PlannedStage]) -> PlannedStage:
    stage = config.stages[name]
    # A modality that is not looked at is neither decoded nor asked of the clips.
    if "a" not in stage.modality:
        stage.data.inputs.audio = None
    if "v" not in stage.modality:
        stage.data.inputs.video = stage.data.inputs.features = None
    if "t" not in stage.modality:
        stage.data.inputs.text = None
    board = registry.board(stage.board) if stage.board else None
    train = data.manifest(stage, tuple(stage.train)) if stage.train else None
    scored = data.manifest(stage, (scored_split(stage, board),)) if board else None
    if board and scored and scored.coverage < stage.data.min_coverage:
        reasons = ", ".join(f"{n} {reason}" for reason, n in scored.excluded.items())
        raise UserError(
            f"stage {name}: only {len(scored)} of the {scored.official} official clips of {board.name} can be used "
            f"({scored.coverage:.1%}; {reasons}); the least is data.min_coverage={stage.data.min_coverage}"
        )
    any_manifest = train or scored
    assert any_manifest is not None
    draws = min(stage.data.loader.weighted_draws or len(train), len(train)) if train else 0
    clips_a_row = train.clips_a_row(stage.data.narration) if train else 1
    spec = StageSpec(
        model=config.model,
        options=stage.options,
        inputs=stage.data.inputs,
        modality=stage.modality,
        num_classes=len(any_manifest.classes),
        multilabel=any_manifest.multilabel,
        optim=stage.optim,
        batch_size=stage.batch_size,
        steps_per_epoch=draws // (stage.batch_size // clips_a_row),
        epochs=stage.epochs,
    )
    if train is not None and spec.steps_per_epoch == 0:
        raise UserError(
            f"stage {name}: {'+'.join(stage.train)} has {len(train)} usable clips, fewer than one batch of "
            f"{stage.batch_size}; set stages.{name}.batch_size"
        )
    parent = planned[stage.after] if stage.after else None
    determining = _determining(config, stage, train, scored, board)
    identity = _digest({**determining, "seed": config.seed, "start": parent.identity if parent else init_hash(config)})
    repeated = _any_fold(determining) if stage.fold else determining
    recipe = _digest({**repeated, "start": parent.recipe if parent else init_hash(config)})
    folder = Path(config.runs) / config.method / f"{name}-{identity}"
    return PlannedStage(
        name, stage, stage_class(config, name), train, scored, board, parent, identity, recipe, folder, spec
    )


def _determining(
    config: BenchConfig, stage: StageConfig, train: Manifest | None, scored: Manifest | None, board: Board | None
) -> dict[str, Any]:
    """All that determines the stage's weights and scores beside the seed and where it starts; nothing that does not
    (folders, loader processes, number of devices)."""
    return {
        "method": [config.method, method_version(config.method)],
        "module": stage.module,
        "model": asdict(config.model),
        "options": asdict(stage.options),
        "modality": stage.modality,
        "inputs": without_places(stage.data.inputs),
        "precision": resolve_precision(config.trainer),
        "train": train
        and {
            "fingerprint": train.fingerprint,
            "dataset": [stage.dataset, registry.dataset(stage.dataset).version],
            "augment": asdict(stage.data.augment),
            "windows": stage.data.loader.train_windows,
            "draws": stage.data.loader.weighted_draws,
            "narration": asdict(stage.data.narration),
            "optim": asdict(stage.optim),
            "epochs": stage.epochs,
            "batch_size": stage.batch_size,
            "accumulate": config.trainer.accumulate,
            "grad_clip": config.trainer.grad_clip,
        },
        "media": stage.data.media,
        "packed": _packed(train or scored),
        "board": board and board.protocol(),
        "views": stage.data.views,
        "scored": scored and scored.fingerprint,
    }


def _packed(manifest: Manifest | None) -> dict[str, Any] | None:
    """How a pack stores the clips: its frames lose a little."""
    if manifest is None or manifest.pack is None:
        return None
    return {split: asdict(format) for split, format in manifest.pack.formats.items()}


def without_places(inputs: Inputs) -> dict[str, Any]:
    """The inputs, with what a file holds in the place of where it lies."""
    content = asdict(inputs)
    if inputs.text is not None and inputs.text.file is not None:
        content["text"]["file"] = file_hash(Path(inputs.text.file))
    if inputs.features is not None:
        del content["features"]["root"]
    return content


def _any_fold(determining: dict[str, Any]) -> dict[str, Any]:
    """The same without the clips: folds are repetitions of one experiment, as seeds are."""
    train = determining["train"]
    return determining | {"train": train and train | {"fingerprint": None}, "scored": None}


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


def init_hash(config: BenchConfig) -> str | None:
    """SHA-256 of the checkpoint that the first stages start from."""
    return file_hash(Path(config.init)) if config.init else None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
