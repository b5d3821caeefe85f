"""Where a stage's weights come from: the seed, the stages before, other people's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bench.callbacks import epoch_weights
from bench.errors import UserError, told_of
from bench.identity import IMAGENET, checkpoints
from bench.plan import WEIGHTS, PlannedStage, epochs_between
from experiments.common.stage import Stage


def build_module(stage: PlannedStage, stage_class: type[Stage], seed: int) -> Stage:
    """The stage's LightningModule: fresh from the seed, then with the weights it starts from, and its teacher."""
    torch.manual_seed(seed)
    with told_of(f"stage {stage.name}"):
        module = stage_class(stage.spec)
        if stage.parent is not None:
            start = mean_weights(stage) if stage.config.average_weights else read_weights(stage.parent)
            if stage_class is stage.parent.stage_class and stage.train is None:
                module.load_state_dict(start)  # measured as it is, head and all
            else:
                module.load_parent(start)
        elif stage.start == IMAGENET:
            module.load_imagenet()
        if stage.teacher is not None:
            module.load_teacher(stage.teacher.spec, read_weights(stage.teacher))
    if files := checkpoints(stage.start):
        with told_of(f"stage {stage.name}: {files[0]}"):
            module.load_parent(read_checkpoint(str(files[0])))
    return module


def averaged(stage: PlannedStage, stage_class: type[Stage], seed: int) -> Iterator[dict[str, Tensor]]:
    """The weights of the networks whose probabilities the stage averages: its parent's epochs, or a folder's files.

    There are none where it measures one network.
    """
    for epoch in epochs_between(stage.config.average_outputs):
        assert stage.parent is not None
        yield read_weights(stage.parent, epoch)
    files = checkpoints(stage.start)
    for file in files if len(files) > 1 else []:
        yield build_module(replace(stage, start=str(file)), stage_class, seed).state_dict()


def read_checkpoint(path: str) -> dict[str, Tensor]:
    """The weights in somebody's file, whether they lie under `model`, `state_dict` or nothing.

    Raises:
        ValueError: for a file that holds something else. Nothing but tensors and plain containers is ever unpacked.
    """
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:  # what is no such file fails in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"no file of weights that may be read (weights_only): {reason}") from error
    if isinstance(loaded, Mapping):
        loaded = loaded.get("model", loaded.get("state_dict", loaded))
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError("it holds no state dict (names and tensors)")
    return dict(loaded)


def read_weights(stage: PlannedStage, epoch: int | None = None) -> dict[str, Tensor]:
    """A finished stage's weights, or those of an epoch's end."""
    path = stage.folder / WEIGHTS if epoch is None else epoch_weights(stage.folder, epoch)
    if not path.is_file():
        raise UserError(
            f"{path} is not there; remove {stage.folder} and run again, so that {stage.name} is trained anew and "
            "keeps it"
        )
    return torch.load(path, weights_only=True, map_location="cpu")


def mean_weights(stage: PlannedStage) -> dict[str, Tensor]:
    """The mean of every entry of the parent's weights over epochs (PSLA, AST: batch norm's statistics, too)."""
    epochs = epochs_between(stage.config.average_weights)
    assert stage.parent is not None
    mean: dict[str, Tensor] = {}
    for epoch in epochs:
        for name, value in read_weights(stage.parent, epoch).items():
            if value.is_floating_point():
                mean[name] = mean.get(name, 0) + value.double() / len(epochs)
            else:
                mean[name] = value  # e.g. how many batches were seen
    return {name: value.float() if value.dtype == torch.float64 else value for name, value in mean.items()}
