"""The overview of methods and boards."""

from __future__ import annotations

from bench.tables.board_table import board_table
from bench.tables.overview import overview
from tests.bench.test_tables import BOARD, RETRIEVAL, paper, record


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the table under a heading."""
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in cells}


def test_each_method_on_each_board_is_measured_published_or_open():
    papers = [
        paper({"metrics": {"top1": 60.0}}, {"metrics": {"top1": 67.1}}),
        paper({"metrics": {"top1": 99.9}, "verified": False, "known": "memory", "source": ""}, name="vatt"),
    ]
    measured = [record(value=0.5), record(value=0.625, modality="a"), record(RETRIEVAL, method="uavm", value=3.0)]
    tables = [board_table(board, measured, papers) for board in (BOARD, RETRIEVAL)]
    text = overview(tables, papers, ["mavil", "uavm"], {"mavil": "../experiments/mavil/README.md"})
    assert rows(text, "vggsound") == {
        "method": ["[vggsound](vggsound.md)<br>top-1", "[vggsound-a2v](vggsound-a2v.md)<br>MedR"],
        "---": ["---:", "---:"],
        "mavil": ["**62.5** *67.1*", "·"],
        "uavm": ["·", "**3.0**"],
    }
    methods = rows(text, "Methods")
    assert methods["vatt"][1:] == ["not yet", "no published number whose source could be read"]
    assert methods["mavil"] == ["T (arXiv 2212.08071)", "[yes](../experiments/mavil/README.md)", ""]
    assert methods["uavm"] == ["–", "yes", ""], "no link to what is not there"
    assert "99.9" not in text


def test_what_must_be_known_of_a_number_and_what_is_not_shown_stands_below_it():
    old = record(method="mbt", protocol={**BOARD.protocol(), "version": 7})
    text = overview([board_table(BOARD, [record(dirty=True, clips=270), old])], [], ["mavil"], {})
    assert "- vggsound, mavil (finetune): uncommitted changes; 90.0 % of the clips\n" in text
    few = record(method="uavm", value=0.9, clips=20, official=20_371)
    other = overview([board_table(BOARD, [record(), few])], [], ["mavil"], {})
    assert rows(other, "vggsound")["uavm"] == ["(90.0)"] and "no rank below 85.0 %" in other
    assert "- vggsound, not shown: mbt (tiny) finetune av: protocol version 7, now 1" in text
