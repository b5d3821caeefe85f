"""Executes one stage: data + LightningModule + Trainer -> weights, predictions, a record."""

from __future__ import annotations

import json
import logging
import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from bench import tasks
from bench.config.schema import BenchConfig
from bench.plan import code
from bench.plan.graph import Plan, PlannedStage, make_plan
from bench.plan.identity import file_hash
from bench.plan.layout import DONE, FEATURES, LABELS, PREDICTIONS, VALIDATION, WEIGHTS, is_cut_off
from bench.progress import console
from bench.run import checkpoints, preemption
from bench.run.blocks import prepare_blocks
from bench.run.callbacks import Cost, Extract
from bench.run.claims import claimed
from bench.run.compat import callbacks_of
from bench.run.faults import explained
from bench.run.first_process import share_buffers
from bench.run.fitting import TrainingClips, fit
from bench.run.gathered import Collect, gathered, passed
from bench.run.labelling import write_labels
from bench.run.rehearsal import rehearse
from bench.run.results import described, read_predictions, stage_cost, write_record, write_record_again
from bench.run.trainer import in_float32, make_trainer
from bench.run.validation import Validation
from bench.run.weights import averaged, build_module
from bench.tasks.ensembles import mean_probability
from datamodules.base import AVDataModule
from datamodules.features.extracted import extracted_ids
from datamodules.files import remove_leftovers, replacing, write_json
from datamodules.keyed import stable_hash
from datamodules.manifest.build import Manifest
from experiments.common.stage import FittedStage, Stage

TRAINING_COST = "training.json"
DataModule = TypeVar("DataModule", bound=AVDataModule)


def run(config: BenchConfig) -> Plan:
    """Runs what is not yet done of a method's plan, each stage after the one it starts from."""
    quiet_libraries()
    with explained("plan"):
        plan = make_plan(config)
        rehearse(plan)
    for position, stage in enumerate(plan.stages, 1):
        preemption.stop_if_signalled()
        title = f"[{position}/{len(plan.stages)}] {config.method} {stage.name}"
        if stage.outdated:
            measure_again(plan, stage, title)
        elif stage.done:
            say(f"{title}: done already ({stage.folder}){other_code(config, stage)}")
        else:
            run_stage(plan, stage, title)
    return plan


def other_code(config: BenchConfig, stage: PlannedStage) -> str:
    """What is said of a stage that was begun with other code than there is now; empty: it is the same, or not known."""
    changed = code.changed_since(stage.folder, config.method)
    if not changed:
        return ""
    return (
        f" by other code: {', '.join(changed)} changed since; if that changes results, raise `version` in "
        f"{config.method}'s config.yaml, or delete the folder"
    )


def is_first_process() -> bool:
    """Whether this is the one of the processes that train together that prints and writes."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]  # an attribute of a function


@rank_zero_only
def say(text: str) -> None:
    """Prints a line as it is, without markup and breaks."""
    console.print(text, markup=False, soft_wrap=True)


def quiet_libraries() -> None:
    """Leaves out what Lightning says at every start; its warnings that matter here are errors of ours."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*isinstance.*treespec.*")


def run_stage(plan: Plan, stage: PlannedStage, title: str) -> None:
    """Trains, extracts and measures, going on where an earlier run of the stage was cut off."""
    with explained(f"stage {stage.name}"):
        stage.folder.mkdir(parents=True, exist_ok=True)
        with claimed(stage.folder, lambda text: say(f"{title}: {text}")) if is_first_process() else nullcontext():
            if stage.done:
                say(f"{title}: done by another run ({stage.folder})")
                return
            began = time.monotonic()
            begin(plan.config, stage, title)
            if stage.stage_class is not None:
                run_network(plan, stage, stage.stage_class, title)
            elif is_first_process():
                run_ensemble(plan, stage, title)
            say(f"{title}: done in {time.monotonic() - began:.0f} s")


@rank_zero_only
def measure_again(plan: Plan, stage: PlannedStage, title: str) -> None:
    """Measures what a finished stage gave out by the present version of its board's protocol; nothing is trained."""
    with explained(f"stage {stage.name}"), claimed(stage.folder, lambda text: say(f"{title}: {text}")):
        if stage.outdated:
            assert stage.board is not None
            write_record_again(plan, stage)
            say(f"{title}: done already; measured again by version {stage.board.version} of {stage.board.name}")


@rank_zero_only
def begin(config: BenchConfig, stage: PlannedStage, title: str) -> None:
    """Tidies up after a killed run, and writes `config.yaml` and which code it is."""
    remove_leftovers(stage.folder)
    write_config(config, stage)
    if stage.state == "new":
        code.note_code(stage.folder, config.method)
    elif other := other_code(config, stage):
        say(f"{title}: begun{other}")


def run_ensemble(plan: Plan, stage: PlannedStage, title: str) -> None:
    """A stage whose networks are those of its members."""
    assert stage.board is not None
    say(f"{title}: measuring {len(stage.members)} stages together on {stage.board.name}")
    finish(plan, stage, ensemble(stage), Cost(), processes=1)


def run_network(plan: Plan, stage: PlannedStage, stage_class: type[Stage], title: str) -> None:
    """A stage that has a network of its own."""
    config, seed = plan.config, stable_hash("stage", stage.drawn)
    module = build_module(stage, stage_class, seed)
    prepare_blocks(module, config.trainer, stage.name)
    tracked = Cost()
    trainer = make_trainer(config.trainer, stage, seed, title, tracked)
    learn(trainer, module, stage, title, tracked)
    if stage.extracted is not None and not (stage.folder / LABELS).is_file():
        extract(trainer, module, stage, title)
        if stage.labelled:
            label(trainer, module, stage, title)
    predictions = None
    if stage.board is not None:
        rows = "seconds" if tasks.task_of(stage.board).in_time else "clips"
        say(f"{title}: measuring {stage.board.name} on {len(stage.scored or ())} {rows}")
        predictions = measure(trainer, module, data_module(stage, stage.scored), stage)
        if stage.searched is not None:
            say(f"{title}: searching {len(stage.searched)} training clips")
            gallery = measure(trainer, module, data_module(stage, stage.searched), stage)
            predictions = tasks.task_of(stage.board).searched(predictions, gallery)
    if trainer.is_global_zero:
        finish(plan, stage, predictions, tracked, trainer.world_size)
    trainer.strategy.barrier("stage done")


def learn(trainer: L.Trainer, module: Stage, stage: PlannedStage, title: str, tracked: Cost) -> None:
    """Trains the stage's weights, or reads them where that is done."""
    weights, spent = stage.folder / WEIGHTS, stage.folder / TRAINING_COST
    if weights.is_file():
        module.load_state_dict(torch.load(weights, weights_only=True))
        tracked.load_state_dict(json.loads(spent.read_text()))
        return
    with preemption.deferred():
        if stage.train is not None and isinstance(module, FittedStage):
            fit_once(trainer, module, stage, title, tracked)
        elif stage.train is not None:
            trainer.fit(module, datamodule=data_module(stage, stage.scored), ckpt_path=resumed(stage, title))
            share_buffers(module, trainer.world_size)
        validation = next((each for each in callbacks_of(trainer) if isinstance(each, Validation)), None)
        if validation is not None:
            say(f"{title}: {validation.outcome}")
        if trainer.is_global_zero and validation is not None:
            write_json(stage.folder / VALIDATION, validation.summary())
        if trainer.is_global_zero:
            write_json(spent, tracked.state_dict())
            checkpoints.save(module.state_dict(), weights)


def fit_once(trainer: L.Trainer, module: FittedStage[Any, Any], stage: PlannedStage, title: str, tracked: Cost) -> None:
    """Fits a stage that takes no steps."""
    began = time.monotonic()
    times = f", {stage.spec.epochs} windows each" if stage.spec.epochs > 1 else ""
    say(f"{title}: features of {len(stage.train or ())} clips{times}")
    with in_float32(trainer):
        found = fit(trainer, module, data_module(stage, None, TrainingClips), stable_hash("fit", stage.drawn))
    tracked.seconds += time.monotonic() - began
    tracked.clips += len(stage.train or ()) * stage.spec.epochs
    say(f"{title}: {found}")


def resumed(stage: PlannedStage, title: str) -> Path | None:
    """The checkpoint from which the training goes on; None: it begins."""
    cut_off = is_cut_off(stage.folder)
    checkpoint = checkpoints.newest_sound(stage.folder, lambda text: say(f"{title}: {text}"))
    if cut_off:
        say(f"{title}: goes on where it was cut off" if checkpoint else f"{title}: starts anew")
    return checkpoint


def finish(
    plan: Plan, stage: PlannedStage, predictions: tasks.Predictions | None, tracked: Cost, processes: int
) -> None:
    """Writes the record, and that the stage is done."""
    cost = stage_cost(stage, tracked, processes)
    if predictions is not None:
        write_record(plan, stage, predictions, cost)
    weights = stage.folder / WEIGHTS
    hash = file_hash(weights) if weights.is_file() else None
    labels = {"labels": file_hash(stage.folder / LABELS)} if stage.labelled else {}
    checkpoints.remove(stage.folder)  # the weights are there
    write_json(stage.folder / DONE, {"identity": stage.identity, "weights": hash, **labels, "cost": cost})


def data_module(stage: PlannedStage, scored: Manifest | None, kind: type[DataModule] = AVDataModule) -> DataModule:  # type: ignore[assignment]
    """The stage's clips to train on, and those of `scored` to go through once."""
    return kind(
        stage.train,
        scored,
        stage.config.data,
        batch_size=stage.config.batch_size,
        epochs=stage.config.epochs,
        seed=stage.spec.seed,
        views=stage.views,
        crops=stage.crops,
        extracted=stage.extracted_in,
        labels=stage.labelled_in,
        mixture=stage.mixture,
        validated=stage.validated,
    )


def write_config(config: BenchConfig, stage: PlannedStage) -> None:
    """`config.yaml`: all that the stage is determined by, as it was resolved."""
    resolved = {
        **{name: getattr(config, name) for name in ("method", "preset", "variant", "seed", "init")},
        **{name: asdict(getattr(config, name)) for name in ("trainer", "model")},
        "stages": {stage.name: asdict(stage.config)},
    }
    with replacing(stage.folder / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(resolved)))


def extract(trainer: L.Trainer, module: Stage, stage: PlannedStage, title: str) -> None:
    """Writes the features of the stage's clips, of those that an earlier run of it has not written."""
    assert stage.extracted is not None
    folder = stage.folder / FEATURES
    new = ~stage.extracted.table["clip_id"].isin(extracted_ids(folder))
    missing = replace(stage.extracted, table=stage.extracted.table[new].reset_index(drop=True))
    trainer.strategy.barrier("what is missing is known to all")
    if len(missing):
        say(f"{title}: extracts features of {len(missing)} of {len(stage.extracted)} clips")
        passed(trainer, module, data_module(stage, missing), Extract(folder))
        trainer.strategy.barrier("features written")


def label(trainer: L.Trainer, module: Stage, stage: PlannedStage, title: str) -> None:
    """Has the stage label the clips whose features it has extracted; the other processes wait for the first."""
    if trainer.is_global_zero:
        module.to(trainer.strategy.root_device)
        say(f"{title}: {write_labels(module, stage)}")
    trainer.strategy.barrier("labels written")


def measure(trainer: L.Trainer, module: Stage, data: AVDataModule, stage: PlannedStage) -> tasks.Predictions:
    """The stage's outputs for the clips of its board; the mean of all networks where it averages several."""
    assert stage.board is not None
    task, each = tasks.task_of(stage.board), []
    for weights in averaged(stage, type(module), stable_hash("stage", stage.drawn)):
        module.load_state_dict(weights)
        each.append(predict(trainer, module, data, task))
    if not each:
        return described(predict(trainer, module, data, task), stage)
    return mean_probability(stage.board, stage.config.modality, each, [stage.config.modality] * len(each))


def ensemble(stage: PlannedStage) -> tasks.Predictions:
    """The mean probability of the members' predictions."""
    assert stage.board is not None
    shape = tasks.task_of(stage.board).predictions
    each = [read_predictions(member.folder / PREDICTIONS, shape) for member in stage.members]
    modalities = [member.config.modality for member in stage.members]
    return mean_probability(stage.board, stage.config.modality, each, modalities)


def predict(trainer: L.Trainer, module: Stage, data: AVDataModule, task: tasks.Task[Any]) -> tasks.Predictions:
    """The stage's outputs for every clip it is measured on, gathered from all ranks, in the manifest's order."""
    collected = Collect(task)
    with in_float32(trainer):
        passed(trainer, module, data, collected)
    assert data.scored is not None
    return gathered(collected, data.scored.table["clip_id"], trainer.world_size)
