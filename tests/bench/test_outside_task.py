"""A task of another package, from training to the table, the page and the exports, as `docs/adding_a_task.md` says."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from bench import registry
from bench.cli import main
from bench.errors import UserError
from bench.records.archive import read_all
from bench.run.results import read_predictions
from bench.tables.boards import current_tables, rebuild
from bench.tables.export import card
from bench.tables.formats import to_markdown
from bench.tasks import EvaluationError, metric_infos, task_of
from tests.conftest import REPOSITORY
from tests.installed import forget, install
from tests.sample_data import SampleMaker

GUIDE = REPOSITORY / "docs" / "adding_a_task.md"


def files_of(guide: str) -> dict[str, str]:
    """Path -> content of the package's files; each block is the file that the text before it named last."""
    found = {}
    for before, content in re.findall(r"((?:(?!```)[^\n]*\n)*)```\w+\n((?:(?!```)[^\n]*\n)*)```\n", guide):
        found[re.findall(r"`(their_counting/[\w/]+\.\w+|pyproject\.toml)`", before)[-1]] = content
    return found


def commands_of(guide: str) -> list[list[str]]:
    """The arguments of each `python -m bench`."""
    return [line.split()[3:] for line in guide.splitlines() if line.startswith("python -m bench ")]


@dataclass(frozen=True)
class Followed:
    """The guide's package and what its commands left."""

    package: Path
    boards: Path
    runs: Path
    printed: str


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Iterator[Followed]:
    """The guide's package, as if installed, and its commands, on a few clips of the sample data."""
    root = tmp_path_factory.mktemp("counting")
    package = root / "site"
    text = GUIDE.read_text(encoding="utf-8")
    files = files_of(text)
    for name, content in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(content)
    for folder in ("their_counting", "their_counting/counter"):
        (package / folder / "__init__.py").touch()
    install(package, files["pyproject.toml"])
    make_sample(root / "data", ["fsd50k"], counts={"fsd50k": {"train": 32, "val": 4, "eval": 24}})
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package))
        patch.chdir(root)
        forget("their_counting")
        for command in commands_of(text):
            made_up = ["sample/counted" if word == "counted" else word.replace("DATA", "data") for word in command]
            with contextlib.redirect_stdout(printed):
                assert main(made_up) == 0, command
        yield Followed(package, root / "leaderboards", root / "runs", printed.getvalue())
    forget("their_counting")


def test_its_record_says_how_it_was_measured_and_where_its_task_comes_from(guide: Followed):
    (record,), errors = read_all(guide.boards / "sample" / "results")
    assert not errors and list(record.metrics) == list(record.chance) == ["exact", "off_by"]
    assert record.protocol == {
        **{"name": "counted", "dataset": "counted", "train": "train", "split": "eval"},
        **{"task": "counting", "most": 4, "views": 1, "version": 1},
    }
    assert [(each.role, each.distribution, each.version) for each in record.packages if each.role == "task"] == [
        ("task", "their-counting", "0.1.0")
    ]
    (path,) = guide.runs.glob("counter/*/predictions.parquet")
    board = registry.board("counted")
    stored = read_predictions(path, task_of(board).predictions)
    right = np.rint(stored.scores["a"]) == stored.target
    assert stored.target.max() <= 4 and record.n == 24
    assert record.metrics["exact"].value == pytest.approx(right.mean())


def test_its_board_has_a_table_a_page_and_comparisons(guide: Followed):
    markdown = (guide.boards / "sample" / "counted.md").read_text()
    assert "| exact ↑ | chance | off by ↓ |" in markdown
    assert "counted, split eval, counting; sorted by exact" in markdown
    assert "Counts are rounded to the nearest whole number." in markdown
    assert '"off by"' in (guide.boards / "sample" / "page.html").read_text()
    assert "on the 24 clips that both were measured on" in guide.printed


def test_hubs_and_other_programs_read_it(guide: Followed):
    (row, _) = parquet.read_table(guide.boards.parent / "cards" / "boards.parquet").to_pylist()
    assert (row["board"], row["task"], row["metric"]) == ("counted", "counting", "exact")
    (table,) = [table for table in current_tables(guide.boards, sample=True) if not table.empty]
    text = card("counter", [replace(table, sample=False)])
    assert "type: counting" in text and "exact" in text


def test_the_page_has_every_metric_of_every_task(guide: Followed):
    assert {"exact", "off_by", "top1", "mAP", "R@1"} <= set(metric_infos())


def test_outputs_of_another_kind_are_refused_with_what_is_measured(guide: Followed):
    task = task_of(registry.board("counted"))
    with pytest.raises(EvaluationError, match="counted: counting measures count; the method gave: logits"):
        task.given({"logits": {"a": np.ones((2, 3))}})


def test_without_its_package_the_tables_are_the_same_and_measuring_says_what_to_install(
    guide: Followed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The rule and the words of the task are the package's; numbers, their names and their order are the record's."""
    before = to_markdown(next(table for table in rebuild(guide.boards, True) if table.board.name == "counted"))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(guide.package)])
    importlib.invalidate_caches()
    forget("their_counting")
    try:
        assert "counted" not in registry.boards()
        (table,) = [table for table in current_tables(guide.boards, True) if not table.empty]
        after = to_markdown(table)
        assert not table.hidden
        assert [line for line in before.splitlines() if line.startswith("|")] == [
            line for line in after.splitlines() if line.startswith("|")
        ]
        places = ["--leaderboards", str(guide.boards), "--runs", str(guide.runs)]
        assert main(["compare", "counter", "counter", "--board", "sample/counted", *places]) == 2
        assert "its task 'counting' is not known here; install the package" in capsys.readouterr().err
    finally:
        monkeypatch.undo()
        importlib.invalidate_caches()
        forget("their_counting")


def test_a_task_that_cannot_be_imported_is_named_with_its_board(guide: Followed, monkeypatch: pytest.MonkeyPatch):
    board = registry.board("counted")
    monkeypatch.setattr(type(board.task), "measured_by", "their_counting.tsak:CountingTask")
    with pytest.raises(UserError, match="board counted: its task counting is to be measured by their_counting.tsak"):
        task_of(board)


def test_the_guide_s_record_can_be_read_by_anybody(guide: Followed):
    (path,) = (guide.boards / "sample" / "results").glob("*.json")
    definition = json.loads(path.read_text())["board_definition"]
    assert definition["task"] == "counting" and definition["most"] == 4
