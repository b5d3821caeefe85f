"""Mining YouTube's official layout: videos with an action, or none, for every frame."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import numpy as np

from datamodules.sample.captioned import video_clip
from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines, write_vocabulary
from datamodules.sample.steps import Plan, Timed, make_plans, say, timed_videos
from datamodules.sample.world import FPS, FRAMES

DATASET = "mining_youtube"
FOLDER = "MiningYouTube"
COUNTS = {"test": 24}
VALIDATION = 4
"""The first so many videos are those of the list for validation too."""
BACKGROUND = "background"


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the videos that belong to them."""
    plans, test = make_plans(seed, DATASET, "dish"), folder / "test"
    names = dict.fromkeys(_name(kind) for plan in plans for kind in plan)  # two dishes may share one
    mapping = [f"{number} {name}" for number, name in enumerate([*names, BACKGROUND])]
    write_lines(folder / "mapping_without_meta.txt", mapping)
    ids, clips = [], []
    (test / "annotations").mkdir(parents=True)
    for video in timed_videos(seed, DATASET, counts, plans, _any_order):
        ids.append(video.id_)
        labels = _labels(video)
        write_lines(test / f"groundTruth/{video.id_}.txt", labels)
        write_lines(test / f"transcript/{video.id_}.txt", (label for label, _ in groupby(labels)))
        # With a byte order mark and line ends of Windows, as the official ones.
        (test / f"annotations/{video.id_}.srt").write_bytes(b"\xef\xbb\xbf" + _subtitles(video).encode())
        clips.append(video_clip(folder, f"test/vids/{video.id_}.mp4", video.video))
    (test / "videos_test.txt").write_text("\n".join(ids))  # the official list ends without a line end
    write_lines(test / "videos_val.txt", ids[:VALIDATION])
    write_vocabulary(folder)
    return clips


def _name(kind: int) -> str:
    """`ring_bell_with_red_square`."""
    return "_".join(word for word in say(kind).split() if word != "the")


def _any_order(rng: np.random.Generator, plan: Plan) -> list[int]:
    """Four or five of the dish's steps, in about every other video the first again at the end."""
    kinds = [int(kind) for kind in rng.permutation(plan)[: rng.integers(4, 6)]]
    return kinds + kinds[: rng.integers(2)]


def _labels(video: Timed) -> list[str]:
    """Of each frame."""
    labels = [BACKGROUND] * round(video.video.timeline.seconds * FPS)
    for kind, step in zip(video.kinds, video.video.steps, strict=True):
        labels[step.start : step.start + FRAMES] = [_name(kind)] * FRAMES
    return labels


def _subtitles(video: Timed) -> str:
    return "".join(
        f"{number}\r\n{_clock(start)} --> {_clock(end)}\r\n{_name(kind)}\r\n\r\n"
        for number, (kind, start, end) in enumerate(video.segments, 1)
    )


def _clock(seconds: float) -> str:
    """`00:01:15,277`."""
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
