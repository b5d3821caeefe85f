"""Rows that a board does not show: what is said of them, and that what is to be run can be run."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from bench import registry
from bench.cli import make_parser
from bench.config.compose import compose
from bench.tables.board_table import board_table
from bench.tables.formats import to_markdown
from tests.bench.test_tables import BOARD, record, terminal_of

NOW = replace(BOARD, version=2)
VERSION = registry.method_version("mavil")
PRESENT = {"version": VERSION}


def hidden(*made: Any, method: str = "mavil") -> list[str]:
    return [each.text for each in board_table(NOW, made).hidden if each.row.newest.method == method]


def words(text: str) -> list[str]:
    """The command's arguments after `python -m bench`."""
    line = text.partition("python -m bench ")[2]
    for end in (" measures it again", " makes it anew"):
        line = line.partition(end)[0]
    return shlex.split(line)


def test_what_is_done_by_the_present_code_is_measured_again():
    (text,) = hidden(record(settings=PRESENT))
    assert text.endswith(" --seeds 0 measures it again")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (None, "it was made before identities changed, python"),
        ({}, f"it was made by version 1 of mavil, now {VERSION}, python"),
    ],
)
def test_what_stored_predictions_are_not_found_of_is_made_anew(settings, reason):
    (text,) = hidden(record(settings=settings))
    assert reason in text and text.endswith("makes it anew") and "again" not in text


def test_a_method_that_is_not_installed_is_reported():
    (text,) = hidden(record(method="gone", settings={}), method="gone")
    assert text.endswith("makes it anew where gone is installed")


def test_a_row_is_listed_until_a_later_version_of_the_method_has_one():
    old = record(settings={"stages.finetune.epochs": 2}, seed=1)
    assert len(hidden(old)) == 1
    assert hidden(old, record(NOW, settings={"stages.finetune.epochs": 2, **PRESENT})) == []
    assert len(hidden(old, record(NOW, settings={"stages.finetune.epochs": 3, **PRESENT}))) == 1
    later = record(settings={"stages.finetune.epochs": 2, **PRESENT}, seed=1)
    assert len(hidden(later, record(NOW, settings={"stages.finetune.epochs": 2}))) == 1


def test_shown_rows_are_distinguished_among_themselves_alone():
    old = record(settings={"stages.finetune.epochs": 2})
    (row,) = board_table(NOW, [old, record(NOW, settings=PRESENT)]).rows
    assert row.stage == "finetune"
    others = [record(NOW, settings={"stages.finetune.epochs": epochs, **PRESENT}) for epochs in (3, 4)]
    assert {row.stage for row in board_table(NOW, [old, *others]).rows} == {"finetune epochs=3", "finetune epochs=4"}


def test_files_and_defaults_are_no_words_of_the_command():
    settings = {"stages.finetune.options.teacher_file": "a" * 64, "stages.finetune.epochs": 2, **PRESENT}
    start = ({"stage": "init", "identity": "b" * 64},)
    made = [record(settings=settings, parents=start), record(settings=PRESENT, preset="tiny")]
    one, other = sorted(hidden(*made), key=len, reverse=True)
    assert "stages.finetune.options.teacher_file=FILE" in words(one) and "init=FILE" in words(one)
    assert "stages.finetune.epochs=2" in words(one)
    assert not {"a" * 8, "b" * 8} & {part for word in words(one) for part in word.split("=")}
    assert not any(word.endswith("=default") or word.startswith("init=") for word in words(other))


def test_a_stage_s_own_file_is_named_by_the_stage_and_what_a_library_offers_is_no_file():
    config = {"stages": {"pretrain": {"init": "c" * 64}, "finetune": {"init": None}}}
    (text,) = hidden(record(config=config, parents=({"stage": "init", "identity": "c" * 64},)))
    assert "stages.pretrain.init=FILE" in words(text) and "init=FILE" not in words(text)
    config = {"stages": {"finetune": {"init": "imagenet"}}}
    (text,) = hidden(record(config=config, parents=({"stage": "init", "identity": "imagenet"},)))
    assert "init=" not in text


def test_the_command_is_one_that_the_program_takes():
    stage = "finetune_vggsound_av"
    made = [
        record(stage=stage, seed=seed, settings={f"stages.{stage}.epochs": epochs, **PRESENT})
        for seed, epochs in ((0, 2), (1, 4))
    ]
    for text, epochs in zip(sorted(hidden(*made)), (2, 4), strict=True):
        options = make_parser().parse_args(words(text))
        own = [word for word in words(text) if "=" in word]
        assert options.seeds and compose("mavil", own).stages[stage].epochs == epochs


def test_rows_of_an_old_protocol_are_listed_with_what_to_run_and_not_ranked() -> None:
    board = replace(BOARD, version=3)
    old = [record(method="mbt", value=0.99, seed=seed) for seed in (0, 1)]
    table = board_table(board, [*old, record(board)])
    assert [row.newest.method for row in table.rows] == ["mavil"]
    for text in (to_markdown(table).replace("\\", ""), " ".join(terminal_of(table).split())):
        assert "Not shown: mbt (tiny) finetune av: protocol version 1, now 3; " in text
        assert "python -m bench sweep mbt preset=tiny stage=finetune data_root=FOLDER --seeds 0 1" in text


def test_what_was_measured_again_by_the_new_protocol_is_not_missing() -> None:
    board = replace(BOARD, version=2)
    assert board_table(board, [record(), record(board)]).hidden == ()
    assert len(board_table(board, [record(), record(seed=1), record(board)]).hidden) == 1
