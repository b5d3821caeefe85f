"""Rows of a board: how much of it they cover, what their seeds differ in, and what distinguishes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.records.archive import Record
from bench.tables.board_table import board_table
from bench.tables.export import card
from bench.tables.formats import to_csv, to_markdown
from tests.bench.test_tables import BOARD, lines, record, terminal, terminal_of

FOLDS = replace(BOARD, folds=5)


def folds(count: int, **changes):
    return [record(FOLDS, fold=f"fold{i}", clips=60, official=60, **changes) for i in range(1, count + 1)]


def test_a_missing_fold_is_not_covered_and_reported():
    table = board_table(FOLDS, [*folds(1, method="mbt", value=0.99), *folds(5)])
    assert [(row.newest.method, row.rank, row.coverage) for row in table.rows] == [
        ("mavil", 1, 1.0),
        ("mbt", None, 0.2),
    ]
    assert table.rows[0].remarks == ()
    assert table.rows[1].remarks[:2] == ("1 of 5 folds", "20.0 % of the clips, no rank below 85.0 %")
    assert "1 of 5 folds" in to_markdown(table) and "1 of 5 folds" in " ".join(terminal_of(table).split())


def test_of_several_seeds_the_one_with_the_fewest_clips_says_what_is_covered():
    (row,) = board_table(FOLDS, [*folds(5), *folds(3, seed=1)]).rows
    assert (row.coverage, row.rank) == (pytest.approx(0.6), None) and "3 of 5 folds" in row.remarks
    assert board_table(FOLDS, [*folds(5), *folds(5, seed=1)]).rows[0].rank == 1


def test_seeds_scored_on_other_clips_are_not_called_trained_on_others():
    made = [record(seed=0), record(seed=1, fingerprint="ffffffff", config_hash="ffffffff")]
    (row,) = board_table(BOARD, made).rows
    assert "seeds scored on other clips" in row.remarks and "training" not in str(row.remarks)
    assert "seeds scored on other clips" not in str(board_table(FOLDS, folds(5)).rows[0].remarks)


def test_folds_of_one_seed_have_other_clips_by_right():
    made = [record(FOLDS, fold=f"fold{i}", clips=60, official=60, fingerprint=f"{i}" * 8) for i in range(1, 6)]
    assert "seeds" not in str(board_table(FOLDS, made).rows[0].remarks)


def test_a_file_among_the_settings_is_shown_by_eight_digits():
    made = [
        record(settings={"stages.finetune.options.teacher_file": letter * 64}, value=value)
        for letter, value in (("a", 0.5), ("b", 0.4))
    ]
    table = board_table(BOARD, made)
    assert [row["settings"] for row in lines(made)] == [f"options.teacher_file={letter * 8}" for letter in "ab"]
    for text in (to_csv(table).split("\n")[1].partition("mavil-")[0], to_markdown(table), card("mavil", [table])):
        assert "a" * 8 in text and "a" * 9 not in text


def configured(epochs: int | None, **changes: Any) -> Record:
    """A record that names its settings, among them the epochs where these are not the default."""
    settings = {} if epochs is None else {"stages.finetune.epochs": epochs}
    config = {"stages": {"finetune": {"epochs": 1 if epochs is None else epochs}}}
    return record(settings={"stages.finetune.module": "Finetune", **settings}, config=config, **changes)


def test_a_grid_is_shown_as_rows_distinguished_by_what_differs() -> None:
    made = [configured(2), configured(4, value=0.6), configured(None, value=0.4)]
    rows = lines(made)
    assert [(row["stage"], row["settings"]) for row in rows] == [
        ("finetune", "epochs=4"),
        ("finetune", "epochs=2"),
        ("finetune", "epochs=1"),
    ]
    for text in (to_markdown(board_table(BOARD, made)), terminal(made)):
        assert "finetune epochs=2" in text and "finetune epochs=4" in text


def test_another_configuration_is_no_seed_of_a_row() -> None:
    made = [configured(2, seed=0), configured(4, seed=1, value=0.6)]
    assert [(row["settings"], row["seeds"], row["top1"]) for row in lines(made)] == [
        ("epochs=4", "1", "0.6"),
        ("epochs=2", "1", "0.5"),
    ]


def test_rows_of_one_configuration_name_no_settings_and_a_new_setting_at_its_default_parts_none() -> None:
    (row,) = lines([configured(2, seed=0), configured(2, seed=1), record(method="mbt", value=0.1)])[:1]
    assert (row["settings"], row["seeds"]) == ("", "2")


def test_two_checkpoints_make_two_rows() -> None:
    starts = [({"stage": "init", "identity": letter * 64},) for letter in "ab"]
    assert [row["settings"] for row in lines([record(parents=start) for start in starts])] == [
        "init=[aaaaaaaa]",
        "init=[bbbbbbbb]",
    ]


def test_a_row_says_which_share_of_its_training_clips_its_stages_read():
    few = {"stages.finetune.data.train_share": 0.1, "stages.pretrain.data.train_share": 0.25}
    unlabelled = {"stages.finetune.mixture.parts.more.data.train_share": 0.5}
    rows = board_table(BOARD, [record(settings=few), record(settings=unlabelled), record(settings={})]).rows
    own, before = "10 % of the training clips", "25 % of the training clips in pretrain"
    assert sorted(row.remarks for row in rows) == [(), (), (own, before)]
