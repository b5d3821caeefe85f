"""Pseudo-labels: what a stage makes of the features that it has extracted, for the stages that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.errors import UserError
from bench.plan.graph import PlannedStage
from bench.plan.layout import FEATURES, LABELS
from datamodules.features.extracted import ExtractedFeatures
from datamodules.keyed import stable_hash
from datamodules.streams.pseudo_label import write_pseudo_labels
from experiments.common.stage import Stage


def write_labels(module: Stage, stage: PlannedStage) -> str:
    """Calls the stage's `pseudo_labels` and writes what it gives; returns what is reported of it.

    Raises:
        UserError: not one of its clips could be read, or these are no labels of the clips.
    """
    assert stage.extracted is not None
    listed = stage.extracted.table["clip_id"].sort_values(ignore_index=True)
    rows, features_NTD = ExtractedFeatures(stage.folder / FEATURES, listed).together()
    if not len(rows):
        raise UserError(f"stage {stage.name}: not one of the {len(listed)} clips to be labelled could be read")
    clip_ids = listed.iloc[rows].reset_index(drop=True)
    seed = stable_hash("labels", stage.drawn) % 2**32
    torch.manual_seed(seed)
    with torch.no_grad():
        given = module.eval().pseudo_labels(features_NTD, clip_ids, _splits(stage, clip_ids), seed)
    labels = checked(given, len(clip_ids), stage.labelled, f"{type(module).__name__}.pseudo_labels")
    write_pseudo_labels(stage.folder / LABELS, clip_ids, labels)
    unread = len(listed) - len(rows)
    return f"labels of the {len(rows)} clips of {'+'.join(stage.config.extract)}: {', '.join(labels)}" + (
        f"; {unread} that could not be read have none" if unread else ""
    )


def _splits(stage: PlannedStage, clip_ids: pd.Series) -> pd.Series:
    """[N] the split that each clip is of, the first of those that have it, as categories."""
    found = np.full(len(clip_ids), -1, np.int8)
    for number, clips in enumerate(stage.labelled_clips.values()):
        found[(found < 0) & clip_ids.isin(clips.table["clip_id"]).to_numpy()] = number
    return pd.Series(pd.Categorical.from_codes(found, list(stage.labelled_clips)))


def checked(given: Mapping[str, Any], clips: int, wanted: Mapping[str, int], what: str) -> dict[str, np.ndarray]:
    """Column -> [N] int64 labels.

    Args:
        given: what a stage's `pseudo_labels` returned.
        clips: how many were to be labelled.
        wanted: column -> how many classes the streams that read it have.
        what: gave it, for errors.

    Raises:
        UserError: a column is missing, or is not one whole number a clip from 0 to below its classes.
    """
    if missing := [column for column in wanted if column not in given]:
        raise UserError(
            f"{what} gives {', '.join(map(str, given)) or 'nothing'}, but streams read {', '.join(missing)}; set the "
            f"streams' column"
        )
    if "clip_id" in given:
        raise UserError(f"{what} gives labels called clip_id, as the column of ids is; call them otherwise")
    labels = {name: np.asarray(each.cpu() if isinstance(each, torch.Tensor) else each) for name, each in given.items()}
    for name, each in labels.items():
        if each.shape != (clips,) or each.dtype.kind not in "iu":
            raise UserError(
                f"{what} gives {name} of {each.dtype} {list(each.shape)} instead of one whole number for each of the "
                f"{clips} clips"
            )
        most = wanted.get(name)
        if each.min() < 0 or (most is not None and each.max() >= most):
            raise UserError(
                f"{what} gives {name} from {each.min()} to {each.max()}"
                + (f", and its streams read {most} classes: set their classes" if most is not None else ", below 0")
            )
    return {name: each.astype(np.int64) for name, each in labels.items()}
