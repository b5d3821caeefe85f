"""`leaderboards/README.md`: each method on each board, measured here, published, or still open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.records.published import PublishedMethod
from bench.tables.board_table import BoardTable, Published, main_value
from bench.tables.formats import escape, shown
from bench.tables.row import Row

LEGEND = (
    "**Bold**: measured here, the best of the method's rows, with its board's evidence behind the link. "
    "In parentheses: on too few clips for a rank. *Italic*: the best number that a paper prints, not measured here. "
    "·: open. What must be known of a measured number stands below its table."
)


def overview(
    tables: Iterable[BoardTable],
    papers: Sequence[PublishedMethod],
    methods: Iterable[str],
    links: Mapping[str, str],
) -> str:
    """A table a dataset, of its boards that anybody has a number on, and the methods without any.

    Args:
        tables: of all boards; none of made-up data.
        papers: with their published numbers.
        methods: that can be run.
        links: of these, to the README that is there.
    """
    methods = set(methods)
    tables = [table for table in tables if not table.empty]
    measured = {row.newest.method for table in tables for row in table.rows}
    names = sorted(methods | measured | {paper.name for paper in papers})
    lines = ["# Leaderboards", "", f"{LEGEND}  ", _count(tables, papers, methods), ""]
    for dataset in dict.fromkeys(table.board.dataset for table in tables):
        mine = [table for table in tables if table.board.dataset == dataset]
        lines += [f"## {escape(dataset)}", "", *_matrix(mine, names), "", *_remarks(mine)]
    lines += ["## Methods", "", "| method | paper | can be run | |", "| --- | --- | --- | --- |"]
    by_name = {paper.name: paper for paper in papers}
    for name in names:
        known = by_name.get(name)
        title = f"{escape(known.title)} (arXiv {known.arxiv})" if known else "–"
        runs = (f"[yes]({links[name]})" if name in links else "yes") if name in methods else "not yet"
        if name in measured - methods:
            runs = "by a package that is not installed here"
        remark = "no published number whose source could be read" if known and not known.has_verified else ""
        lines.append(f"| {escape(name)} | {title} | {runs} | {remark} |")
    return "\n".join(lines) + "\n"


def _count(tables: Sequence[BoardTable], papers: Sequence[PublishedMethod], methods: set[str]) -> str:
    measured = sum(len(table.rows) for table in tables)
    published = sum(len(table.published) for table in tables)
    return (
        f"{len(methods)} methods can be run; {measured} rows are measured and {published} published on {len(tables)} "
        f"boards, of {len(papers)} papers."
    )


def _matrix(tables: Sequence[BoardTable], names: Sequence[str]) -> list[str]:
    """The methods that have a number on one of these boards, a column a board."""
    heads = [f"[{escape(t.board.name)}]({t.board.name}.md)<br>{escape(t.info[t.board.main].label)}" for t in tables]
    lines = ["| method | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(tables)]
    best = [_best(table) for table in tables]
    for name in names:
        cells = [" ".join(each.get(name, ["·"])) for each in best]
        if any(cell != "·" for cell in cells):
            lines.append(f"| {escape(name)} | " + " | ".join(cells) + " |")
    return lines


def _remarks(tables: Sequence[BoardTable]) -> list[str]:
    """What a reader must know of the measured numbers in the matrix, and what is in none of the tables, a list item
    each."""
    found = []
    for table in tables:
        methods = set()
        for row in table.rows:  # best first
            if row.newest.method not in methods and table.board.main in row.cells and row.remarks:
                found.append(f"{table.board.name}, {row.newest.method} ({row.stage}): {'; '.join(row.remarks)}")
            methods.add(row.newest.method)
        found += [f"{table.board.name}, not shown: {row.text}" for row in table.hidden]
    return [*(f"- {escape(text)}" for text in found), ""] if found else []


def _best(table: BoardTable) -> dict[str, list[str]]:
    """Method -> the best of what was measured, and of what was published, as they are shown."""
    found: dict[str, dict[str, str]] = {}
    for line in table.lines:  # best first
        value = main_value(line, table.board.main)
        method, mark = (line.method.name, "*") if isinstance(line, Published) else (line.newest.method, "**")
        if value is not None:
            text = f"{mark}{shown(table.info[table.board.main], value)}{mark}"
            few = isinstance(line, Row) and not line.enough
            found.setdefault(method, {}).setdefault(mark, f"({text.strip('*')})" if few else text)
    return {method: [marks[mark] for mark in ("**", "*") if mark in marks] for method, marks in found.items()}
