"""A stage's identity: the hash of all that determines its result, and of nothing that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import registry
from bench.config.configured import (
    FILES,
    PLACES,
    PROTOCOL,
    RELATIONS,
    model_settings,
    stage_settings,
    trainer_settings,
    unlike_defaults,
    without,
)
from bench.config.folds import parts_of_own
from bench.config.schema import BenchConfig, StageConfig
from bench.config.starts import NAMED
from bench.plan.devices import resolve_precision
from datamodules.boards import Board
from datamodules.keyed import stable_hash
from datamodules.loading.mixture import Mixture
from datamodules.manifest.build import Manifest
from experiments.common.stage import Stage


def data_seed(seed: int, repeat: int) -> int:
    """Of order and augmentation; repetitions of a stage have their own."""
    return stable_hash("repeat", seed, repeat) if repeat else seed


def identity(determining: Mapping[str, Any], seed: int, start: str | None, related: Mapping[str, str]) -> str:
    """Hash of a stage's result.

    Args:
        determining: see `determining`.
        seed: of all random numbers.
        start: identity of what its weights start from; None = fresh ones.
        related: role -> identity of the other stages that it uses.
    """
    return _digest({**determining, "seed": seed, "start": start, **_roles(related)})


def recipe(determining: Mapping[str, Any], start: str | None, related: Mapping[str, str], any_fold: bool) -> str:
    """The same without the seed, and for cross-validation without the fold: equal for repetitions of one experiment."""
    if any_fold:
        of_folds = ("train", "scored", "searched", "validated", "also")
        clips = {role: None if role.partition(" ")[0] in of_folds else of for role, of in determining["clips"].items()}
        determining = {**determining, "clips": clips}
    return _digest({**determining, "start": start, **_roles(related)})


def _roles(related: Mapping[str, str]) -> dict[str, Any]:
    return {"related": dict(related)} if related else {}


def determining(
    config: BenchConfig,
    stage: StageConfig,
    stage_class: type[Stage] | None,
    train: Manifest | None,
    extracted: Manifest | None,
    scored: Manifest | None,
    board: Board | None,
    class_text: list[list[int]],
    parts: int,
    mixture: Mixture | None = None,
    validated: Manifest | None = None,
    searched: Manifest | None = None,
) -> dict[str, Any]:
    """All that determines the stage's weights and scores beside the seed and the stages that it uses; nothing that
    does not (folders, loader processes, number of devices, parts of the model that it is not built from), and no
    setting at its default: see `configured.py`. What is absent is left out, so that something new changes no old one.

    Args:
        parts: in which a batch goes through a device; they count where the loss compares the clips of a batch.
    """
    trains = stage.train != []
    settings = {
        "stage": without(contents(stage_settings(stage)), (*RELATIONS, *PROTOCOL, "dataset", "train", "extract")),
        "model": model_settings(config.model, stage, stage_class),
        "trainer": trainer_settings(config.trainer, trains),
    }
    mixed = _mixed(stage, mixture)
    own = {"train": train, "extracted": extracted, "scored": scored, "searched": searched, "validated": validated}
    clips = own | mixed
    return {
        "method": [config.method, registry.method_version(config.method)],
        "dataset": [stage.dataset, stage.objects.source.version],
        "precision": resolve_precision(config.trainer),
        "clips": {role: manifest.fingerprint for role, manifest in clips.items() if manifest},
        **{name: each for name, each in settings.items() if each},
        **parts_that_count(stage, stage_class, parts),
        **({"class_text": class_text} if class_text else {}),
        **({"datasets": datasets} if (datasets := _versions(stage)) else {}),
        **({"packed": packed} if (packed := _packed(*own.values())) else {}),
        **{f"packed {role}": packed for role, manifest in mixed.items() if (packed := _packed(manifest))},
        # Of any version: where it is raised, a finished stage's predictions are measured again.
        **({"board": board.protocol() | {"version": 1}} if board else {}),
    }


def start(config: BenchConfig, name: str) -> str | None:
    """What a stage without a parent starts from: a checkpoint's path, one of `NAMED`, or None for fresh weights."""
    stage = config.stages[name]
    if stage.init and stage.init not in NAMED:
        return stage.init
    return (config.init if _takes_init(config, name) else None) or stage.init


def _takes_init(config: BenchConfig, name: str) -> bool:
    """Whether `init=` is meant for this stage."""
    roots = [stage for stage, each in config.stages.items() if each.after is None and not each.ensemble]
    named = [stage for stage in roots if stage in config.stage]
    return name in (named or roots)


def checkpoints(start: str | None) -> list[Path]:
    """The files of what a stage starts from: one, or those of a folder; none for fresh weights and `NAMED` ones."""
    if start is None or start in NAMED:
        return []
    path = Path(str(start))
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))


def start_hash(start: str | None) -> str | None:
    """SHA-256 of the checkpoint, or of all hashes of a folder's; or what is `NAMED`."""
    hashes = sorted(map(file_hash, checkpoints(start)))
    if len(hashes) < 2:
        return hashes[0] if hashes else start
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def contents(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the hash of a file's content instead of its path."""
    return {key: file_hash(Path(value)) if value and key.endswith(FILES) else value for key, value in settings.items()}


def shareable(config: Any) -> Any:
    """A stage's configuration as plain data without where things lie on this machine: records are shared."""
    return _shared("", asdict(config))


def _shared(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _shared(name, item) for name, item in value.items()}
    if value in (None, "") or not (key.endswith(FILES) or key in PLACES):
        return value
    return start_hash(value) if key not in ("root", "packed") else None


def parts_that_count(stage: StageConfig, stage_class: type[Stage] | None, parts: int) -> dict[str, int]:
    """The parts in which a batch goes through a device, where the loss compares the clips of a batch."""
    compared = stage_class is not None and stage_class.compares_clips and stage.train
    return {"parts": parts} if compared and parts > 1 else {}


def _mixed(stage: StageConfig, mixture: Mixture | None) -> dict[str, Manifest]:
    """Role -> the clips of the datasets beside the stage's own that it trains on; `also …` are of its own, too."""
    own = parts_of_own(stage)
    others = mixture.parts[1:] if mixture else ()
    return {f"{'also' if part.spec.name in own else 'mixed'} {part.spec.name}": part.manifest for part in others}


def _versions(stage: StageConfig) -> dict[str, list[str | int]]:
    """Of the datasets of a mixture."""
    return {name: [source.name, source.version] for name, source in stage.objects.parts.items()}


def _packed(*manifests: Manifest | None) -> dict[str, Any]:
    """How a pack stores the clips of each split: its frames lose a little."""
    packs = [manifest.pack for manifest in manifests if manifest and manifest.pack]
    return {split: unlike_defaults(format) for pack in packs for split, format in pack.formats.items()}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
