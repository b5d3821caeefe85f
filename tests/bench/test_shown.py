"""What a person sees on a board after real runs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli import main
from bench.records.archive import write
from tests.bench.test_tables import BOARD, record
from tests.sample_data import SampleMaker

QUICK = [
    *("preset=tiny", "stage=train_esc10", "stages.train_esc10.fold=1", "stages.train_esc10.batch_size=8"),
    *("data.loader.workers=0", "trainer.accelerator=cpu"),
]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("esc10")
    make_sample(root, ["esc50"], counts={"esc50": {f"fold{n}": 16 for n in range(1, 6)}})
    return root


def board(leaderboards: Path) -> list[dict[str, str]]:
    with (leaderboards / "esc10.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_grid_is_shown_as_rows_that_differ_by_its_setting(media: Path, tmp_path: Path, capsys):
    places = [f"sample_root={media}", f"runs={tmp_path / 'runs'}", f"leaderboards={tmp_path / 'boards'}"]
    grid = ["--jobs", "1", "--grid", "stages.train_esc10.epochs=1,2"]
    assert main(["sweep", "baseline_cnn", *QUICK, *places, *grid]) == 0
    assert {row["settings"] for row in board(tmp_path / "boards" / "sample")} == {"epochs=1", "epochs=2"}
    printed = capsys.readouterr().out
    assert all(f"train_esc10 epochs={epochs}" in printed for epochs in (1, 2))


def test_a_run_on_too_few_clips_shows_chance_and_coverage_and_has_no_rank(
    media: Path, tmp_path: Path, capsys, make_sample: SampleMaker
):
    root = tmp_path / "data"
    make_sample(root, ["esc50"], counts={"esc50": {f"fold{n}": 16 for n in range(1, 6)}})
    for path in (*sorted(root.rglob("1-*.wav"))[4:], *root.rglob("SAMPLE.json")):  # as if it were real
        path.unlink()
    places = [f"data_root={root}", f"runs={tmp_path / 'runs'}", f"leaderboards={tmp_path / 'boards'}"]
    less = [*QUICK, *places, "stages.train_esc10.epochs=1"]
    assert main(["run", "baseline_cnn", *less]) == 2
    assert main(["run", "baseline_cnn", *less, "data.min_coverage=0"]) == 0
    (row,) = [row for row in board(tmp_path / "boards") if row["kind"] == "measured"]
    assert row["rank"] == "" and 0 < float(row["coverage"]) < 0.85 and row["top1_chance"] == "0.1"
    assert "no rank below 85.0 %" in row["remarks"]
    assert "no rank below 85.0 %" in " ".join(capsys.readouterr().out.split())
    assert "no rank below 85.0 %" in (tmp_path / "boards" / "README.md").read_text()


@pytest.mark.parametrize("made_up", [False, True])
def test_a_board_that_is_not_installed_is_shown_by_its_name_too(tmp_path: Path, capsys, made_up: bool):
    gone = replace(BOARD, name="gone")
    folder = tmp_path / "sample" / "results" if made_up else tmp_path / "results"
    write(record(gone, board_definition=gone.definition(), sample=made_up), folder)
    assert main(["table", "sample/gone" if made_up else "gone", "--leaderboards", str(tmp_path)]) == 0
    assert "50.0 [45.0, 54.0]" in capsys.readouterr().out
    assert main(["table", "gnoe", "--leaderboards", str(tmp_path)]) == 2
    assert "no such board: 'gnoe'" in capsys.readouterr().err
