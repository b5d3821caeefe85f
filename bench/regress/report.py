"""The figures of `bench regress` as a table for people, JUnit XML and Markdown for machines. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from rich.table import Table

from bench.regress.figures import Figure, Verdict

COLUMNS = ("method", "stage", "board", "figure", "before", "after", "change, 95 % interval", "verdict")
STYLES = {Verdict.WORSE: "bold red", Verdict.FAILED: "bold red", Verdict.BETTER: "green"}


def cells(figure: Figure) -> list[str]:
    """In the order of `COLUMNS`."""
    numbers = [figure.before, figure.after, figure.change]
    return [figure.method, figure.stage, figure.board, figure.name, *numbers, str(figure.verdict)]


def summary(found: Sequence[Figure]) -> str:
    """One line."""
    worse = sum(figure.regressed for figure in found)
    return f"{worse or 'none'} of {len(found)} figures got worse"


def to_rich(found: Sequence[Figure], title: str) -> Table:
    """For the terminal."""
    table = Table(*COLUMNS, title=title, title_justify="left")
    for figure in found:
        table.add_row(*cells(figure), style=STYLES.get(figure.verdict))
    return table


def to_markdown(found: Sequence[Figure], title: str) -> str:
    """For `$GITHUB_STEP_SUMMARY`; what got worse comes first."""
    lines = [f"### {title}", "", f"**{summary(found)}**", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for figure in sorted(found, key=lambda figure: not figure.regressed):
        row = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells(figure)]
        lines.append("| " + " | ".join([*row[:-1], f"**{row[-1]}**" if figure.regressed else row[-1]]) + " |")
    return "\n".join(lines) + "\n"


def to_junit(found: Sequence[Figure], properties: Mapping[str, str]) -> str:
    """One test case a figure."""
    failures = sum(figure.regressed for figure in found)
    counts = {"tests": str(len(found)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "bench regress", **counts})
    listed = ElementTree.SubElement(suite, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(listed, "property", {"name": name, "value": _valid(value)})
    for figure in found:
        place = {"classname": f"{figure.method}.{figure.stage}".rstrip("."), "name": f"{figure.board} {figure.name}"}
        case = ElementTree.SubElement(suite, "testcase", {key: _valid(value.strip()) for key, value in place.items()})
        text = _valid(str(figure))
        if figure.regressed:
            ElementTree.SubElement(case, "failure", {"message": text, "type": str(figure.verdict)}).text = text
        else:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _valid(text: str) -> str:
    """Without the characters that XML has not, e.g. of a log's colours."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
