"""Videos whose steps are to be found in time: from one row a video to one row a second."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from datamodules.features.stored import whole_seconds
from datamodules.source import LABELS


def steps_of(videos: pd.DataFrame) -> dict[str, list[int]]:
    """Video (clip_id) -> the classes that are to be found in it, in their order."""
    return {video: list(steps) for video, steps in zip(videos["clip_id"], videos["steps"], strict=True)}


def seconds_of(videos: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """One row a whole second of each video, with the steps that are annotated in it.

    A step from 1.2 to 3.5 s is annotated in the seconds 1, 2 and 3 (DmZhukov/CrossTask: floor of its start to ceiling
    of its end). What is annotated beyond a video's end is left out.

    Args:
        videos: a manifest's table with one row a video.
        segments: clip_id (of the video), label, start, end in seconds.

    Returns:
        The same columns, `start` and `end` being those of the second, and besides group (the video's clip_id) and
        video_seconds; labels are those of the second. In the order of the videos, then of time.
    """
    length_V = videos["seconds"].to_numpy(float)
    count_V = np.array([whole_seconds(seconds) for seconds in length_V], dtype=np.int64)
    first_V = np.r_[0, count_V.cumsum()[:-1]]
    video_N = np.repeat(np.arange(len(videos)), count_V)
    second_N = np.arange(len(video_N)) - first_V[video_N]

    table = videos.drop(columns=["labels", "steps"]).iloc[video_N].reset_index(drop=True)
    table["group"] = table["clip_id"]
    table["clip_id"] = table["clip_id"] + "/" + pd.Series(second_N).astype("str").str.zfill(5)
    table["start"], table["end"], table["seconds"] = second_N.astype(float), second_N + 1.0, 1.0
    for kind in ("audio", "video"):
        table[f"{kind}_offset"] += second_N  # in the file of the whole video
    table["video_seconds"] = length_V[video_N]
    table["labels"] = _labels(videos, segments, first_V, count_V)
    return table


def _labels(videos: pd.DataFrame, segments: pd.DataFrame, first_V: np.ndarray, count_V: np.ndarray) -> pd.Series:
    """[N] the steps annotated in each second."""
    place_S = pd.Index(videos["clip_id"]).get_indexer(segments["clip_id"])
    segments, place_S = segments[place_S >= 0], place_S[place_S >= 0]
    begin_S = np.floor(segments["start"].to_numpy(float)).astype(np.int64).clip(0)
    stop_S = np.minimum(np.ceil(segments["end"].to_numpy(float)).astype(np.int64), count_V[place_S])
    length_S = np.maximum(0, stop_S - begin_S)
    before_S = np.r_[0, length_S.cumsum()[:-1]] if len(length_S) else length_S
    row = np.arange(length_S.sum()) - np.repeat(before_S - begin_S - first_V[place_S], length_S)
    label = np.repeat(segments["label"].to_numpy(np.int64), length_S)
    width = int(label.max(initial=0)) + 1
    each = np.unique(row * width + label)
    offsets = np.r_[0, np.bincount(each // width, minlength=int(count_V.sum())).cumsum()].astype(np.int32)
    return pd.Series(pa.ListArray.from_arrays(offsets, pa.array(each % width, pa.int16())), dtype=LABELS)
