"""Packed datasets, written (see `shards`): each shard on its own, in parallel; a packing that is cut off goes on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from datamodules.container import MediaError
from datamodules.manifest import EXAMPLES, Manifest
from datamodules.media import Media
from datamodules.progress import Track, no_progress
from datamodules.shards import ABOUT, INDEX, VERSION, PackedFormat, write_about, write_index
from datamodules.source import DataError
from datamodules.table import arrow_table, pandas_table

JPEG_QUALITY = 95
SHARD_CLIPS = 256
"""Clips a shard: about 250 MB of 10 s clips with 4 frames a second."""
PARTS = "parts"
"""Folder of what is known of each finished shard, until the pack is finished."""


@dataclass(frozen=True)
class Job:
    """One shard."""

    rows: pd.DataFrame
    name: str
    """E.g. `train/000003.tar`."""
    url: str
    format: PackedFormat


def pack(
    manifest: Manifest,
    dataset: str,
    split: str,
    url: str,
    format: PackedFormat,
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
        workers: processes; 0 = one a core.
        track: shows progress.
        shard_clips: clips a shard.

    Returns:
        The manifest of what was packed.

    Raises:
        DataError: another pack is there already.
    """
    if manifest.captions is not None:
        raise DataError(f"{dataset}: narrated videos are cut anew in each epoch and are not packed")
    fs, root = fsspec.core.url_to_fs(url.rstrip("/"))
    folder, key = f"{root}/{split}", _key(manifest, format, shard_clips)
    _claim(fs, folder, key, url, split)
    jobs = [
        Job(manifest.table.iloc[start : start + shard_clips], f"{split}/{number:06}.tar", url.rstrip("/"), format)
        for number, start in enumerate(range(0, len(manifest), shard_clips))
    ]
    done = {Path(path).stem for path in fs.glob(f"{folder}/{PARTS}/*.parquet")}
    todo = [job for job in jobs if Path(job.name).stem not in done]
    title = f"packing {dataset} {split}" + (f", {len(jobs) - len(todo)} shards done before" if done else "")
    for _ in track(_shards(todo, workers), title, len(todo)):
        pass
    packed = _collect(fs, folder, manifest, [Path(job.name).stem for job in jobs])
    with tempfile.TemporaryDirectory() as scratch:
        write_index(Path(scratch) / INDEX, packed)
        write_about(Path(scratch) / ABOUT, packed, format, dataset)
        for name in (INDEX, ABOUT):
            _put(fs, Path(scratch) / name, f"{folder}/{name}")
    fs.rm(f"{folder}/{PARTS}", recursive=True)
    return packed


def _key(manifest: Manifest, format: PackedFormat, shard_clips: int) -> str:
    """What the shards of one packing have in common."""
    content = [VERSION, JPEG_QUALITY, manifest.fingerprint, asdict(format), shard_clips]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _claim(fs: fsspec.AbstractFileSystem, folder: str, key: str, url: str, split: str) -> None:
    """Makes the folder this packing's, or refuses to touch another's."""
    if fs.exists(f"{folder}/{ABOUT}"):
        raise DataError(f"{url}/{split} is a finished pack; remove it, or give another folder with to=")
    marker = f"{folder}/{PARTS}/{key}.packing"
    others = fs.glob(f"{folder}/{PARTS}/*.packing") if fs.exists(f"{folder}/{PARTS}") else []
    if others and not any(other.endswith(f"/{key}.packing") for other in others):
        raise DataError(f"{url}/{split} is the unfinished pack of other clips or another format; remove it first")
    fs.makedirs(f"{folder}/{PARTS}", exist_ok=True)
    fs.pipe_file(marker, b"")


def _shards(jobs: list[Job], workers: int) -> Iterator[None]:
    if not jobs:
        return
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write_shard, jobs)


def write_shard(job: Job) -> None:
    """Writes one shard, then the part that says so."""
    fs, root = fsspec.core.url_to_fs(job.url)
    split, name = job.name.split("/")
    with tempfile.TemporaryDirectory() as scratch:
        where, faults = _write_tar(Path(scratch) / name, job)
        rows = job.rows.assign(**{column: where[column] for column in where})
        rows = rows.drop(columns=["audio_path", "video_path"]).assign(reason=faults)
        part = Path(scratch) / "part.parquet"
        pq.write_table(arrow_table(rows), part)
        _put(fs, Path(scratch) / name, f"{root}/{job.name}")
        _put(fs, part, f"{root}/{split}/{PARTS}/{Path(name).stem}.parquet")


def _write_tar(path: Path, job: Job) -> tuple[dict[str, pd.Series], list[str]]:
    """Where in the shard each clip's sound and frames lie, and why clips could not be read (empty where they could)."""
    where: dict[str, list] = {"sound_at": [], "sound_size": [], "frame_at": [], "frame_size": []}
    faults = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, row in zip(job.rows.index, job.rows.to_dict("records"), strict=True):
            try:
                sound, frames = _decode(row, job.format)
                faults.append("")
            except MediaError as error:
                sound, frames = None, []
                faults.append(error.reason)
            key = f"{number:09}"
            if not faults[-1]:
                about = {name: row[name] for name in ("clip_id", "video_id", "start", "end", "seconds")}
                _add(tar, f"{key}.json", json.dumps(about | {"labels": list(map(int, row["labels"]))}).encode())
            at = [_add(tar, f"{key}.sound.npy", _npy(sound))] if sound is not None else []
            where["sound_at"].append(at[0][0] if at else -1)
            where["sound_size"].append(at[0][1] if at else 0)
            places = [_add(tar, f"{key}.{i:04}.jpg", jpeg) for i, jpeg in enumerate(frames)]
            where["frame_at"].append([place for place, _ in places])
            where["frame_size"].append([size for _, size in places])
    lists = pd.ArrowDtype(pa.list_(pa.int64()))
    types = {"sound_at": "int64", "sound_size": "int64", "frame_at": lists, "frame_size": lists}
    columns = {name: pd.Series(where[name], index=job.rows.index, dtype=type_) for name, type_ in types.items()}
    return {"shard": pd.Series(job.name, index=job.rows.index, dtype="str"), **columns}, faults


def _decode(row: dict, format: PackedFormat) -> tuple[np.ndarray | None, list[bytes]]:
    """The clip's whole sound, and its frames as JPEGs."""
    sound, frames = None, []
    if format.sample_rate:
        with Media(row["audio_path"]) as media:
            sound = media.audio(row["offset"], row["seconds"], format.sample_rate)
    if format.fps:
        times = row["offset"] + np.arange(max(1, int(np.ceil(row["seconds"] * format.fps - 1e-6)))) / format.fps
        with Media(row["video_path"]) as media:
            pictures = media.frames(times, format.size)
        frames = [_jpeg(picture) for picture in pictures]
    return sound, frames


def _jpeg(picture_HW3: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture_HW3), JPEG_QUALITY, colorsubsampling="420")


def _npy(sound: np.ndarray) -> bytes:
    """As 16-bit integers where that loses nothing: sound of 16 bits that was not resampled or mixed."""
    steps = sound * np.float32(2**15)
    whole = steps.astype(np.int16) if np.abs(steps).max(initial=0) < 2**15 else None
    file = io.BytesIO()
    np.save(file, whole if whole is not None and np.array_equal(whole, steps) else sound)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> tuple[int, int]:
    """Adds a member; where its content begins, and its size."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    begin = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(content))
    return begin, len(content)


def _put(fs: fsspec.AbstractFileSystem, path: Path, target: str) -> None:
    """Copies a complete file there, whole or not at all (object stores do so by themselves)."""
    if "file" not in fs.protocol:
        fs.put_file(str(path), target)
        return
    temporary = f"{target}.{os.getpid()}.tmp"
    fs.put_file(str(path), temporary)
    os.replace(temporary, target)


def _collect(fs: fsspec.AbstractFileSystem, folder: str, manifest: Manifest, names: list[str]) -> Manifest:
    """The manifest with the places of its clips, from the parts of all shards."""
    parts = []
    for name in names:
        with fs.open(f"{folder}/{PARTS}/{name}.parquet", "rb") as file:
            parts.append(pandas_table(pq.read_table(file)))
    table = pd.concat(parts, ignore_index=True)
    excluded, examples = Counter(manifest.excluded), dict(manifest.examples)
    for reason, clips in table[table["reason"] != ""].groupby("reason")["clip_id"]:
        excluded[str(reason)] += len(clips)
        examples.setdefault(str(reason), clips.head(EXAMPLES).tolist())
    usable = table[table["reason"] == ""].drop(columns="reason").reset_index(drop=True)
    return replace(manifest, table=usable, excluded=dict(excluded), examples=examples)
