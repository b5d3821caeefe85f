"""Official list + what is on the disk -> the manifest: the clips that can be used, and why the others cannot."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.media import MediaError, check
from datamodules.source import AUDIO_SUFFIXES, VIDEO_SUFFIXES, DataError, Source

T = TypeVar("T")
Track = Callable[[Iterable[T], str, int], Iterable[T]]
"""Shows progress over an iterable: (items, title, total) -> items."""

CHECK_VERSION = 1
"""Raised when `media.check` judges files differently, so that remembered judgements are not used."""


def no_progress(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    return items


@dataclass
class Manifest:
    """The usable clips of one or several splits, as one table (never a Python object a clip)."""

    table: pd.DataFrame
    """Columns: clip_id, video_id, start, end, labels, audio_path, video_path, duration (of the file, seconds)."""
    classes: list[str]
    multilabel: bool
    official: int
    """Clips that the official files list, malformed rows included."""
    excluded: dict[str, int] = field(default_factory=dict)
    """Reason -> number of clips."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> the first few clips or rows."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def coverage(self) -> float:
        """Share of the official clips that can be used."""
        return len(self) / self.official if self.official else 0.0

    @property
    def fingerprint(self) -> str:
        """Hash of ids, labels and class names: equal if and only if the same clips are used with the same labels."""
        digest = hashlib.sha256("\x1e".join(self.classes).encode())
        ordered = self.table.sort_values("clip_id")
        for clip_id, labels in zip(ordered["clip_id"], ordered["labels"], strict=True):
            digest.update(f"\x1e{clip_id}\x1f{','.join(map(str, labels))}".encode())
        return digest.hexdigest()[:16]


def index_media(root: Path) -> dict[str, dict[str, str]]:
    """Media below a folder: `{"audio": {stem: path}, "video": {stem: path}}`, by the kind the suffix tells."""
    found: dict[str, dict[str, str]] = {"audio": {}, "video": {}}
    for folder, subfolders, files in os.walk(root):
        subfolders.sort()
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in VIDEO_SUFFIXES:
                found["video"].setdefault(stem, os.path.join(folder, name))
            elif suffix.lower() in AUDIO_SUFFIXES:
                found["audio"].setdefault(stem, os.path.join(folder, name))
    return found


def _first(stems: Sequence[str], *indices: dict[str, str]) -> str | None:
    return next((index[stem] for index in indices for stem in stems if stem in index), None)


def build_manifest(
    source: Source,
    splits: Sequence[str],
    *,
    need_audio: bool,
    need_video: bool,
    cache: Path,
    workers: int = 0,
    track: Track = no_progress,
) -> Manifest:
    """Reads the official lists, finds the media and checks every file that is needed.

    Where a clip has a sound file beside its video file, sound is read from the former and frames from the latter.

    Args:
        source: the dataset.
        splits: one or several of its splits, joined in this order.
        need_audio, need_video: what the clips must have.
        cache: folder that remembers the judgement on each file by its path, size and time.
        workers: processes that check files; 0 = one a core.
        track: shows progress.

    Raises:
        DataError: for a split that does not exist, or has no usable clip at all.
    """
    for split in splits:
        if split not in source.splits:
            raise DataError(f"{source.title} has no split {split!r}; it has {', '.join(source.splits)}")
    officials = [source.read_split(split) for split in splits]
    malformed = [row for official in officials for row in official.malformed]
    table = pd.concat([official.clips for official in officials], ignore_index=True)
    official = len(table) + len(malformed)

    media = index_media(source.root)
    table["audio_path"] = [_first(s, media["audio"], media["video"]) if need_audio else None for s in table["stems"]]
    table["video_path"] = [
        _first(s, media["video"], media["audio"]) if need_video else None for s in table.pop("stems")
    ]
    reasons = pd.Series("", index=table.index)
    missing = table["audio_path" if need_audio else "video_path"].isna()
    reasons[missing] = "missing"

    needs = [("audio", table["audio_path"])] * need_audio + [("video", table["video_path"])] * need_video
    wanted = sorted({path for _, paths in needs for path in paths.dropna()})
    title = f"checking {source.title} {'+'.join(splits)}"
    judged = check_files(wanted, cache / f"{source.name}-checks.parquet", workers, track, title)
    table["duration"] = float("inf")
    for need, paths in needs:
        verdicts = [getattr(judged[path], need) if isinstance(path, str) else Verdict("", np.inf) for path in paths]
        reasons = reasons.where(reasons != "", pd.Series([v.reason for v in verdicts], index=table.index))
        table["duration"] = table["duration"].clip(upper=pd.Series([v.duration for v in verdicts], index=table.index))

    excluded, examples = Counter(reasons[reasons != ""]), {}
    for reason in excluded:
        examples[reason] = table.loc[reasons == reason, "clip_id"].head(5).tolist()
    if malformed:
        excluded["malformed row"], examples["malformed row"] = len(malformed), malformed[:5]
    usable = table[reasons == ""].reset_index(drop=True)
    if usable.empty:
        why = "; ".join(f"{n} {reason} (e.g. {', '.join(examples[reason][:2])})" for reason, n in excluded.items())
        what = " and ".join(["sound"] * need_audio + ["pictures"] * need_video)
        raise DataError(
            f"{source.title} {'+'.join(splits)} in {source.root}: none of the {official} official clips can be used "
            f"with {what}: {why or 'the split lists no clips'}"
        )
    return Manifest(usable, source.classes, source.multilabel, official, dict(sorted(excluded.items())), examples)


class Verdict(NamedTuple):
    """Whether a file can be used for its sound, or for its pictures."""

    reason: str
    """Why it cannot be used; empty if it can."""
    duration: float
    """Seconds; NaN if it cannot be used."""


class Judgement(NamedTuple):
    """The verdicts on a file, for both needs."""

    audio: Verdict
    video: Verdict


def judge(path: str) -> Judgement:
    """Decodes a file's sound, and enough of its pictures, to know whether they can be used."""
    verdicts = []
    for need in Judgement._fields:
        try:
            duration = check(path, need_audio=need == "audio", need_video=need == "video").duration
            verdicts.append(Verdict("", duration))
        except MediaError as error:
            verdicts.append(Verdict(error.reason, math.nan))
    return Judgement(*verdicts)


def check_files(paths: Sequence[str], cache: Path, workers: int, track: Track, title: str) -> dict[str, Judgement]:
    """Judges files in parallel, remembering judgements in a Parquet file.

    A remembered judgement holds while the file's size and modification time are what they were.
    """
    known = _read_checks(cache)
    stamps = {path: (path, stat.st_size, stat.st_mtime_ns) for path in paths if (stat := os.stat(path))}
    todo = [path for path in paths if stamps[path] not in known]
    if todo:
        workers = min(workers or os.cpu_count() or 1, len(todo))
        chunk = max(1, min(64, len(todo) // (4 * workers)))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            judgements = pool.map(judge, todo, chunksize=chunk)
            for path, judgement in zip(todo, track(judgements, title, len(todo)), strict=True):
                known[stamps[path]] = judgement
        _write_checks(cache, known)
    return {path: known[stamps[path]] for path in paths}


Stamp = tuple[str, int, int]
"""Path, size, modification time (ns): a judgement holds as long as these are the same."""


def _read_checks(cache: Path) -> dict[Stamp, Judgement]:
    if not cache.is_file():
        return {}
    table = pq.read_table(cache)
    if (table.schema.metadata or {}).get(b"check_version") != str(CHECK_VERSION).encode():
        return {}
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return {row[:3]: Judgement(Verdict(*row[3:5]), Verdict(*row[5:7])) for row in rows}


def _write_checks(cache: Path, known: dict[Stamp, Judgement]) -> None:
    names = ["path", "size", "mtime_ns", "audio_reason", "audio_duration", "video_reason", "video_duration"]
    rows = [(*stamp, *judgement.audio, *judgement.video) for stamp, judgement in known.items()]
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(table.replace_schema_metadata({"check_version": str(CHECK_VERSION)}), temporary)
    os.replace(temporary, cache)
