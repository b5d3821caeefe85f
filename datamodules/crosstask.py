"""CrossTask (Zhukov et al. 2019): videos of 18 tasks, and when each of the ordered steps of a task is seen in them.

Official files, as the README and `data.py` of DmZhukov/CrossTask read them: `tasks_primary.txt` (a block of six lines a
task: number, title, URL, how many steps, the steps between commas, a blank line), `videos.csv` and `videos_val.csv`
(task, video, URL; no header) and `annotations/<task>_<video>.csv` (step counted from 1, start and end in seconds; no
header). Media: whole videos, `<video>.{mp4,mkv,webm}` or `<task>_<video>`.

Of `videos.csv`, the videos of the 65 related tasks are left out: nothing is annotated in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from datamodules import source
from datamodules.boards import Board, Localisation

TASKS = "tasks_primary.txt"
LISTS = {"annotated": "videos.csv", "val": "videos_val.csv"}
BLOCK = 6
"""Lines a task, the blank one included."""


@dataclass(frozen=True)
class Task:
    first: int
    """The class of its first step; those of the others follow."""
    steps: tuple[str, ...]

    @property
    def classes(self) -> list[int]:
        return list(range(self.first, self.first + len(self.steps)))


class CrossTask(source.Source):
    name = "crosstask"
    title = "CrossTask"
    citation = "Zhukov, Alayrac, Cinbis, Fouhey, Laptev, Sivic. CVPR 2019, arXiv 1903.08225"
    holds = "videos of 18 tasks with timed steps, and of 65 related tasks without"
    licence = "BSD 3-Clause, of the repository"
    url = "https://github.com/DmZhukov/CrossTask"
    folders = ("CrossTask", "crosstask", "crosstask_release")
    splits = ("annotated", "val")
    """All videos of the primary tasks, on which zero-shot methods are scored; and the validation videos among them."""
    nested = frozenset({("val", "annotated")})
    media = "videos"
    boards = (
        Board(
            "crosstask",
            dataset="crosstask",
            train="none",
            split="annotated",
            task=Localisation(average="task"),
            main="recall",
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return (TASKS,)

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        """Task number, as text -> its steps.

        Raises:
            DataError: a block of the file is not as it should be.
        """
        path = self.find(TASKS)
        lines = [line.strip() for line in source.read_text(path).rstrip().splitlines()]
        tasks: dict[str, Task] = {}
        first = 0
        for top in range(0, len(lines), BLOCK):
            number, _, _, count, listed, *end = (lines[top : top + BLOCK] + [""] * BLOCK)[:BLOCK]
            steps = tuple(step.strip() for step in listed.split(","))
            if not number.isdigit() or number in tasks or end != [""] or count != str(len(steps)) or "" in steps:
                raise source.DataError(
                    f"{path}:{top + 1}: this is no block of a task of its own: its number, title, URL, how many steps, "
                    f"as many steps between commas, and a blank line; found {number!r}, …, {count!r}, {listed!r}"
                )
            tasks[number] = Task(first, steps)
            first += len(steps)
        return tasks

    @cached_property
    def classes(self) -> list[str]:
        """`<task>/<n> <step>`, e.g. `16815/1 pour jello powder`: two tasks, and even one, may have a step twice."""
        return [f"{number}/{n} {step}" for number, task in self._tasks.items() for n, step in enumerate(task.steps, 1)]

    @property
    def class_texts(self) -> list[str]:
        return [step for task in self._tasks.values() for step in task.steps]

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find(LISTS[split]), ("task", "video_id", "url"))
        clip_id = rows["task"] + "_" + rows["video_id"]
        rows.belongs_elsewhere(~rows["task"].isin(list(self._tasks)))
        folder = self._annotations()

        def read(task: str, clip: str) -> list[source.Segment]:
            return _annotation(folder / f"{clip}.csv", self._tasks[task]) if task in self._tasks else []

        segments: list[list[source.Segment]] = source.read_each(rows, read, rows["task"], clip_id, otherwise=[])
        found = dict(zip(clip_id, segments, strict=True))
        official = rows.official(
            {
                "clip_id": clip_id,
                "video_id": rows["video_id"],
                "start": 0.0,
                "end": math.inf,
                "labels": source.class_lists([sorted({label for label, _, _ in found[clip]}) for clip in clip_id]),
            },
            stems=[rows["video_id"], clip_id],
        )
        clips = official.clips["clip_id"]
        return replace(
            official,
            segments=source.segments_table(clips, found),
            steps=source.class_lists([self._tasks[clip.partition("_")[0]].classes for clip in clips]),
        )

    def _annotations(self) -> Path:
        folder = self.find(TASKS).parent / "annotations"
        if not folder.is_dir():
            raise source.DataError(f"{folder}: there is no such folder; unpack it from crosstask_release.zip")
        return folder


def _annotation(path: Path, task: Task) -> list[source.Segment]:
    """The steps that are annotated in a video.

    One may end where it starts: `read_assignment` of DmZhukov/CrossTask rounds starts down and ends up, so that it
    covers a second all the same.

    Raises:
        DataError: there is no such file, or a row of it is none.
    """
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise source.DataError(f"no {name}")
    segments = []
    for line, row in enumerate(source.read_text(path).splitlines(), 1):
        if not row.strip():
            continue
        try:
            step, start, end = row.split(",")
            segment = task.classes[_counted(step) - 1], float(start), float(end)
        except (ValueError, IndexError) as error:
            raise source.DataError(f"{name}:{line}: not a step of the task, start and end: {row!r}") from error
        if not (math.isfinite(segment[2]) and 0 <= segment[1] <= segment[2]):
            raise source.DataError(f"{name}:{line}: {start} to {end} s is no segment")
        segments.append(segment)
    return segments


def _counted(step: str) -> int:
    """A number of 1 or more, so that none counts from the end."""
    number = int(step)
    if number < 1:
        raise ValueError(f"step {number}")
    return number
