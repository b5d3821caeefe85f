"""The typed configuration: all that there is to set, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datamodules.boards import Board
from datamodules.frozen import Freezable
from datamodules.types import DataConfig
from experiments.common.optim import OptimConfig

if TYPE_CHECKING:
    from datamodules.source import Source
    from experiments.common.stage import Stage


@dataclass
class TrainerConfig(Freezable):
    """How the work is spread and saved. Of all this only `precision` and `grad_clip` are part of a result, and
    `device_batch` for losses that compare the clips of a batch."""

    accelerator: str = "auto"
    """`auto`, `gpu` or `cpu`."""
    devices: int = 1
    """Processes a node: GPUs, or CPU processes with `accelerator=cpu`. Under torchrun and srun theirs count."""
    nodes: int = 1
    """Machines; the same command runs on each, or torchrun or srun starts all."""
    precision: str = "auto"
    """`auto` is bf16-mixed on GPUs that have it and 32-true elsewhere; else Lightning's names."""
    device_batch: int = 0
    """The most clips that go through a device at once; 0 = its share of the batch. A larger share goes through in equal
    parts whose gradients are summed. Contrastive losses then see fewer negatives."""
    grad_clip: float = 0.0
    """Largest gradient norm; 0 = off."""
    checkpoint_activations: bool = False
    """Computes each block again in the backward pass in the place of keeping what it computed: less memory, about a
    third more time."""
    compile: bool = False
    """`torch.compile` of each block; the first steps take minutes, the others less."""
    checkpoint_every: int = 500
    """Steps between the checkpoints from which a killed run goes on."""
    wandb: str = ""
    """A project of Weights & Biases that gets the curves, too; empty = none."""


@dataclass(frozen=True)
class StageObjects:
    """What the names in a stage's configuration stand for."""

    source: type[Source]
    """Of `dataset`."""
    board: Board | None
    """Of `board`; None: the stage is not measured."""
    stage_class: type[Stage[Any, Any]] | None
    """Of `module`; None: an ensemble."""


@dataclass
class StageConfig(Freezable):
    """One stage of a method."""

    module: str | None = None
    """The `Stage` class in the method's `method.py`; an ensemble has none."""
    after: str | None = None
    """The stage whose weights it starts from."""
    average_weights: list[int] = field(default_factory=list)
    """[first, last]: it starts from the mean of `after`'s weights at the ends of these epochs (the first is 1)."""
    average_outputs: list[int] = field(default_factory=list)
    """[first, last]: it measures the mean probability of `after`'s weights at the ends of these epochs."""
    ensemble: list[str] = field(default_factory=list)
    """It measures the mean probability of these stages, which are measured on the same board."""
    init: str | None = None
    """A checkpoint to start from, or `imagenet`: what the network's library offers, which `init=FILE` replaces. Of a
    folder of checkpoints a stage that only measures measures the mean probability."""
    teacher: str | None = None
    """The stage whose network teaches this one."""
    features: dict[str, str] = field(default_factory=dict)
    """Modality -> the stage whose features of it are read, in the place of media."""
    extract: list[str] = field(default_factory=list)
    """Splits whose features it writes, for the stages that name it in `features`."""
    repeat: int = 0
    """Distinguishes repetitions of one stage, each of which draws its own random numbers."""
    on_request: bool = False
    """Runs only if `stage=` names it or what starts from it."""
    dataset: str = "???"
    train: list[str] = field(default_factory=list)
    """Splits to train on; none = the stage only measures."""
    modality: str = "av"
    """What it looks at: a, v, av, ..."""
    board: str | None = None
    """The board it is measured on after training."""
    fold: int = 0
    """On a board of folds: only this one; 0 = all, each as a stage of its own. `train: [rest]` names the others."""
    epochs: int = 1
    batch_size: int = 64
    """Clips of one optimiser step over all devices."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: float = 0.0
    """Decay a step of the moving mean of the weights, which is then the stage's result; 0 = the last step's weights."""
    options: Any = None
    """The stage class's own options."""
    data: DataConfig = field(default_factory=DataConfig)

    @property
    def objects(self) -> StageObjects:
        """What the stage's names stand for. It is no field: neither a setting nor part of records and identities."""
        found: StageObjects | None = vars(self).get("_objects")
        if found is None:
            raise RuntimeError("this stage was not composed: nobody has looked up what its names stand for")
        return found

    def carry(self, objects: StageObjects) -> StageConfig:
        """The same stage, from now on with what its names stand for."""
        vars(self)["_objects"] = objects
        return self


@dataclass
class BenchConfig(Freezable):
    """Everything a run is determined by."""

    method: str = "???"
    preset: str = "paper"
    variant: str = ""
    """A named set of changes from the method's `variants`, e.g. an ablation; shown on the boards."""
    seed: int = 0
    data_root: str | None = None
    """Folder with one folder a dataset; none = the sample data, made under `sample_root`."""
    sample_root: str = "data/sample"
    runs: str = "runs"
    """Folder of the runs."""
    leaderboards: str = "leaderboards"
    """Folder of records and boards."""
    store: str = ""
    """A folder or fsspec URL where records are shared, e.g. `s3://bucket/avl-bench`; each is copied there, too."""
    stage: list[str] = field(default_factory=list)
    """Only these stages and what they start from; empty = all."""
    init: str | None = None
    """A checkpoint for the stages named in `stage` that start from nothing; if there is none, for all that do."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    model: Any = None
    """The method's own model configuration."""
    data: DataConfig = field(default_factory=DataConfig)
    stages: dict[str, StageConfig] = field(default_factory=dict)
