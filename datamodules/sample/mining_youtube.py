"""Mining YouTube's official layout: videos with an action, or none, for every frame."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip
from datamodules.sample.narration import VOCABULARY, sentence
from datamodules.sample.recipes import RECIPES, Video, film_steps, irregular_starts
from datamodules.sample.world import COMBINATIONS, FPS, FRAMES, SECONDS, generator

DATASET = "mining_youtube"
FOLDER = "MiningYouTube"
COUNTS = {"test": 24}
VALIDATION = 4
"""The first so many videos are those of the list for validation too."""
BACKGROUND = "background"


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the videos that belong to them."""
    texts = {name: folder / "test" / name for name in ("groundTruth", "transcript", "annotations")}
    media, features = folder / "test/vids", folder / "features"
    for made in (*texts.values(), media, features):
        made.mkdir(parents=True)
    plans = [recipe.plan(generator(seed, DATASET, "dish", n)) for n, recipe in enumerate(RECIPES)]
    names = dict.fromkeys(_name(kind) for plan in plans for kind in plan)  # two dishes may share one
    mapping = [f"{number} {name}\n" for number, name in enumerate([*names, BACKGROUND])]
    (folder / "mapping_without_meta.txt").write_text("".join(mapping))

    ids, clips = [], []
    for split, count in counts.items():
        for index in range(count):
            key = (seed, DATASET, split, index)
            ids.append(id_ := youtube_id(*key))
            kinds, video = _video(key, plans[index % len(RECIPES)])
            labels = _labels(kinds, video)
            (texts["groundTruth"] / f"{id_}.txt").write_text("".join(f"{label}\n" for label in labels))
            (texts["transcript"] / f"{id_}.txt").write_text("".join(f"{label}\n" for label, _ in groupby(labels)))
            # With a byte order mark and line ends of Windows, as the official ones.
            (texts["annotations"] / f"{id_}.srt").write_bytes(b"\xef\xbb\xbf" + _subtitles(kinds, video).encode())
            clips.append(Clip(media / f"{id_}.mp4", video.timeline, features=features))
    (folder / "test/videos_test.txt").write_text("\n".join(ids))  # the official list ends without a line end
    (folder / "test/videos_val.txt").write_text("".join(f"{id_}\n" for id_ in ids[:VALIDATION]))
    (folder / "vocabulary.txt").write_text("\n".join(VOCABULARY) + "\n")
    return clips


def _name(kind: int) -> str:
    """`ring_bell_with_red_square`."""
    return "_".join(word for word in sentence(COMBINATIONS[kind]) if word != "the")


def _video(key: tuple[str | int, ...], plan: tuple[int, ...]) -> tuple[list[int], Video]:
    """Four or five of the dish's steps in any order, in about every other video the first again at the end."""
    rng = generator(*key, "steps")
    kinds = [int(kind) for kind in rng.permutation(plan)[: rng.integers(4, 6)]]
    kinds += kinds[: rng.integers(2)]
    starts = irregular_starts(rng, len(kinds))
    return kinds, film_steps(key, kinds, starts)


def _labels(kinds: list[int], video: Video) -> list[str]:
    """Of each frame."""
    labels = [BACKGROUND] * round(video.timeline.seconds * FPS)
    for kind, step in zip(kinds, video.steps, strict=True):
        labels[step.start : step.start + FRAMES] = [_name(kind)] * FRAMES
    return labels


def _subtitles(kinds: list[int], video: Video) -> str:
    parts = []
    for number, (kind, step) in enumerate(zip(kinds, video.steps, strict=True), 1):
        start = step.start / FPS
        parts.append(f"{number}\r\n{_clock(start)} --> {_clock(start + SECONDS)}\r\n{_name(kind)}\r\n\r\n")
    return "".join(parts)


def _clock(seconds: float) -> str:
    """`00:01:15,277`."""
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
