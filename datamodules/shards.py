"""Packed datasets, read: frames and sound that decode fast, in tar shards on a disk or behind any fsspec URL.

A pack is a folder with one folder a split:

    <split>/000000.tar …    WebDataset shards: `<row>.json`, `<row>.sound.npy`, `<row>.0000.jpg` …
    <split>/index.arrow     the manifest's table, and where in the shards each clip's sound and frames lie
    <split>/pack.json       what was packed and how; written last, so a pack without it is not finished

Why tar with an index. WebDataset's tar shards are what the field exchanges, and any tool reads them; but read as a
stream they are shuffled only within a buffer, their sharding over ranks and workers drops or repeats clips, and a
stream cannot go on in the middle of an epoch exactly. LitData does better on all three, in chunks that only LitData
reads and with an order, samplers and a loader of its own, beside ours. With the index (the idea of WebDataset's `wids`)
a shard's clips can be read one by one, by seeking or by HTTP range, so that the samplers of this suite, which are exact
for any number of ranks and workers and go on anywhere, serve packs and media files alike.

Sound is stored as decoded and resampled, without loss: 16-bit where that is exact, else float32. Frames are JPEGs
(quality 95) of the size that training wants, on a grid of `fps` frames a second from the clip's start.
"""

from __future__ import annotations

import io
import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import simplejpeg
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from datamodules.container import MediaError
from datamodules.manifest import Manifest
from datamodules.source import DataError
from datamodules.table import arrow_table, pandas_table
from datamodules.types import Inputs

VERSION = 1
INDEX, ABOUT = "index.arrow", "pack.json"
WHERE = ("shard", "sound_at", "sound_size", "frame_at", "frame_size")
"""Columns of the index beside the manifest's: shard name and byte positions in it."""
GRID_TOLERANCE = 1e-3
"""Of a frame; times that are a whole number of frames apart but for rounding."""


@dataclass(frozen=True)
class PackedFormat:
    """What of the clips a pack holds."""

    sample_rate: int
    """Hz; 0 = no sound."""
    fps: float
    """Frames a second; 0 = no frames."""
    size: int
    """Pixels, height and width."""

    def require(self, inputs: Inputs, url: str) -> None:
        """Raises DataError where these inputs cannot be read from the pack."""
        audio, video = inputs.audio, inputs.video
        if audio is not None and audio.sample_rate != self.sample_rate:
            has = f"sound of {self.sample_rate} Hz" if self.sample_rate else "no sound"
            raise DataError(f"{url} holds {has}, but data.inputs.audio.sample_rate={audio.sample_rate}; {REPACK}")
        if video is None:
            return
        if not self.fps:
            raise DataError(f"{url} holds no frames, but the stage looks at pictures; {REPACK}")
        ratio = self.fps / video.fps
        if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
            raise DataError(
                f"{url} holds {self.fps:g} frames a second, no multiple of data.inputs.video.fps={video.fps:g}; "
                f"{REPACK}"
            )
        if max(video.size, video.train_size) > self.size:
            raise DataError(
                f"{url} holds frames of {self.size} pixels, but data.inputs.video.size={video.size} and "
                f"train_size={video.train_size}; {REPACK}"
            )


REPACK = "change that, or pack the dataset again"


class Shards:
    """The bytes of a pack's shards: memory-mapped on a local disk, by range from elsewhere.

    Travels to other processes as its address.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._fs, self._root = fsspec.core.url_to_fs(self.url)
        self._local = "local" in str(self._fs.protocol) or "file" in self._fs.protocol
        self._maps: dict[str, mmap.mmap] = {}

    def __reduce__(self) -> tuple[type[Shards], tuple[str]]:
        return Shards, (self.url,)

    def read(self, shard: str, start: int, stop: int) -> bytes | memoryview:
        """Bytes [start, stop) of a shard.

        Raises:
            MediaError: they are not there.
        """
        path = f"{self._root}/{shard}"
        try:
            content = self._mapped(path)[start:stop] if self._local else self._fs.cat_file(path, start, stop)
        except FileNotFoundError as error:
            raise MediaError(path, "missing") from error
        except (OSError, ValueError) as error:
            raise MediaError(path, "unreadable", str(error)) from error
        if len(content) != stop - start:
            raise MediaError(path, "truncated", f"no bytes {start} to {stop}")
        return content

    def _mapped(self, path: str) -> memoryview:
        if path not in self._maps:
            with open(path, "rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return memoryview(self._maps[path])


class PackedClip:
    """A clip of a pack; gives what `Media` of its file would give."""

    def __init__(self, shards: Shards, format: PackedFormat, row: dict[str, Any]):
        self.path = f"{shards.url}/{row['shard']}#{row['clip_id']}"
        self._shards, self._format, self._row = shards, format, row

    def audio(self, start: float, seconds: float, sample_rate: int) -> np.ndarray:
        """Bit for bit what `Media.audio` gives for times within the clip."""
        at = self._row["sound_at"]
        content = self._shards.read(self._row["shard"], at, at + self._row["sound_size"])
        sound = _from_npy(content)
        first = round(start * sample_rate) - round(self._row["offset"] * sample_rate)
        part = sound[max(first, 0) : first + round(seconds * sample_rate)]
        return part / np.float32(2**15) if part.dtype == np.int16 else part.copy()

    def frames(self, times: Any, size: int) -> np.ndarray:
        """What `Media.frames` gives for times on the pack's grid, but for JPEG's loss; between them, the frame before.

        Pictures smaller than the pack's are resized from them.
        """
        starts, sizes = self._row["frame_at"], self._row["frame_size"]
        places = np.floor((np.asarray(times) - self._row["offset"]) * self._format.fps + GRID_TOLERANCE)
        places = places.clip(0, len(starts) - 1).astype(int)
        first, last = int(places.min()), int(places.max())
        begin, end = starts[first], starts[last] + sizes[last]
        content = memoryview(self._shards.read(self._row["shard"], begin, end))
        pictures = {
            int(i): self._picture(content[starts[i] - begin : starts[i] - begin + sizes[i]], size)
            for i in np.unique(places)
        }
        return np.stack([pictures[int(i)] for i in places])

    def _picture(self, jpeg: memoryview, size: int) -> np.ndarray:
        try:
            picture = simplejpeg.decode_jpeg(jpeg)
        except ValueError as error:
            raise MediaError(self.path, "undecodable", str(error)) from error
        if size == len(picture):
            return picture
        return _RESIZE.reformat(
            VideoFrame.from_ndarray(picture), size, size, "rgb24", interpolation=Interpolation.BICUBIC, threads=1
        ).to_ndarray()


_RESIZE = VideoReformatter()


def _from_npy(content: bytes | memoryview) -> np.ndarray:
    """A one-dimensional array of an npy file's bytes, without copying them."""
    head = io.BytesIO(bytes(content[:128]))
    version = np.lib.format.read_magic(head)
    assert version == (1, 0), version  # what `np.save` writes for plain arrays
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    return np.frombuffer(content, dtype=dtype, offset=head.tell(), count=shape[0])


class Pack:
    """The clips of a manifest that was read from packs: row -> its sound and frames."""

    def __init__(self, url: str, formats: dict[str, PackedFormat]):
        self.shards, self.formats = Shards(url), formats

    def clip(self, row: dict[str, Any]) -> PackedClip:
        """
        Args:
            row: the clip's `WHERE` columns, clip_id and offset.
        """
        return PackedClip(self.shards, self.formats[row["shard"].partition("/")[0]], row)


def open_pack(url: str, splits: list[str], inputs: Inputs, dataset: str) -> Manifest:
    """The manifest of packed splits, as it was when they were packed.

    Args:
        url: the pack's folder, local or any fsspec URL.
        splits: joined in this order.
        inputs: what is to be read.
        dataset: whose pack it must be.

    Raises:
        DataError: it is not there, not finished, of another dataset, or does not hold what the inputs want.
    """
    fs, root = fsspec.core.url_to_fs(url.rstrip("/"))
    tables, abouts = [], {}
    for split in splits:
        try:
            about = json.loads(fs.cat_file(f"{root}/{split}/{ABOUT}"))
            table = pa.ipc.open_file(pa.BufferReader(fs.cat_file(f"{root}/{split}/{INDEX}"))).read_all()
        except FileNotFoundError as error:
            raise DataError(
                f"{url} has no finished pack of the split {split!r}; make it with: python -m bench data pack "
                f"{dataset} to={url} splits={split}"
            ) from error
        if about["dataset"] != dataset or about["version"] != VERSION:
            raise DataError(
                f"{url}/{split} is a pack of {about['dataset']}, version {about['version']}; expected {dataset}, "
                f"version {VERSION}"
            )
        abouts[split] = about
        tables.append(pandas_table(table))
    formats = {split: PackedFormat(**about["format"]) for split, about in abouts.items()}
    for split, format in formats.items():
        format.require(inputs, f"{url}/{split}")
    first = next(iter(abouts.values()))
    manifest = Manifest(
        pd.concat(tables, ignore_index=True),
        first["classes"],
        first["multilabel"],
        official=sum(about["official"] for about in abouts.values()),
        pack=Pack(url, formats),
    )
    for about in abouts.values():
        for reason, count in about["excluded"].items():
            manifest.excluded[reason] = manifest.excluded.get(reason, 0) + count
            manifest.examples.setdefault(reason, []).extend(about["examples"].get(reason, []))
    if inputs.text is not None and "text" not in manifest.table:
        raise DataError(f"{url} holds no text")
    return manifest


def write_about(path: Path, manifest: Manifest, format: PackedFormat, dataset: str) -> None:
    """`pack.json`: what makes the packed index a manifest again."""
    about = {
        "version": VERSION,
        "dataset": dataset,
        "format": asdict(format),
        "classes": manifest.classes,
        "multilabel": manifest.multilabel,
        "official": manifest.official,
        "excluded": manifest.excluded,
        "examples": manifest.examples,
        "fingerprint": manifest.fingerprint,
        "clips": len(manifest),
    }
    path.write_text(json.dumps(about, indent=1) + "\n")


def write_index(path: Path, manifest: Manifest) -> None:
    table = arrow_table(manifest.table)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
