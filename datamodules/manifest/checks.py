"""Which media files can be used, and why the others cannot: judged once each, in parallel, and remembered.

A judgement holds while the file's size and modification time are what they were. Judgements are written down every
`SLICE` files, so that a check that is cut off goes on where it was.
"""

from __future__ import annotations

import errno
import math
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
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
from datamodules.manifest.judge import Judgement, judge
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

SCHEMA = pa.schema(
    [
        ("file", pa.uint64()),  # a hash of the path: it is looked up in a fraction of the memory
        ("path", pa.large_string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("audio_reason", pa.large_string()),
        ("audio_duration", pa.float64()),
        ("sound_end", pa.float64()),
        ("video_reason", pa.large_string()),
        ("video_duration", pa.float64()),
        ("still", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Checks:
    """The judgements that are remembered in a folder of Parquet files.

    Args:
        folder: made if missing; one dataset's.
        workers: processes that judge; 0 = one a core.
        track: shows progress.
    """

    folder: Path
    workers: int = 0
    track: Track = no_progress

    def of(self, paths: pa.Array, title: str) -> pd.DataFrame:
        """The judgement on each of these files, row by row.

        Args:
            paths: [n] of files, each once; what is gone since they were found is judged so, and not remembered.
            title: of the progress display.

        Returns:
            Columns as in `Judgement`.
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
        judged = known.select(list(Judgement._fields)).take(rows).to_pandas()
        for need in ("audio", "video"):
            judged.loc[gone, f"{need}_reason"] = [_why_gone(number) for number in stamps["mtime_ns"].to_numpy()[gone]]
            judged.loc[gone, f"{need}_duration"] = math.nan
        judged.loc[gone, "sound_end"] = math.nan
        return judged.assign(still=judged["still"].eq(True) & ~gone)

    def _known(self) -> pa.Table:
        """Everything remembered, the newest of each file."""
        parts = sorted(self.folder.glob(f"v{CHECK_VERSION}-*.parquet"))
        if not parts:
            return SCHEMA.empty_table()
        # Names begin with the time they were written; the first of several rows of a file is found.
        dataset = ds.dataset([str(part) for part in reversed(parts)], schema=SCHEMA)
        if len(parts) > 64:
            return self._joined(dataset.to_table(), parts)
        return dataset.to_table(columns=[name for name in SCHEMA.names if name != "path"])

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
        slice_: list[Judgement] = []
        done = 0
        try:
            for judgement in judged:
                slice_.append(judgement)
                if len(slice_) == SLICE:
                    done = self._note(stamps, done, slice_)
        finally:
            self._note(stamps, done, slice_)

    def _note(self, stamps: pa.Table, done: int, judgements: list[Judgement]) -> int:
        if judgements:
            part = stamps.slice(done, len(judgements))
            columns = [pa.array(column) for column in zip(*judgements, strict=True)]
            self._write(pa.table([*part.columns, *columns], names=SCHEMA.names).cast(SCHEMA))
            done += len(judgements)
            judgements.clear()
        return done

    def _write(self, table: pa.Table) -> None:
        name = f"v{CHECK_VERSION}-{time.time_ns():020}-{uuid.uuid4().hex[:8]}.parquet"
        with replacing(self.folder / name) as temporary:
            pq.write_table(table, temporary)

    def _judgements(self, paths: pa.ChunkedArray) -> Iterator[Judgement]:
        """One a file, in order. A file that kills or blocks its process is judged so; the others go on."""
        workers = min(self.workers or os.cpu_count() or 1, len(paths))
        with pebble.ProcessPool(workers, context=get_context("spawn")) as pool:
            try:
                for start in range(0, len(paths), SLICE):
                    batch = paths.slice(start, SLICE).to_pylist()
                    results = pool.map(judge, batch, timeout=SECONDS_A_FILE).result()
                    for _ in batch:
                        yield _next(results)
            except BaseException:  # asked to stop: the rest of the slice is not waited for
                pool.stop()
                raise


def _next(results: Iterator[Judgement]) -> Judgement:
    try:
        return next(results)
    except FutureTimeoutError:
        return Judgement(TOO_SLOW, math.nan, math.nan, TOO_SLOW, math.nan, False)
    except pebble.ProcessExpired:
        return Judgement(CRASHED, math.nan, math.nan, CRASHED, math.nan, False)


def _why_gone(error: int) -> str:
    return "missing" if error in (errno.ENOENT, errno.ENOTDIR) else "unreadable"


def _stamps(paths: pa.Array) -> pa.Table:
    """The first columns of `SCHEMA`: which files these are, their sizes and modification times; where the disk does not
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
    return pa.table([file.view(np.uint64), paths, size, mtime_ns], schema=pa.schema(list(SCHEMA)[:4]))


def _stamp(paths: pa.Array) -> np.ndarray:
    """int64 [3, n]: hashes of the paths, sizes, modification times."""
    names = paths.to_pylist()
    files = b"".join(blake2b(os.fsencode(name), digest_size=8).digest() for name in names)
    stats = np.array(list(map(_size_and_time, names)), dtype=np.int64)
    return np.stack([np.frombuffer(files, np.int64), *stats.reshape(-1, 2).T])


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError as error:
        return -1, error.errno or 0
    return stat.st_size, stat.st_mtime_ns


def _remembered(stamps: pa.Table, known: pa.Table) -> tuple[pa.Array, np.ndarray]:
    """[n] the row of each file in `known`, and whether it still has the size and time that it had then."""
    rows = pc.index_in(stamps["file"], value_set=known["file"])
    same = pc.and_(*(pc.equal(stamps[name], known[name].take(rows)) for name in ("size", "mtime_ns")))
    return rows, pc.fill_null(same, False).to_numpy()
