"""The pages of docs/: the reference is current, and what pages and comments refer to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.commands import reference
from tests.conftest import REPOSITORY

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
LINK = re.compile(r"\]\((?P<file>[\w./-]*\.md)?(?:#(?P<heading>[\w-]+))?\)")
CITED = re.compile(r"docs/protocols\.md, (?:section |sections )(?P<sections>\d+(?:, \d+)*)")


def test_the_reference_is_made_from_the_docstrings_as_they_are() -> None:
    """If not: `python -m bench docs`."""
    written = {path.relative_to(REPOSITORY) for path in (REPOSITORY / reference.FOLDER).iterdir()}
    assert written == set(reference.pages())
    stale = [path for path, text in reference.pages().items() if (REPOSITORY / path).read_text("utf-8") != text]
    assert stale == []


def test_what_is_said_of_an_argument_or_an_error_stands_in_one_entry() -> None:
    text = "".join(reference.pages().values())
    sections = re.findall(r"^\*\*(?:Arguments|Raises)\*\*\n\n((?:- .*\n)+)", text, re.MULTILINE)
    entries = [line for section in sections for line in section.splitlines()]
    assert len(entries) > 20 and [entry for entry in entries if not re.match(r"- \*{0,2}[\w, ]+: ", entry)] == []


def test_every_setting_of_a_run_is_in_the_reference() -> None:
    from dataclasses import fields

    from bench.config.schema import BenchConfig, StageConfig, TrainerConfig
    from datamodules.types import AudioInputs, AugmentConfig, DataConfig, TextInputs, VideoInputs
    from experiments.common.optim import OptimConfig

    text = "".join(reference.pages().values())
    described = (BenchConfig, StageConfig, TrainerConfig, DataConfig, AudioInputs, VideoInputs, TextInputs)
    names = [field.name for kind in (*described, AugmentConfig, OptimConfig) for field in fields(kind)]
    assert [name for name in names if f"| `{name}` | `" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_pages_link_to_what_is_there(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        target = page.parent / link["file"] if link["file"] else page
        assert target.is_file(), link[0]
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert link["heading"] is None or link["heading"] in [anchor(heading) for heading in headings], link[0]


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_comments_cite_sections_of_the_protocols_that_are_there() -> None:
    there = set(re.findall(r"^## (\d+)\.", (REPOSITORY / "docs/protocols.md").read_text("utf-8"), re.MULTILINE))
    sources = [
        path for folder in ("bench", "datamodules", "experiments") for path in (REPOSITORY / folder).rglob("*.py")
    ]
    cited = {n for path in sources for found in CITED.finditer(path.read_text("utf-8")) for n in found[1].split(", ")}
    assert cited and cited <= there
