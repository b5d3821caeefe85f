"""The clips of official lists -> the files in which they lie, and where in these they begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from datamodules.manifest.media_index import DEAD_LINK, UNKNOWN_SUFFIX, MediaIndex, index_media
from datamodules.source import MediaKind, Official, Source
from datamodules.streams.known import media_of
from datamodules.types import Inputs

LENGTH_TOLERANCE = 0.5
"""Seconds. What differs by no more is equally long: codecs pad the end, and lists round."""
WHICH_SECONDS = "which seconds?"
"""Reason of a clip whose file may be cut, or may be the whole video."""


@dataclass
class Files:
    """The media files of clips."""

    paths: pa.Array
    """Each once."""
    rows: dict[str, np.ndarray]
    """Need ("audio", "video") -> [n] place in `paths` of each clip's file, -1 where there is none."""
    timed: dict[str, np.ndarray]
    """Need -> [n] bool: the file's name says when the clip begins."""
    absent: np.ndarray
    """[n] why there is no file; empty where there is one."""


def find_files(source: Source, officials: Sequence[Official], inputs: Inputs) -> Files:
    """The files of all clips of several splits.

    Where a clip has files of both kinds, sound is read from the one and pictures from the other; where it has one,
    that may hold both, which its check finds out. A name that says when the clip begins is preferred.
    """
    needed: list[str] = [*media_of(inputs)]
    if not needed:
        return Files(pa.array([], pa.large_string()), {}, {}, np.array([], dtype=object))
    index = index_media(source.root)
    found, timed = {}, {}
    for kind in ("audio", "video"):
        found[kind], timed[kind] = _search(index[kind], officials)
    # One numbering of all files: those of sound, then those of pictures.
    found["video"][found["video"] >= 0] += len(index["audio"])
    other = {"audio": "video", "video": "audio"}
    wanted = np.concatenate([np.where(found[kind] >= 0, found[kind], found[other[kind]]) for kind in needed])
    timed = {kind: np.where(found[kind] >= 0, timed[kind], timed[other[kind]]) for kind in needed}
    used, rows = np.unique(wanted, return_inverse=True)
    missing = int(len(used) > 0 and used[0] < 0)
    used, rows = used[missing:], rows - missing
    split_at = np.searchsorted(used, len(index["audio"]))
    paths = [index["audio"].paths(used[:split_at]), index["video"].paths(used[split_at:] - len(index["audio"]))]
    rows_of = dict(zip(needed, np.split(rows, len(needed)), strict=True))
    return Files(pa.concat_arrays(paths), rows_of, timed, _absent(index, officials, rows_of[needed[0]] < 0))


def _search(index: MediaIndex, officials: Sequence[Official]) -> tuple[np.ndarray, np.ndarray]:
    """[n] the place of each clip's file, -1 where there is none; [n] whether its name says when the clip begins."""
    places, timed = [], []
    for official in officials:
        bare = index.find(official.stems)
        by_time = index.find(official.timed_stems) if official.timed_stems else np.full(len(bare), -1)
        places.append(np.where(by_time >= 0, by_time, bare))
        timed.append(by_time >= 0)
    return np.concatenate(places), np.concatenate(timed)


def _absent(index: dict[str, MediaIndex], officials: Sequence[Official], without: np.ndarray) -> np.ndarray:
    absent = np.where(without, "missing", "").astype(object)
    for reason in (UNKNOWN_SUFFIX, DEAD_LINK):
        if without.any() and len(index[reason]):
            there, _ = _search(index[reason], officials)
            absent[without & (there >= 0)] = reason
    return absent


def reasons(files: Files, judged: pd.DataFrame, need: str) -> pd.Series:
    """[n] why each clip cannot be used for its sound ("audio") or its pictures ("video"); empty where it can."""
    rows = files.rows[need]
    return judged[f"{need}_reason"].reindex(rows).reset_index(drop=True).mask(rows < 0, pd.Series(files.absent))


def offsets(table: pd.DataFrame, files: Files, need: str, duration: np.ndarray, media: MediaKind) -> np.ndarray:
    """[n] the second at which each clip begins in its file; NaN where it is unknown, as in a file that clips of
    different recordings share: their names are equal but for the folder, and nobody can say whose it is.

    Args:
        table: the clips, with video_id, start and end.
        files: where they lie.
        need: whose files, "audio" or "video".
        duration: [n] seconds of each clip's file.
        media: what files with the bare id are.
    """
    rows = files.rows[need]
    recordings = pd.Series(table["video_id"].to_numpy()).groupby(rows).transform("nunique")
    shared = (rows >= 0) & (recordings > 1)
    return np.where(shared, np.nan, _of_one_recording(table, files, need, duration, media))


def _of_one_recording(
    table: pd.DataFrame, files: Files, need: str, duration: np.ndarray, media: MediaKind
) -> np.ndarray:
    """`offsets`, if every file is of one recording.

    A file whose name says when the clip begins is the cut clip, whatever its length. What a file with the bare id is,
    `media` says: cut (but then it is one clip's alone), the whole video, or `auto`. With that, a file that is clearly
    longer than the clip is the whole video, in which the clip begins at its start and may end early. One as long as the
    clip is the clip. What fits both or neither is left open: a short one that would reach into the clip if it were the
    whole video, a long one that would not, and one file of several clips that is not their whole video.
    """
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    timed = files.timed[need]
    if media == "videos":
        return np.where(timed, 0.0, start)
    segments = pd.DataFrame({"file": files.rows[need], "start": start, "end": end})
    shared = _of_several_clips(segments, ~timed)
    if media == "clips":
        return np.where(timed, 0.0, np.where(shared, np.nan, 0.0))
    longer = duration > end - start + LENGTH_TOLERANCE
    shorter = duration < end - start - LENGTH_TOLERANCE
    reaches = duration > start
    like_a_video = np.where(shorter, reaches, duration >= end - LENGTH_TOLERANCE)
    unclear = (start > 0) & np.where(longer, ~reaches, like_a_video)
    if shared.any():
        fits = pd.DataFrame({"file": segments["file"], "longer": longer, "reaches": reaches})[shared]
        each = fits.groupby("file")
        # It reaches into two at least: what is as long as to hold one of them may be that one.
        is_video = each["longer"].all() & (segments[shared & reaches].drop_duplicates().groupby("file").size() > 1)
        longer, unclear = longer.copy(), unclear.copy()
        longer[shared] = is_video.reindex(fits["file"], fill_value=False).to_numpy()
        unclear[shared] = ~longer[shared]
    return np.where(timed, 0.0, np.where(unclear, np.nan, np.where(longer, start, 0.0)))


def sound_seconds(table: pd.DataFrame, timed: np.ndarray, end: np.ndarray, media: MediaKind) -> np.ndarray:
    """[n] how much sound there is of each clip: in a cut file up to the sound's end, as it is read by all loaders that
    cut log-mels at their number of frames alone (AST, PSLA, UAVM, AudioMAE); in a whole video no further than to the
    clip's end.

    A file that ends just after the clip holds nothing but the clip, whatever it is.

    Args:
        table: the clips, with start, end, seconds and audio_offset.
        timed: [n] bool, the file's name says when the clip begins.
        end: [n] second of the file at which its sound ends; inf where none is read.
        media: what files with the bare id are.
    """
    offset, rest = table["audio_offset"], end - table["audio_offset"]
    within = rest <= table["end"] - table["start"] + LENGTH_TOLERANCE
    cut = timed | (offset < table["start"]) | within | (media == "clips")
    return np.where(cut & np.isfinite(end), rest, np.minimum(rest, table["seconds"]))


def _of_several_clips(segments: pd.DataFrame, bare: np.ndarray) -> np.ndarray:
    """[n] bool: the file has the bare id, and other clips begin or end elsewhere in it."""
    mine = segments[bare & (segments["file"] >= 0)].drop_duplicates()
    count = mine["file"].value_counts()
    return bare & segments["file"].isin(count.index[count > 1]).to_numpy()
