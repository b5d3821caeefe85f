"""Which files can be used, and why the others cannot: judged once each, in parallel, and remembered.

A judgement holds while the file's size and modification time are what they were. Judgements are written down every
`SLICE` files, so that a check that is cut off goes on where it was.
"""

from __future__ import annotations

import errno
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pebble
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from filelock import FileLock

from datamodules.compat import time_tasks_steadily
from datamodules.files import replacing
from datamodules.manifest.judge import fault, judge
from datamodules.media.parts import file_of
from datamodules.progress import Track, no_progress

time_tasks_steadily()

CHECK_VERSION = 5
"""Raised when files are judged differently, so that remembered judgements are not used."""
SLICE = 1024
"""Files between two writings."""
SECONDS_A_FILE = 600.0
"""A file that takes longer is given up: hours of whole video take minutes."""
SLOW_DISK_SECONDS = 5e-5
"""A local disk returns a file's size in a tenth of this."""

CRASHED, TOO_SLOW = "crashes the decoder", "takes too long"
"""Reasons beside those of `container.REASONS`."""

STAMPS = pa.schema(
    [
        ("file", pa.uint64()),  # a hash of the path: it is looked up in a fraction of the memory
        ("path", pa.large_string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
"""Which files were judged."""
JUDGEMENTS = pa.schema(
    [
        ("audio_reason", pa.large_string()),
        ("audio_duration", pa.float64()),
        ("sound_end", pa.float64()),
        ("video_reason", pa.large_string()),
        ("video_duration", pa.float64()),
        ("still", pa.bool_()),
    ]
)
"""What is said of a media file: a `Judgement`."""
FAULTS = pa.schema([("reason", pa.large_string())])
"""What is said of any other: a `Fault`."""


@dataclass(frozen=True)
class Checks:
    """The judgements that are remembered in a folder of Parquet files.

    Args:
        folder: made if missing; one dataset's.
        workers: processes that judge; 0 = one a core.
        track: shows progress.
        judge: says of a file what `said` lists: a `Judgement` of media, a `Fault` of others. It travels to other
            processes.
        said: text is a reason for which the file cannot be used.
    """

    folder: Path
    workers: int = 0
    track: Track = no_progress
    judge: Callable[[str], tuple] = judge
    said: pa.Schema = JUDGEMENTS

    def beside_media(self, name: str, check: Callable[[str], object]) -> Checks:
        """The checks of files of one kind that clips have beside their media.

        Args:
            name: of the kind; another one where files are judged differently.
            check: raises a `FileError` of a file that cannot be used; travels to other processes.
        """
        return replace(self, folder=self.folder / name, judge=partial(fault, check), said=FAULTS)

    def of(self, paths: pa.Array, title: str) -> pd.DataFrame:
        """The judgement on each of these files, row by row.

        Args:
            paths: [n] of files, each once; what is gone since they were found is judged so, and not remembered.
            title: of the progress display.

        Returns:
            Columns as in `said`.
        """
        stamps = _stamps(paths)
        gone = stamps["size"].to_numpy() < 0
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):  # two runs at the same time judge a file once
            known = self._known()
            rows, same = _remembered(stamps, known)
            if not (same | gone).all():
                self._judge(stamps.filter(pa.array(~(same | gone))), title)
                known = self._known()
                rows, _ = _remembered(stamps, known)
        judged = known.select(self.said.names).take(rows).to_pandas()
        why = [_why_gone(number) for number in stamps["mtime_ns"].to_numpy()[gone]]
        for field in self.said:
            if field.type == pa.bool_():
                judged[field.name] = judged[field.name].eq(True) & ~gone
            else:
                judged.loc[gone, field.name] = math.nan if field.type == pa.float64() else why
        return judged

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema([*STAMPS, *self.said])

    def _known(self) -> pa.Table:
        """Everything remembered, the newest of each file."""
        parts = sorted(self.folder.glob(f"v{CHECK_VERSION}-*.parquet"))
        if not parts:
            return self._schema.empty_table()
        # Names begin with the time they were written; the first of several rows of a file is found.
        dataset = ds.dataset([str(part) for part in reversed(parts)], schema=self._schema)
        if len(parts) > 64:
            return self._joined(dataset.to_table(), parts)
        return dataset.to_table(columns=[name for name in self._schema.names if name != "path"])

    def _joined(self, table: pa.Table, parts: list[Path]) -> pa.Table:
        """Puts many parts together, leaving out what newer ones replace."""
        first = pc.index_in(table["file"], value_set=pc.unique(table["file"]))
        _, rows = np.unique(first.to_numpy(), return_index=True)
        table = table.take(pa.array(rows))
        self._write(table)
        for part in parts:
            part.unlink(missing_ok=True)
        return table

    def _judge(self, stamps: pa.Table, title: str) -> None:
        """Judges files and writes the judgements down, slice by slice."""
        paths = stamps["path"]
        judged = self.track(self._judgements(paths), title, len(paths))
        slice_: list[tuple] = []
        done = 0
        try:
            for judgement in judged:
                slice_.append(judgement)
                if len(slice_) == SLICE:
                    done = self._note(stamps, done, slice_)
        finally:
            self._note(stamps, done, slice_)

    def _note(self, stamps: pa.Table, done: int, judgements: list[tuple]) -> int:
        if judgements:
            part = stamps.slice(done, len(judgements))
            columns = [pa.array(column) for column in zip(*judgements, strict=True)]
            self._write(pa.table([*part.columns, *columns], names=self._schema.names).cast(self._schema))
            done += len(judgements)
            judgements.clear()
        return done

    def _write(self, table: pa.Table) -> None:
        name = f"v{CHECK_VERSION}-{time.time_ns():020}-{uuid.uuid4().hex[:8]}.parquet"
        with replacing(self.folder / name) as temporary:
            pq.write_table(table, temporary)

    def _judgements(self, paths: pa.ChunkedArray) -> Iterator[tuple]:
        """One a file, in order. A file that kills or blocks its process is judged so; the others go on."""
        workers = min(self.workers or os.cpu_count() or 1, len(paths))
        with pebble.ProcessPool(workers, context=get_context("spawn")) as pool:
            try:
                for start in range(0, len(paths), SLICE):
                    batch = paths.slice(start, SLICE).to_pylist()
                    results = pool.map(self.judge, batch, timeout=SECONDS_A_FILE).result()
                    for _ in batch:
                        yield self._next(results)
            except BaseException:  # asked to stop: the rest of the slice is not waited for
                pool.stop()
                raise

    def _next(self, results: Iterator[tuple]) -> tuple:
        try:
            return next(results)
        except FutureTimeoutError:
            return self._given_up(TOO_SLOW)
        except pebble.ProcessExpired:
            return self._given_up(CRASHED)

    def _given_up(self, reason: str) -> tuple:
        of_type = {pa.large_string(): reason, pa.float64(): math.nan, pa.bool_(): False}
        return tuple(of_type[field.type] for field in self.said)


def _why_gone(error: int) -> str:
    return "missing" if error in (errno.ENOENT, errno.ENOTDIR) else "unreadable"


def _stamps(paths: pa.Array) -> pa.Table:
    """As `STAMPS`: which files these are, their sizes and modification times; where the disk does not
    return these of a file, -1 and the number of its error.

    On network disks, where an answer takes long, many are waited for at once; elsewhere threads would be in each
    other's way.
    """
    parts = [paths.slice(start, 4096) for start in range(0, len(paths), 4096)]
    began = time.perf_counter()
    found = [_stamp(part) for part in parts[:1]]
    if time.perf_counter() - began > SLOW_DISK_SECONDS * len(parts[0] if parts else ()):
        with ThreadPoolExecutor(16) as pool:
            found += pool.map(_stamp, parts[1:])
    else:
        found += map(_stamp, parts[1:])
    file, size, mtime_ns = np.concatenate([np.empty((3, 0), np.int64), *found], axis=1)
    return pa.table([file.view(np.uint64), paths, size, mtime_ns], schema=STAMPS)


def _stamp(paths: pa.Array) -> np.ndarray:
    """int64 [3, n]: hashes of the paths, sizes, modification times."""
    names = paths.to_pylist()
    files = b"".join(blake2b(os.fsencode(name), digest_size=8).digest() for name in names)
    stats = np.array(list(map(_size_and_time, names)), dtype=np.int64)
    return np.stack([np.frombuffer(files, np.int64), *stats.reshape(-1, 2).T])


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(file_of(path))
    except OSError as error:
        return -1, error.errno or 0
    return stat.st_size, stat.st_mtime_ns


def _remembered(stamps: pa.Table, known: pa.Table) -> tuple[pa.Array, np.ndarray]:
    """[n] the row of each file in `known`, and whether it still has the size and time that it had then."""
    rows = pc.index_in(stamps["file"], value_set=known["file"])
    same = pc.and_(*(pc.equal(stamps[name], known[name].take(rows)) for name in ("size", "mtime_ns")))
    return rows, pc.fill_null(same, False).to_numpy()
