"""Where a stage's weights come from: the seed, the stages before, other people's files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import UserError, told_of
from bench.plan import cost
from bench.plan.graph import PlannedStage, epochs_between
from bench.plan.identity import IMAGENET, checkpoints
from bench.plan.layout import WEIGHTS
from bench.run.callbacks import epoch_weights
from bench.run.compat import times_written
from experiments.common.stage import Stage

WRAPPERS = ("model", "state_dict", "net")
"""Where training codes put the weights: MAE and its kin; Lightning, Everything at Once; AVLnet and MCN with apex."""

_SCALAR = np.float64(0).__reduce__()[0]
_PATHS = {
    "Posix": PurePosixPath,
    "PurePosix": PurePosixPath,
    "Windows": PureWindowsPath,
    "PureWindows": PureWindowsPath,
}
HARMLESS: tuple[Any, ...] = (
    argparse.Namespace,  # a command's arguments, in MAE's `util/misc.py` and all that grew from it
    *((kind, f"{module}.{name}Path") for name, kind in _PATHS.items() for module in ("pathlib", "pathlib._local")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # e.g. the best score so far
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")),
)
"""What a file may hold beside tensors and plain containers: to make one of these runs no code of the file's choice. A
path becomes one that opens nothing; the second names are those of Python 3.13 and NumPy 2."""

SHOWN = 6
"""Names of an error."""


def build_module(stage: PlannedStage, stage_class: type[Stage], seed: int) -> Stage:
    """The stage's LightningModule: fresh from the seed, then with the weights it starts from, and its teacher."""
    torch.manual_seed(seed)
    with told_of(f"stage {stage.name}"):
        module = stage_class(stage.spec)
        drawn = versions(module)
        if stage.parent is not None:
            load(stage, module, mean_weights(stage) if stage.config.average_weights else read_weights(stage.parent))
        elif stage.start == IMAGENET:
            module.load_imagenet()
        if stage.teacher is not None:
            module.load_teacher(stage.teacher.spec, read_weights(stage.teacher))
    if files := checkpoints(stage.start):
        with told_of(f"stage {stage.name}: {files[0]}"):
            load(stage, module, read_checkpoint(str(files[0])))
    if stage.train is None:
        require_loaded(stage, module, drawn)
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


def load(stage: PlannedStage, module: Stage, weights: Mapping[str, Tensor]) -> None:
    """Starts the stage from the weights; where it only measures its very own ones, head and all."""
    own = module.state_dict()
    same = own.keys() == weights.keys() and all(own[name].shape == value.shape for name, value in weights.items())
    if same and stage.train is None:
        module.load_state_dict(weights)
    else:
        module.load_parent(weights)


def versions(module: Stage) -> dict[str, int]:
    """How often each parameter was written: torch counts it, and loading is writing."""
    return {name: times_written(parameter) for name, parameter in module.named_parameters()}


def require_loaded(stage: PlannedStage, module: Stage, drawn: Mapping[str, int]) -> None:
    """Sees to it that a stage that does not train gives out nothing of weights that were drawn and never loaded.

    What its outputs do not depend on may be fresh (e.g. the branch of a modality that is not measured), and so may
    buffers (fixed positions).

    Args:
        stage: which gives out what its board scores, or features.
        module: after loading.
        drawn: its `versions` before.

    Raises:
        UserError: naming the parameters.
    """
    fresh = {name for name, written in versions(module).items() if written == drawn[name]}
    if fresh and (used := sorted(fresh & looked_at(stage, type(module)))):
        source = stage.start or (stage.parent and f"stage {stage.parent.name}")
        raise UserError(
            f"stage {stage.name} measures without training, and {len(used)} of its parameters would be random: "
            f"{', '.join(used[:SHOWN])}{', …' if len(used) > SHOWN else ''}. "
            + (
                f"{source} does not have them, or has them for other classes; give weights that do (init=FILE), or "
                f"train the stage (stages.{stage.name}.train)"
                if source
                else "Nothing gives it weights; name a file: init=FILE"
            )
        )


def looked_at(stage: PlannedStage, stage_class: type[Stage]) -> set[str]:
    """The parameters on which what the stage gives out depends: those that a gradient of it would reach."""
    module = cost.build_on_meta(stage_class, stage.spec).eval().requires_grad_(True)
    parameters = dict(module.named_parameters())
    outputs = module.predict_step(cost.fake_batch(stage.spec, 1, "meta"), 0)
    if stage.board is None:
        given = [outputs["features"]]
    elif stage.board.task == "retrieval":
        given = [outputs["embedding"][modality] for modality in (stage.board.query, stage.board.gallery)]
    else:
        given = [(outputs.get("logits") or outputs["probabilities"])[stage.config.modality]]
    total = torch.stack([each.float().sum() for each in given]).sum()
    if not total.requires_grad:  # it is computed without gradients, and may depend on any
        return set(parameters)
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def read_checkpoint(path: str) -> dict[str, Tensor]:
    """The weights in somebody's file, whether they lie under one of `WRAPPERS` or are all that it holds.

    Raises:
        ValueError: for a file that holds something else, or a class that is not in `HARMLESS`; says what to do.
    """
    loaded = _unpacked(path)
    if isinstance(loaded, Mapping):
        loaded = next((loaded[name] for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), loaded)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds no state dict (names and tensors), but a {type(loaded).__name__}")
    if others := [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"it holds no state dict (names and tensors): {', '.join(others[:8])} are no tensors. Weights are looked "
            f"for under {', '.join(WRAPPERS)} and, without these, at the top"
        )
    return dict(loaded)


def _unpacked(path: str) -> Any:
    try:
        with torch.serialization.safe_globals(list(HARMLESS)):
            return torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:  # what is no such file fails in any way
        raise ValueError(_reason(str(error) or type(error).__name__, path)) from error


def _reason(message: str, path: str) -> str:
    """What torch says of a file that it does not read, in one plain sentence."""
    if blocked := re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", message):
        return (
            f"it holds {blocked[1]}, whose code could do anything when it is unpacked, so it is not read. Where you "
            "trust it, write its weights alone into a file of their own and give that one; with the authors' code on "
            f"PYTHONPATH: python -c \"import torch; torch.save(torch.load({path!r}, map_location='cpu', "
            "weights_only=False)['model'], 'weights.pt')\" (or what else it calls them than model)"
        )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).partition("Check the documentation")[0]
    said = plain.rpartition("WeightsUnpickler error:")[2]
    return f"it is no file of weights that torch can read: {' '.join(said.split())}"


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
