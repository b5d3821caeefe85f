"""The pages' tables are current, and `bench docs` regenerates them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli import main
from bench.commands import docs, reference
from bench.errors import UserError

PAGE = "before\n<!-- bench docs: boards -->\n{}<!-- end -->\nafter\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A README without tables and a page with an old one, instead of the suite's."""
    (tmp_path / "README.md").write_text("# Nothing to make\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/data.md").write_text(PAGE.format("old\n"))
    monkeypatch.setattr(docs, "REPOSITORY", tmp_path)
    monkeypatch.setattr(docs, "TABLES", {"boards": lambda: "new\n"})
    monkeypatch.setattr(reference, "PAGES", ())
    return tmp_path


def test_the_tables_of_the_suite_s_pages_are_current() -> None:
    assert list(docs.stale()) == [], "run `make docs`"


@pytest.mark.parametrize("name", docs.TABLES)
def test_every_table_stands_in_a_page(name: str) -> None:
    pages = [docs.REPOSITORY / "README.md", *(docs.REPOSITORY / "docs").glob("*.md")]
    assert any(f"<!-- bench docs: {name} -->" in page.read_text(encoding="utf-8") for page in pages)


def test_an_old_table_is_reported_and_made_anew_and_nothing_else_is_touched(checkout, capsys) -> None:
    page = checkout / "docs/data.md"
    assert main(["docs", "--check"]) == 1 and "data.md: not current" in capsys.readouterr().out
    assert page.read_text() == PAGE.format("old\n")
    assert main(["docs"]) == 0 and "data.md: written" in capsys.readouterr().out
    assert page.read_text() == PAGE.format("new\n")
    assert main(["docs", "--check"]) == 0 and capsys.readouterr().out == ""


def test_a_table_that_does_not_exist_is_named_with_those_that_do(checkout, capsys) -> None:
    (checkout / "README.md").write_text(PAGE.replace("boards", "board").format(""))
    assert main(["docs"]) == 2
    assert "no such table of `bench docs`: 'board'. Did you mean 'boards'?" in capsys.readouterr().err


def test_without_a_checkout_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkout of the suite"):
        docs.write(tmp_path)
