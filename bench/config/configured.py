"""What of a configuration determines a result: its settings that are unlike their defaults, by dotted keys.

Both a stage's identity and the key of a table's row are made of them. A setting at its default is left out, so that a
new setting, which has a default, changes none of either. The default is that of the dataclass's field, not the YAML's:
what a `config.yaml` sets counts. To give a field another default is therefore to give another meaning to every old
identity and row that leave it out; `tests/bench/test_configured.py` holds the defaults to what they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.config.folds import REST, base_name, parts_of_own

if TYPE_CHECKING:  # it imports torch
    from bench.config.schema import StageConfig, TrainerConfig
    from datamodules.types import Inputs
    from experiments.common.stage import Stage

Settings = dict[str, Any]
"""Dotted key -> value."""

PLACES = ("init", "root", "packed")
"""Settings of these names say where things lie, at whatever depth; what they hold is counted in their place."""
FILES = ("file", "_file")
"""A setting that ends so names a file, which counts by its content."""
WORK = ("on_request", "data.min_coverage", "data.loader.workers", "data.loader.cache_gb")
"""Whether and how fast a stage runs."""
COPY = ("data.media",)
"""What the user's copy of the data is like. It distinguishes stages, which read other seconds with it, but not rows."""
PROTOCOL = ("board", "fold")
"""What the protocol and the clips say."""
TRAINING = (
    "epochs", "batch_size", "optim", "ema", "validation",
    "data.augment", "data.loader", "data.narration", "data.train_labels_file", "data.train_share",
)  # fmt: skip
"""What counts only where a stage trains."""
MACHINE = (
    "accelerator", "devices", "nodes", "device_batch", "checkpoint_activations", "compile", "checkpoint_every", "wandb",
)  # fmt: skip
"""Of the trainer: how the work is spread and saved."""
RELATIONS = ("after", "teacher", "features", "labels", "ensemble", "epochs_of")
"""Names of other stages."""


def unlike_defaults(config: Any) -> Settings:
    """The leaves of a dataclass that differ from its fields' defaults; a field without default always does.

    Where the default is None or of another class, a dataclass is compared with its own class's defaults, and an empty
    mapping says that it is there.
    """
    return dict(_unlike(config, MISSING, ""))


def _unlike(value: Any, default: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and any(map(is_dataclass, value.values())):
        for name, entry in value.items():
            yield from _unlike(entry, MISSING, f"{path}.{name}")
        return
    if not is_dataclass(value):
        if default is MISSING or value != default:
            yield path, value
        return
    same = type(default) is type(value)
    if path and not same:
        yield path, {}
    for field in fields(value):
        usual = getattr(default, field.name) if same else _default(field)
        yield from _unlike(getattr(value, field.name), usual, f"{path}.{field.name}" if path else field.name)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def stage_settings(stage: StageConfig) -> Settings:
    """A stage's own, with those of its class under `options`; files by their paths."""
    options = unlike_defaults(stage.options) if stage.options else {}
    inputs = stage.data.inputs
    plain = replace(stage.data, inputs=replace(inputs, streams={}))
    own = unlike_defaults(replace(stage, options=None, data=plain)) | _stream_settings(inputs)
    if stage.mixture.parts:
        own["mixture.order"] = list(stage.mixture.parts)
    if stage.fold:
        own |= {f"mixture.parts.{name}.train": [REST] for name in parts_of_own(stage)}
    return counted(own | {f"options.{key}": value for key, value in options.items()}, trains=bool(stage.train))


def _stream_settings(inputs: Inputs) -> Settings:
    """Of the streams that have no field of their own."""
    if not inputs.streams:
        return {}
    from datamodules.streams.known import streams_of  # imports torch

    found: Settings = {}
    for name, stream in streams_of(inputs).items():
        if name in inputs.streams:
            placed = {key: said for key in ("row", "window") if (said := getattr(stream, key))}
            augment = {f"augment.{key}": said for key, said in (stream.augment or {}).items()}
            own = {"kind": stream.kind} | placed | augment | unlike_defaults(stream.options)
            found |= {f"data.inputs.streams.{name}.{key}": said for key, said in own.items()}
    return found


def counted(settings: Mapping[str, Any], trains: bool) -> Settings:
    """Those of a stage's settings that determine its result."""
    found = without(settings, (*WORK, *(() if trains else TRAINING)))
    return {
        key: value for key, value in found.items() if key.rpartition(".")[2] not in PLACES and not _of_part(key, WORK)
    }


def model_settings(model: Any, stage: StageConfig, stage_class: type[Stage[Any, Any]] | None) -> Settings:
    """Of the part of the method's model that the stage is built from."""
    if stage_class is None:
        return {}
    part = stage_class.model_of(model, stage.options)
    name = next((field.name for field in fields(model) if getattr(model, field.name) is part), "")
    return {key: value for key, value in unlike_defaults(model).items() if is_below(key, name)}


def trainer_settings(trainer: TrainerConfig, trains: bool) -> Settings:
    """Those that determine a result, but for the precision, which depends on the machine, too."""
    return without(unlike_defaults(trainer), (*MACHINE, "precision")) if trains else {}


def chosen_precision(precision: str) -> Settings:
    """The precision, where it was chosen: what `auto` means on a machine is none of the configuration."""
    return {} if precision.startswith("auto") else {"precision": precision}


def of_row(
    stages: Mapping[str, Mapping[str, Any]],
    model: Mapping[str, Any],
    trainer: Mapping[str, Any],
    version: int,
    datasets: Mapping[str, int],
) -> Settings:
    """The settings that make a row of a table: those of a stage and of all that it comes from.

    Args:
        stages: name -> its settings, the stage's own among them; folds are distinguished by `fold`.
        model: of these stages.
        trainer: of the run, the precision included where the user chose it.
        version: of the method.
        datasets: name -> version, of these stages.

    Returns:
        Settings with the keys `stages.<name>.…`, `model.…`, `trainer.…`, `version` and `dataset.<name>.version`, the
        same for all folds.
    """
    base = {name: base_name(name, own.get("fold", 0)) for name, own in stages.items()}
    found = {f"model.{key}": value for key, value in model.items()}
    found |= {f"trainer.{key}": value for key, value in trainer.items()}
    if version != 1:
        found["version"] = version
    found |= {f"dataset.{name}.version": of_data for name, of_data in datasets.items() if of_data != 1}
    for name, own in stages.items():
        for key, value in own.items():
            if key == "train" and own.get("fold"):
                value = ["rest"]
            elif key.partition(".")[0] in RELATIONS:
                value = _renamed(value, base)
            if key not in (*PROTOCOL, *COPY) and not _of_part(key, COPY):
                found[f"stages.{base[name]}.{key}"] = value
    return found


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, Mapping):
        return {key: _renamed(item, names) for key, item in value.items()}
    return names.get(value, value) if isinstance(value, str) else value


def _of_part(key: str, names: tuple[str, ...]) -> bool:
    """Whether it is a setting of these names of a part of a mixture, `mixture.parts.<name>.<setting>`."""
    own = key.removeprefix("mixture.parts.").partition(".")[2] if key.startswith("mixture.parts.") else ""
    return any(is_below(own, name) for name in names if own)


def without(settings: Mapping[str, Any], names: tuple[str, ...]) -> Settings:
    """The settings that are none of the named ones nor below one."""
    return {key: value for key, value in settings.items() if not any(is_below(key, name) for name in names)}


def is_below(key: str, name: str) -> bool:
    """`data.loader.workers` is below `data.loader`, `data` and ''."""
    return not name or key == name or key.startswith(f"{name}.")
