"""Mining YouTube (Kuehne et al. 2019): cooking videos in which every frame is labelled with an action.

Official files, of hildekuehne/Weak_YouTube_dataset: `mapping_without_meta.txt` (`0 chop_it`, ..., `512 background`) and
`test/videos_{test,val}.txt` (an id a line; the 25 of val are among the 250 of test); `groundTruth/<video>.txt` (a label
a frame), `transcript/<video>.txt` (the actions in their order, background included) of its `data_test.tar.gz`; and
`annotations/<video>.srt` of its `test/annotations.tar.gz`. Media: whole videos, `<video>.{mp4,mkv,webm}`.

`groundTruth` has one line a frame of the video and does not say how many frames a second has (of the example in
`video_alignment/src/data`, -1okAudsnAc, it is 29.97). The `.srt` files know seconds, of the same actions in the words
of the annotators, of which not all became classes. So the labels are those of `groundTruth`, and the `.srt` of the
video says how long a line is.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from datamodules import source
from datamodules.boards import Board, Localisation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAPPING = "mapping_without_meta.txt"
BACKGROUND = "background"
FOLDERS = {
    "groundTruth": (("groundTruth", "gt"), "data_test.tar.gz"),
    "transcript": (("transcript", "transcripts", "grammar"), "data_test.tar.gz"),
    "annotations": (("annotations",), "test/annotations.tar.gz"),
}
"""Annotation of each video -> names of its folder, and the official archive it is from."""
SUFFIXES = (".txt", ".gt", ".grammar", ".srt")
RATES = (*(half / 2 for half in range(10, 121)), *(frames * 1000 / 1001 for frames in (12, 15, 24, 30, 60)))
"""Lines a second: frame rates that videos have, and their halves."""
TOLERANCE = 0.5
"""Seconds, mean, by which the labels' borders may be off those of the `.srt`."""
CLEARLY, ALIKE = 0.1, 0.02
"""The best rate must be better than others by so many seconds, but for those that differ by no more than this share."""
TIME = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{3})")


class MiningYouTube(source.Source):
    name = "mining_youtube"
    title = "Mining YouTube"
    citation = "Kuehne, Iqbal, Richard, Gall. arXiv 1906.01012, 2019"
    holds = "250 test videos of cooking with an action, of 512, for every frame"
    url = "https://github.com/hildekuehne/Mining_YouTube_dataset"
    folders = ("MiningYouTube", "mining_youtube", "Mining-YouTube", "Weak_YouTube_dataset")
    splits = ("test", "val")
    sizes: ClassVar = {"test": 250, "val": 25}  # measured on the lists
    nested = frozenset({("val", "test")})
    media = "videos"
    boards = (
        Board(
            "mining-youtube",
            dataset="mining_youtube",
            train="none",
            split="test",
            task=Localisation(normalise="log_softmax"),
            main="IoU",
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return (MAPPING,)

    @cached_property
    def classes(self) -> list[str]:
        """Actions in the order of their numbers, without the background, which is the last.

        Raises:
            DataError: the file does not number its lines from 0, or names a class twice.
        """
        path = self.find(MAPPING)
        pairs = [line.split() for line in source.read_text(path).splitlines() if line.strip()]
        names = [pair[-1] for pair in pairs]
        numbered = [pair[:-1] for pair in pairs] == [[str(number)] for number in range(len(pairs))]
        if not numbered or len(set(names)) < len(names) or BACKGROUND not in names[-1:]:
            raise source.DataError(
                f"{path}: not `0 class`, `1 class`, … up to the number of `{BACKGROUND}`, each class once"
            )
        return names[:-1]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """-1 is the background."""
        return {name: number for number, name in enumerate(self.classes)} | {BACKGROUND: -1}

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find(f"videos_{split}.txt"), ("video_id",))
        video_id, folders = rows["video_id"].str.strip(), self._folders()

        def read(video: str) -> tuple[list[source.Segment], list[int]]:
            segments = self._segments(folders, video)
            return segments, [label for label in self._labels(folders["transcript"], video) if label >= 0]

        found: list[tuple[list[source.Segment], list[int]]] = source.read_each(rows, read, video_id, otherwise=([], []))
        segments = {video: of_video for video, (of_video, _) in zip(video_id, found, strict=True)}
        steps = {video: of_video for video, (_, of_video) in zip(video_id, found, strict=True)}
        seen = [sorted({label for label, _, _ in segments[video]}) for video in video_id]
        clips = {
            "clip_id": video_id,
            "video_id": video_id,
            "start": 0.0,
            "end": math.inf,
            "labels": source.class_lists(seen),
        }
        official = rows.official(clips, stems=[video_id])
        ids = official.clips["clip_id"]
        return replace(
            official,
            segments=source.segments_table(ids, segments),
            steps=source.class_lists([steps[video] for video in ids]),
        )

    def _folders(self) -> dict[str, Path]:
        found = {}
        for kind, (names, archive) in FOLDERS.items():
            places = [p for name in names for depth in ("", "*/", "*/*/") for p in sorted(self.root.glob(depth + name))]
            folder = next((place for place in places if place.is_dir()), None)
            if folder is None:
                raise source.DataError(
                    f"{self.title}: no folder {' or '.join(names)} in {self.root} or two folders below it; unpack "
                    f"{archive} of hildekuehne/Weak_YouTube_dataset there"
                )
            found[kind] = folder
        return found

    def _labels(self, folder: Path, video: str) -> list[int]:
        """The words of a file, a line or a blank apart, as class indices; -1 is the background."""
        path = _file(folder, video)
        numbers = self._numbers
        text = source.read_text(path)
        for line, words in enumerate(text.splitlines(), 1):
            for word in words.split():
                if word not in numbers:
                    raise source.DataError(f"{folder.name}/{path.name}:{line}: unknown class {word!r}")
        return [numbers[word] for word in text.split()]

    def _segments(self, folders: dict[str, Path], video: str) -> list[source.Segment]:
        import numpy as np

        labels = np.array([-1, *self._labels(folders["groundTruth"], video), -1])  # outside is background
        borders = np.flatnonzero(np.diff(labels))  # each in lines from the start
        if not len(borders):
            raise source.DataError(f"{folders['groundTruth'].name}/{video}: no action is labelled")
        times = borders / _rate(_file(folders["annotations"], video), borders)
        kinds = labels[borders[:-1] + 1]
        between = zip(kinds.tolist(), times[:-1].tolist(), times[1:].tolist(), strict=True)
        return [(kind, start, end) for kind, start, end in between if kind >= 0]


def _file(folder: Path, video: str) -> Path:
    for suffix in SUFFIXES:
        path = folder / f"{video}{suffix}"
        if path.is_file():
            return path
    raise source.DataError(f"no {folder.name}/{video}{{{','.join(SUFFIXES)}}}")


def _rate(path: Path, borders: NDArray[np.int64]) -> float:
    """Lines a second, such that the borders of the labels are where the `.srt` has some."""
    import numpy as np

    found = TIME.findall(source.read_text(path))
    times = np.array([3600 * int(h) + 60 * int(m) + int(s) + int(ms) / 1000 for h, m, s, ms in found])
    if not len(times):
        raise source.DataError(f"{path.parent.name}/{path.name}: there is no time in it")

    def error(rate: float) -> float:
        return float(np.abs(borders[:, None] / rate - times).min(axis=1).mean())

    errors = {rate: error(rate) for rate in RATES}
    rate = min(errors, key=errors.__getitem__)
    if errors[rate] > TOLERANCE:
        raise source.DataError(
            f"{path.parent.name}/{path.name}: the labels of the frames fit its times at no frame rate"
        )
    others = [each for each in errors if errors[each] < errors[rate] + CLEARLY and abs(each / rate - 1) > ALIKE]
    if others:
        raise source.DataError(
            f"{path.parent.name}/{path.name}: the labels fit its times at {rate:g} and {others[0]:g} a second"
        )
    return rate
