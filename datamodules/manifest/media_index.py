"""The media files below a dataset's folder, by their names."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.source.folders import walk
from datamodules.table import arrow

_SUFFIXES = {
    # Of containers that mostly hold sound alone; a clip that has two files is heard in this one and seen in the other.
    "audio": "wav flac ogg oga opus spx mp3 mp2 mpa m4a m4b aac adts ac3 eac3 dts aif aiff aifc caf wma mka amr au snd "
    "w64 rf64 bwf wv ape tta tak mpc ra voc gsm",
    "video": "mp4 mkv webm avi mov qt m4v mj2 flv f4v 3gp 3g2 ts mts m2t m2ts mpg mpeg mpe m1v m2v vob ogv ogm wmv asf "
    "mxf dv nut rm rmvb divx wtv ivf gxf mjpeg mjpg h264 264 h265 265 hevc",
    # What often lies beside media under the same name and is none.
    "": "jpg jpeg png webp gif bmp tif tiff json jsonl csv tsv txt xml html md log npy npz pt pth pkl pickle h5 hdf5 "
    "mat parquet arrow srt vtt ass ssa sub lrc ttml zip tar gz part ytdl tmp temp lock description",
}
KIND_OF = {f".{suffix}": kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
"""Suffix -> "audio" or "video", empty for what is not media."""
UNKNOWN_SUFFIX, DEAD_LINK = "unknown suffix", "dead link"
"""Kinds of files that are no media for this reason, but may have a clip's name."""


class MediaIndex:
    """Files by their name without suffix; the first of several with one name, in the order of their paths.

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
        self._stems_below = {0: self._stems}

    def __len__(self) -> int:
        return len(self._stems)

    def find(self, stems: Sequence[pd.Series]) -> np.ndarray:
        """[n] the place here of each clip's first stem that is there; -1 where none is."""
        found = pa.nulls(len(stems[0]), pa.int32())
        for stem in stems:
            wanted = arrow(stem, pa.large_string())
            depth = pc.max(pc.count_substring(wanted, "/")).as_py() or 0
            if depth not in self._stems_below:
                self._stems_below[depth] = self._in_folders(depth)
            found = pc.coalesce(found, pc.index_in(wanted, value_set=self._stems_below[depth]))
        return found.fill_null(-1).to_numpy().astype(np.int64)

    def _in_folders(self, depth: int) -> pa.Array:
        """`folder/stem` of each file, with so many of the folders that it is in."""
        names = ("/".join(folder.split(os.sep)[-depth:]) for folder in self._folders.to_pylist())
        own = pa.array(names, pa.large_string()).take(self._folder_of)
        return pc.binary_join_element_wise(own, self._stems, pa.scalar("/", pa.large_string()))

    def paths(self, places: np.ndarray) -> pa.Array:
        """[n] the paths of these places."""
        at = pa.array(places)
        folder = self._folders.take(self._folder_of.take(at))
        return pc.binary_join_element_wise(folder, self._names.take(at), pa.scalar(os.sep, pa.large_string()))


def index_media(root: Path) -> dict[str, MediaIndex]:
    """The files below a folder by the kind that their suffix indicates: "audio", "video"; and those that are no media,
    `UNKNOWN_SUFFIX` and `DEAD_LINK`."""
    kinds = ("audio", "video", UNKNOWN_SUFFIX, DEAD_LINK)
    folders: list[str] = []
    names: dict[str, list[str]] = {kind: [] for kind in kinds}
    folder_of = {kind: array("q") for kind in kinds}
    for folder in walk(root):
        for files, reason in ((folder.files, ""), (folder.dead_links, DEAD_LINK)):
            for name in files:
                kind = KIND_OF.get(os.path.splitext(name)[1].lower(), UNKNOWN_SUFFIX)
                if kind:
                    names[reason or kind].append(name)
                    folder_of[reason or kind].append(len(folders))
        folders.append(folder.path)
    return {kind: MediaIndex(folders, names[kind], folder_of[kind]) for kind in kinds}
