"""The datasets that a stage trains on beside its own, each as if a stage trained on it alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.config.schema import MixtureConfig, PartConfig, StageConfig, StageObjects
from datamodules.source import Source

OWN = ("root", "packed", "media", "train_labels_file", "train_share")
"""Of `data`, what is of one dataset and means no other of the same stage."""


def as_stages(stage: StageConfig) -> dict[str, StageConfig]:
    """Part -> the stage as it would be, and would not be measured, if it trained on this part alone."""
    return {name: _alone(stage, name) for name in stage.mixture.parts}


def _alone(stage: StageConfig, name: str) -> StageConfig:
    part = stage.mixture.parts[name]
    alone = replace(
        stage,
        dataset=part.dataset,
        train=part.train,
        modality=part.modality or stage.modality,
        batch_size=part.batch_size or stage.batch_size,
        board=None,
        fold=0,
        mixture=MixtureConfig(),
        data=part.data,
    )
    return alone.carry(StageObjects(stage.objects.parts[name], None, stage.objects.stage_class))


def trained_on(stage: StageConfig) -> list[str]:
    """The datasets that a stage trains on with their splits, e.g. `fsd50k train+val`, its own first."""
    each: list[StageConfig | PartConfig] = [stage, *stage.mixture.parts.values()] if stage.train else []
    return [f"{part.dataset} {'+'.join(part.train)}" for part in each]


def where(stage: str, part: str) -> str:
    """The place of a part's settings."""
    return f"stages.{stage}.mixture.parts.{part}"


def sources_of(sources: Mapping[str, type[Source]], stage: str) -> dict[str, type[Source]]:
    """Part -> its dataset, of one stage.

    Args:
        sources: by stages, and by the places of parts' settings.
    """
    place = where(stage, "")
    return {key.removeprefix(place): source for key, source in sources.items() if key.startswith(place)}


def inherited(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of a stage's `data`, what holds for its parts too."""
    return {key: value for key, value in data.items() if key not in OWN}
