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

import re
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
    "truth": (("groundTruth", "gt"), "data_test.tar.gz"),
    "transcript": (("transcript", "transcripts", "grammar"), "data_test.tar.gz"),
    "subtitles": (("annotations",), "test/annotations.tar.gz"),
}
"""What there is of each video -> names of its folder, and the official archive it is from."""
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
        """Actions in the order of their numbers, without the background, which is the last."""
        rows = source.read_words(self.find(MAPPING), ("number", "name")).numbered("number", "name")
        *names, last = rows["name"]
        if last != BACKGROUND:
            raise source.DataError(f"{rows.path}: the last class is {last}, not {BACKGROUND}")
        return names

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """-1 is the background."""
        return {name: number for number, name in enumerate(self.classes)} | {BACKGROUND: -1}

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find(f"videos_{split}.txt"), ("video_id",))
        video_id = rows["video_id"].str.strip()
        folders = {
            kind: self.find_folder(*names, archive=f"{archive} of hildekuehne/Weak_YouTube_dataset")
            for kind, (names, archive) in FOLDERS.items()
        }

        def read(video: str) -> tuple[list[source.Segment], list[int]]:
            files = {kind: source.file_of(folder, video, *SUFFIXES) for kind, folder in folders.items()}
            steps = [label for label in self._labels(files["transcript"]) if label >= 0]
            return _segments(self._labels(files["truth"]), files["truth"], files["subtitles"]), steps

        found: list[tuple[list[source.Segment], list[int]]] = source.read_each(rows, read, video_id, otherwise=([], []))
        segments, steps = [of_video for of_video, _ in found], [of_video for _, of_video in found]
        return source.timed_steps(rows, {"clip_id": video_id}, segments, steps)

    def _labels(self, path: Path) -> list[int]:
        """The words of a file, a line or a blank apart, as class indices; -1 is the background."""
        words = [(place, word) for place, line in source.lines_of(path) for word in line.split()]
        for place, word in words:
            if word not in self._numbers:
                raise source.DataError(f"{place}: unknown class {word!r}")
        return [self._numbers[word] for _, word in words]


def _segments(labels: list[int], truth: Path, subtitles: Path) -> list[source.Segment]:
    """The actions among the labels of the frames, in the seconds of the `.srt`."""
    import numpy as np

    padded = np.array([-1, *labels, -1])  # outside is background
    borders = np.flatnonzero(np.diff(padded))  # each in lines from the start
    if not len(borders):
        raise source.DataError(f"{truth.parent.name}/{truth.stem}: no action is labelled")
    times = borders / _rate(subtitles, borders)
    kinds = padded[borders[:-1] + 1]
    between = zip(kinds.tolist(), times[:-1].tolist(), times[1:].tolist(), strict=True)
    return [(kind, start, end) for kind, start, end in between if kind >= 0]


def _rate(path: Path, borders: NDArray[np.int64]) -> float:
    """Lines a second, such that the borders of the labels are where the `.srt` has some."""
    import numpy as np

    name = f"{path.parent.name}/{path.name}"
    found = TIME.findall(source.read_text(path))
    times = np.array([3600 * int(h) + 60 * int(m) + int(s) + int(ms) / 1000 for h, m, s, ms in found])
    if not len(times):
        raise source.DataError(f"{name}: there is no time in it")
    errors = {rate: float(np.abs(borders[:, None] / rate - times).min(axis=1).mean()) for rate in RATES}
    rate = min(errors, key=errors.__getitem__)
    if errors[rate] > TOLERANCE:
        raise source.DataError(f"{name}: the labels of the frames fit its times at no frame rate")
    others = [each for each in errors if errors[each] < errors[rate] + CLEARLY and abs(each / rate - 1) > ALIKE]
    if others:
        raise source.DataError(f"{name}: the labels fit its times at {rate:g} and {others[0]:g} a second")
    return rate
