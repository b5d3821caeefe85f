"""Packed datasets, written (see `shards`): each shard on its own, in parallel; a packing that is cut off goes on.

A shard is written in the folder for temporary files (`TMPDIR`) and then moved: there must be room for one a process.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from fsspec.implementations.local import LocalFileSystem

from datamodules.manifest.build import Manifest
from datamodules.manifest.exclusions import EXAMPLES
from datamodules.media.container import MediaError
from datamodules.media.decode import Media
from datamodules.media.parts import content_of, suffix_of
from datamodules.packing.shards import (
    ABOUT,
    FULL_SCALE,
    INDEX,
    LEFT_OUT,
    NOT_PACKED,
    VERSION,
    PackedFormat,
    places_of,
    write_about,
    write_table,
)
from datamodules.processes import end_with_parent
from datamodules.progress import Track, no_progress
from datamodules.source import DataError
from datamodules.table import arrow_table, pandas_table

JPEG_QUALITY = 95
SHARD_CLIPS = 256
"""Clips a shard: about 250 MB of 10 s clips with 4 frames a second."""
PARTS = "parts"
"""Folder of what is known of each finished shard, until the pack is finished."""
SLACK = 2
"""Samples stored past a clip's end, where there are any: so far the rounding of a window's start and length reaches."""
GONE = 10
"""Files. If so many in a row cannot be read, their disk is gone: those clips must not be left out for good."""


@dataclass(frozen=True)
class ShardJob:
    """One shard."""

    rows: pd.DataFrame
    name: str
    """E.g. `train/000003.tar`."""
    url: str
    format: PackedFormat
    files: Mapping[str, str]


def pack(
    manifest: Manifest,
    dataset: str,
    split: str,
    url: str,
    format: PackedFormat,
    files: Mapping[str, str] | None = None,
    workers: int = 0,
    track: Track = no_progress,
    shard_clips: int = SHARD_CLIPS,
) -> Manifest:
    """Packs a split's clips into `<url>/<split>/`.

    A clip that cannot be read is counted with its reason and left out. Nothing is there under its final name before it
    is complete. Called again after it was cut off, it keeps the shards that are done.

    Args:
        manifest: the split's clips.
        dataset, split: their names.
        url: folder, local or any fsspec URL.
        format: what to store.
        files: of each of the format's columns of files, the one of the manifest's table with their paths.
        workers: processes; 0 = one a core.
        track: shows progress.
        shard_clips: clips a shard.

    Returns:
        The manifest of what was packed.

    Raises:
        DataError: the clips cannot be packed so, another pack is there already, or the disk with the clips is gone.
    """
    files = files or {}
    _check(manifest, dataset, format)
    fs, root = fsspec.core.url_to_fs(url.rstrip("/"))
    folder, key = f"{root}/{split}", _key(manifest, format, shard_clips)
    _claim(fs, folder, key, url, split)
    jobs = [
        ShardJob(
            manifest.table.iloc[start : start + shard_clips], f"{split}/{number:06}.tar", url.rstrip("/"), format, files
        )
        for number, start in enumerate(range(0, len(manifest), shard_clips))
    ]
    done = {Path(path).stem for path in fs.glob(f"{folder}/{PARTS}/*.parquet")}
    todo = [job for job in jobs if Path(job.name).stem not in done]
    title = f"packing {dataset} {split}" + (f", {len(jobs) - len(todo)} shards done before" if done else "")
    for _ in track(_shards(todo, workers), title, len(todo)):
        pass
    fs.invalidate_cache()  # its listings are from before other processes wrote the shards
    packed = _collect(fs, folder, manifest, [Path(job.name).stem for job in jobs])
    if packed.table.empty:
        raise DataError(f"{url}/{split}: not one clip could be read: {packed.excluded}; remove it before trying again")
    with tempfile.TemporaryDirectory() as scratch:
        write_table(Path(scratch) / INDEX, packed.table)
        write_table(Path(scratch) / LEFT_OUT, packed.left_out)
        write_about(Path(scratch) / ABOUT, packed, format, dataset)
        for name in (INDEX, LEFT_OUT, ABOUT):
            _put(fs, Path(scratch) / name, folder, name)
    fs.rm(f"{folder}/{PARTS}", recursive=True)
    return packed


def _check(manifest: Manifest, dataset: str, format: PackedFormat) -> None:
    """Raises DataError for what cannot be packed."""
    if manifest.narrated:
        raise DataError(f"{dataset}: narrated videos are cut anew in each epoch and are not packed")
    if manifest.steps:
        raise DataError(f"{dataset}: videos with steps to be found in time are read around each second and not packed")
    if manifest.pack is not None:
        raise DataError(f"{dataset}: these clips are a pack already ({manifest.pack.url})")
    if not format.sample_rate and not format.fps and not format.files:
        raise DataError(f"{dataset}: a pack needs a sample rate or frames a second")
    for kind, wanted in (("audio", format.sample_rate), ("video", format.fps)):
        if wanted and manifest.table[f"{kind}_path"].isna().any():
            raise DataError(f"{dataset}: to pack {kind}, find the clips with {kind} among the inputs")


def _key(manifest: Manifest, format: PackedFormat, shard_clips: int) -> str:
    """What the shards of one packing have in common: the clips in their order, where they lie, how they are stored."""
    content = [VERSION, JPEG_QUALITY, manifest.fingerprint, asdict(format), shard_clips]
    digest = hashlib.sha256(json.dumps(content).encode())
    where = manifest.table[["clip_id", "audio_offset", "video_offset", "seconds", "sound_seconds"]]
    digest.update(pd.util.hash_pandas_object(where, index=False).to_numpy())
    return digest.hexdigest()[:16]


def _claim(fs: fsspec.AbstractFileSystem, folder: str, key: str, url: str, split: str) -> None:
    """Makes the folder this packing's, or refuses to touch another's."""
    fs.invalidate_cache()
    if fs.exists(f"{folder}/{ABOUT}"):
        raise DataError(f"{url}/{split} is a finished pack; remove it, or give another folder with to=")
    others = {Path(path).stem for path in fs.glob(f"{folder}/{PARTS}/*.packing")}
    if others - {key}:
        raise DataError(
            f"{url}/{split} is the unfinished pack of other clips or another format; remove it, or give another "
            "folder with to="
        )
    fs.makedirs(f"{folder}/{PARTS}", exist_ok=True)
    fs.pipe_file(f"{folder}/{PARTS}/{key}.packing", b"")


def _shards(jobs: list[ShardJob], workers: int) -> Iterator[None]:
    if not jobs:
        return
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            yield from pool.map(write_shard, jobs)
        except BrokenProcessPool as error:
            raise DataError(
                "a process that packs was killed: the memory is full (then use fewer workers), or a file crashes the "
                "decoder; called again, packing goes on"
            ) from error


def write_shard(job: ShardJob) -> None:
    """Writes one shard, then its part of the index, which marks it as complete.

    Raises:
        DataError: the disk with the clips is gone.
    """
    fs, root = fsspec.core.url_to_fs(job.url)
    split, name = job.name.split("/")
    with tempfile.TemporaryDirectory() as scratch:
        where, faults = _write_tar(Path(scratch) / name, job)
        kept = job.rows.drop(columns=[*NOT_PACKED, *job.files.values()], errors="ignore")
        part = Path(scratch) / f"{Path(name).stem}.parquet"
        pq.write_table(arrow_table(kept.assign(**where, reason=faults)), part)
        _put(fs, Path(scratch) / name, f"{root}/{split}", name)
        _put(fs, part, f"{root}/{split}", f"{PARTS}/{part.name}")


def _write_tar(path: Path, job: ShardJob) -> tuple[dict[str, pd.Series], list[str]]:
    """The columns `shards.WHERE` of the clips, and why clips could not be read (empty where they could)."""
    sounds, frames, faults = [], [], []
    files: dict[str, list[tuple[int, int, int]]] = {column: [] for column in job.files}
    failed: set[Path] = set()
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, row in zip(job.rows.index, job.rows.to_dict("records"), strict=True):
            try:
                sound, jpegs = _decode(row, job.format)
                contents = {column: content_of(row[path]) for column, path in job.files.items()}
                faults.append("")
                failed.clear()
            except MediaError as error:
                sound, jpegs, contents = None, [], {}
                faults.append(error.reason)
                failed.add(error.path)
                if len(failed) == GONE:
                    raise DataError(f"{GONE} files in a row cannot be read; is their disk gone? {error}") from error
            key = f"{number:09}"
            if not faults[-1]:
                _add(tar, f"{key}.json", _about(row))
            sounds.append((-1, 0, 0) if sound is None else _add(tar, f"{key}.sound.npy", _npy(sound)))
            for column, places in files.items():
                there = column in contents
                name = f"{key}.{column}{suffix_of(row[column])}" if there else ""
                places.append(_add(tar, name, contents[column]) if there else (-1, 0, 0))
            frames.append([_add(tar, f"{key}.{i:04}.jpg", jpeg) for i, jpeg in enumerate(jpegs)])
    columns: dict[str, tuple[list, Any]] = {
        "shard": ([job.name] * len(faults), "str"),
        "sound_at": ([at for at, _, _ in sounds], "int64"),
        "sound_size": ([size for _, size, _ in sounds], "int64"),
        "sound_crc": ([crc for _, _, crc in sounds], "int64"),
        "frame_at": ([clip[0][0] if clip else -1 for clip in frames], "int64"),
        "frame_size": ([[size for _, size, _ in clip] for clip in frames], pd.ArrowDtype(pa.list_(pa.int32()))),
        "frame_crc": ([[crc for _, _, crc in clip] for clip in frames], pd.ArrowDtype(pa.list_(pa.uint32()))),
    }
    for column, places in files.items():
        for name, values in zip(places_of(column)[1:], zip(*places, strict=True), strict=True):
            columns[name] = (list(values), "int64")
    where = {name: pd.Series(values, job.rows.index, type_) for name, (values, type_) in columns.items()}
    return where, faults


def _about(row: dict[str, Any]) -> bytes:
    """What other tools want to know of a clip. JSON has no infinity; an end that is not known is null."""
    about = {name: row[name] for name in ("clip_id", "video_id", "start", "end", "seconds")}
    if isinstance(row.get("text"), str):
        about["text"] = row["text"]
    about["end"] = about["end"] if math.isfinite(about["end"]) else None
    return json.dumps(about | {"labels": list(map(int, row["labels"]))}).encode()


def _decode(row: dict, format: PackedFormat) -> tuple[np.ndarray | None, list[bytes]]:
    """The clip's whole sound, and its frames as JPEGs."""
    sound, frames = None, []
    if format.sample_rate:
        with Media(row["audio_path"]) as media:
            seconds = row["sound_seconds"] + SLACK / format.sample_rate
            sound = media.audio(row["audio_offset"], seconds, format.sample_rate)
    if format.fps:
        count = max(1, int(np.ceil(row["seconds"] * format.fps - 1e-6)))
        times = row["video_offset"] + np.arange(count) / format.fps
        with Media(row["video_path"]) as media:
            pictures = media.frames(times, format.size)
        frames = [_jpeg(picture) for picture in pictures]
    return sound, frames


def _jpeg(picture_HW3: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture_HW3), JPEG_QUALITY, colorsubsampling="420")


def _npy(sound: np.ndarray) -> bytes:
    """As 16-bit integers where that loses nothing: sound of 16 bits that was not resampled or mixed."""
    whole = (sound * FULL_SCALE).clip(-(2**15), 2**15 - 1).astype(np.int16)
    file = io.BytesIO()
    np.save(file, whole if (whole / FULL_SCALE).tobytes() == sound.tobytes() else sound)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int, int]:
    """Adds a member; where its content begins, its size and its CRC-32."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    begin = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(content))
    return begin, len(content), zlib.crc32(content)


def _put(fs: fsspec.AbstractFileSystem, path: Path, folder: str, name: str) -> None:
    """Copies a complete file there, whole or not at all (object stores do so by themselves)."""
    if not isinstance(fs, LocalFileSystem):
        fs.put_file(str(path), f"{folder}/{name}")
        return
    temporary = f"{folder}/{PARTS}/{path.name}.{os.getpid()}.tmp"
    fs.put_file(str(path), temporary)
    os.replace(temporary, f"{folder}/{name}")


def _collect(fs: fsspec.AbstractFileSystem, folder: str, manifest: Manifest, names: list[str]) -> Manifest:
    """The manifest with the places of its clips, from the parts of all shards."""
    contents = (fs.cat_file(f"{folder}/{PARTS}/{name}.parquet") for name in names)
    tables = (pq.read_table(io.BytesIO(content)) for content in contents)
    table = pandas_table(pa.concat_tables(tables, promote_options="default"))  # a column may be empty in one of them
    excluded, examples = Counter(manifest.excluded), dict(manifest.examples)
    for reason, clips in table[table["reason"] != ""].groupby("reason")["clip_id"]:
        excluded[str(reason)] += len(clips)
        examples[str(reason)] = (examples.get(str(reason), []) + clips.tolist())[:EXAMPLES]
    usable = table[table["reason"] == ""].drop(columns="reason").reset_index(drop=True)
    failed = table[table["reason"] != ""][["clip_id", "labels", "reason"]]
    left_out = pd.concat([manifest.left_out, failed], ignore_index=True)
    counts = dict(sorted(excluded.items()))
    return replace(manifest, table=usable, excluded=counts, examples=examples, left_out=left_out)
