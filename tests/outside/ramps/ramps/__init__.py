"""Somebody else's dataset whose sound says where it was read, and a method that writes down what it is given.

Each video's sound is a ramp, so that one number of it tells the video and the second.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import wavfile

from datamodules.boards import Board, Classification, Neighbours
from datamodules.source import Official, Source, class_lists

RATE = 1000  # Hz
CLIPS, SECONDS = 3, 6.0  # of each video
VIDEOS = {"train": range(8), "val": range(11, 13), "test": range(8, 11)}
HIGHEST, LONGEST = 64, 20.0  # number of a video, seconds


class Ramps(Source):
    name = "ramps"
    title = "Ramps"
    folders = ("ramps",)
    splits = ("train", "val", "test")
    boards = (
        Board("ramps", dataset="ramps", train="train", split="test", task=Classification(), main="top1"),
        Board("ramps-near", dataset="ramps", train="train", split="test", task=Neighbours(), main="near@1", views=2),
    )
    classes = ("zero", "one", "two")
    media = "videos"

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    def read_split(self, split: str) -> Official:
        rows = [(video, clip) for video in VIDEOS[split] for clip in range(CLIPS)]
        video_id = pd.Series([f"v{video}" for video, _ in rows], dtype="str")
        start = pd.Series([clip * SECONDS for _, clip in rows])
        clips = pd.DataFrame({"video_id": video_id, "start": start, "end": start + SECONDS})
        clips["clip_id"] = pd.Series([f"v{video}_{clip}" for video, clip in rows], dtype="str")
        clips["labels"] = class_lists([[video % 3] for video, _ in rows])
        return Official(clips, [video_id])


def write(folder: Path) -> None:
    """The media of all splits."""
    folder.mkdir(parents=True)
    seconds = np.arange(int(CLIPS * SECONDS * RATE)) / RATE
    for video in (video for videos in VIDEOS.values() for video in videos):
        wavfile.write(folder / f"v{video}.wav", RATE, ((video + seconds / LONGEST) / HIGHEST).astype(np.float32))


def place(value: float) -> tuple[str, float]:
    """(video, second in it) of a number of its sound."""
    scaled = value * HIGHEST
    return f"v{int(scaled)}", (scaled - int(scaled)) * LONGEST
