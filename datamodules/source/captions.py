"""What is said in narrated videos (HowTo100M): timed captions of many videos, in one memory-mapped Arrow file.

HowTo100M's captions are 136 million lines in a JSON file of many gigabytes. They are read once, as a stream, into an
Arrow file beside it or in a cache folder; from then on a video's captions are a look-up, and all processes share the
memory.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ijson
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.errors import DataError
from datamodules.files import replacing, write_json
from datamodules.progress import Track, no_progress
from datamodules.source.official_text import Utf8Reader, decode, open_text
from datamodules.table import arrow

SCHEMA = pa.schema(
    [
        ("video_id", pa.large_string()),
        ("start", pa.large_list(pa.float32())),
        ("end", pa.large_list(pa.float32())),
        ("text", pa.large_list(pa.large_string())),
    ]
)
BATCH_VIDEOS = 2048
"""Videos that are Python objects at a time."""
MEGABYTE = 1 << 20
VERSION = 2
"""Raised when the Arrow file is made differently."""


class CaptionError(DataError):
    """A caption file that is none; the message names it and what is wrong."""


class Said(NamedTuple):
    """The captions of one video, in the order of their starts."""

    start: np.ndarray
    """[n] seconds."""
    end: np.ndarray
    """[n] seconds; neighbours overlap."""
    text: list[str]


class Captions:
    """The captions of many videos.

    Args:
        path: an Arrow file that `read` has made.
    """

    def __init__(self, path: Path):
        self.path = path
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __reduce__(self) -> tuple[type[Captions], tuple[Path]]:
        return Captions, (self.path,)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def fingerprint(self) -> str:
        """Hash of all that is said, and when."""
        return json.loads(_notes(self.path).read_text())["fingerprint"]

    @property
    def skipped(self) -> int:
        """Lines of captions that were left out: without text or with times that are no span."""
        return json.loads(_notes(self.path).read_text())["skipped"]

    def rows(self, video_id: pd.Series) -> pd.Series:
        """[n] the row of each video, NaN for those without captions."""
        found = pc.index_in(arrow(video_id, pa.large_string()), value_set=self._table["video_id"])
        return found.to_pandas()

    def of(self, row: int) -> Said:
        start, end, text = (self._table[name][row] for name in ("start", "end", "text"))
        return Said(start.values.to_numpy(), end.values.to_numpy(), text.as_py())


def _notes(path: Path) -> Path:
    return path.with_suffix(".json")


def read(path: Path, cache: Path, track: Track = no_progress) -> Captions:
    """The captions of an official file, read once and remembered by its path, size and time.

    A folder's time changes with files that come and go, not with what is written into one of them.

    Args:
        path: `caption.json`, `raw_caption.json`, … ({video: {"start": [], "end": [], "text": []}}), or MIL-NCE's
            `howto100m_captions.zip` or the folder it unpacks to (`<video>.csv` with the columns start,end,text).
        cache: folder for the Arrow file.
        track: shows progress.

    Raises:
        CaptionError: what it holds is not captions.
    """
    stat = path.stat()
    place = zlib.crc32(os.fsencode(path.resolve()))
    ready = cache / f"captions-v{VERSION}-{path.stem}-{place:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}.arrow"
    if not ready.is_file():
        _write(_videos(path, track), path, ready)
    return Captions(ready)


def _videos(path: Path, track: Track) -> Iterator[tuple[str, dict[str, Sequence]]]:
    if path.is_dir():
        files = sorted(path.glob("**/*.csv"))
        tracked = track(files, f"reading {path.name}", len(files))
        return _from_csvs(((file.stem, file.read_bytes()) for file in tracked), path)
    if path.suffix == ".zip":
        return _from_zip(path, track)
    return _from_json(path, track)


def _from_json(path: Path, track: Track) -> Iterator[tuple[str, dict[str, Sequence]]]:
    """The number of videos is known only at the end, so progress is reported in megabytes."""
    size = -(-path.stat().st_size // MEGABYTE)
    read, megabytes = 0, iter(track(range(size), f"reading {path.name}, MB", size))
    with open_text(path) as text:
        try:
            file = Utf8Reader(text)
            for item in ijson.kvitems(file, "", use_float=True):
                yield item
                read += sum(1 for _ in zip(range(file.tell() // MEGABYTE - read), megabytes, strict=False))
            deque(megabytes, maxlen=0)
        except ijson.JSONError as error:
            raise CaptionError(f"{path}: not the JSON of captions: {error}") from error


def _from_zip(path: Path, track: Track) -> Iterator[tuple[str, dict[str, Sequence]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".csv"))
            tracked = track(names, f"reading {path.name}", len(names))
            yield from _from_csvs(((Path(name).stem, archive.read(name)) for name in tracked), path)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise CaptionError(f"{path}: a broken zip: {error}") from error


def _from_csvs(files: Iterable[tuple[str, bytes]], path: Path) -> Iterator[tuple[str, dict[str, Sequence]]]:
    for video_id, content in files:
        if video_id.startswith("."):
            continue  # macOS puts `._<name>` beside what it packs
        try:
            text = decode(content, f"{path}: {video_id}.csv")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        except csv.Error as error:
            raise CaptionError(f"{path}: {video_id}.csv: {error}") from error
        if rows and not {"start", "end", "text"} <= set(rows[0]):
            raise CaptionError(f"{path}: {video_id}.csv has no columns start, end, text")
        yield video_id, {name: [row[name] for row in rows] for name in ("start", "end", "text")}


def _write(videos: Iterator[tuple[str, dict[str, Sequence]]], source: Path, target: Path) -> None:
    digest = hashlib.sha256()
    skipped = kept = 0
    with replacing(target) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            batch: list[tuple[str, list, list, list]] = []
            for video_id, said in videos:
                start, end, text, bad = _clean(video_id, said, source)
                skipped += bad
                if text:
                    digest.update("\x1e".join((video_id, *text)).encode("utf-8", "surrogatepass"))
                    digest.update(np.array([start, end], dtype="<f4").tobytes())
                    batch.append((video_id, start, end, text))
                    kept += 1
                if len(batch) == BATCH_VIDEOS:
                    writer.write_batch(_batch(batch))
                    batch.clear()
            if batch:
                writer.write_batch(_batch(batch))
        if not kept:
            raise CaptionError(f"{source}: holds no captions; {skipped} lines of it have no text or no span")
        notes = {"source": str(source), "skipped": skipped, "fingerprint": digest.hexdigest()[:16]}
        write_json(_notes(target), notes)


def _batch(videos: list[tuple[str, list, list, list]]) -> pa.RecordBatch:
    columns = zip(*videos, strict=True)
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def _clean(video_id: str, said: dict[str, Sequence], source: Path) -> tuple[list, list, list, int]:
    """Lines with text and a span, in the order of their starts; and how many were left out."""
    try:
        lists = said["start"], said["end"], said["text"]
        if len({len(column) for column in lists}) != 1:
            raise ValueError("start, end and text are not equally long")
    except (TypeError, KeyError, ValueError) as error:
        raise CaptionError(f"{source}: the captions of {video_id!r} are not start, end and text: {error}") from error
    lines = []
    for start, end, text in zip(*lists, strict=True):
        try:
            line = float(start), float(end), text.strip()
        except (TypeError, ValueError, AttributeError):
            continue
        if 0 <= line[0] < line[1] < np.inf and line[2]:
            lines.append(line)
    lines.sort(key=lambda line: line[0])
    start, end, text = zip(*lines, strict=True) if lines else ((), (), ())
    return list(start), list(end), list(text), len(lists[0]) - len(lines)


def grow(said: Said, index: int, seconds: float) -> tuple[float, float, str]:
    """A caption, merged with whichever neighbour gives the shorter span until it is `seconds` long.

    As AVLnet, MCN and Everything at Once cut clips (`youtube_dataloader.py`, `howto_dataset.py`): the words of each
    neighbour follow those that are there, so that the caption itself comes first, and is kept where text is cut.

    Returns:
        start, end (seconds), text.
    """
    first = last = index
    words = [said.text[index]]
    start, end = float(said.start[index]), float(said.end[index])
    while end - start < seconds and (first > 0 or last < len(said.text) - 1):
        with_previous = end - float(said.start[first - 1]) if first > 0 else np.inf
        with_next = float(said.end[last + 1]) - start if last < len(said.text) - 1 else np.inf
        if with_previous <= with_next:
            first -= 1
            words.append(said.text[first])
        else:
            last += 1
            words.append(said.text[last])
        # Captions overlap: an earlier one may end later.
        start, end = float(said.start[first]), max(end, float(said.end[first]), float(said.end[last]))
    return start, end, " ".join(words)


def beside(said: Said, start: float, end: float, count: int) -> list[str]:
    """The `count` captions that are next to a stretch, those first that have the shortest way to it; without those that
    lie within, and fewer where the video has no more."""
    outside = np.flatnonzero((said.start < start) | (said.end > end))
    away = np.maximum(start - said.end[outside], said.start[outside] - end)
    return [said.text[i] for i in outside[np.argsort(away, kind="stable")][:count]]
