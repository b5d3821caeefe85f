"""What the rows of a manifest belong to, on each kind of board."""

from __future__ import annotations

import pandas as pd
import pytest

from bench import registry
from bench.tasks import task_of
from datamodules.boards import Board, BoardTask, Classification, Localisation, Retrieval, Tagging

TABLE = pd.DataFrame(
    {
        "clip_id": ["a/1", "a/2", "a/3", "b/1", "b/2", "c/1"],
        "video_id": ["a", "a", "a", "b", "b", "c"],
        "start": [0.0, 0.0, 5.0, 0.0, 0.0, 0.0],
        "end": [4.0, 4.0, 9.0, 4.0, 4.5, float("inf")],
        "group": ["t1_a", "t1_a", "t1_a", "t2_b", "t2_b", "t2_c"],
    }
).astype({"clip_id": "str", "video_id": "str", "group": "str"})
ORDER = ["c/1", "a/3", "a/2", "b/1", "a/1"]
"""What was scored, in another order and without one that could not be read."""


def groups(task: BoardTask, table: pd.DataFrame = TABLE, clips: list[str] = ORDER) -> list[str]:
    found = task_of(Board("b", "world", "none", "test", task, "R@1")).groups(table, clips)
    assert found is not None
    return found.tolist()


@pytest.mark.parametrize("task", [Tagging(), Classification()])
def test_clips_with_classes_need_no_groups(task):
    board = Board("b", "world", "none", "test", task, "top1")
    assert task_of(board).groups(TABLE.drop(columns="group"), ORDER) is None


def test_the_seconds_of_a_video_belong_together():
    """By what the manifest calls the video, not by its id: a video may be there for two tasks."""
    assert groups(Localisation()) == ["t2_c", "t1_a", "t1_a", "t2_b", "t1_a"]


def test_sentences_of_one_segment_are_one_thing_to_be_found():
    """Same video, same start and same end; whichever of two of these is not enough."""
    table = TABLE.drop(columns="group")
    asked = Retrieval(query="t", gallery="v")
    assert groups(asked, table, list(TABLE["clip_id"])) == ["a/1", "a/1", "a/3", "b/1", "b/2", "c/1"]
    assert groups(asked, table) == ["c/1", "a/3", "a/1", "b/1", "a/1"]


def test_where_whole_videos_are_asked_for_their_clips_are_one_group():
    asked = Retrieval(query="t", gallery="v", unit="video")
    assert groups(asked, TABLE.drop(columns="group")) == ["c", "a", "a", "b", "a"]


@pytest.mark.parametrize("name", sorted(registry.boards()))
def test_every_board_has_groups_that_fit_its_rows(name):
    found = task_of(registry.board(name)).groups(TABLE, ORDER)
    assert (found is not None) == isinstance(registry.board(name).task, Retrieval | Localisation)
    assert found is None or (len(found) == len(ORDER) and found.dtype.kind == "U")
