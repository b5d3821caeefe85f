"""The typed configuration: all settings, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from datamodules.boards import Board
from datamodules.frozen import Freezable
from datamodules.parts import Schedule
from datamodules.types import DataConfig
from experiments.common.optim import OptimConfig

if TYPE_CHECKING:
    from datamodules.source import Source
    from experiments.common.stage import Stage


@dataclass
class TrainerConfig(Freezable):
    """How the work is spread and saved. Of these only `precision` and `grad_clip` affect a result, and
    `device_batch` if the loss compares the clips of a batch."""

    accelerator: str = "auto"
    """`auto`, `gpu` or `cpu`."""
    devices: int = 1
    """Processes a node: GPUs, or CPU processes with `accelerator=cpu`. torchrun and srun set it themselves."""
    nodes: int = 1
    """Machines; the same command is run on each, unless torchrun or srun starts all."""
    precision: str = "auto"
    """`auto`: bf16-mixed on GPUs that support it, 32-true elsewhere; or one of Lightning's names."""
    device_batch: int = 0
    """Largest number of clips in one pass on a device; 0 = its share of the batch. A larger share is split into equal
    parts whose gradients are summed. Contrastive losses then see fewer negatives."""
    grad_clip: float = 0.0
    """Largest gradient norm; 0 = off."""
    checkpoint_activations: bool = False
    """Computes each block again in the backward pass instead of keeping its activations: less memory, about a third
    more time."""
    compile: bool = False
    """`torch.compile` of each block; the first steps take minutes, the others less."""
    checkpoint_every: int = 500
    """Steps between the checkpoints from which a killed run resumes."""
    wandb: str = ""
    """Weights & Biases project to which curves are logged, too; empty = none."""


@dataclass
class ValidationConfig(Freezable):
    """How a stage's training is measured on clips that it does not learn from, and which epoch's weights it keeps."""

    split: str | None = None
    """Of the stage's dataset, e.g. `val`; none = nothing is validated. No split that a board scores: see
    `bench/plan/chosen_by.py`."""
    every: int = 1
    """Epochs from one validation to the next; the last epoch is always validated."""
    metric: str | None = None
    """What decides, a metric of the stage's board, e.g. `mAP`; none = the board's main one. `loss`: the mean of the
    stage's own loss, the lower the better, which needs no board."""
    keep: Literal["best", "last"] = "best"
    """The epoch whose weights are the stage's result: the best one (the first of equals), or the last."""
    patience: int = 0
    """Validations in a row without a new best one after which the training ends; 0 = it goes on to its last epoch."""


@dataclass(frozen=True)
class StageObjects:
    """What the names in a stage's configuration stand for."""

    source: type[Source]
    """Of `dataset`."""
    board: Board | None
    """Of `board`; None: the stage is not measured."""
    stage_class: type[Stage[Any, Any]] | None
    """Of `module`; None: an ensemble."""
    parts: dict[str, type[Source]] = field(default_factory=dict)
    """Of `mixture.parts`."""


@dataclass
class PartConfig(Freezable):
    """A further dataset that a stage trains on."""

    dataset: str = "???"
    train: list[str] = field(default_factory=list)
    """Splits of it to train on."""
    modality: str = ""
    """Modalities that are read of it; empty = the stage's."""
    labels: bool = True
    """Whether its labels are read; without, its clips count as unlabelled."""
    weight: float = 1.0
    """Its share of a batch's clips, or of the steps, in relation to those of the other datasets."""
    batch_size: int = 0
    """Clips of a step that is of this dataset alone, over all devices; 0 = the stage's."""
    data: DataConfig = field(default_factory=DataConfig)
    """As the stage's `data`, which holds here too, but for what says where its own dataset lies."""


@dataclass
class MixtureConfig(Freezable):
    """Which datasets a stage trains on beside its own, and how its steps go over them."""

    parts: dict[str, PartConfig] = field(default_factory=dict)
    """By name; the stage's own is called as its dataset."""
    schedule: Schedule = "shares"
    """`shares`: each batch has clips of all; `weighted`, `uniform`, `alternating`, `task_by_task`: each is of one."""
    weight: float = 1.0
    """Of the stage's own dataset."""
    steps: int = 0
    """Optimiser steps of an epoch; 0 = as many as go once through the stage's own clips."""


@dataclass
class StageConfig(Freezable):
    """One stage of a method."""

    module: str | None = None
    """The `Stage` class in the method's `method.py`; an ensemble has none."""
    after: str | None = None
    """The stage whose weights this one starts from."""
    average_weights: list[int] = field(default_factory=list)
    """[first, last]: the stage starts from the mean of `after`'s weights at the ends of these epochs (from 1)."""
    average_outputs: list[int] = field(default_factory=list)
    """[first, last]: the stage measures the mean probability of `after`'s weights at the ends of these epochs."""
    ensemble: list[str] = field(default_factory=list)
    """Stages of the same board whose mean probability is measured."""
    init: str | None = None
    """A checkpoint to start from, or `imagenet`: the library's weights, which `init=FILE` replaces. A stage that only
    measures may name a folder of checkpoints, whose mean probability is measured. `random`: a stage that extracts does
    so with weights as they are drawn."""
    teacher: str | None = None
    """The stage whose network teaches this one."""
    features: dict[str, str] = field(default_factory=dict)
    """Modality -> the stage whose extracted features are read instead of media."""
    extract: list[str] = field(default_factory=list)
    """Splits whose features the stage extracts, for the stages that name it in `features` or `labels`."""
    labels: dict[str, str] = field(default_factory=dict)
    """Stream of kind `pseudo_label` -> the stage that gives the clips these labels: its class's `pseudo_labels` makes
    them of the features that it extracts."""
    repeat: int = 0
    """Distinguishes repetitions of one stage, each of which draws its own random numbers."""
    on_request: bool = False
    """Whether the stage runs only if `stage=` names it or one that starts from it."""
    dataset: str = "???"
    train: list[str] = field(default_factory=list)
    """Splits to train on; none = the stage only measures."""
    modality: str = "av"
    """Modalities that the network looks at: a, v, av, ..."""
    board: str | None = None
    """The board on which the stage is measured after training."""
    fold: int = 0
    """On a board of folds: the fold to run; 0 = all, each as its own stage. `train: [rest]` means the other folds."""
    epochs: int = 1
    epochs_of: str | None = None
    """The stage whose best epoch is this one's last, for a training on all clips after one that was validated on some
    (TCaF); the schedule is still that of all `epochs`."""
    batch_size: int = 64
    """Clips of one optimiser step, over all devices."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: float = 0.0
    """Decay per step of the moving average of the weights, which is then the stage's result; 0 = the last weights."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    options: Any = None
    """The stage class's own options."""
    data: DataConfig = field(default_factory=DataConfig)

    @property
    def objects(self) -> StageObjects:
        """What the stage's names stand for. Not a field: neither a setting nor part of records and identities."""
        found: StageObjects | None = vars(self).get("_objects")
        if found is None:
            raise RuntimeError("this stage was not composed: its names have not been looked up")
        return found

    def carry(self, objects: StageObjects) -> StageConfig:
        """Attaches what the stage's names stand for, and returns the stage."""
        vars(self)["_objects"] = objects
        return self


@dataclass
class BenchConfig(Freezable):
    """Everything that determines a run."""

    method: str = "???"
    preset: str = "paper"
    variant: str = ""
    """One of the method's `variants`, a named set of changes such as an ablation; shown on the boards."""
    seed: int = 0
    data_root: str | None = None
    """Folder with one folder per dataset; none = the sample data, made under `sample_root`."""
    sample_root: str = "data/sample"
    runs: str = "runs"
    """Folder of the runs."""
    leaderboards: str = "leaderboards"
    """Folder of records and boards."""
    store: str = ""
    """Folder or fsspec URL to which records are copied as well, e.g. `s3://bucket/avl-bench`."""
    stage: list[str] = field(default_factory=list)
    """The stages to run, with those they start from; empty = all."""
    init: str | None = None
    """A checkpoint for the stages named in `stage` that have no parent; if there are none, for all without a parent."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    model: Any = None
    """The method's own model configuration."""
    data: DataConfig = field(default_factory=DataConfig)
    stages: dict[str, StageConfig] = field(default_factory=dict)
