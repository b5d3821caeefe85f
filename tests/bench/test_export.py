"""Model cards and the Parquet file, as other programs read them."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from bench.cli import main
from bench.errors import UserError
from bench.records.archive import write
from bench.tables.board_table import board_table
from bench.tables.export import card
from tests.bench.test_tables import BOARD, paper, record


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    write(record(value=0.5, dirty=True), tmp_path / "results")
    write(record(value=0.75, method="uavm"), tmp_path / "results")
    write(record(value=0.25, sample=True), tmp_path / "sample" / "results")
    return tmp_path


def test_a_hub_reads_the_results_of_a_card(boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(tmp_path / "out"), "--leaderboards", str(boards)]) == 0
    assert {Path(line).name for line in capsys.readouterr().out.splitlines()} == {
        "boards.parquet",
        "mavil.md",
        "uavm.md",
    }
    loaded = ModelCard.load(tmp_path / "out" / "mavil.md")
    name, results = model_index_to_eval_results(loaded.data.to_dict()["model-index"])
    (top1,) = [result for result in results if result.metric_type == "top1"]
    assert name == "mavil" and (top1.metric_value, top1.dataset_type, top1.dataset_split) == (50.0, "vggsound", "test")
    assert top1.task_type == "video-classification" and "uncommitted changes" in loaded.text
    assert top1.dataset_args["remarks"] == ["uncommitted changes"], "what the hub reads has them, too"


def test_one_file_has_all_boards_and_says_what_is_made_up(boards: Path, tmp_path: Path):
    assert main(["export", str(tmp_path / "out"), "--leaderboards", str(boards)]) == 0
    table = pq.read_table(tmp_path / "out" / "boards.parquet").to_pandas()
    scores = table[table["metric"] == "top1"].set_index(["data", "method"])["value"].to_dict()
    assert scores == {("real", "uavm"): 0.75, ("real", "mavil"): 0.5, ("made-up sample", "mavil"): 0.25}
    assert table.set_index(["data", "method"]).loc[("real", "mavil"), "dirty"].all()
    assert set(table[table["metric"] == "top1"]["chance"]) == {0.1} and set(table["low"].notna()) == {True}


def test_published_rows_are_in_the_file_and_never_in_a_card():
    table = board_table(BOARD, [record()], [paper({"metrics": {"top1": 67.1}})])
    text = card("mavil", [table])
    assert "67.1" not in text and "50" in text


def test_a_card_has_chance_beside_each_number_for_people_and_for_hubs():
    low = {"value": 0.8, "low": 0.7, "high": 0.9}
    made = record(metrics={"top1": {"value": 0.5, "low": 0.4, "high": 0.6}, "top5": low})  # chance of top1 alone
    text = card("mavil", [board_table(BOARD, [made])])
    assert "50.0 (chance 10.0), " in text and text.count("(chance ") == 1
    _, results = model_index_to_eval_results(ModelCard(text).data.to_dict()["model-index"])
    assert [(each.metric_type, each.dataset_args["chance"]) for each in results] == [
        ("top1", {"top1": 10.0}),
        ("top5", {"top1": 10.0}),
    ]


def test_made_up_numbers_make_no_card():
    with pytest.raises(UserError, match="Made-up sample data"):
        card("mavil", [board_table(BOARD, [record(sample=True)])])


def test_nothing_to_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["export", str(tmp_path / "out"), "--leaderboards", str(tmp_path)]) == 2
    assert "neither records nor published numbers" in capsys.readouterr().err
