"""What a stage would trip over after hours of training, found before anything is trained: weights of the stage before
it that do not fit, outputs that its board does not measure, features that it does not give out. On the meta device,
which has shapes and no values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench import registry
from bench.config.compose import compose
from bench.errors import UserError, as_user_error
from bench.plan import cost
from bench.plan.graph import Plan, PlannedStage
from bench.run.weights import load
from bench.tasks import task_of
from experiments.common.stage import Stage

NOT_HERE = ("meta", "attached to a `Trainer`")
"""What an error says that only comes from there being no values, or no Trainer."""


def rehearse(plan: Plan) -> None:
    """Each stage that is not done takes the weights of the stages that it uses, and gives out what its board measures.

    Raises:
        UserError: it cannot; the message names the stage.
    """
    networks: dict[str, Stage] = {}

    def network(stage: PlannedStage) -> Stage:
        """As the stage leaves it, or as it is built, which has the same names and shapes."""
        if stage.name not in networks:
            assert stage.stage_class is not None
            networks[stage.name] = cost.build_on_meta(stage.stage_class, stage.spec)
        return networks[stage.name]

    for stage in plan.stages:
        if stage.done or stage.stage_class is None:
            continue
        with as_user_error(f"stage {stage.name}"), _naming_others(plan, stage):
            module = network(stage)
            with _without_values(stage):
                if stage.parent is not None:
                    load(stage, module, network(stage.parent).state_dict())
                if stage.teacher is not None:
                    module.load_teacher(stage.teacher.spec, network(stage.teacher).state_dict())
                _extract(stage, module)
                _measure(stage, module)


def _extract(stage: PlannedStage, module: Stage) -> None:
    if stage.extracted is None:
        return
    given = cost.predict_on_meta(module, stage.spec)
    if "features" not in given:
        raise UserError(f"stage {stage.name} extracts features; predict_step gives out {', '.join(given)}")


def _measure(stage: PlannedStage, module: Stage) -> None:
    if stage.board is None:
        return
    task = task_of(stage.board)
    scores = task.given(cost.predict_on_meta(module, stage.spec)).scores
    missing = [each for each in task.scored_modalities(stage.config.modality) if each not in scores]
    if missing:
        raise UserError(
            f"stage {stage.name}: {stage.board.name} measures {', '.join(missing)}; predict_step gives out "
            f"{', '.join(scores)}"
        )


@contextmanager
def _naming_others(plan: Plan, stage: PlannedStage) -> Iterator[None]:
    """Adds to an unknown modality which ones the stages of the same class have."""
    try:
        yield
    except cost.UnknownModality as error:
        file = registry.method_folder(plan.config.method) / "config.yaml"
        alike = [each for each in compose(plan.config.method).stages.values() if each.module == stage.config.module]
        known = ", ".join(sorted({each.modality for each in alike}))
        raise UserError(f"stage {stage.name}: {error}; in {file} its stages have {known or 'none'}") from error


@contextmanager
def _without_values(stage: PlannedStage) -> Iterator[None]:
    """Leaves to the stage itself what cannot be done without values."""
    try:
        with torch.device("meta"), torch.no_grad():
            yield
    except (NotImplementedError, RuntimeError, TypeError) as error:
        if any(words in str(error) for words in NOT_HERE):
            return
        if type(error) is not NotImplementedError:
            raise
        what = str(error) or f"{stage.config.module} is measured, but has no predict_step"
        raise UserError(f"stage {stage.name}: {what}") from error
