"""What of a dataset is there: the facts behind `bench data check`, one pass over all of its splits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from datamodules.boards import Board
from datamodules.features.stored import find_features
from datamodules.keyed import stable_hash
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.loading.windows import seconds_needed
from datamodules.manifest.build import Listed, Manifest, label_arrays, list_clips, usable_clips
from datamodules.manifest.checks import Checks
from datamodules.manifest.placing import reasons
from datamodules.source import DataError, MediaKind, Source
from datamodules.streams.audio import LogMel
from datamodules.streams.known import only, streams_of
from datamodules.survey.facts import SHARES, SoundFacts, SplitFacts, Survey, Usable
from datamodules.survey.findings import NOTHING_OF_IT, findings
from datamodules.types import AudioInputs, DataConfig, FeatureInputs, Inputs, VideoInputs

LOG_MEL_CLIPS = 400
"""Clips whose log-mels and levels are measured, drawn from the usable ones by a hash of their ids."""
NEEDS = {
    "sound": Inputs(AudioInputs(), None),
    "pictures": Inputs(None, VideoInputs()),
    "both": Inputs(AudioInputs(), VideoInputs()),
}
PICTURE = "a picture"
"""What clips of a dataset of pictures need, whose files its own streams name."""
ALL_STREAMS = "all of these"


def survey(
    source: Source,
    checks: Checks,
    media: MediaKind | None,
    min_coverage: float,
    features: FeatureInputs | None = None,
    asked: Inputs | None = None,
) -> Survey:
    """Looks at all splits of a dataset, whose files are judged or were judged before.

    Args:
        source: the dataset.
        checks: judges its media.
        media: what they are; None = as the source says.
        min_coverage: share of the official clips below which a board cannot be measured.
        features: feature files to look for.
        asked: streams that are to be read, each of which is reported by itself too.
    """
    streams, needs = _needs_of(asked or Inputs(None, None)), _own_needs(source)
    found = Survey(source.name, str(source.root), source.is_sample)
    videos: dict[str, pd.Series] = {}
    heard: list[pd.DataFrame] = []
    for split in source.splits:
        try:
            listed = list_clips(source, [split], NEEDS["both"])
            judged = checks.of(listed.files.paths, f"checking {source.title} {split}")
        except DataError as error:
            found.problems[split] = str(error)
            continue
        # Whole videos are counted, not their seconds.
        listed = listed._replace(official=replace(listed.official, segments=None))
        read = {name: _read_as(source, listed, judged, inputs, checks, media) for name, inputs in streams.items()}
        found.splits[split], sound = _split_facts(source, split, listed, judged, checks, media, features, read, needs)
        videos[split] = listed.official.clips["video_id"]
        heard.append(_drawn(sound))
    found.shared_videos = _shared(source, videos)
    if heard:
        found.log_mel = _sound_facts(source, _drawn(pd.concat(heard, ignore_index=True)))
    found.unread = [name for name in streams if not any(facts.streams[name].clips for facts in found.splits.values())]
    found.findings = findings(found)
    found.boards = {board.name: _obstacle(board, found, min_coverage) for board in source.boards}
    return found


def _own_needs(source: Source) -> dict[str, Inputs]:
    """What is reported of all clips."""
    own = source.defaults.get("inputs", {}).get("streams")
    return ({PICTURE: Inputs(None, None, streams=own)} if own else {}) | NEEDS


def _needs_of(asked: Inputs) -> dict[str, Inputs]:
    """What is reported of the streams: each by itself, and all of them together."""
    each = {name: only(asked, name) for name in streams_of(asked)}
    return each | ({ALL_STREAMS: asked} if len(each) > 1 else {})


def _read_as(
    source: Source, listed: Listed, judged: pd.DataFrame, inputs: Inputs, checks: Checks, media: MediaKind | None
) -> Usable:
    """The clips that have what some streams read; none, with an example of why, where nothing in the split can."""
    try:
        return _usable(usable_clips(source, listed, judged, inputs, checks, media).at_least(seconds_needed(inputs)))
    except DataError as error:
        clips = len(listed.official.clips)
        return Usable(0, clips, 0.0, {NOTHING_OF_IT: clips}, {NOTHING_OF_IT: [str(error)]})


def _split_facts(
    source: Source,
    split: str,
    listed: Listed,
    judged: pd.DataFrame,
    checks: Checks,
    media: MediaKind | None,
    features: FeatureInputs | None,
    streams: dict[str, Usable],
    needs: dict[str, Inputs],
) -> tuple[SplitFacts, pd.DataFrame]:
    """The facts, and the clips that can be heard."""
    clips, files = listed.official.clips, listed.files
    manifests = {need: usable_clips(source, listed, judged, inputs, checks, media) for need, inputs in needs.items()}
    usable = {need: _usable(manifest) for need, manifest in manifests.items()}
    need = (
        "both"
        if usable["both"].clips
        else max((name for name in needs if name != "both"), key=lambda need: usable[need].clips)
    )
    best = manifests[need]
    _, labels = label_arrays(best.table["labels"])
    counts = np.bincount(labels, minlength=len(source.classes))
    lengths = clips["end"] - clips["start"]
    still = judged["still"].reindex(files.rows["video"]).eq(True)
    facts = SplitFacts(
        listed=len(clips) + len(listed.official.malformed),
        official=best.official,
        overlong=best.overlong,
        malformed=listed.official.malformed,
        usable=usable,
        need=need,
        seconds=quantiles(best.table["seconds"]),
        listed_seconds=float(lengths.median()) if len(lengths) and np.isfinite(lengths).all() else None,
        short=best.short,
        clips_of_class=dict(zip(source.classes, counts.tolist(), strict=True)),
        silent=int((reasons(files, judged, "audio") == "silent").sum()),
        still=int(still.sum()),
        with_text=_with_text(source, clips),
        with_features=_with_features(source, clips, features),
        streams=streams,
        scored={board.name: _scored(board, manifests) for board in source.boards if split in board.splits},
    )
    return facts, manifests["sound"].table


def quantiles(values: Sequence[float] | pd.Series) -> list[float]:
    """The quantiles `SHARES` of finite numbers; none of no numbers."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return np.quantile(finite, SHARES).tolist() if len(finite) else []


def _usable(manifest: Manifest) -> Usable:
    return Usable(len(manifest), manifest.official, manifest.coverage, manifest.excluded, manifest.examples)


def _scored(board: Board, manifests: dict[str, Manifest]) -> Usable:
    """The clips that the board scores: with what its queries and gallery look at, else with whatever has more."""
    looked_at = {need for need, letter in (("sound", "a"), ("pictures", "v")) if letter in board.task.looked_at}
    needs = ["both"] if len(looked_at) > 1 else sorted(looked_at) or [name for name in manifests if name != "both"]
    best = max((manifests[need] for need in needs), key=len)
    return _usable(best.first_of_each_class(board.per_class) if board.per_class else best)


def _with_text(source: Source, table: pd.DataFrame) -> int | None:
    if "text" in table:
        return int((table["text"].fillna("") != "").sum())
    captions = source.captions
    return None if captions is None else int(captions.rows(table["video_id"]).notna().sum())


def _with_features(source: Source, table: pd.DataFrame, wanted: FeatureInputs | None) -> dict[str, int]:
    if wanted is None:
        return {}
    found = find_features(wanted, source.root, table)
    return {kind: int(paths.notna().sum()) for kind, paths in found.items()}


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


def _sound_facts(source: Source, table: pd.DataFrame) -> SoundFacts | None:
    """Of whole clips, as far as a method of this dataset hears them."""
    if table.empty:
        return None
    assumed = AudioInputs(**source.defaults.get("inputs", {}).get("audio", {}))
    manifest = Manifest(table.reset_index(drop=True), source.classes, source.multilabel, len(table))
    clips = ClipDataset(manifest, DataConfig(inputs=Inputs(assumed, None)), seed=0)
    log_mel = LogMel(assumed)
    count, total, squares = 0, 0.0, 0.0
    levels: list[float] = []
    for row in range(len(clips)):
        raw = collate([clips[ClipRef(row, EVALUATION)]])
        if raw is None:
            continue
        frames = int(log_mel.num_frames(raw["audio_length"])[0])
        values = log_mel(raw["audio"], raw["audio_length"])[0, :frames].double()
        count, total, squares = count + values.numel(), total + float(values.sum()), squares + float((values**2).sum())
        power = float(raw["audio"][0, : int(raw["audio_length"][0])].double().square().mean())
        levels.append(10 * math.log10(max(power, 1e-20)))
    if not count:
        return None
    mean = total / count
    std = math.sqrt(max(0.0, squares / count - mean**2))
    rate, bins = assumed.sample_rate, assumed.mel_bins
    return SoundFacts(len(levels), mean, std, assumed.mean, assumed.std, rate, bins, quantiles(levels))


def _obstacle(board: Board, found: Survey, min_coverage: float) -> str:
    """Why a board cannot be measured; empty if it can."""
    for split in board.splits:
        if split in found.problems:
            return found.problems[split]
        scored = found.splits[split].scored[board.name]
        if scored.coverage < min_coverage or not scored.clips:
            return (
                f"{scored.clips} of the {scored.official} official clips of {split} can be used "
                f"({scored.coverage:.1%}); the least is data.min_coverage={min_coverage:g}"
            )
    return ""
