"""What a stage leaves behind: its predictions, its cost, its record."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import provenance, records, tasks
from bench.boards import records_folder
from bench.callbacks import Cost
from bench.config import StageConfig
from bench.errors import UserError
from bench.identity import file_hash, start_hash, without_places
from bench.plan import DONE, Plan, PlannedStage
from bench.progress import console
from bench.stores import Store
from datamodules.files import replacing, write_json
from datamodules.manifest import Manifest

REPOSITORY = Path(__file__).parent.parent
PREDICTIONS = "predictions.parquet"
ABOUT = b"avl-bench"
"""The metadata of a predictions file."""
RECORD = "record.json"


def write_predictions(predictions: tasks.Predictions, path: Path) -> str:
    """One row a clip: id, classes, group, scores by modality; and what else is needed to measure them again.

    Returns the file's SHA-256.
    """
    columns: dict[str, Any] = {
        "clip_id": pa.array(predictions.clip_id),
        "classes": pa.array([np.flatnonzero(row).tolist() for row in predictions.target]),
    }
    if predictions.group is not None:
        columns["group"] = pa.array(np.asarray(predictions.group, dtype=str))
    for modality, scores in predictions.scores.items():
        columns[modality] = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1])
    about = {
        "num_classes": predictions.target.shape[1],
        "steps": {group: np.asarray(steps).tolist() for group, steps in predictions.steps.items()},
        "similarity": predictions.similarity,
        "missing": predictions.missing,
        "classes": list(predictions.classes),
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, metadata={ABOUT: json.dumps(about, sort_keys=True)}), temporary)
    return file_hash(path)


def read_predictions(path: Path) -> tasks.Predictions:
    """What `write_predictions` wrote."""
    table = pq.read_table(path)
    others = ("clip_id", "classes", "group")
    scores = {name: np.stack(table[name].to_numpy()) for name in table.column_names if name not in others}
    # Older files have nothing but columns: of logits, which are as many as the classes.
    about = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
    target = np.zeros((len(table), about.pop("num_classes", max(map(np.shape, scores.values()))[1])), np.float32)
    for row, classes in enumerate(table["classes"].to_pylist()):
        target[row, classes] = 1
    group = np.array(table["group"].to_pylist()) if "group" in table.column_names else None
    return tasks.Predictions(table["clip_id"].to_pylist(), target, scores, group, **about)


def stage_cost(stage: PlannedStage, tracked: Cost, processes: int) -> dict[str, Any]:
    """The stage's `records.Cost`, as a dict; times are those of training, restarts included."""
    hours = tracked.seconds / 3600 * processes
    return {
        "wall_seconds": tracked.seconds,
        "device_hours": hours,
        "total_device_hours": hours + sum(finished_cost(parent)["device_hours"] for parent in stage.ancestors),
        "data_wait": tracked.waited / tracked.seconds if tracked.seconds else None,
        "samples_per_second": tracked.clips / tracked.seconds if tracked.seconds else None,
        "parameters": stage.parameters,
        "flops": float(stage.flops) or None,
        "peak_memory_bytes": tracked.peak_memory or None,
    }


def finished_cost(stage: PlannedStage) -> dict[str, Any]:
    """The cost that a finished stage noted."""
    return json.loads((stage.folder / DONE).read_text())["cost"]


def data_use(manifest: Manifest, dataset: str, splits: list[str]) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "split": "+".join(splits),
        "fingerprint": manifest.fingerprint,
        "official": manifest.official,
        "used": manifest.used,
        "excluded": manifest.excluded,
        "coverage": manifest.coverage,
    }


def parents(stage: PlannedStage) -> tuple[dict[str, str], ...]:
    """What the stage's result comes from, the first one first; a checkpoint of the user's counts as a stage `init`."""
    found: list[dict[str, str]] = []
    for each in (*stage.ancestors, stage):
        if given := start_hash(each.start):
            found.append({"stage": "init", "identity": given})
        if each is not stage:
            data = f"{each.config.dataset} {'+'.join(each.config.train)}" if each.config.train else ""
            found.append({"stage": each.name, "identity": each.identity, "data": data})
    return tuple({str(parent): parent for parent in found}.values())


def shareable(config: StageConfig) -> dict[str, Any]:
    """A stage's configuration without where things lie on this machine: records are shared."""
    content = asdict(config)
    content["data"] |= {"root": None, "packed": None, "inputs": without_places(config.data.inputs)}
    return content


def write_record(plan: Plan, stage: PlannedStage, predictions: tasks.Predictions, spent: dict[str, Any]) -> Path:
    """Measures the predictions and writes the record, in the run's folder and among the leaderboards' records.

    A run that was cut off between these two has its record already, and keeps it.
    """
    config, board, scored = plan.config, stage.board, stage.scored
    assert board is not None and scored is not None
    evaluation = tasks.evaluate(board, stage.config.modality, predictions)
    commit, dirty = provenance.git_state(REPOSITORY)
    notes: dict[str, Any] = dict(evaluation.notes)
    if len(predictions.clip_id) < len(scored):
        notes["unreadable_while_scoring"] = len(scored) - len(predictions.clip_id)
    if scored.overlong:
        notes["clips_listed_beyond_the_official_ones"] = scored.overlong
    named = replace(predictions, classes=scored.classes)
    predictions_sha256 = write_predictions(named, stage.folder / PREDICTIONS)
    settings = {
        "model": asdict(config.model),
        "stages": {s.name: shareable(s.config) for s in (*stage.ancestors, stage)},
        "trainer": asdict(config.trainer),
    }
    record = records.new_record(
        method=config.method,
        variant=config.variant,
        preset=config.preset,
        stage=stage.base_name,
        fold=stage.scored_split if board.folds else "",
        board=board.name,
        protocol=stage.protocol,
        sample=plan.is_sample,
        modality=stage.config.modality,
        seed=config.seed,
        metrics={name: asdict(metric) for name, metric in evaluation.metrics.items()},
        chance=evaluation.chance,
        n=evaluation.n,
        notes=notes,
        data=data_use(scored, stage.config.dataset, [stage.scored_split]),
        train=stage.train and data_use(stage.train, stage.config.dataset, stage.config.train),
        parents=parents(stage),
        config=settings,
        config_hash=stage.recipe,
        identity=stage.identity,
        commit=commit,
        dirty=dirty,
        versions=provenance.versions(),
        hardware=provenance.hardware(),
        cost=spent,
        predictions_sha256=predictions_sha256,
    )
    record = _written(stage.folder / RECORD, predictions_sha256) or record
    write_json(stage.folder / RECORD, json.loads(record.to_json()))
    path = records.write(record, records_folder(Path(config.leaderboards), plan.is_sample))
    if config.store:
        share(record, Store(config.store, plan.is_sample))
    return path


def _written(path: Path, predictions_sha256: str) -> records.Record | None:
    """The record of the same predictions, where an earlier run has written it."""
    try:
        record = records.parse(path.read_bytes(), str(path))
    except (FileNotFoundError, records.RecordError):
        return None
    return record if record.predictions_sha256 == predictions_sha256 else None


def share(record: records.Record, store: Store) -> None:
    """Copies the record to a store; one that cannot be reached costs nothing that is done."""
    try:
        store.put(record)
    except UserError:
        raise
    except Exception as error:  # each kind of store has errors of its own for a network that is down
        console.print(
            f"the record is here, but not in {store.url}: {error}; `bench table --store {store.url}` copies it later",
            markup=False, soft_wrap=True,
        )  # fmt: skip
