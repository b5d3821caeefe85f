"""A dataset of a few clips whose table is said by the test, and what is read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.source import Official, Source, class_lists
from datamodules.types import AugmentConfig, DataConfig, Inputs, RowsConfig, WindowConfig


class Made(Source):
    """Clips whose media are called as they are.

    Args:
        root: the folder.
        clips: columns beside the usual ones, in the order of the clips.
        seconds: of each clip; None = until its file ends.
    """

    name = "made"
    title = "Made"
    folders = ("made",)
    splits = ("all",)
    boards = ()
    classes = ("zero", "one", "two")

    def __init__(self, root: Path, clips: Mapping[str, Any], seconds: float | None = None):
        super().__init__(root, root / "cache")
        self.clips, self.seconds = clips, float("inf") if seconds is None else seconds

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    def read_split(self, split: str) -> Official:
        clips = pd.DataFrame({"clip_id": pd.Series(self.clips["clip_id"], dtype="str")})
        clips["video_id"], clips["start"], clips["end"] = clips["clip_id"], 0.0, self.seconds
        clips["labels"] = class_lists([[number % 3] for number in range(len(clips))])
        for name, column in self.clips.items():
            clips[name] = column
        return Official(clips, [clips["clip_id"]])


def inputs_of(
    windows: Mapping[str, WindowConfig] | None = None, rows: Mapping[str, RowsConfig] | None = None, **streams: Any
) -> Inputs:
    """Streams by name, each the settings of its kind."""
    return Inputs(None, None, streams=streams, windows=dict(windows or {}), rows=dict(rows or {}))


def manifest_of(source: Source, inputs: Inputs) -> Manifest:
    return build_manifest(source, ["all"], inputs, Checks(source.root / "checks", workers=1))


def clips_of(manifest: Manifest, inputs: Inputs, **settings: Any) -> ClipDataset:
    return ClipDataset(manifest, DataConfig(inputs=inputs, **settings), seed=0)


def batch_of(
    source: Source,
    inputs: Inputs,
    epoch: int = EVALUATION,
    augment: AugmentConfig | None = None,
    rows: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """What a method sees of the clips; in training where there is an epoch."""
    return batch_from(manifest_of(source, inputs), inputs, epoch, augment, rows)


def batch_from(
    manifest: Manifest,
    inputs: Inputs,
    epoch: int = EVALUATION,
    augment: AugmentConfig | None = None,
    rows: Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """The same of a manifest's clips."""
    augment = augment or AugmentConfig()
    clips = clips_of(manifest, inputs, augment=augment)
    raw = collate([clips[ClipRef(row, epoch)] for row in (range(len(clips)) if rows is None else rows)])
    assert raw is not None
    return dict(Features(inputs, augment)(raw, train=epoch != EVALUATION))
