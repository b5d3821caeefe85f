"""Official list + what is on the disk -> the manifest: the clips that can be used, and why the others cannot."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules import features
from datamodules.captions import Captions
from datamodules.checks import Checks
from datamodules.seconds import seconds_of, steps_of
from datamodules.source import AUDIO_SUFFIXES, VIDEO_SUFFIXES, DataError, MediaKind, Official, Source
from datamodules.table import arrow
from datamodules.types import FeatureInputs, Inputs, NarrationConfig

if TYPE_CHECKING:
    from datamodules.shards import Pack

CUT_TOLERANCE = 0.5
"""Seconds. A file that reaches to this before the clip's end in its source video is the whole video."""
EXAMPLES = 5


@dataclass
class Manifest:
    """The usable clips of one or several splits, as one table (never a Python object a clip)."""

    table: pd.DataFrame
    """Columns: clip_id, video_id, start, end, labels, audio_path, video_path, audio_offset and video_offset (where in
    these files the clip begins, seconds), seconds (how much of it there is), sound_seconds (how much sound there is:
    that of a cut file may go on past the clip's end, as a codec's last block does); text, where the dataset has one;
    caption_row, where captions are wanted; feature_<kind>, where features are wanted. Where steps are to be found in
    time a row is a second: group is its video, and video_seconds how long that is."""
    classes: list[str]
    multilabel: bool
    official: int
    """Clips of the official release, malformed rows included."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Reason -> number of clips."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the first few clips or rows."""
    narrated: bool = False
    """Whether a row is a video, out of which training cuts clips."""
    captions: Captions | None = None
    """What is said in narrated videos, where text is wanted."""
    steps: dict[str, list[int]] = field(default_factory=dict)
    """Group -> the classes that are to be found in it, in their order."""
    pack: Pack | None = None
    """Where the clips lie, if they were packed; the table then has the columns `shards.WHERE` instead of paths."""

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
    def fingerprint(self) -> str:
        """Hash of ids, labels, class names and texts: equal if and only if the same clips are used with the same labels
        and texts."""
        digest = hashlib.sha256("\x1e".join(self.classes).encode())
        ordered = self.table[[name for name in ("clip_id", "labels", "text") if name in self.table]]
        ordered = ordered.sort_values("clip_id")
        counts, flat = label_arrays(ordered["labels"])
        digest.update("\x1e".join(ordered["clip_id"]).encode())
        for numbers in (counts, flat):
            digest.update(b"\x1d" + numbers.astype("<i4").tobytes())
        if "text" in ordered:
            digest.update("\x1e".join(ordered["text"].fillna("")).encode())
        if self.captions is not None:
            digest.update(self.captions.fingerprint.encode())
        return digest.hexdigest()[:16]


def label_arrays(labels: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """(number of labels of each clip, all labels one after the other) of a column of type `LABELS`."""
    lists = arrow(labels)
    return pc.list_value_length(lists).to_numpy(), pc.list_flatten(lists).to_numpy().astype(np.int64)


class MediaIndex:
    """Media files by their name without suffix; the first of several with one name, in the order of their paths.

    Args:
        folders: all folders that were looked into.
        names: [n] the files.
        folder_of: [n] place in `folders` of each.
    """

    def __init__(self, folders: list[str], names: list[str], folder_of: array[int]):
        self._names = pa.array(names, pa.large_string())
        self._stems = pa.array((os.path.splitext(name)[0] for name in names), pa.large_string())
        self._folders = pa.array(folders, pa.large_string())
        self._folder_of = pa.array(np.frombuffer(folder_of, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._stems)

    def find(self, stems: Sequence[pd.Series]) -> np.ndarray:
        """[n] the place here of each clip's first stem that is there; -1 where none is."""
        found = pa.nulls(len(stems[0]), pa.int32())
        for stem in stems:
            at = pc.index_in(arrow(stem, pa.large_string()), value_set=self._stems)
            found = pc.coalesce(found, at)
        return found.fill_null(-1).to_numpy().astype(np.int64)

    def paths(self, places: np.ndarray) -> pa.Array:
        """[n] the paths of these places."""
        at = pa.array(places)
        folder = self._folders.take(self._folder_of.take(at))
        return pc.binary_join_element_wise(folder, self._names.take(at), pa.scalar(os.sep, pa.large_string()))


def index_media(root: Path) -> dict[str, MediaIndex]:
    """The media below a folder by the kind that their suffix tells: `{"audio": …, "video": …}`.

    Links to folders are followed, hidden folders are not looked into.
    """
    kinds = {"audio": AUDIO_SUFFIXES, "video": VIDEO_SUFFIXES}
    folders: list[str] = []
    names: dict[str, list[str]] = {kind: [] for kind in kinds}
    folder_of = {kind: array("q") for kind in kinds}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            for kind, suffixes in kinds.items():
                if suffix in suffixes:
                    names[kind].append(name)
                    folder_of[kind].append(len(folders))
        folders.append(folder)
    return {kind: MediaIndex(folders, names[kind], folder_of[kind]) for kind in kinds}


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
    listed_clips, files = list_clips(source, splits, inputs)
    table = listed_clips.clips
    exclusions = Exclusions(table["clip_id"])
    exclusions.add_rows(listed_clips.malformed)
    listed = len(table) + exclusions.counts.total()
    size = sum(source.official_size(split) or 0 for split in splits)
    if size > listed:
        exclusions.counts["not listed"] = size - listed

    if inputs.text is not None:
        _exclude_without_text(table, source, exclusions)
    if inputs.features is not None:
        for kind, paths in find_features(source, inputs.features, table["video_id"]).items():
            table[f"feature_{kind}"] = pd.Series(paths, dtype="str")
            exclusions.add(f"no {kind} features", table[f"feature_{kind}"].isna())
    title = f"checking {source.title} {'+'.join(splits)}"
    add_media(table, files, checks.of(files.paths, title), media or source.media, exclusions)

    if listed_clips.segments is not None and inputs.features is not None:
        _measure_features(table, inputs.features, exclusions)

    usable = table[exclusions.none].reset_index(drop=True)
    official = max(listed, size)
    if usable.empty:
        what = " and ".join(name for name, needed in vars(inputs).items() if needed is not None)
        raise DataError(
            f"{source.title} {'+'.join(splits)} in {source.root}: none of the {official} official clips can be used "
            f"with {what}: {str(exclusions) or 'the split lists no clips'}"
        )
    counts = dict(sorted(exclusions.counts.items()))
    manifest = Manifest(usable, source.classes, source.multilabel, official, counts, exclusions.examples)
    manifest.narrated = source.narrated
    if source.narrated and inputs.text is not None:
        manifest.captions = source.captions
    if listed_clips.segments is not None:
        manifest.steps = steps_of(usable)
        manifest.table = seconds_of(usable, listed_clips.segments)
    return manifest


@dataclass
class Files:
    """The media files of clips."""

    paths: pa.Array
    """Each once."""
    rows: dict[str, np.ndarray]
    """Need ("audio", "video") -> [n] place in `paths` of each clip's file, -1 where there is none."""


def list_clips(source: Source, splits: Sequence[str], inputs: Inputs) -> tuple[Official, Files]:
    """The official clips of all splits as one, and their files. What else was read on the way is gone when this
    returns."""
    for split in splits:
        if split not in source.splits:
            raise DataError(f"{source.title} has no split {split!r}; it has {', '.join(source.splits)}")
    officials = [source.read_split(split) for split in splits]
    files = _find(source, [official.stems for official in officials], inputs)
    table = pd.concat([official.clips for official in officials], ignore_index=True)
    steps = [official.steps for official in officials if official.steps is not None]
    if steps:
        table["steps"] = pd.concat(steps, ignore_index=True)
    segments = [official.segments for official in officials if official.segments is not None]
    malformed = [row for official in officials for row in official.malformed]
    joined = pd.concat(segments, ignore_index=True) if segments else None
    return Official(table, [], malformed, joined), files


def _find(source: Source, stems: list[list[pd.Series]], inputs: Inputs) -> Files:
    """Where a clip has files of both kinds, sound is read from the one and pictures from the other; where it has one,
    that may hold both, which its check will tell."""
    needed = [kind for kind in ("audio", "video") if getattr(inputs, kind) is not None]
    if not needed:
        return Files(pa.array([], pa.large_string()), {})
    index = index_media(source.root)
    found = {kind: np.concatenate([index[kind].find(split) for split in stems]) for kind in index}
    # One numbering of all files: those of sound, then those of pictures.
    found["video"][found["video"] >= 0] += len(index["audio"])
    other = {"audio": "video", "video": "audio"}
    wanted = np.concatenate([np.where(found[kind] >= 0, found[kind], found[other[kind]]) for kind in needed])
    used, rows = np.unique(wanted, return_inverse=True)
    missing = int(len(used) > 0 and used[0] < 0)
    used, rows = used[missing:], rows - missing
    split_at = np.searchsorted(used, len(index["audio"]))
    paths = [index["audio"].paths(used[:split_at]), index["video"].paths(used[split_at:] - len(index["audio"]))]
    return Files(pa.concat_arrays(paths), dict(zip(needed, np.split(rows, len(needed)), strict=True)))


def _measure_features(table: pd.DataFrame, inputs: FeatureInputs, exclusions: Exclusions) -> None:
    """How long videos are by their features, where no media are read; excludes those whose files cannot be used."""
    paths = table[[f"feature_{kind}" for kind in inputs.kinds]].to_numpy()
    reason = pd.Series("", index=table.index, dtype="str")
    for row in np.flatnonzero(exclusions.none & np.isinf(table["seconds"])):
        try:
            table.loc[row, "seconds"] = features.seconds(paths[row], inputs)
        except features.FeatureError as error:
            reason[row] = error.reason
    for why in sorted(set(reason) - {""}):
        exclusions.add(f"{why} features", reason == why)


class Exclusions:
    """Which clips cannot be used, each for the first reason that was found.

    Attributes:
        none: [clips] bool, the clips that can be used.
        counts: reason -> number of clips.
        examples: reason -> the first few.
    """

    def __init__(self, clip_id: pd.Series):
        self._clip_id = clip_id
        self.none = np.ones(len(clip_id), dtype=bool)
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add_rows(self, malformed: list[str]) -> None:
        if malformed:
            self.counts["malformed row"], self.examples["malformed row"] = len(malformed), malformed[:EXAMPLES]

    def add(self, reason: str, mask: pd.Series | bool) -> None:
        """Excludes the clips of a boolean mask."""
        found = np.asarray(mask, dtype=bool) & self.none
        if found.any():
            self.counts[reason] += int(found.sum())
            self.examples.setdefault(reason, []).extend(self._clip_id[found].head(EXAMPLES))
            self.none &= ~found

    def __str__(self) -> str:
        some = {reason: f" (e.g. {', '.join(rows[:2])})" for reason, rows in self.examples.items()}
        return "; ".join(f"{n} {reason}{some.get(reason, '')}" for reason, n in self.counts.items())


def _exclude_without_text(table: pd.DataFrame, source: Source, exclusions: Exclusions) -> None:
    """A clip's text is its own, or what is said in its video; adds the column caption_row for the latter."""
    if "text" in table:
        exclusions.add("no text", table["text"].fillna("") == "")
    elif source.captions is not None:
        rows = source.captions.rows(table["video_id"])
        exclusions.add("no captions", rows.isna())
        table["caption_row"] = rows.fillna(-1).astype("int64")
    else:
        raise DataError(f"{source.title} has no text")


def find_features(source: Source, inputs: FeatureInputs, video_id: pd.Series) -> dict[str, pa.Array]:
    """Kind -> [n] path of each clip's feature file, null where there is none."""
    root = Path(inputs.root) if inputs.root else source.root
    found = features.index_features(root, inputs.kinds)
    wanted = arrow(video_id, pa.large_string())

    def paths(of_video: dict[str, str]) -> pa.Array:
        videos, files = (pa.array(part, pa.large_string()) for part in (of_video.keys(), of_video.values()))
        return files.take(pc.index_in(wanted, value_set=videos))

    return {kind: paths(found[kind]) for kind in inputs.kinds}


def reasons(files: Files, judged: pd.DataFrame, need: str) -> pd.Series:
    """[n] why each clip cannot be used for its sound ("audio") or its pictures ("video"); empty where it can."""
    rows = files.rows[need]
    return judged[f"{need}_reason"].reindex(rows).reset_index(drop=True).mask(rows < 0, "missing")


def add_media(
    table: pd.DataFrame, files: Files, judged: pd.DataFrame, media: MediaKind, exclusions: Exclusions
) -> None:
    """Adds the columns {audio,video}_{path,offset} and seconds; excludes clips whose files cannot be used.

    A clip's sound may lie in a cut file and its pictures in the whole video.
    """
    nowhere = np.full(len(table), -1)
    seconds = table["end"] - table["start"]
    for kind in ("audio", "video"):
        rows = files.rows.get(kind, nowhere)
        duration = np.full(len(table), np.inf)
        if kind in files.rows:
            reason = reasons(files, judged, kind)
            for why in sorted(set(reason.unique()) - {""}):
                exclusions.add(why, reason == why)
            duration = judged[f"{kind}_duration"].reindex(rows).fillna(np.inf).to_numpy()
        if kind == "audio":
            sound_duration = duration
        path = files.paths.take(pa.array(rows, mask=rows < 0))
        table[f"{kind}_path"] = pd.Series(path, dtype="str")
        table[f"{kind}_offset"] = _offset(table, duration, media)
        seconds = np.minimum(seconds, duration - table[f"{kind}_offset"])
    table["seconds"] = seconds
    table["sound_seconds"] = _sound_seconds(table, sound_duration, media)
    exclusions.add("beyond the end of its file", table["seconds"] <= 0)


def _sound_seconds(table: pd.DataFrame, duration: np.ndarray, media: MediaKind) -> pd.Series:
    """How much sound there is of each clip: in a cut file up to the file's end, as it is read by all loaders that cut
    log-mels at their number of frames alone (AST, PSLA, UAVM, AudioMAE); in a whole video up to the clip's end.

    A file that ends just after the clip holds nothing but the clip, whatever it is.
    """
    rest = duration - table["audio_offset"]
    cut = (table["audio_offset"] < table["start"]) | (rest <= table["end"] - table["start"] + CUT_TOLERANCE)
    if media == "clips":
        cut |= True
    return rest.where(cut & np.isfinite(duration), table["seconds"])


def _offset(table: pd.DataFrame, duration: np.ndarray, media: MediaKind) -> pd.Series:
    """Where in its file each clip begins: at 0 in a cut clip, at its start in a whole video.

    With `auto` a file is the whole video if it reaches as far as the clip does there; a cut clip is too short.
    """
    if media == "clips":
        return table["start"] * 0.0
    if media == "videos":
        return table["start"]
    return table["start"].where(duration >= table["end"] - CUT_TOLERANCE, 0.0)
