"""Official files, written as the tools of their makers do. Folders are made as they are needed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datamodules.sample.narration import VOCABULARY


def write_csv(path: Path, rows: Iterable[Sequence[object]], header: Sequence[str] = (), end: str = "\n") -> None:
    """Fields are quoted only where they hold a comma, a quote or a line end; an empty `header` writes none."""
    with _new(path).open("w", newline="") as file:
        csv.writer(file, lineterminator=end).writerows([header, *rows] if header else rows)


def write_text(path: Path, text: str) -> None:
    """Writes a text file as it is, line ends included."""
    _new(path).write_bytes(text.encode())


def write_lines(path: Path, lines: Iterable[object]) -> None:
    """Writes a text file, its folders made where they are not there."""
    _new(path).write_text("".join(f"{line}\n" for line in lines))


def write_json(path: Path, content: Any) -> None:
    """The same, of JSON."""
    _new(path).write_text(json.dumps(content))


def write_vocabulary(folder: Path) -> None:
    """The words that a method's text branch may know, as `TextInputs.file`."""
    write_lines(folder / "vocabulary.txt", VOCABULARY)


def _new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
