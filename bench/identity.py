"""A stage's identity: the hash of all that determines its result, and of nothing that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import registry
from bench.config import BenchConfig, StageConfig, method_version
from bench.devices import resolve_precision
from datamodules.keyed import stable_hash
from datamodules.manifest import Manifest
from datamodules.types import Board, Inputs
from experiments.common.stage import Stage

IMAGENET = "imagenet"
"""As a stage's `init`: what the library of its network offers."""


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
        train = determining["train"]
        determining = {**determining, "train": train and train | {"fingerprint": None}, "scored": None}
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
) -> dict[str, Any]:
    """All that determines the stage's weights and scores beside the seed and the stages that it uses; nothing that
    does not (folders, loader processes, number of devices, parts of the model that it is not built from).

    Args:
        parts: in which a batch goes through a device; they count where the loss compares the clips of a batch.
    """
    model = stage_class.model_of(config.model, stage.options) if stage_class else None
    return {
        "method": [config.method, method_version(config.method)],
        "module": stage.module,
        "model": model and asdict(model),
        "options": stage.options and asdict(stage.options),
        "modality": stage.modality,
        "inputs": without_places(stage.data.inputs),
        **({"class_text": class_text} if class_text else {}),
        "precision": resolve_precision(config.trainer),
        "train": train
        and {
            "fingerprint": train.fingerprint,
            "dataset": [stage.dataset, registry.dataset(stage.dataset).version],
            "augment": asdict(stage.data.augment),
            "windows": stage.data.loader.train_windows,
            "draws": [stage.data.loader.weighted_draws, stage.data.loader.weighted_replacement],
            "narration": asdict(stage.data.narration),
            "optim": asdict(stage.optim),
            "epochs": stage.epochs,
            "batch_size": stage.batch_size,
            "accumulate": parts if stage_class is not None and stage_class.compares_clips else 1,
            "grad_clip": config.trainer.grad_clip,
            **({"ema": stage.ema} if stage.ema else {}),
        },
        "media": stage.data.media,
        "packed": _packed(train or extracted or scored),
        "extracted": extracted and extracted.fingerprint,
        "board": board and board.protocol(),
        "views": stage.data.views,
        "scored": scored and scored.fingerprint,
        "averaged": [stage.average_weights, stage.average_outputs],
        "repeat": stage.repeat,
    }


def start(config: BenchConfig, name: str) -> str | None:
    """What a stage without a parent starts from: a checkpoint's path, `imagenet`, or None for fresh weights."""
    stage = config.stages[name]
    if stage.init and stage.init != IMAGENET:
        return stage.init
    return (config.init if _takes_init(config, name) else None) or stage.init


def _takes_init(config: BenchConfig, name: str) -> bool:
    """Whether `init=` is meant for this stage."""
    roots = [stage for stage, each in config.stages.items() if each.after is None and not each.ensemble]
    named = [stage for stage in roots if stage in config.stage]
    return name in (named or roots)


def checkpoints(start: str | None) -> list[Path]:
    """The files of what a stage starts from: one, or those of a folder; none for fresh weights and `imagenet`."""
    if start in (None, IMAGENET):
        return []
    path = Path(str(start))
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))


def start_hash(start: str | None) -> str | None:
    """SHA-256 of the checkpoint, or of all hashes of a folder's; or `imagenet`."""
    hashes = sorted(map(file_hash, checkpoints(start)))
    if len(hashes) < 2:
        return hashes[0] if hashes else start
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def without_places(inputs: Inputs) -> dict[str, Any]:
    """The inputs, with what a file holds in the place of where it lies."""
    content = asdict(inputs)
    if inputs.text is not None and inputs.text.file is not None:
        content["text"]["file"] = file_hash(Path(inputs.text.file))
    if inputs.features is not None:
        del content["features"]["root"]
    return content


def _packed(manifest: Manifest | None) -> dict[str, Any] | None:
    """How a pack stores the clips: its frames lose a little."""
    if manifest is None or manifest.pack is None:
        return None
    return {split: asdict(format) for split, format in manifest.pack.formats.items()}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
