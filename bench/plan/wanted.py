"""What a stage reads of its clips, and what these must have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from bench.config.schema import StageConfig
from datamodules.streams.known import looked_at
from datamodules.types import Inputs


def reading(stage: StageConfig, extracted: Collection[str]) -> StageConfig:
    """The stage without the inputs that are not read of its clips: those of a modality that it does not look at, or
    whose features (`extracted`) another stage extracts."""
    inputs = looked_at(stage.data.inputs, set(stage.modality) - set(extracted))
    return replace(stage, data=replace(stage.data, inputs=inputs)).carry(stage.objects)


def wanted_inputs(read: Inputs, theirs: Mapping[str, Inputs]) -> Inputs:
    """What the stage's clips must have: what is read of them, and what the stages that extract features read.

    Args:
        read: by the stage.
        theirs: modality -> by the stage that extracts its features.
    """
    return replace(
        read,
        audio=theirs["a"].audio if "a" in theirs else read.audio,
        video=theirs["v"].video if "v" in theirs else read.video,
    )
