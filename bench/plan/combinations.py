"""Combinations of settings that cannot work, refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from bench.config import mixtures
from bench.config.folds import scored_split, searched_splits
from bench.config.schema import BenchConfig, StageConfig
from bench.config.starts import NAMED, RANDOM
from bench.errors import UserError, unknown
from bench.plan import identity
from bench.plan.chosen_by import check_validation
from bench.plan.labels import check_labels
from bench.plan.mixture import check_mixture
from bench.plan.relations import check_zero_shot
from bench.tasks import known, task_of
from datamodules.errors import DataError
from datamodules.loading.rows import check_rows
from datamodules.loading.windows import check_windows
from datamodules.streams.kind import Stream
from datamodules.streams.known import streams_of
from datamodules.types import Modality


def check_combinations(config: BenchConfig, names: list[str]) -> None:
    """Checks the stages that are to be run.

    Raises:
        UserError: naming the key.
    """
    for name in names:
        stage, where = config.stages[name], f"stages.{name}"
        check_mixture(stage, where)
        alone = {where: stage} | {mixtures.where(name, part): each for part, each in mixtures.as_stages(stage).items()}
        for place, each in alone.items():
            _check_data(each, place)
            _check_mixup(each, place)
            _check_narration(each, place)
        check_labels(stage, where, _streams(stage, where), config.stages)
        check_validation(stage, where)
        check_zero_shot(config, name)
        _check_purpose(config, name, stage, where)
        if not 0 <= stage.ema < 1:
            raise UserError(f"{where}.ema={stage.ema}: a decay is at least 0 (off) and below 1, e.g. 0.9999")
        if stage.mixture.parts:
            continue  # how its batches divide is known with its clips: `mixture.py`
        processes = config.trainer.devices * config.trainer.nodes
        per_video = stage.data.narration.per_video if stage.objects.source.narrated else 1
        if stage.train and stage.batch_size % per_video:
            raise UserError(
                f"{where}.batch_size={stage.batch_size} counts clips, of which {where}.data.narration.per_video="
                f"{per_video} are of one video; it must be a multiple"
            )
        if stage.train and stage.batch_size // per_video % processes:
            raise UserError(
                f"{where}.batch_size={stage.batch_size}"
                + (f" (of {stage.batch_size // per_video} videos)" if per_video > 1 else "")
                + f" does not divide over trainer.devices x trainer.nodes = {processes}"
            )
        if stage.train and 0 < config.trainer.device_batch < per_video:
            raise UserError(
                f"trainer.device_batch={config.trainer.device_batch} is fewer than the "
                f"{where}.data.narration.per_video={per_video} clips of one video, which stay together"
            )
    used = {config.stages[name].dataset for name in names}
    used |= {part.dataset for name in names for part in config.stages[name].mixture.parts.values()}
    if config.data.root and len(used) > 1:
        raise UserError(
            f"data.root names one dataset's folder, but the stages use {', '.join(sorted(used))}; give the folder "
            f"above them as data_root=FOLDER, or choose stages of one dataset with stage=NAME"
        )
    if config.init and not Path(config.init).exists():
        raise UserError(f"init={config.init}: there is no such file")


def _check_data(stage: StageConfig, where: str) -> None:
    """Splits, board, modality and inputs fit the dataset and each other."""
    source = stage.objects.source
    for key in ("train", "extract"):
        for split in getattr(stage, key):
            if split not in source.splits:
                raise unknown(f"split of {stage.dataset} ({where}.{key})", split, source.splits)
    board = stage.objects.board
    if board is not None and board.dataset != stage.dataset:
        raise UserError(f"{where}.board: {board.name} is a board of {board.dataset}, not of {stage.dataset}")
    if stage.modality not in get_args(Modality):
        raise UserError(f"{where}.modality: {stage.modality!r} is not made of a, v, t and i, in this order")
    given = {stream.modality for stream in _streams(stage, where).values()}
    for letter in "avti":
        if letter in stage.modality and letter not in stage.features and letter not in given:
            raise UserError(f"{where}.modality is {stage.modality!r}, but data.inputs leaves {letter!r} out")
    _check_text(stage, where)
    _check_reading(stage, where)
    if not 0 < stage.data.train_share <= 1:
        raise UserError(f"{where}.data.train_share={stage.data.train_share:g}: a share is above 0 and at most 1 (all)")
    labels = stage.data.train_labels_file
    if stage.train and labels is not None and stage.data.packed:
        raise UserError(f"{where}.data.train_labels_file: a pack has its own labels; read the dataset's folder instead")
    if stage.train and labels is not None and not Path(labels).is_file():
        raise UserError(f"{where}.data.train_labels_file={labels}: there is no such file")
    if stage.data.loader.weighted_replacement and not stage.data.loader.weighted_draws:
        raise UserError(f"{where}.data.loader.weighted_replacement needs weighted_draws, e.g. -1")
    if strange := sorted(set(stage.features) - (set(stage.modality) & set("av"))):
        raise UserError(f"{where}.features.{strange[0]}: only a and v of the stage's modality can be features")


def _check_mixup(stage: StageConfig, where: str) -> None:
    """Whose labels are mixed, all of it is mixed that the stage looks at."""
    if not (stage.train and stage.data.augment.mixup):
        return
    setting = f"{where}.data.augment.mixup={stage.data.augment.mixup:g}"
    if stage.objects.source.narrated:
        raise UserError(f"{setting}: the clips of {stage.dataset} have no labels to be mixed; set it to 0")
    for stream in _streams(stage, where).values():
        read = not stream.modality or stream.modality in set(stage.modality) - stage.features.keys()
        if read and not stream.mixes:
            raise UserError(f"{setting}: labels would be mixed, but {stream.where} cannot be; set it to 0")
    for several in ("windows", "rows"):
        if getattr(stage.data.inputs, several):
            raise UserError(f"{setting}: clips with data.inputs.{several} cannot be mixed; set it to 0")
    own_class = stage.objects.stage_class
    if stage.features and own_class is not None and not own_class.mixes_features:
        raise UserError(f"{setting}: {stage.module} does not mix extracted features; set it to 0")


def _streams(stage: StageConfig, where: str) -> dict[str, Stream[Any]]:
    """What the stage's settings name to be read, whether it looks at it or not."""
    inputs = stage.data.inputs
    try:
        check_windows(inputs.windows)
        check_rows(inputs.rows)
        return streams_of(inputs)
    except DataError as error:
        raise UserError(f"{where}.{error}") from error


def _check_text(stage: StageConfig, where: str) -> None:
    """Captions and the names of classes are there if and only if they are read."""
    narrated = bool(stage.train) and stage.objects.source.narrated
    cut = stage.data.narration.cut
    if narrated and (cut == "windows") == ("t" in stage.modality):
        cure = f"leave t out of the modality {stage.modality!r}" if cut == "windows" else "cut=windows does without"
        raise UserError(
            f"{where}.data.narration.cut={cut}: {'no text' if cut == 'windows' else 'text'} is read; {cure}"
        )
    board = stage.objects.board
    names_classes = board is not None and task_of(board).names_classes
    text = stage.data.inputs.text
    read = "t" in stage.modality or names_classes
    if read and text and text.candidates != 1 and not (narrated and text.candidates > 1):
        raise UserError(
            f"{where}.data.inputs.text.candidates={text.candidates}: only clips that training cuts out of narrated "
            "videos have captions beside their own; set it to 1"
        )
    if read and text and text.tokenizer != "words" and not Path(text.file or "").is_file():
        raise UserError(
            f"{where}.data.inputs.text.file={text.file}: the tokenizer {text.tokenizer} needs its file; "
            f"name the one that you have with data.inputs.text.file=FILE"
        )
    if names_classes and text is None:
        raise UserError(
            f"{where}.data.inputs.text: {stage.board} compares clips with the names of classes; name a tokenizer"
        )


def _check_reading(stage: StageConfig, where: str) -> None:
    """What is read of whole sources and around seconds."""
    inputs, augment = stage.data.inputs, stage.data.augment
    if inputs.audio is not None and inputs.audio.reference == "source":
        if inputs.audio.kind != "decibel":
            raise UserError(
                f"{where}.data.inputs.audio.reference=source: only kind=decibel is relative to what is loudest"
            )
        if stage.train and (augment.roll_gain or augment.mixup):
            raise UserError(
                f"{where}.data.inputs.audio.reference=source: clips are cut of log-mels, and data.augment.roll_gain "
                f"and mixup change waveforms; leave these out, or set reference=clip"
            )
    board = stage.objects.board
    crops = stage.data.crops or (board.crops if board else 0)
    kept = any(getattr(stream.options, "short_side", 0) for stream in _streams(stage, where).values())
    if crops > 1 and "v" in set(stage.modality) - stage.features.keys() and not kept:
        raise UserError(
            f"{where}.data.crops: {crops} squares of each picture are to be scored, but pictures are resized to the "
            f"square; set {where}.data.inputs.video.short_side, or {where}.data.crops=1"
        )
    if board is not None and task_of(board).in_time and (inputs.windows or inputs.rows):
        raise UserError(
            f"{where}.data.inputs.windows: {board.name} is measured second by second; leave windows and rows out"
        )
    in_time = not stage.train and board is not None and task_of(board).in_time
    if inputs.features is not None and inputs.features.rows == "pooled" and not in_time:
        raise UserError(f"{where}.data.inputs.features.rows=pooled is by the seconds in which steps are to be found")


def _check_narration(stage: StageConfig, where: str) -> None:
    narration = stage.data.narration
    if stage.train and stage.objects.source.narrated and stage.data.inputs.rows:
        raise UserError(
            f"{where}.data.inputs.rows: clips are cut out of the videos of {stage.dataset}, which have no rows"
        )
    if narration.per_video < 1:
        raise UserError(f"{where}.data.narration.per_video={narration.per_video}: a video gives 1 clip or more")
    if narration.audio_shift < 0:
        raise UserError(f"{where}.data.narration.audio_shift={narration.audio_shift}: sound is read 0 s or more later")


def _check_purpose(config: BenchConfig, name: str, stage: StageConfig, where: str) -> None:
    """The stage has something to do, and something to do it with."""
    if not (stage.train or stage.board or stage.extract):
        raise UserError(f"{where}: neither trains (train is empty) nor measures (board is empty) nor extracts")
    if stage.train and stage.extract:
        raise UserError(f"{where}: trains and extracts; let another stage extract, with after={name}")
    if stage.ensemble:
        _check_ensemble(config, stage, where)
    if stage.ensemble or stage.average_outputs:
        _check_probabilities(stage, where)
    for key in ("average_weights", "average_outputs"):
        _check_average(config, stage, f"{where}.{key}", getattr(stage, key))
    if stage.average_outputs and (stage.train or stage.module != config.stages[str(stage.after)].module):
        raise UserError(f"{where}.average_outputs measures {stage.after}: give it the same module, and no train")
    extracting = {f"features.{modality}": other for modality, other in stage.features.items()}
    extracting |= {f"labels.{stream}": other for stream, other in stage.labels.items()}
    for key, other in extracting.items():
        if other in config.stages:
            _check_extracted(stage, f"{where}.{key}", other, config.stages[other])
    if stage.epochs_of:
        _check_epochs(stage, f"{where}.epochs_of={stage.epochs_of}", config.stages.get(stage.epochs_of))
    if stage.after or stage.ensemble:
        return
    start = identity.start(config, name)
    if start is None and not stage.train:
        raise UserError(f"stage {name} uses weights that it is given: init=FILE or {where}.init=FILE")
    if start == RANDOM and (stage.train or stage.board):
        raise UserError(
            f"{where}.init=random: random weights are for a stage that extracts; what trains draws its own, and what "
            f"is measured needs some that were trained"
        )
    if start is not None and start not in NAMED:
        _check_start(stage, f"{where}.init={start}", str(start))


def _check_start(stage: StageConfig, where: str, start: str) -> None:
    if not Path(start).exists():
        raise UserError(f"{where}: there is no such file")
    files = len(identity.checkpoints(start))
    if not files:
        raise UserError(f"{where}: this folder holds no checkpoint")
    if files > 1 and (stage.train or stage.extract):
        raise UserError(
            f"{where}: this folder holds {files} checkpoints, but only a stage that just measures averages any"
        )
    if files > 1:
        _check_probabilities(stage, where)


def _check_ensemble(config: BenchConfig, stage: StageConfig, where: str) -> None:
    if stage.train or stage.after or stage.board is None:
        raise UserError(f"{where}: an ensemble has a board, and neither train nor after")
    for member in stage.ensemble:
        other = config.stages.get(member)
        if other is not None and other.board != stage.board:
            raise UserError(f"{where}.ensemble: {member} is measured on {other.board}, not on {stage.board}")


def _check_probabilities(stage: StageConfig, where: str) -> None:
    board = stage.objects.board
    if board is None or not task_of(board).averages:
        those = ", ".join(name for name, board in known().items() if task_of(board).averages)
        raise UserError(f"{where}: probabilities can be averaged on boards of {those} only")


def _check_extracted(stage: StageConfig, where: str, name: str, other: StageConfig) -> None:
    if not other.extract:
        raise UserError(f"{where}: {name} extracts nothing (its extract is empty)")
    if other.dataset != stage.dataset:
        raise UserError(f"{where}: {name} extracts features of {other.dataset}, not of {stage.dataset}")
    board = stage.objects.board
    validated = [stage.validation.split] if stage.validation.split else []
    read = [*stage.train, *stage.extract, *validated, *([scored_split(stage, board)] if board else [])]
    if board and task_of(board).searches_training:
        read += searched_splits(stage, board)
    if missing := [split for split in read if split not in other.extract]:
        raise UserError(f"{where}: {name} extracts {'+'.join(other.extract)}, but {'+'.join(missing)} is read here")


def _check_epochs(stage: StageConfig, setting: str, other: StageConfig | None) -> None:
    if not stage.train:
        raise UserError(f"{setting}: the stage does not train")
    if other is None:  # which is reported with the names of all
        return
    if other.validation.split is None or other.validation.keep != "best":
        raise UserError(
            f"{setting}: its best epoch is this stage's last, and it chooses none; set its validation.split, and "
            f"validation.keep to best"
        )
    if other.epochs > stage.epochs:
        raise UserError(f"{setting}: it may choose epoch {other.epochs}, and this stage trains for {stage.epochs}")


def _check_average(config: BenchConfig, stage: StageConfig, where: str, span: list[int]) -> None:
    if not span:
        return
    if len(span) != 2 or not 1 <= span[0] <= span[1]:
        raise UserError(f"{where}={span}: give the first and the last epoch, counted from 1")
    parent = config.stages.get(stage.after or "")
    if parent is None:
        raise UserError(f"{where}: averages the weights of the stage in `after`, which is not set")
    if span[1] > parent.epochs or not parent.train:
        raise UserError(f"{where}={span}: {stage.after} trains for {parent.epochs} epochs")
    if parent.validation.patience or parent.epochs_of:
        setting = "validation.patience to 0" if parent.validation.patience else "epochs_of to null"
        raise UserError(f"{where}={span}: {stage.after} may end before; set stages.{stage.after}.{setting}")
