"""Boards: their protocols are those of the records there are, whatever they are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import registry
from datamodules.boards import Board, BoardTask, Classification, Retrieval, UnknownTask

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "protocols.json").read_text(encoding="utf-8"))
"""Of all boards there were when a task was a name and its options were fields of `Board`."""


@dataclass(frozen=True)
class Asked(BoardTask):
    name = "asked"
    measured_by = "nobody:Nothing"

    best: int = 5
    both: bool = False


def board(task: BoardTask, **changes: object) -> Board:
    return Board("b", "world", "train", "test", task, "top1", **changes)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_board_s_protocol_has_the_keys_and_values_of_the_first_records(name: str):
    assert registry.board(name).protocol() == GOLDEN[name]


def test_an_option_at_its_default_is_in_no_protocol_and_any_other_value_is():
    plain = {"name": "b", "dataset": "world", "train": "train", "split": "test", "task": "asked", "views": 1}
    assert board(Asked()).protocol() == {**plain, "version": 1}
    assert board(Asked(best=0, both=True)).protocol() == {**plain, "version": 1, "best": 0, "both": True}


def test_a_definition_has_all_of_a_board_and_its_task_by_name():
    found = board(Retrieval("a", "v", missing="misses"), per_class=5).definition()
    assert found == {
        **{"name": "b", "dataset": "world", "train": "train", "split": "test", "main": "top1", "task": "retrieval"},
        **{
            "query": "a",
            "gallery": "v",
            "missing": "misses",
            "views": 1,
            "crops": 0,
            "folds": 0,
            "per_class": 5,
            "features": "",
            "version": 1,
        },
    }


def test_a_task_by_its_name_alone_is_refused_with_what_to_write():
    with pytest.raises(TypeError, match=r"board b: task='classification' must be .*Classification\(\)"):
        board("classification")  # type: ignore[arg-type]


def test_an_option_called_like_a_board_s_field_is_refused():
    @dataclass(frozen=True)
    class Several(BoardTask):
        name = "several"
        measured_by = "nobody:Nothing"
        views: int = 3

    with pytest.raises(TypeError, match=r"its task several has fields called like a board's: \['views'\]"):
        board(Several())


def test_a_task_without_a_name_or_a_class_is_refused_when_it_is_declared():
    with pytest.raises(TypeError, match="Nameless needs name and measured_by"):

        class Nameless(BoardTask):
            measured_by = "nobody:Nothing"


def test_boards_can_be_compared_and_are_hashable():
    assert board(Classification()) == board(Classification()) != board(Asked())
    assert len({board(Classification()), board(Classification()), board(UnknownTask("x", (("most", 4),)))}) == 2
