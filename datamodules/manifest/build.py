"""Official list + what is on the disk -> the manifest: the clips that can be used, and why the others cannot."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.manifest.checks import Checks
from datamodules.manifest.exclusions import EXAMPLES, MALFORMED, NOT_LISTED, Exclusions, explain_exclusions
from datamodules.manifest.placing import (
    LENGTH_TOLERANCE,
    WHICH_SECONDS,
    Files,
    find_files,
    offsets,
    reasons,
    sound_seconds,
)
from datamodules.manifest.seconds import seconds_of, steps_of
from datamodules.source import DataError, MediaKind, Official, Source, class_lists, each_once
from datamodules.source.captions import Captions
from datamodules.streams.known import columns_of, media_of, streams_of
from datamodules.streams.reading import NamedFiles
from datamodules.table import arrow
from datamodules.types import Inputs, NarrationConfig

TRUTH = ("boxes", "ignored")
"""Columns that tasks compare with, where a dataset has them."""
LENGTH_ROUNDING = 1e-6
"""Seconds."""


def none_left_out() -> pd.DataFrame:
    """`Manifest.left_out` where all clips can be used."""
    none = pd.Series([], dtype="str")
    return pd.DataFrame({"clip_id": none, "labels": class_lists([]), "reason": none})


class Packed(Protocol):
    """Where packed clips lie: a `datamodules.packing.shards.Pack`."""

    formats: dict[str, Any]
    """Split -> how its clips are stored, a dataclass."""

    @property
    def url(self) -> str: ...

    def clip(self, row: dict[str, Any]) -> Any:
        """The packed clip of a row of the manifest's table."""
        ...


@dataclass
class Manifest:
    """The usable clips of one or several splits, as one table (never a Python object a clip)."""

    table: pd.DataFrame
    """Columns: clip_id, video_id, start, end, labels, audio_path, video_path, audio_offset and video_offset (where in
    these files the clip begins, seconds), seconds (how much of it there is), sound_seconds (how much sound there is:
    that of a cut file may go on past the clip's end, as a codec's last block does); text, where the dataset has one;
    caption_row, where captions are wanted; video_feat_<kind>, where features are wanted. Where steps are to be found in
    time a row is a second: group is its video, and video_seconds how long that is."""
    classes: list[str]
    multilabel: bool
    official: int
    """Clips of the official release, malformed rows included."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Reason -> number of clips."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the first few clips or rows."""
    left_out: pd.DataFrame = field(default_factory=none_left_out)
    """The clips that the official files list and that cannot be used: clip_id, labels, reason."""
    overlong: int = 0
    """Listed clips beyond those of the official release, such as rows that somebody has added."""
    sample: bool = False
    """Whether this is made-up sample data."""
    narrated: bool = False
    """Whether a row is a video, out of which training cuts clips."""
    captions: Captions | None = None
    """What is said in narrated videos, where text is wanted."""
    steps: dict[str, list[int]] = field(default_factory=dict)
    """Group -> the classes that are to be found in it, in their order."""
    pack: Packed | None = None
    """Where the clips lie, if they were packed; the table then has the columns `shards.WHERE` instead of paths."""
    described: tuple[str, ...] = ()
    """Columns of the official files, beside labels and text, with what is read or measured of the clips: what happens
    in them when, answers, the names of masks."""
    relevance: np.ndarray | None = None
    """[C, C] what a clip of one class is worth to a query of another, where the dataset says so
    (`Source.class_relevance`)."""

    def __len__(self) -> int:
        return len(self.table)

    def once_each(self) -> Manifest:
        """Each clip in one row, whose text is its captions, one a line; it is called as with the first of them."""
        table = self.table
        same = [table[name] for name in ("video_id", "start", "end")]
        first = ~table.duplicated([column.name for column in same])
        if "text" in table:
            lines = table["text"].str.replace("\n", " ", regex=False)
            joined = lines.groupby([column.to_numpy() for column in same], sort=False).agg("\n".join)
            table = table.assign(text=table["text"].where(~first, pd.Series(joined.to_numpy(), table.index[first])))
        return replace(self, table=table[first].reset_index(drop=True))

    def clips_a_row(self, narration: NarrationConfig) -> int:
        """Training clips that a row gives: several of a narrated video."""
        return narration.per_video if self.narrated else 1

    @property
    def used(self) -> int:
        """How many of the official clips can be used; a video counts once, however many seconds it has."""
        return len(self.steps) or len(self)

    @property
    def coverage(self) -> float:
        """Share of the official clips that can be used."""
        return self.used / self.official if self.official else 0.0

    @property
    def short(self) -> int:
        """Clips of which there is clearly less than their segment, as where a whole video ends within it."""
        table = self.table
        there = table[["seconds", "sound_seconds"]].min(axis=1) if "sound_seconds" in table else table["seconds"]
        return int((there < table["end"] - table["start"] - LENGTH_TOLERANCE)[np.isfinite(table["end"])].sum())

    def at_least(self, seconds: float) -> Manifest:
        """The clips of which there are so many seconds; the others are left out, and counted as too short."""
        short = self.table["seconds"] < seconds - LENGTH_ROUNDING
        return self._without(short, f"shorter than its windows need ({seconds:g} s)")

    def within(self, other: Manifest, otherwise: str) -> Manifest:
        """The clips that `other` has, too; the others are left out, and counted as what is said of them otherwise."""
        return self._without(~self.table["clip_id"].isin(other.table["clip_id"]), otherwise)

    def _without(self, these: pd.Series, reason: str) -> Manifest:
        """Leaves out the clips of a boolean mask, if there are any."""
        if not these.any():
            return self
        gone = self.table[these]
        left_out = pd.concat([self.left_out, gone[["clip_id", "labels"]].assign(reason=reason)], ignore_index=True)
        return replace(
            self,
            table=self.table[~these].reset_index(drop=True),
            excluded=dict(sorted((self.excluded | {reason: len(gone)}).items())),
            examples=self.examples | {reason: gone["clip_id"].head(EXAMPLES).tolist()},
            left_out=left_out,
        )

    def first_of_each_class(self, count: int) -> Manifest:
        """The clips that are among the first `count` of any of their classes by id.

        They are chosen among all that are listed, whether they can be used or not, so that no clip takes the place of
        one that is missing; official, excluded and coverage are those of the chosen ones. Rows that are malformed or
        not listed count as before: they might be chosen too.
        """
        mine = self.table[["clip_id", "labels"]].assign(reason="")
        unnamed = self.official - len(mine) - len(self.left_out)
        if unnamed != sum(self.excluded.get(reason, 0) for reason in (MALFORMED, NOT_LISTED)):
            raise DataError(
                "which clips are scored depends on all that are listed; this pack is older and does not say which were "
                "left out: pack the dataset again"
            )
        listed = pd.concat([mine, self.left_out], ignore_index=True).sort_values("clip_id", ignore_index=True)
        counts, labels = label_arrays(listed["labels"].astype(mine["labels"].dtype))
        rows = np.repeat(np.arange(len(listed)), counts)
        place = pd.Series(labels).groupby(labels).cumcount().to_numpy()
        chosen = listed.loc[np.unique(rows[place < count])]
        left_out = chosen[chosen["reason"] != ""].reset_index(drop=True)
        excluded = Counter(left_out["reason"])
        excluded |= {reason: n for reason, n in self.excluded.items() if reason in (MALFORMED, NOT_LISTED)}
        examples = {why: some["clip_id"].head(EXAMPLES).tolist() for why, some in left_out.groupby("reason")}
        return replace(
            self,
            table=self.table[self.table["clip_id"].isin(chosen["clip_id"])].reset_index(drop=True),
            official=len(chosen) + unnamed,
            excluded=dict(sorted(excluded.items())),
            examples={name: rows for name, rows in self.examples.items() if name in excluded} | examples,
            left_out=left_out,
        )

    @property
    def fingerprint(self) -> str:
        """Hash of ids, labels, class names, their relevance, texts and what else is `described` or known of them: equal
        if and only if the same clips are used with the same of each."""
        described = sorted({*self.described, *TRUTH})
        digest = hashlib.sha256("\x1e".join(self.classes).encode())
        ordered = self.table[[name for name in ("clip_id", "labels", "text", *described) if name in self.table]]
        ordered = ordered.sort_values("clip_id")
        counts, flat = label_arrays(ordered["labels"])
        digest.update("\x1e".join(ordered["clip_id"]).encode())
        for numbers in (counts, flat):
            digest.update(b"\x1d" + numbers.astype("<i4").tobytes())
        if "text" in ordered:
            digest.update("\x1e".join(ordered["text"].fillna("")).encode())
        if self.relevance is not None:
            digest.update(b"\x1b" + self.relevance.astype("<i4").tobytes())
        if self.captions is not None:
            digest.update(self.captions.fingerprint.encode())
        for name in (name for name in described if name in ordered):
            digest.update(f"\x1c{name}\x1d{json.dumps(arrow(ordered[name]).to_pylist())}".encode())
        return digest.hexdigest()[:16]


def label_arrays(labels: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """(number of labels of each clip, all labels one after the other) of a column of type `LABELS`."""
    lists = arrow(labels)
    return pc.list_value_length(lists).to_numpy(), pc.list_flatten(lists).to_numpy().astype(np.int64)


def build_manifest(
    source: Source, splits: Sequence[str], inputs: Inputs, checks: Checks, media: MediaKind | None = None
) -> Manifest:
    """Reads the official lists, finds the media and checks every file that is needed.

    Where a clip has a sound file beside its video file, sound is read from the former and frames from the latter.

    Args:
        source: the dataset.
        splits: one or several of its splits, joined in this order.
        inputs: what the clips must have.
        checks: judges the files, or remembers how they were judged.
        media: what the files are; None = as the source says.

    Raises:
        DataError: for a split that does not exist, or has no usable clip at all.
    """
    listed = list_clips(source, splits, inputs)
    judged = checks.of(listed.files.paths, f"checking {source.title} {'+'.join(splits)}")
    manifest = usable_clips(source, listed, judged, inputs, checks, media)
    if manifest.table.empty:
        what = " and ".join(streams_of(inputs))
        reasons = explain_exclusions(manifest.excluded, manifest.examples)
        raise DataError(
            f"{source.title} {'+'.join(splits)} in {source.root}: none of the {manifest.official} official clips can "
            f"be used with {what}: {reasons or 'the split lists no clips'}"
        )
    return manifest


class Listed(NamedTuple):
    """What the official files list."""

    official: Official
    """The clips of all splits as one; their stems are used and gone."""
    files: Files
    unlisted: int
    """Clips of the official release that the splits do not list, where its size is known."""
    overlong: int
    """Clips that they list beyond those."""


def list_clips(source: Source, splits: Sequence[str], inputs: Inputs) -> Listed:
    """The official clips of all splits, and their files. What else was read on the way is gone when this returns."""
    for split in splits:
        if split not in source.splits:
            raise DataError(f"{source.title} has no split {split!r}; it has {', '.join(source.splits)}")
    officials = [source.read_split(split) for split in splits]
    listed = [len(official.clips) + len(official.malformed) for official in officials]
    if source.nested and not any(official.segments is not None for official in officials):
        officials = each_once(officials)
    files = find_files(source, officials, inputs)
    table = pd.concat([official.clips for official in officials], ignore_index=True)
    steps = [official.steps for official in officials if official.steps is not None]
    if steps:
        table["steps"] = pd.concat(steps, ignore_index=True)
    segments = [official.segments for official in officials if official.segments is not None]
    malformed = [row for official in officials for row in official.malformed]
    joined = pd.concat(segments, ignore_index=True) if segments else None
    sizes = [source.official_size(split) for split in splits]
    beyond = [count - size for count, size in zip(listed, sizes, strict=True) if size is not None]
    unlisted, overlong = -sum(n for n in beyond if n < 0), sum(n for n in beyond if n > 0)
    return Listed(Official(table, [], malformed, joined), files, unlisted, overlong)


def usable_clips(
    source: Source, listed: Listed, judged: pd.DataFrame, inputs: Inputs, checks: Checks, media: MediaKind | None
) -> Manifest:
    """The manifest of listed clips whose files have been judged; it may be empty.

    Args:
        source: the dataset.
        listed: its clips, with the files of all that the inputs want.
        judged: the judgement on each of the files, see `Checks.of`.
        inputs: what the clips must have.
        checks: judges the files that clips have beside their media.
        media: what the files are; None = as the source says.
    """
    official = listed.official
    table = official.clips.copy(deep=False)
    exclusions = Exclusions(table, official.malformed, listed.unlisted)

    streams = streams_of(inputs).values()
    for stream in streams:
        stream.find(table, source, exclusions)
        for files in stream.files():
            exclude_damaged(table, files, checks, exclusions, f"checking each {files.what} of {source.title}")
    add_media(table, listed.files, judged, media_of(inputs), media or source.media, exclusions)
    if official.segments is not None:
        for stream in streams:
            stream.measure(table, exclusions)

    usable = table[exclusions.none].reset_index(drop=True)
    manifest = Manifest(
        usable,
        source.classes,
        source.multilabel,
        official=len(table) + exclusions.unnamed,
        excluded=dict(sorted(exclusions.counts.items())),
        examples=exclusions.examples,
        left_out=exclusions.left_out,
        overlong=listed.overlong,
        sample=source.is_sample,
        narrated=source.narrated,
        described=columns_of(inputs),
        relevance=source.class_relevance(),
    )
    if source.narrated and any(stream.reads_text for stream in streams):
        manifest.captions = source.captions
    if official.segments is not None:
        manifest.steps = steps_of(usable)
        manifest.table = seconds_of(usable, official.segments)
    return manifest


def exclude_damaged(table: pd.DataFrame, files: NamedFiles, checks: Checks, exclusions: Exclusions, title: str) -> None:
    """Excludes the clips whose file beside their media cannot be used.

    Args:
        table: the clips.
        files: in one of its columns; clips without such a file are left to the stream.
        checks: of the dataset.
        exclusions: of these clips.
        title: of the progress display.
    """
    place, paths = pd.factorize(table[files.column])
    judged = checks.beside_media(files.judged_as, files.check).of(pa.array(paths, pa.large_string()), title)
    reason = judged["reason"].reindex(place).fillna("").to_numpy()
    for why in sorted(set(reason) - {""}):
        exclusions.add(f"{files.what}: {why}", reason == why)


def add_media(
    table: pd.DataFrame,
    files: Files,
    judged: pd.DataFrame,
    needs: Sequence[str],
    media: MediaKind,
    exclusions: Exclusions,
) -> None:
    """Adds the columns {audio,video}_{path,offset} and seconds; excludes clips whose files cannot be used.

    A clip's sound may lie in a cut file and its pictures in the whole video.

    Args:
        table: the clips.
        files: where they lie.
        judged: the judgement on each file.
        needs: of "audio" and "video", those that the clips must have.
        media: what files with the bare id are.
        exclusions: of these clips.
    """
    seconds = table["end"] - table["start"]
    timed, sound_end = np.zeros(len(table), dtype=bool), np.full(len(table), np.inf)
    for kind in ("audio", "video"):
        path, offset = pd.Series(None, table.index, dtype="str"), np.zeros(len(table))
        if kind in needs:
            rows, reason = files.rows[kind], reasons(files, judged, kind)
            for why in sorted(set(reason.unique()) - {""}):
                exclusions.add(why, reason == why)
            path = pd.Series(files.paths.take(pa.array(rows, mask=rows < 0)), dtype="str")
            duration = judged[f"{kind}_duration"].reindex(rows).fillna(np.inf).to_numpy()
            offset = offsets(table, files, kind, duration, media)
            exclusions.add(WHICH_SECONDS, np.isnan(offset))
            seconds = np.minimum(seconds, duration - offset)
            if kind == "audio":
                timed, sound_end = files.timed[kind], judged["sound_end"].reindex(rows).fillna(np.inf).to_numpy()
        table[f"{kind}_path"], table[f"{kind}_offset"] = path, offset
    table["seconds"] = seconds
    table["sound_seconds"] = sound_seconds(table, timed, sound_end, media)
    exclusions.add("beyond the end of its file", table["seconds"] <= 0)
    exclusions.add("its sound ends before it", table["sound_seconds"] <= 0)
