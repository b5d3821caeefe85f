"""What a stage leaves behind: its predictions, its cost, its record."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench import tasks
from bench.config.mixtures import trained_on
from bench.errors import UserError
from bench.plan.graph import Plan, PlannedStage
from bench.plan.identity import checkpoints, file_hash, shareable
from bench.plan.layout import DONE, PREDICTIONS, RECORD, VALIDATION
from bench.plan.row_settings import row_settings
from bench.progress import console
from bench.records import archive, provenance
from bench.records.stores import Store
from bench.run.callbacks import Cost
from bench.tables.boards import records_folder
from datamodules.boards import Board
from datamodules.files import replacing, write_json
from datamodules.manifest.build import Manifest

REPOSITORY = Path(__file__).parent.parent.parent


def write_predictions(predictions: tasks.Predictions, path: Path) -> str:
    """Writes them as their task stores them; returns the file's SHA-256."""
    with replacing(path) as temporary:
        pq.write_table(predictions.to_table(), temporary)
    return file_hash(path)


def read_predictions(path: Path, shape: type[tasks.Predictions] = tasks.Predictions) -> tasks.Predictions:
    """What `write_predictions` wrote, of a task whose class of predictions is `shape`."""
    return shape.from_table(pq.read_table(path))


def stage_cost(stage: PlannedStage, tracked: Cost, processes: int) -> dict[str, Any]:
    """The stage's `StageCost`, as a dict; times are those of training, restarts included."""
    hours = tracked.seconds / 3600 * processes
    return {
        "wall_seconds": tracked.seconds,
        "device_hours": hours,
        "total_device_hours": hours + sum(finished_cost(parent)["device_hours"] for parent in stage.ancestors),
        "data_wait": tracked.waited / tracked.stepping if tracked.stepping else None,
        "samples_per_second": tracked.clips / tracked.stepping if tracked.stepping else None,
        "parameters": stage.parameters,
        "flops": float(stage.flops) or None,
        "peak_memory_bytes": tracked.peak_memory or None,
    }


def finished_cost(stage: PlannedStage) -> dict[str, Any]:
    """The cost that a finished stage noted."""
    return json.loads((stage.folder / DONE).read_text())["cost"]


def data_use(manifest: Manifest, dataset: str, splits: list[str]) -> dict[str, Any]:
    """What a record says of the clips that a stage used."""
    return {
        "dataset": dataset,
        "split": "+".join(splits),
        "fingerprint": manifest.fingerprint,
        "official": manifest.official,
        "used": manifest.used,
        "excluded": manifest.excluded,
        "coverage": manifest.coverage,
    }


def train_parts(stage: PlannedStage) -> tuple[dict[str, Any], ...]:
    """Of the other datasets that it was trained on, as dicts."""
    settings = stage.config.mixture.parts
    others = stage.mixture.parts[1:] if stage.mixture else ()
    return tuple(
        data_use(part.manifest, settings[part.spec.name].dataset, settings[part.spec.name].train) for part in others
    )


def parents(stage: PlannedStage) -> tuple[dict[str, str], ...]:
    """What the stage's result comes from, the first one first; each checkpoint of the user is a stage `init`."""
    found: list[dict[str, str]] = []
    for each in (*stage.ancestors, stage):
        given = [file_hash(file) for file in checkpoints(each.start)] or [each.start or ""]
        found += [{"stage": "init", "identity": start} for start in given if start]
        if each is not stage:
            data = ", ".join(trained_on(each.config))
            found.append({"stage": each.name, "identity": each.identity, "data": data})
    return tuple({str(parent): parent for parent in found}.values())


def validations(stage: PlannedStage) -> tuple[dict[str, Any], ...]:
    """What a record says of the validations of the stage's training and of those before it, as dicts."""
    found = []
    for each in (*stage.ancestors, stage):
        if each.validated is not None:
            own = json.loads((each.folder / VALIDATION).read_text())
            data = data_use(each.validated, each.config.dataset, [str(each.config.validation.split)])
            found.append({"stage": each.name, "data": data, **{k: v for k, v in own.items() if k != "seen"}})
    return tuple(found)


def shown_metrics(board: Board) -> tuple[dict[str, Any], ...]:
    """What a table shows of the board, for a reader whose suite may not know its task."""
    shown = ("label", "better", "percent", "decimals")
    metrics = tasks.task_of(board).metrics
    return tuple(
        {"name": name, **{key: getattr(metrics[name], key) for key in shown}}
        for name in dict.fromkeys((board.main, *metrics))
    )


def write_record(plan: Plan, stage: PlannedStage, predictions: tasks.Predictions, spent: dict[str, Any]) -> Path:
    """Measures the predictions and writes the record, in the run's folder and among the leaderboards' records.

    A run that was cut off between these two has its record already, and keeps it.
    """
    config, board, scored = plan.config, stage.board, stage.scored
    assert board is not None and scored is not None
    commit, dirty = provenance.git_state(REPOSITORY)
    measures = measured(stage, predictions)
    settings = {
        "model": asdict(config.model),
        "stages": {s.name: shareable(s.config) for s in (*stage.ancestors, stage)},
        "trainer": asdict(config.trainer),
    }
    uses = [each.config.objects for each in (*stage.ancestors, stage)]
    datasets = {source.name for use in uses for source in (use.source, *use.parts.values())}
    record = archive.new_record(
        method=config.method,
        variant=config.variant,
        preset=config.preset,
        stage=stage.base_name,
        fold=f"fold{stage.config.fold}" if board.folds else "",
        board=board.name,
        sample=stage.is_sample,
        modality=stage.config.modality,
        seed=config.seed,
        data=data_use(scored, stage.config.dataset, [stage.scored_split]),
        train=stage.train and data_use(stage.train, stage.config.dataset, stage.config.train),
        train_parts=train_parts(stage),
        validations=validations(stage),
        parents=parents(stage),
        config=settings,
        settings=row_settings(config, stage),
        config_hash=stage.recipe,
        identity=stage.identity,
        commit=commit,
        dirty=dirty,
        packages=provenance.packages(config.method, datasets, board.task),
        versions=provenance.versions(),
        hardware=provenance.hardware(),
        cost=spent,
        scored_precision="float32",
        **measures,
    )
    record = _written(stage.folder / RECORD, record) or record
    write_json(stage.folder / RECORD, json.loads(record.to_json()))
    return _published(record, plan)


def write_record_again(plan: Plan, stage: PlannedStage) -> Path:
    """Measures a finished stage's stored predictions by the present protocol of its board and writes the record of it.

    What the record says of the training and of the machine is what the stage's last one said.

    Raises:
        UserError: the predictions are no longer there.
    """
    assert stage.board is not None
    path = stage.folder / PREDICTIONS
    if not path.is_file():
        raise UserError(
            f"{path} is not there, to be measured by version {stage.board.version} of the protocol of "
            f"{stage.board.name}; remove {stage.folder / DONE} and run again, so that {stage.name} predicts again"
        )
    predictions = read_predictions(path, tasks.task_of(stage.board).predictions)
    if stage.stage_class is not None:
        predictions = described(predictions, stage)
    before = archive.parse((stage.folder / RECORD).read_bytes(), str(stage.folder / RECORD))
    commit, dirty = provenance.git_state(REPOSITORY)
    same = before.model_dump(exclude={"id", "created"})
    record = archive.new_record(
        **same
        | measured(stage, predictions)
        | {
            "commit": commit,
            "dirty": before.dirty or dirty,
            "predictions_commit": before.predictions_commit or before.commit,
        }
    )
    written = _published(record, plan)
    write_json(stage.folder / RECORD, json.loads(record.to_json()))  # the last, as it says that this is done
    return written


def measured(stage: PlannedStage, predictions: tasks.Predictions) -> dict[str, Any]:
    """Writes the predictions; what a record says of them and of how they were measured."""
    board, scored = stage.board, stage.scored
    assert board is not None and scored is not None
    evaluation = tasks.evaluate(board, stage.config.modality, predictions)
    notes: dict[str, Any] = dict(evaluation.notes)
    if len(predictions.clip_id) < len(scored):
        notes["unreadable_while_scoring"] = len(scored) - len(predictions.clip_id)
    if scored.overlong:
        notes["clips_listed_beyond_the_official_ones"] = scored.overlong
    if stage.stage_class is not None:
        notes |= stage.stage_class.remarks(stage.spec.model, stage.spec.options)
    if stage.learns_from_sample and not stage.is_sample:
        notes["in_its_training"] = "made-up sample data"
    named = replace(predictions, classes=scored.classes)
    return {
        "protocol": stage.protocol,
        "board_definition": board.definition(),
        "board_metrics": shown_metrics(board),
        "metrics": {name: asdict(metric) for name, metric in evaluation.metrics.items()},
        "chance": evaluation.chance,
        "n": evaluation.n,
        "notes": notes,
        "predictions_sha256": write_predictions(named, stage.folder / PREDICTIONS),
    }


def described(predictions: tasks.Predictions, stage: PlannedStage) -> tasks.Predictions:
    """The predictions with what their board's task must know beside them."""
    board, scored = stage.board, stage.scored
    assert board is not None and scored is not None and stage.stage_class is not None
    return tasks.task_of(board).described(predictions, scored, stage.stage_class.similarity)


def _published(record: archive.Record, plan: Plan) -> Path:
    """The record's file among the leaderboards'; also copied to the store."""
    path = archive.write(record, records_folder(Path(plan.config.leaderboards), record.sample))
    if plan.config.store:
        share(record, Store(plan.config.store, record.sample))
    return path


def _written(path: Path, new: archive.Record) -> archive.Record | None:
    """The record of the same predictions, measured by the same protocol, where an earlier run has written it."""
    try:
        record = archive.parse(path.read_bytes(), str(path))
    except (FileNotFoundError, archive.RecordError):
        return None
    same = (record.predictions_sha256, record.protocol) == (new.predictions_sha256, new.protocol)
    return record if same else None


def share(record: archive.Record, store: Store) -> None:
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
