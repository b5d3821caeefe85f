"""CrossTask's official layout: videos of ordered tasks, some of whose steps are left out, and when each is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip
from datamodules.sample.narration import VOCABULARY, sentence
from datamodules.sample.recipes import RECIPES, Video, film_steps, irregular_starts
from datamodules.sample.world import COMBINATIONS, FPS, SECONDS, generator

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
    release, media, features = folder / "crosstask_release", folder / "videos", folder / "features"
    for made in (release / "annotations", media, features):
        made.mkdir(parents=True)
    plans = [recipe.plan(generator(seed, DATASET, "task", n)) for n, recipe in enumerate(RECIPES)]
    tasks = [_card(_task(n), recipe.name, plan) for n, (recipe, plan) in enumerate(zip(RECIPES, plans, strict=True))]
    (release / "tasks_primary.txt").write_text("".join(tasks))
    (release / "tasks_related.txt").write_text(_card(RELATED, "rehearsal", plans[0][:3]))

    rows, clips = [_row(RELATED, youtube_id(seed, DATASET, "related", 0))], []
    for split, count in counts.items():
        for index in range(count):
            key = (seed, DATASET, split, index)
            id_, number = youtube_id(*key), index % len(RECIPES)
            steps, video = _video(key, plans[number])
            rows.append(_row(_task(number), id_))
            lines = [
                f"{step + 1},{shown.start / FPS},{shown.start / FPS + SECONDS}\n"
                for step, shown in zip(steps, video.steps, strict=True)
            ]
            (release / f"annotations/{_task(number)}_{id_}.csv").write_text("".join(lines))
            clips.append(Clip(media / f"{id_}.mp4", video.timeline, features=features))
    (release / "videos.csv").write_text("".join(rows))
    (release / "videos_val.csv").write_text("".join(rows[1 : 1 + VALIDATION]))
    (folder / "vocabulary.txt").write_text("\n".join(VOCABULARY) + "\n")
    return clips


def _task(number: int) -> str:
    return str(16_001 + 1_217 * number)


def _card(task: str, name: str, plan: tuple[int, ...]) -> str:
    steps = ",".join(" ".join(sentence(COMBINATIONS[kind])) for kind in plan)
    title = f"Make a {name.title()}"
    return f"{task}\n{title}\nhttps://www.wikihow.com/{title.replace(' ', '-')}\n{len(plan)}\n{steps}\n\n"


def _row(task: str, id_: str) -> str:
    return f"{task},{id_},https://www.youtube.com/watch?v={id_}\n"


def _video(key: tuple[str | int, ...], plan: tuple[int, ...]) -> tuple[list[int], Video]:
    """Four or more steps of the plan in its order, as places in it."""
    rng = generator(*key, "steps")
    count = int(rng.integers(FEWEST_STEPS, len(plan) + 1))
    steps = sorted(int(step) for step in rng.choice(len(plan), size=count, replace=False))
    starts = irregular_starts(rng, count)
    return steps, film_steps(key, [plan[step] for step in steps], starts)
