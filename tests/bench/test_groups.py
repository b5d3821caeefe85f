"""What the rows of a manifest belong to, on each kind of board."""

from __future__ import annotations

import pandas as pd
import pytest

from bench import registry
from bench.tasks import groups_of
from datamodules.types import Board


def board(task: str, **changes: str) -> Board:
    return Board("b", "world", "none", "test", task, "R@1", **changes)


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


@pytest.mark.parametrize("task", ["tagging", "classification"])
def test_clips_with_classes_need_no_groups(task):
    assert groups_of(board(task), TABLE.drop(columns="group"), ORDER) is None


def test_the_seconds_of_a_video_belong_together():
    """By what the manifest calls the video, not by its id: a video may be there for two tasks."""
    assert groups_of(board("localisation"), TABLE, ORDER).tolist() == ["t2_c", "t1_a", "t1_a", "t2_b", "t1_a"]


def test_sentences_of_one_segment_are_one_thing_to_be_found():
    """Same video, same start and same end; whichever of two of these is not enough."""
    table = TABLE.drop(columns="group")
    found = groups_of(board("retrieval", query="t", gallery="v"), table, list(TABLE["clip_id"])).tolist()
    assert found == ["a/1", "a/1", "a/3", "b/1", "b/2", "c/1"]
    assert groups_of(board("retrieval", query="t", gallery="v"), table, ORDER).tolist() == [
        *("c/1", "a/3", "a/1", "b/1", "a/1")
    ]


def test_where_whole_videos_are_asked_for_their_clips_are_one_group():
    asked = board("retrieval", query="t", gallery="v", unit="video")
    assert groups_of(asked, TABLE.drop(columns="group"), ORDER).tolist() == ["c", "a", "a", "b", "a"]


@pytest.mark.parametrize("name", sorted(registry.boards()))
def test_every_board_has_groups_that_fit_its_rows(name):
    found = groups_of(registry.board(name), TABLE, ORDER)
    assert (found is None) == (registry.board(name).task in ("tagging", "classification"))
    assert found is None or (len(found) == len(ORDER) and found.dtype.kind == "U")
