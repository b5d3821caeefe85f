"""Packed datasets, read: frames and sound that decode fast, in tar shards on a disk or behind any fsspec URL.

A pack is a folder with one folder a split:

    <split>/000000.tar …    WebDataset shards: `<row>.json`, `<row>.sound.npy`, `<row>.0000.jpg` …, and of files that
                            the dataset's table names `<row>.<column>.<suffix>`
    <split>/index.arrow     the manifest's table, and where in the shards each clip's sound, frames and files lie
    <split>/left_out.arrow  the listed clips that are not in it, and why: what selects clips selects among all of them
    <split>/pack.json       what was packed and how; written last, so a pack without it is not finished

Why tar with an index. WebDataset's tar shards are what the field exchanges, and any tool reads them; but read as a
stream they are shuffled only within a buffer, their sharding over ranks and workers drops or repeats clips, and a
stream cannot go on in the middle of an epoch exactly. LitData does better on all three, in chunks that only LitData
reads and with an order, samplers and a loader of its own, beside ours. With the index (the idea of WebDataset's `wids`)
a shard's clips can be read one by one, by seeking or by HTTP range, so that the samplers of this suite, which are exact
for any number of ranks and workers and go on anywhere, serve packs and media files alike.

Sound is stored as decoded and resampled, without loss: 16-bit where that is exact, else float32. Frames are JPEGs
(quality 95, 4:2:0) of the size that training wants, on a grid of `fps` frames a second from the clip's start;
what they lose is `FRAME_LOSS`. Files that the table names (masks, spoken captions, pictures) are stored as they are,
and read from a copy on the disk for temporary files.

What is read is compared with the CRC-32 in the index (0.16 ms for 10 s of float32 sound), so that damaged bytes are a
fault of the clip and not wrong numbers. A clip's sound is therefore read whole, whatever part of it is wanted.

URLs take credentials, endpoints and time limits from where fsspec and its file systems look for them: environment
variables and `~/.config/fsspec`. Loader processes open the URL anew.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import simplejpeg

from datamodules.manifest.build import Manifest, none_left_out
from datamodules.manifest.exclusions import EXAMPLES, Exclusions
from datamodules.media.container import MediaError
from datamodules.media.decode import resized
from datamodules.media.parts import suffix_of
from datamodules.source import DataError, Official, Source
from datamodules.streams.known import columns_of, streams_of
from datamodules.table import arrow_table, pandas_table
from datamodules.types import Inputs

VERSION = 1
INDEX, LEFT_OUT, ABOUT = "index.arrow", "left_out.arrow", "pack.json"
WHERE = ("shard", "sound_at", "sound_size", "sound_crc", "frame_at", "frame_size", "frame_crc")
"""Columns of the index beside the manifest's: the shard's name; where in it the sound begins, its bytes and their
CRC-32; where the first frame begins, and each frame's bytes and CRC-32. The others follow as in any tar file."""
NOT_PACKED = ("audio_path", "video_path")
"""Columns of a manifest's table that say where on this machine something lies. All others are in the index."""
READ_SECONDS = 60.0
"""A remote read that takes longer is given up; s3fs by itself goes on trying a server that hangs for half an hour."""
FULL_SCALE = np.float32(2**15)
"""Of 16-bit sound."""
FRAME_LOSS = (1.0, 24.0)
"""Grey values (of 255) by which a clip's frames differ from those of its file: on average, and at most at one pixel.
Measured at 224 pixels on the sample data (sharp edges, film grain): 0.5 on average, 0.7 in the worst clip, 13 at most.
Smaller pictures have more of their pixels on edges: at 64 pixels it is 0.8, 1.2 and 23."""
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
    files: Sequence[str] = ()
    """Columns of the dataset's table whose files it holds; none in older packs."""

    def require(self, inputs: Inputs, url: str) -> None:
        """Raises DataError where these inputs cannot be read from the pack."""
        for stream in streams_of(inputs).values():
            stream.require_packed(self, url)


def files_to_pack(inputs: Inputs) -> dict[str, str]:
    """The files beside media that these inputs read and a pack can hold: column of the dataset's table -> that of the
    manifest's with their paths."""
    each = (files for stream in streams_of(inputs).values() for files in stream.files())
    return {files.packed_as: files.column for files in each if files.packed_as}


def places_of(column: str) -> tuple[str, ...]:
    """Columns of the index that belong to one of files: their names, where in the shard each begins, its bytes and
    their CRC-32."""
    return column, f"{column}_at", f"{column}_size", f"{column}_crc"


class Shards:
    """The bytes of a pack's shards, by range.

    Holds no open files: a large dataset has more shards than a process may open. Travels to other processes as its
    address.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._fs, self._root = fsspec.core.url_to_fs(self.url)

    def __reduce__(self) -> tuple[type[Shards], tuple[str]]:
        return Shards, (self.url,)

    def read(self, shard: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a shard.

        Raises:
            MediaError: they are not there.
        """
        path = f"{self._root}/{shard}"
        limit = {"timeout": READ_SECONDS} if self._fs.async_impl else {}
        try:
            content = self._fs.cat_file(path, start=start, end=stop, **limit)
        except FileNotFoundError as error:
            raise MediaError(path, "missing") from error
        except Exception as error:  # each remote file system has errors of its own
            raise MediaError(path, "unreadable", f"{type(error).__name__}: {error}") from error
        if len(content) != stop - start:
            raise MediaError(path, "truncated", f"no bytes {start} to {stop}")
        return content


class PackedClip:
    """A clip of a pack; gives what `Media` of its file would give."""

    def __init__(self, shards: Shards, format: PackedFormat, row: dict[str, Any]):
        self.path = f"{shards.url}/{row['shard']}#{row['clip_id']}"
        self._shards, self._format, self._row = shards, format, row

    def audio(self, start: float, seconds: float, sample_rate: int) -> np.ndarray:
        """Bit for bit the slice of the clip's sound that `Media.audio` decodes as a whole, for times within the clip.

        Raises:
            MediaError: it is not there, or damaged.
        """
        begin = self._row["sound_at"]
        end = begin + self._row["sound_size"]
        content = self._checked(self._shards.read(self._row["shard"], begin, end), self._row["sound_crc"])
        sound = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        first = max(0, round(start * sample_rate) - round(self._row["audio_offset"] * sample_rate))
        part = sound[first : first + round(seconds * sample_rate)]
        return part / FULL_SCALE if part.dtype == np.int16 else part

    def frames(self, times: Sequence[float], size: int) -> np.ndarray:
        """What `Media.frames` gives for times on the pack's grid, but for JPEG's loss; between them, the frame before.

        Pictures smaller than the pack's are resized from them.

        Raises:
            MediaError: one is not there, or damaged.
        """
        sizes = np.array(self._row["frame_size"])
        starts = self._row["frame_at"] + _tar_offsets(sizes)
        places = np.floor((np.asarray(times) - self._row["video_offset"]) * self._format.fps + GRID_TOLERANCE)
        places = places.clip(0, len(starts) - 1).astype(int)
        first, last = places.min(), places.max()
        begin, end = int(starts[first]), int(starts[last] + sizes[last])
        content = memoryview(self._shards.read(self._row["shard"], begin, end))
        pictures = {}
        for i in np.unique(places).tolist():
            at = starts[i] - begin
            jpeg = self._checked(content[at : at + sizes[i]], self._row["frame_crc"][i])
            pictures[i] = self._picture(jpeg, size)
        return np.stack([pictures[i] for i in places.tolist()])

    @contextmanager
    def file(self, column: str) -> Iterator[str]:
        """The path of a copy of one of its files, which is there while it is read.

        Raises:
            MediaError: it is not there, or damaged.
        """
        name, begin, size, crc = (self._row[place] for place in places_of(column))
        content = self._checked(self._shards.read(self._row["shard"], begin, begin + size), crc)
        with tempfile.NamedTemporaryFile(suffix=suffix_of(name)) as copy:
            copy.write(content)
            copy.flush()
            yield copy.name

    def _checked(self, content: bytes | memoryview, crc: int) -> bytes | memoryview:
        if zlib.crc32(content) != crc:
            raise MediaError(self.path, "undecodable", "its bytes in the shard are not those that were packed")
        return content

    def _picture(self, jpeg: bytes | memoryview, size: int) -> np.ndarray:
        picture = simplejpeg.decode_jpeg(jpeg)
        if size == len(picture):
            return picture
        return resized(picture, size)


def _tar_offsets(sizes: np.ndarray) -> np.ndarray:
    """[n] where files that follow each other in a tar begin, from the first one on: each is padded to whole blocks, and
    has a block of header before it."""
    blocks = -(-sizes.astype(np.int64) // tarfile.BLOCKSIZE) + 1
    return np.cumsum(blocks * tarfile.BLOCKSIZE) - blocks * tarfile.BLOCKSIZE


class PackedDataset(Source):
    """What streams ask of a dataset of which there is a pack alone."""

    def __init__(self, url: str, classes: list[str]):
        super().__init__(Path(url))
        self.title = f"the pack {url}"  # type: ignore[misc]  # of datasets it is the class's
        self._classes = classes

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    @property
    def classes(self) -> list[str]:
        return self._classes

    def read_split(self, split: str) -> Official:
        raise NotImplementedError("a pack has no official files")


class Pack:
    """The clips of a manifest that was read from packs: row -> its sound and frames."""

    def __init__(self, url: str, formats: dict[str, PackedFormat]):
        self.shards, self.formats = Shards(url), formats

    @property
    def url(self) -> str:
        return self.shards.url

    def clip(self, row: dict[str, Any]) -> PackedClip:
        """The clip.

        Args:
            row: the clip's `WHERE` columns, clip_id and offsets.
        """
        return PackedClip(self.shards, self.formats[row["shard"].partition("/")[0]], row)


def open_pack(url: str, splits: Sequence[str], inputs: Inputs, dataset: str) -> Manifest:
    """The manifest of packed splits, as it was when they were packed.

    Args:
        url: the pack's folder, local or any fsspec URL.
        splits: joined in this order.
        inputs: what is to be read.
        dataset: whose pack it must be.

    Raises:
        DataError: it is not there, not finished, of another dataset, or does not hold what the inputs want.
    """
    abouts, tables, left_out = zip(*(_open_split(url, split, dataset) for split in splits), strict=True)
    formats = {split: PackedFormat(**about["format"]) for split, about in zip(splits, abouts, strict=True)}
    for split, format in formats.items():
        format.require(inputs, f"{url}/{split}")
    first = abouts[0]
    for split, about in zip(splits, abouts, strict=True):
        if about["classes"] != first["classes"]:
            raise DataError(
                f"{url}: the splits {splits[0]!r} and {split!r} have different classes; pack one of them again"
            )
    manifest = Manifest(
        pandas_table(pa.concat_tables(tables, promote_options="default")),
        first["classes"],
        first["multilabel"],
        official=sum(about["official"] for about in abouts),
        left_out=pandas_table(pa.concat_tables(left_out, promote_options="default")),
        # Older packs do not say these.
        overlong=sum(about.get("overlong", 0) for about in abouts),
        sample=any(about.get("sample", False) for about in abouts),
        pack=Pack(url, formats),
        described=columns_of(inputs),
        relevance=None if first.get("relevance") is None else np.array(first["relevance"]),
    )
    counts: Counter[str] = Counter()
    for about in abouts:
        counts.update(about["excluded"])
        for reason, some in about["examples"].items():
            manifest.examples[reason] = (manifest.examples.get(reason, []) + some)[:EXAMPLES]
    manifest.excluded = dict(sorted(counts.items()))
    _find(manifest, url, inputs)
    return manifest


def _open_split(url: str, split: str, dataset: str) -> tuple[dict[str, Any], pa.Table, pa.Table]:
    """What `pack.json`, `index.arrow` and `left_out.arrow` of a split hold; older packs do not have the last."""
    fs, root = fsspec.core.url_to_fs(url.rstrip("/"))
    fs.invalidate_cache()  # somebody may have packed since this process looked
    try:
        about = json.loads(fs.cat_file(f"{root}/{split}/{ABOUT}"))
        table = _read_arrow(fs, f"{root}/{split}/{INDEX}")
        there = fs.exists(f"{root}/{split}/{LEFT_OUT}")
        left_out = _read_arrow(fs, f"{root}/{split}/{LEFT_OUT}") if there else arrow_table(none_left_out())
    except FileNotFoundError as error:
        raise DataError(
            f"{url} has no finished pack of the split {split!r}; make or finish it with: python -m bench data pack "
            f"{dataset} to={url} splits={split}"
        ) from error
    except Exception as error:  # each remote file system has errors of its own
        raise DataError(f"{url}/{split} cannot be read: {type(error).__name__}: {error}") from error
    if about["dataset"] != dataset or about["version"] != VERSION:
        raise DataError(
            f"{url}/{split} is a pack of {about['dataset']}, version {about['version']}; expected {dataset}, "
            f"version {VERSION}"
        )
    if len(table) != about["clips"]:
        raise DataError(
            f"{url}/{split}/{INDEX} has {len(table)} clips, {ABOUT} beside it says {about['clips']}; remove the "
            "folder and pack it again"
        )
    return about, table, left_out


def _read_arrow(fs: fsspec.AbstractFileSystem, path: str) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(fs.cat_file(path))).read_all()


def _find(manifest: Manifest, url: str, inputs: Inputs) -> None:
    """What streams find in the table; a pack that was made for others may have clips without it."""
    table = manifest.table
    exclusions, source = Exclusions(table, [], 0), PackedDataset(url, manifest.classes)
    for stream in streams_of(inputs).values():
        stream.find(table, source, exclusions)
    if exclusions.none.all():
        return
    counts = Counter(manifest.excluded) + exclusions.counts
    manifest.excluded = dict(sorted(counts.items()))
    for reason, clips in exclusions.examples.items():
        manifest.examples[reason] = (manifest.examples.get(reason, []) + clips)[:EXAMPLES]
    manifest.left_out = pd.concat([manifest.left_out, exclusions.left_out], ignore_index=True)
    manifest.table = table[exclusions.none].reset_index(drop=True)


def write_about(path: Path, manifest: Manifest, format: PackedFormat, dataset: str) -> None:
    """`pack.json`: what makes the packed index a manifest again."""
    about = {
        "version": VERSION,
        "dataset": dataset,
        "format": asdict(format),
        "classes": manifest.classes,
        "multilabel": manifest.multilabel,
        "relevance": None if manifest.relevance is None else manifest.relevance.tolist(),
        "official": manifest.official,
        "excluded": manifest.excluded,
        "examples": manifest.examples,
        "overlong": manifest.overlong,
        "sample": manifest.sample,
        "fingerprint": manifest.fingerprint,
        "clips": len(manifest),
    }
    path.write_text(json.dumps(about, indent=1) + "\n")


def write_table(path: Path, content: pd.DataFrame) -> None:
    """`index.arrow` of a manifest's table, `left_out.arrow` of its clips that are left out."""
    table = arrow_table(content)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
