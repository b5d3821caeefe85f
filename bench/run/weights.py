"""Where a stage's weights come from: the seed, the stages before, other people's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bench.config.starts import IMAGENET, RANDOM
from bench.errors import UserError, as_user_error
from bench.plan import cost
from bench.plan.graph import PlannedStage, epochs_between
from bench.plan.identity import checkpoints
from bench.plan.layout import WEIGHTS
from bench.run.callbacks import epoch_weights
from bench.run.compat import times_written
from bench.tasks import task_of
from datamodules.weight_files import read_checkpoint
from experiments.common.stage import Stage

SHOWN = 6
"""Names of an error."""


def build_module(stage: PlannedStage, stage_class: type[Stage], seed: int) -> Stage:
    """The stage's LightningModule: fresh from the seed, then with the weights it starts from, and its teacher."""
    torch.manual_seed(seed)
    with as_user_error(f"stage {stage.name}"):
        module = stage_class(stage.spec)
        drawn = versions(module)
        if stage.parent is not None:
            load(stage, module, mean_weights(stage) if stage.config.average_weights else read_weights(stage.parent))
        elif stage.start == IMAGENET:
            module.load_imagenet()
        if stage.teacher is not None:
            module.load_teacher(stage.teacher.spec, read_weights(stage.teacher))
    if files := checkpoints(stage.start):
        with as_user_error(f"stage {stage.name}: {files[0]}"):
            load(stage, module, read_checkpoint(str(files[0])))
    if stage.train is None and stage.start != RANDOM:
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
    """Checks that no output of a stage that does not train depends on weights that were drawn and never loaded.

    Parameters that its outputs do not depend on may be fresh (e.g. the branch of a modality that is not measured), and
    so may buffers (fixed positions).

    Args:
        stage: whose outputs are those that its board scores, or features.
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
    """The parameters on which the stage's outputs depend: those that a gradient of these would reach."""
    module = cost.build_on_meta(stage_class, stage.spec).eval().requires_grad_(True)
    parameters = dict(module.named_parameters())
    outputs = module.predict_step(cost.fake_batch(stage.spec, 1, "meta"), 0)
    if stage.board is None:
        given = [outputs["features"]]
    else:
        task = task_of(stage.board)
        scores = task.given(outputs).scores
        given = [scores[modality] for modality in task.scored_modalities(stage.config.modality)]
    total = torch.stack([each.float().sum() for each in given]).sum()
    if not total.requires_grad:  # it is computed without gradients, and may depend on any
        return set(parameters)
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


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
