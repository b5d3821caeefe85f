"""CrossTask's official layout: videos of ordered tasks, some of whose steps are left out, and when each is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datamodules.sample.captioned import video_clip
from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines, write_vocabulary
from datamodules.sample.recipes import RECIPES
from datamodules.sample.steps import Plan, make_plans, say, timed_videos

DATASET = "crosstask"
FOLDER = "CrossTask"
COUNTS = {"annotated": 24}
FEWEST_STEPS = 4
VALIDATION = len(RECIPES)
"""The first of each task are the validation videos."""
RELATED = "5121"
"""A task without annotations, of which there is one video; its media are not here."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the videos that belong to them."""
    release, plans = folder / "crosstask_release", make_plans(seed, DATASET, "task")
    tasks = [_card(_task(n), recipe.name, plan) for n, (recipe, plan) in enumerate(zip(RECIPES, plans, strict=True))]
    write_lines(release / "tasks_primary.txt", tasks)
    write_lines(release / "tasks_related.txt", [_card(RELATED, "rehearsal", plans[0][:3])])
    rows, clips = [_row(RELATED, youtube_id(seed, DATASET, "related", 0))], []
    for video in timed_videos(seed, DATASET, counts, plans, _some_in_order):
        rows.append(_row(_task(video.task), video.id_))
        steps = [f"{plans[video.task].index(kind) + 1},{start},{end}" for kind, start, end in video.segments]
        write_lines(release / f"annotations/{_task(video.task)}_{video.id_}.csv", steps)
        clips.append(video_clip(folder, f"videos/{video.id_}.mp4", video.video))
    write_lines(release / "videos.csv", rows)
    write_lines(release / "videos_val.csv", rows[1 : 1 + VALIDATION])
    write_vocabulary(folder)
    return clips


def _task(number: int) -> str:
    return str(16_001 + 1_217 * number)


def _card(task: str, name: str, plan: Plan) -> str:
    """Six lines, the last of them blank."""
    title = f"Make a {name.title()}"
    url = f"https://www.wikihow.com/{title.replace(' ', '-')}"
    return f"{task}\n{title}\n{url}\n{len(plan)}\n{','.join(map(say, plan))}\n"


def _row(task: str, id_: str) -> str:
    return f"{task},{id_},https://www.youtube.com/watch?v={id_}"


def _some_in_order(rng: np.random.Generator, plan: Plan) -> list[int]:
    """Four or more steps of the plan."""
    count = int(rng.integers(FEWEST_STEPS, len(plan) + 1))
    return [plan[place] for place in sorted(rng.choice(len(plan), size=count, replace=False))]
