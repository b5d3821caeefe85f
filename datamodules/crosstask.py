"""CrossTask (Zhukov et al. 2019): videos of 18 tasks, and when each of the ordered steps of a task is seen in them.

Official files, as the README and `data.py` of DmZhukov/CrossTask read them: `tasks_primary.txt` (a block of six lines a
task: number, title, URL, how many steps, the steps between commas, a blank line), `videos.csv` and `videos_val.csv`
(task, video, URL; no header) and `annotations/<task>_<video>.csv` (step counted from 1, start and end in seconds; no
header). Media: whole videos, `<video>.{mp4,mkv,webm}` or `<task>_<video>`.

Of `videos.csv`, the videos of the 65 related tasks are left out: nothing is annotated in them.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

from datamodules import source
from datamodules.boards import Board, Localisation

TASKS = "tasks_primary.txt"
LISTS = {"annotated": "videos.csv", "val": "videos_val.csv"}
BLOCK = 6
"""Lines a task, the blank one included."""


Steps = dict[int, str]
"""The steps of a task in their order: class index -> what is done."""


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
    def _tasks(self) -> dict[str, Steps]:
        """Task number, as text -> its steps; classes are counted through all tasks.

        Raises:
            DataError: a block of the file is not as it should be.
        """
        path = self.find(TASKS)
        lines = [line.strip() for line in source.read_text(path).rstrip().splitlines()]
        tasks: dict[str, Steps] = {}
        first = 0
        for top in range(0, len(lines), BLOCK):
            number, _, _, count, listed, *end = (lines[top : top + BLOCK] + [""] * BLOCK)[:BLOCK]
            steps = [step.strip() for step in listed.split(",")]
            if not number.isdigit() or number in tasks or end != [""] or count != str(len(steps)) or "" in steps:
                raise source.DataError(
                    f"{path}:{top + 1}: this is no block of a task of its own: its number, title, URL, how many steps, "
                    f"as many steps between commas, and a blank line; found {number!r}, …, {count!r}, {listed!r}"
                )
            tasks[number] = dict(enumerate(steps, first))
            first += len(steps)
        return tasks

    @cached_property
    def classes(self) -> list[str]:
        """`<task>/<n> <step>`, e.g. `16815/1 pour jello powder`: two tasks, and even one, may have a step twice."""
        tasks = self._tasks.items()
        return [f"{number}/{n} {step}" for number, steps in tasks for n, step in enumerate(steps.values(), 1)]

    @property
    def class_texts(self) -> list[str]:
        return [step for steps in self._tasks.values() for step in steps.values()]

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find(LISTS[split]), ("task", "video_id", "url"))
        rows.belongs_elsewhere(~rows["task"].isin(list(self._tasks)))
        folder = self.find_folder("crosstask_release/annotations", "annotations", archive="crosstask_release.zip")
        clip_id = rows["task"] + "_" + rows["video_id"]
        steps = [list(self._tasks.get(task, ())) for task in rows["task"]]

        def read(clip: str, classes: list[int]) -> list[source.Segment]:
            return _annotated(source.file_of(folder, clip, ".csv"), classes) if classes else []

        segments: list[list[source.Segment]] = source.read_each(rows, read, clip_id, steps, otherwise=[])
        clips = {"clip_id": clip_id, "video_id": rows["video_id"]}
        return source.timed_steps(rows, clips, segments, steps, stems=[rows["video_id"], clip_id])


def _annotated(path: Path, classes: list[int]) -> list[source.Segment]:
    """The steps of a video that are annotated, of a task with these classes.

    One may end where it starts: `read_assignment` of DmZhukov/CrossTask rounds starts down and ends up, so that it
    covers a second all the same.

    Raises:
        DataError: a row is no step.
    """
    segments = []
    for place, row in source.lines_of(path):
        try:
            step, start, end = row.split(",")
            if int(step) < 1:  # none counts from the end
                raise ValueError(f"step {step}")
            segment = classes[int(step) - 1], float(start), float(end)
        except (ValueError, IndexError) as error:
            raise source.DataError(f"{place}: not a step of the task, start and end: {row!r}") from error
        if not (math.isfinite(segment[2]) and 0 <= segment[1] <= segment[2]):
            raise source.DataError(f"{place}: {start} to {end} s is no segment")
        segments.append(segment)
    return segments
