"""`make page`: the boards, methods and runs as one HTML file that needs nothing else.

The page holds its data as JSON, which its one script shows as text only: nothing of a record is ever markup, and the
page's policy lets no other script run and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jinja2

from bench import registry
from bench.page.content import MethodText, PageData, page_data
from bench.page.repeat import command
from bench.page.runs import evidence
from bench.records.archive import read_all
from bench.tables.boards import board_folder, known_boards, make_tables, papers, records_folder
from bench.tables.formats import SAMPLE_NOTICE
from datamodules.files import replacing

SOURCES = Path(__file__).parent / "assets"
SCRIPTS = ("base.js", "board.js", "plot.js", "methods.js", "run.js", "main.js")
"""In the order in which they make the one script."""

log = logging.getLogger(__name__)


def write_pages(leaderboards: Path, runs: Path, output: Path) -> list[Path]:
    """Writes the page, and that of the made-up sample data in `sample/` beside it where there are such records.

    Args:
        leaderboards: the folder of records and published numbers.
        runs: of runs, for curves and scores by class of those that are there.
        output: the page's file.

    Returns:
        The files written.
    """
    written = []
    for sample in (False, True):
        path = board_folder(output.parent, sample) / output.name
        data = collect(leaderboards, runs, sample)
        if sample and not data.boards["boards"]:
            path.unlink(missing_ok=True)
            continue
        with replacing(path) as temporary:
            temporary.write_text(render(data), encoding="utf-8")
        written.append(path)
    return written


def collect(leaderboards: Path, runs: Path, sample: bool) -> PageData:
    """What the page of real, or of made-up, data shows."""
    records, errors = read_all(records_folder(leaderboards, sample))
    for error in errors:
        log.warning("not a record: %s", error)
    boards = {board.name: board for board in known_boards(records)}
    wrong = [record.id for record in records if record.board not in boards or record.sample != sample]
    for name in wrong:
        log.warning("record %s is not on the page: it is of no known board, or in the wrong folder", name)
    records = [record for record in records if record.id not in set(wrong)]
    published = papers(leaderboards, sample)
    tables = make_tables(records, boards.values(), published)
    shown = [record for table in tables for row in table.rows for record in row.records]
    return page_data(
        tables=tables,
        records=records,
        papers=published,
        methods={name: method_text(registry.method_folder(name) / "README.md") for name in registry.methods()},
        command=command,
        evidence=evidence(shown, boards, runs),
    )


def method_text(readme: Path) -> MethodText:
    """The title, and the text up to the first table, heading or code, as plain text."""
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else [""]
    idea: list[str] = []
    begins = True
    for line in (line.strip() for line in lines[1:]):
        if line.startswith(("#", "|", "```")):
            break
        if not line:
            begins = True
        elif begins or line[:1].isdigit() and ". " in line[:4] or line.startswith("- "):
            idea.append(line)
            begins = False
        else:
            idea[-1] += f" {line}"
    return MethodText(lines[0].lstrip("# "), tuple(text.replace("`", "").replace("**", "") for text in idea))


def render(data: PageData) -> str:
    """The page's HTML: the same data gives the same text."""
    script = "".join((SOURCES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    style = (SOURCES / "page.css").read_text(encoding="utf-8")
    template = jinja2.Template((SOURCES / "page.html.j2").read_text(encoding="utf-8"), autoescape=True)
    return template.render(
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
        boards=as_json(data.boards),
        runs=as_json(data.runs),
        sample=data.boards["sample"],
        sample_notice=SAMPLE_NOTICE,
    )


def as_json(value: Any) -> str:
    """JSON that can stand in a `<script>`: plain ASCII in which no tag can begin or end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
