"""What of a dataset is there: the facts behind `bench data check`, one pass over all of its splits."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from datamodules.audio import LogMel
from datamodules.checks import Checks
from datamodules.clips import ClipDataset
from datamodules.keyed import stable_hash
from datamodules.loader import collate
from datamodules.manifest import (
    Exclusions,
    Files,
    Manifest,
    add_media,
    find_features,
    label_arrays,
    list_clips,
    reasons,
)
from datamodules.samplers import EVALUATION, ClipRef
from datamodules.source import DataError, MediaKind, Source
from datamodules.types import AudioInputs, Board, DataConfig, FeatureInputs, Inputs

LOG_MEL_CLIPS = 400
"""Clips whose log-mels are measured, drawn from the usable ones by a hash of their ids."""
NEEDS = {"sound": ("audio",), "pictures": ("video",), "both": ("audio", "video")}


@dataclass
class Usable:
    """The clips of a split that can be used for their sound, their pictures, or both."""

    clips: int
    coverage: float
    """Share of the official clips."""
    excluded: dict[str, int]
    examples: dict[str, list[str]]


@dataclass
class SplitFacts:
    """A split as it lies on the disk."""

    listed: int
    """Rows of the official file."""
    official: int
    """Clips of the official release; `listed` where it is not known."""
    malformed: list[str]
    usable: dict[str, Usable]
    silent: int
    still: int
    """Clips whose picture never changes; they are used."""
    with_text: int | None
    """Clips that say something; None where the dataset has no text."""
    with_features: dict[str, int]
    """Kind -> clips whose video has a feature file of it; of the kinds that were asked for."""
    clips_of_class: dict[str, int]


@dataclass
class LogMelFacts:
    """Of the log-mels of some clips, their padding left out."""

    clips: int
    mean: float
    std: float
    assumed_mean: float
    """What the dataset's configuration normalises with."""
    assumed_std: float
    sample_rate: int
    mel_bins: int


@dataclass
class Survey:
    """All that `bench data check` tells."""

    dataset: str
    root: str
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Split -> why its official file cannot be read."""
    shared_videos: list[dict[str, Any]] = field(default_factory=list)
    """Pairs of splits that have source videos in common."""
    log_mel: LogMelFacts | None = None
    boards: dict[str, str] = field(default_factory=dict)
    """Board -> why it cannot be measured; empty if it can."""


def survey(
    source: Source, checks: Checks, media: MediaKind | None, min_coverage: float, features: FeatureInputs | None = None
) -> Survey:
    """Looks at all splits of a dataset, whose files are judged or were judged before.

    Args:
        source: the dataset.
        checks: judges its media.
        media: what they are; None = as the source says.
        min_coverage: share of the official clips below which a board cannot be measured.
        features: feature files to look for.
    """
    found = Survey(source.name, str(source.root))
    videos: dict[str, pd.Series] = {}
    heard: list[pd.DataFrame] = []
    for split in source.splits:
        try:
            listed, files = list_clips(source, [split], Inputs())
            judged = checks.of(files.paths, f"checking {source.title} {split}")
        except DataError as error:
            found.problems[split] = str(error)
            continue
        table = listed.clips
        found.splits[split] = _split_facts(source, split, table, files, judged, listed.malformed, features)
        videos[split] = table["video_id"]
        add_media(table, files, judged, media or source.media, Exclusions(table["clip_id"]))
        heard.append(_drawn(table[(reasons(files, judged, "audio") == "") & (table["seconds"] > 0)]))
    found.shared_videos = _shared(source, videos)
    if heard:
        found.log_mel = _log_mel(source, _drawn(pd.concat(heard, ignore_index=True)))
    found.boards = {board.name: _obstacle(board, found, min_coverage) for board in source.boards}
    return found


def _split_facts(
    source: Source,
    split: str,
    table: pd.DataFrame,
    files: Files,
    judged: pd.DataFrame,
    malformed: list[str],
    features: FeatureInputs | None,
) -> SplitFacts:
    listed = len(table) + len(malformed)
    official = max(listed, source.official_size(split) or 0)
    usable = {}
    for name, kinds in NEEDS.items():
        exclusions = Exclusions(table["clip_id"])
        exclusions.add_rows(malformed)
        for kind in kinds:
            why = reasons(files, judged, kind)
            for reason in sorted(set(why.unique()) - {""}):
                exclusions.add(reason, why == reason)
        if official > listed:
            exclusions.counts["not listed"] = official - listed
        count = int(exclusions.none.sum())
        coverage = count / official if official else 0.0
        usable[name] = Usable(count, coverage, dict(exclusions.counts), exclusions.examples)
    _, labels = label_arrays(table["labels"])
    counts = np.bincount(labels, minlength=len(source.classes))
    still = judged["still"].reindex(files.rows["video"]).fillna(False)
    return SplitFacts(
        listed,
        official,
        malformed,
        usable,
        silent=int((reasons(files, judged, "audio") == "silent").sum()),
        still=int(still.sum()),
        with_text=_with_text(source, table),
        with_features=_with_features(source, table, features),
        clips_of_class=dict(zip(source.classes, counts.tolist(), strict=True)),
    )


def _with_text(source: Source, table: pd.DataFrame) -> int | None:
    if "text" in table:
        return int((table["text"].fillna("") != "").sum())
    captions = source.captions
    return None if captions is None else int(captions.rows(table["video_id"]).notna().sum())


def _with_features(source: Source, table: pd.DataFrame, wanted: FeatureInputs | None) -> dict[str, int]:
    if wanted is None:
        return {}
    found = find_features(source, wanted, table["video_id"])
    return {kind: len(paths) - paths.null_count for kind, paths in found.items()}


def _shared(source: Source, videos: dict[str, pd.Series]) -> list[dict[str, Any]]:
    """Source videos that two splits have in common, where one is not a part of the other by its making."""
    found = []
    for one, other in itertools.combinations(videos, 2):
        if (one, other) in source.nested or (other, one) in source.nested:
            continue
        both = pd.Index(videos[one].unique()).intersection(videos[other].unique())
        if len(both):
            clips = int(videos[other].isin(both).sum())
            pair = {"splits": [one, other], "videos": len(both), "clips": clips, "examples": sorted(both)[:5]}
            found.append(pair)
    return found


def _drawn(table: pd.DataFrame) -> pd.DataFrame:
    """At most `LOG_MEL_CLIPS` rows, by a hash of their ids: the same ones each time."""
    if len(table) <= LOG_MEL_CLIPS:
        return table
    few = table.sample(min(len(table), 20 * LOG_MEL_CLIPS), random_state=0)
    order = few["clip_id"].map(lambda clip: stable_hash("log-mel", clip)).sort_values().index
    return table.loc[order[:LOG_MEL_CLIPS]]


def _log_mel(source: Source, table: pd.DataFrame) -> LogMelFacts | None:
    """Mean and standard deviation over the frames of whole clips, as far as a method of this dataset hears them."""
    if table.empty:
        return None
    assumed = AudioInputs(**source.defaults.get("inputs", {}).get("audio", {}))
    manifest = Manifest(table.reset_index(drop=True), source.classes, source.multilabel, len(table))
    clips = ClipDataset(manifest, DataConfig(inputs=Inputs(assumed, None)), seed=0)
    log_mel = LogMel(assumed)
    count, total, squares = 0, 0.0, 0.0
    heard = 0
    for row in range(len(clips)):
        raw = collate([clips[ClipRef(row, EVALUATION)]])
        if raw is None:
            continue
        frames = int(log_mel.num_frames(raw["waveform_length"])[0])
        values = log_mel(raw["waveform"], raw["waveform_length"])[0, :frames].double()
        heard += 1
        count, total, squares = count + values.numel(), total + float(values.sum()), squares + float((values**2).sum())
    if not count:
        return None
    mean = total / count
    std = math.sqrt(max(0.0, squares / count - mean**2))
    return LogMelFacts(heard, mean, std, assumed.mean, assumed.std, assumed.sample_rate, assumed.mel_bins)


def _obstacle(board: Board, found: Survey, min_coverage: float) -> str:
    """Why a board cannot be measured with sound, nor with pictures; empty if it can with one of them."""
    scored = [f"fold{i + 1}" for i in range(board.folds)] or [board.split]
    for split in scored:
        if split in found.problems:
            return found.problems[split]
        facts = found.splits[split]
        best = max((facts.usable["sound"], facts.usable["pictures"]), key=lambda usable: usable.clips)
        if best.coverage < min_coverage or not best.clips:
            return (
                f"{best.clips} of the {facts.official} official clips of {split} can be used ({best.coverage:.1%}); "
                f"the least is data.min_coverage={min_coverage:g}"
            )
    return ""
