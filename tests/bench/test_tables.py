"""Tables: which records make a row, what stands in it, and that text is deterministic and safe."""

from __future__ import annotations

import csv
import io
import random
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench import registry
from bench.plan.measured import protocol_of
from bench.records.archive import Record, new_record
from bench.records.published import PublishedMethod
from bench.tables import formats
from bench.tables.board_table import BoardTable, board_table
from bench.tables.boards import known_boards, make_tables, write_tables
from bench.tables.formats import to_csv, to_markdown, to_rich
from datamodules.boards import Board, Classification, Retrieval, UnknownTask

BOARD = Board("vggsound", "vggsound", "train", "test", Classification(), "top1")
RETRIEVAL = Board("vggsound-a2v", "vggsound", "none", "test", Retrieval(query="a", gallery="v"), "MedR")
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def record(board: Board = BOARD, value: float = 0.5, clips: int = 300, official: int = 300, **changes: Any) -> Record:
    data = {
        "dataset": "vggsound",
        "split": "test",
        "fingerprint": changes.pop("fingerprint", "0123abcd"),
        "official": official,
        "used": clips,
        "coverage": clips / official,
    }
    fields: dict[str, Any] = {
        "created": NOON,
        "method": "mavil",
        "preset": "tiny",
        "stage": "finetune",
        "board": board.name,
        "protocol": board.protocol(),
        "sample": False,
        "modality": "av",
        "seed": 0,
        "metrics": {board.main: {"value": value, "low": value - 0.05, "high": value + 0.04}},
        "chance": {board.main: 0.1},
        "n": clips,
        "data": data,
        "config": {},
        "config_hash": "0123abcd",
        "identity": "ab12",
        "commit": "3f2a9c1d" * 5,
        "dirty": False,
    }
    return new_record(**(fields | changes))


def lines(records: list[Record], board: Board = BOARD) -> list[dict[str, str]]:
    """The board's CSV as read by a machine."""
    return list(csv.DictReader(io.StringIO(to_csv(board_table(board, records)))))


def terminal_of(table: BoardTable, width: int = 140) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(to_rich(table))
    return console.file.getvalue()


def terminal(records: list[Record], board: Board = BOARD, width: int = 140) -> str:
    return terminal_of(board_table(board, records), width)


def test_rows_are_sorted_by_the_main_metric_and_ties_share_a_rank() -> None:
    made = [record(value=v, method=m) for v, m in ((0.3, "mbt"), (0.5, "cmkd"), (0.4, "mavil"))]
    made.append(record(value=0.5, method="uavm", created=NOON - timedelta(days=1)))
    assert [(row["rank"], row["method"]) for row in lines(made)] == [
        ("1", "cmkd"),
        ("1", "uavm"),
        ("3", "mavil"),
        ("4", "mbt"),
    ]


def test_of_ranks_the_lower_is_better() -> None:
    made = [record(RETRIEVAL, value=v, method=m) for v, m in ((30.0, "mbt"), (2.5, "uavm"))]
    assert [row["method"] for row in lines(made, RETRIEVAL)] == ["uavm", "mbt"]


def test_a_row_without_the_main_metric_comes_last_without_a_rank() -> None:
    other = record(method="aaa", metrics={"top5": {"value": 0.9, "low": 0.9, "high": 0.9}})
    assert [(row["method"], row["rank"]) for row in lines([other, record()])] == [("mavil", "1"), ("aaa", "")]
    assert "–" in to_markdown(board_table(BOARD, [other]))


def test_one_seed_shows_its_bootstrap_interval() -> None:
    (row,) = lines([record()])
    assert (row["top1"], row["top1_low"], row["top1_high"], row["top1_std"]) == ("0.5", "0.45", "0.54", "")
    assert "**50.0** \\[45.0, 54.0\\]" in to_markdown(board_table(BOARD, [record()]))


def test_several_seeds_show_their_spread_beside_the_interval_over_clips() -> None:
    made = [record(value=v, seed=seed) for seed, v in enumerate((0.4, 0.5, 0.6))]
    (row,) = lines(made)
    assert float(row["top1"]) == pytest.approx(0.5)
    assert float(row["top1_std"]) == pytest.approx(0.1)
    assert (row["seeds"], row["top1_low"], row["top1_high"]) == ("3", "0.45", "0.54")
    assert "**50.0** \\[45.0, 54.0\\] ± 10.0" in to_markdown(board_table(BOARD, made))
    assert "50.0 [45.0, 54.0] ± 10.0" in terminal(made)


def test_the_interval_of_folds_is_that_of_a_mean_of_independent_ones() -> None:
    """Of F folds of n clips as of one fold of F n clips: narrower by sqrt(F)."""
    made = [record(value=0.5, fold=f"fold{i}", clips=60, official=60) for i in range(4)]
    (row,) = lines(made)
    assert (float(row["top1_low"]), float(row["top1_high"])) == (pytest.approx(0.475), pytest.approx(0.52))
    assert float(row["top1_std"]) == 0


def test_the_interval_of_official_splits_is_no_narrower_for_their_number() -> None:
    """They may test the same clips."""
    board = registry.board("hmdb51")
    made = [record(value=0.5, fold=f"fold{i}", clips=60, official=60, board=board) for i in (1, 2, 3)]
    (row,) = board_table(board, made).rows
    assert row.cells["top1"].interval == (pytest.approx(0.45), pytest.approx(0.54)) and not row.remarks


def test_of_a_row_and_seed_the_newest_record_counts() -> None:
    made = [record(value=v, created=NOON + timedelta(days=day)) for day, v in ((1, 0.2), (3, 0.3), (2, 0.9))]
    (row,) = lines(made)
    assert (row["top1"], row["seeds"], row["date"]) == ("0.3", "1", "2025-03-04")


@pytest.mark.parametrize("part", ["method", "variant", "preset", "stage"])
def test_what_differs_in_method_variant_preset_or_stage_is_another_row(part: str) -> None:
    assert len(lines([record(), record(**{part: "other"})])) == 2


def test_modalities_are_rows() -> None:
    assert [row["modality"] for row in lines([record(modality="a"), record(modality="v")])] == ["a", "v"]


def test_folds_are_averaged_and_their_clips_add_up() -> None:
    made = [record(value=v, fold=f"fold{i}", clips=60, official=60) for i, v in enumerate((0.4, 0.6))]
    (row,) = lines(made)
    assert (float(row["top1"]), row["n"], row["seeds"], row["folds"]) == (0.5, "120", "1", "2")


@settings(max_examples=40, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_merging_records_in_any_order_gives_the_same_text(order: random.Random) -> None:
    made = [
        record(value=0.1 * v, seed=seed, method=m, created=NOON + timedelta(hours=h), clips=c, fingerprint=f)
        for v, seed, m, h, c, f in (
            (1, 0, "mbt", 0, 300, "0123abcd"),
            (2, 0, "mbt", 0, 300, "0123abcd"),
            (3, 1, "mbt", 1, 300, "0123abcd"),
            (2, 0, "uavm", 0, 300, "abcdabcd"),
            (2, 0, "cmkd", 0, 250, "0123abcd"),
        )
    ]
    expected = [render(board_table(BOARD, made)) for render in (to_csv, to_markdown)]
    order.shuffle(made)
    assert [render(board_table(BOARD, made)) for render in (to_csv, to_markdown)] == expected


def test_a_dirty_tree_and_missing_clips_are_seen_in_every_table() -> None:
    made = [record(dirty=True, clips=270)]
    texts = [to_csv(board_table(BOARD, made)), to_markdown(board_table(BOARD, made)), terminal(made)]
    for text in texts:
        assert "uncommitted changes" in text and "90.0 % of the clips" in text
    assert "3f2a9c1d\\*" in texts[1]
    assert lines(made)[0]["dirty"] == "True"
    assert "uncommitted" not in terminal([record()])


def test_coverage_is_never_rounded_up_to_all() -> None:
    assert "99.9 % of the clips" in lines([record(clips=99_999, official=100_000)])[0]["remarks"]
    assert lines([record()])[0]["remarks"] == ""


def test_rows_on_other_clips_are_flagged() -> None:
    usual = [record(method=m) for m in ("mbt", "uavm")]
    other = record(method="cmkd", fingerprint="ffffffff")
    fewer = record(method="lava", fingerprint="eeeeeeee", clips=284)
    slightly_fewer = record(method="vatt", fingerprint="dddddddd", clips=286)
    remarks = {row["method"]: row["remarks"] for row in lines([*usual, other, fewer, slightly_fewer])}
    assert remarks["mbt"] == remarks["uavm"] == ""
    assert remarks["cmkd"] == "other clips"
    assert "284 clips, others 300" in remarks["lava"]
    assert "others" not in remarks["vatt"] and "other clips" in remarks["vatt"]


def test_seeds_that_were_trained_on_something_else_and_notes_are_flagged() -> None:
    made = [record(seed=0), record(seed=1, config_hash="ffffffff", notes={"classes_without_clips": 2})]
    made[1] = made[1].model_copy(update={"created": NOON + timedelta(days=1)})
    remarks = (
        "seeds on other training clips, in another precision or in other parts of a batch; 2 classes without clips"
    )
    assert lines(made)[0]["remarks"] == remarks


def test_too_few_clips_have_no_rank_and_stand_last_whatever_the_run_asked_for() -> None:
    few = record(method="mbt", value=0.99, clips=20, official=20_371)
    table = board_table(BOARD, [few, record(clips=20_371, official=20_371)])
    assert [(row["method"], row["rank"]) for row in lines([few, record(clips=20_371, official=20_371)])] == [
        ("mavil", "1"),
        ("mbt", ""),
    ]
    for text in (to_markdown(table), terminal_of(table)):
        assert "< 0.1 % of the clips, no rank below 85.0 %" in text.replace("&lt;", "<")
    assert "| 20 | &lt; 0.1 % |" in to_markdown(table)


def test_clips_that_could_not_be_read_while_scoring_are_not_covered() -> None:
    lost = record(notes={"unreadable_while_scoring": 60})
    assert board_table(BOARD, [lost]).rows[0].coverage == 0.8


def test_a_board_that_is_not_installed_is_shown_as_its_record_defines_it() -> None:
    outside = Board("theirs", "their_dataset", "train", "test", UnknownTask("their_task"), "score")
    described = ({"name": "score", "label": "their score", "better": "lower", "percent": False, "decimals": 3},)
    made = [
        record(outside, value=v, method=m, board_definition=outside.definition(), board_metrics=described)
        for v, m in ((0.5, "mbt"), (0.25, "mavil"))
    ]
    (table,) = [table for table in make_tables(made, known_boards(made)) if not table.empty]
    assert [row.newest.method for row in table.rows] == ["mavil", "mbt"]
    assert "their score ↓" in to_markdown(table) and "**0.250** \\[0.200, 0.290\\]" in to_markdown(table)


def test_all_boards_show_chance_and_sample_boards_say_so() -> None:
    made = [record(sample=True)]
    markdown = to_markdown(board_table(BOARD, made))
    assert formats.SAMPLE_NOTICE in markdown.split("\n|")[0]
    assert "| chance |" in markdown and "| 10.0 |" in markdown
    assert "Made-up sample data" in terminal(made)
    assert (lines(made)[0]["data"], lines(made)[0]["top1_chance"]) == ("made-up sample", "0.1")
    real = to_markdown(board_table(BOARD, [record()]))
    assert "Made-up sample" not in real and "| chance |" in real and "| 10.0 |" in real
    assert lines([record()])[0]["data"] == "real"


def test_sample_and_real_records_never_share_a_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not share a table"):
        write_tables(make_tables([record(), record(sample=True)], [BOARD]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_row_with_other_views_of_each_clip_stands_on_the_board_and_says_so() -> None:
    four = record(method="mbt", value=0.99, protocol={**BOARD.protocol(), "views": 4})
    table = board_table(BOARD, [four, record()])
    assert len(table.rows) == 2 and table.hidden == ()
    assert [row.remarks for row in table.rows if row.newest.method == "mbt"] == [("4 views a clip, the board has 1",)]
    assert "views" not in str([row.remarks for row in table.rows if row.newest.method != "mbt"])


def test_a_row_with_crops_of_each_view_stands_on_the_board_and_says_so() -> None:
    nine = record(method="xkd", value=0.9, protocol=protocol_of(BOARD, 3, 3))
    assert board_table(BOARD, [nine, record()]).rows[0].remarks == ("3 views x 3 crops a clip, the board has 1",)
    board = replace(BOARD, views=4, crops=3)
    rows = board_table(board, [record(protocol=protocol_of(board, 4, 3)), nine]).rows
    assert [row.remarks for row in rows] == [("3 views x 3 crops a clip, the board has 4 views x 3 crops",), ()]
    assert "crops" not in protocol_of(board, 10, 1) and protocol_of(BOARD, 1, 1) == BOARD.protocol()


def test_pretraining_data_and_costs_come_from_the_record() -> None:
    parents = tuple({"stage": s, "identity": "ab", "data": "audioset unbalanced"} for s in ("pretrain", "pretrain_2"))
    cost = {"device_hours": 1.0, "total_device_hours": 12.34, "parameters": 86_000_000}
    row = board_table(BOARD, [record(parents=parents, cost=cost)])
    markdown = to_markdown(row)
    assert "| audioset unbalanced | 86 M | 12.3 |" in markdown


def test_every_line_of_the_markdown_table_has_as_many_cells() -> None:
    markdown = to_markdown(board_table(BOARD, [record(sample=True), record(sample=True, modality="a", dirty=True)]))
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")]
    assert len(cells) == 4 and len(set(cells)) == 1


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("[x](y)", r"\[x\](y)"),
        ("**b** _i_ `c` ~~d~~", r"\*\*b\*\* \_i\_ \`c\` \~\~d\~\~"),
        ("everything_at_once", "everything_at_once"),
        ("two\nlines", "two lines"),
        ("back\\|slash", r"back\\\|slash"),
        ("&lt;", "&amp;lt;"),
    ],
)
def test_markup_is_shown_as_text(text: str, escaped: str) -> None:
    assert formats.escape(text) == escaped


def test_addresses_do_not_become_links() -> None:
    assert "www." not in formats.escape("www.example.org") and "http:" not in formats.escape("http://x")


def test_terminal_markup_in_a_record_is_shown_as_text() -> None:
    assert "[bold]" in terminal([record(notes={"x": "[bold]"})])


def test_the_terminal_table_keeps_its_numbers_whole_at_100_columns() -> None:
    made = [record(sample=True, stage="finetune_vggsound_av")]
    assert "50.0 [45.0, 54.0]" in terminal(made, width=100)


def test_markdown_has_the_best_rows_of_a_long_board_and_says_where_the_others_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "MARKDOWN_ROWS", 3)
    table = board_table(BOARD, [record(value=0.1 * seed, variant=f"v{seed}") for seed in range(1, 6)])
    text = to_markdown(table)
    assert all(f"v{seed}," in text for seed in (5, 4, 3)) and not any(f"v{seed}," in text for seed in (1, 2))
    assert "\n2 more rows are in [vggsound.csv](vggsound.csv).\n" in text
    assert len(to_csv(table).splitlines()) == 6


def test_tables_are_written_only_when_they_change_and_removed_without_records(tmp_path: Path) -> None:
    made = [record(), record(RETRIEVAL, value=3.0)]
    names = {"vggsound.csv", "vggsound.md", "vggsound-a2v.csv", "vggsound-a2v.md"}
    assert {path.name for path in write_tables(make_tables(made, [BOARD, RETRIEVAL]), tmp_path)} == names
    assert {path.name for path in tmp_path.iterdir()} == names
    assert write_tables(make_tables(reversed(made), [RETRIEVAL, BOARD]), tmp_path) == []
    changed = write_tables(make_tables([record(value=0.6), made[1]], [BOARD, RETRIEVAL]), tmp_path)
    assert {path.name for path in changed} == {"vggsound.csv", "vggsound.md"}
    (tmp_path / "README.md").write_text("stays")
    write_tables(make_tables([made[0]], [BOARD, RETRIEVAL]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"vggsound.csv", "vggsound.md", "README.md"}


def test_a_record_of_an_unknown_board_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tables(make_tables([record(RETRIEVAL, value=3.0)], [BOARD]), tmp_path)
    assert "no board is called 'vggsound-a2v'" in caplog.text


def test_tables_need_no_torch() -> None:
    """Nor do the tasks, of which they have metrics and words."""
    made = "import sys, bench.tables.boards, bench.tasks; bench.tasks.metric_infos()"
    code = f"{made}; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


# --- the papers' own numbers


def paper(*rows: dict[str, object], name: str = "mavil") -> PublishedMethod:
    """A paper with verified rows of the board."""
    known = {
        **{"benchmark": "VGGSound test", "board": "vggsound", "modality": "av", "variant": "ViT-B"},
        **{"place": "Table 3", "known": "page", "source": "a page", "verified": True},
    }
    return PublishedMethod(name=name, title="T", arxiv="2212.08071", rows=[{**known, **row} for row in rows])


def test_a_paper_s_number_stands_among_the_measured_ones_and_cannot_be_taken_for_one() -> None:
    papers = [paper({"metrics": {"top1": 67.1}}, {"metrics": {"top1": 20.0}}, {"metrics": {"top5": 99.0}})]
    table = board_table(BOARD, [record()], papers)
    assert [type(line).__name__ for line in table.lines] == ["Published", "Row", "Published", "Published"]
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("| ")][2:]
    best = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert best[:5] == ["*paper*", "*mavil: ViT-B*", "–", "*av*", "*67.1*"] and "**" not in lines[0]
    assert "published, not measured here: Table 3; read in a page" in best[-1]
    assert lines[1].startswith("| 1 |"), "ranks count what was measured"
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["kind"] for row in rows] == ["published", "measured", "published", "published"]
    assert float(rows[0]["top1"]) == pytest.approx(0.671) and rows[0]["place"] == "Table 3" and rows[0]["rank"] == ""
    assert "paper" in terminal_of(table) and "67.1" in terminal_of(table)


def test_only_verified_numbers_stand_on_a_board_and_none_beside_made_up_data() -> None:
    recalled = paper({"metrics": {"top1": 67.1}, "verified": False, "known": "memory", "source": ""})
    elsewhere = paper({"metrics": {"top1": 67.1}, "board": "esc50"})
    assert board_table(BOARD, [record()], [recalled, elsewhere]).published == ()
    assert board_table(BOARD, [record(sample=True)], [paper({"metrics": {"top1": 67.1}})]).published == ()


def test_a_board_of_papers_alone_has_a_table(tmp_path: Path) -> None:
    tables = make_tables([], [BOARD], [paper({"metrics": {"top1": 67.1}})])
    assert {path.name for path in write_tables(tables, tmp_path)} == {"vggsound.csv", "vggsound.md"}


def test_a_paper_s_markup_is_shown_as_text() -> None:
    table = board_table(BOARD, [], [paper({"metrics": {"top1": 1.0}, "note": "<script>|x", "variant": "**b**"})])
    assert "<script>" not in to_markdown(table) and r"\*\*b\*\*" in to_markdown(table)
