"""docs/adding_a_dataset.md, followed word by word."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli import main
from tests.conftest import REPOSITORY
from tests.installed import forget, install

PAGE = (REPOSITORY / "docs/adding_a_dataset.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S))
"""Name -> content of the files that the page has its readers write."""
COMMANDS = [block.replace("\\\n", "").strip() for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)]
QUICK = {"data check": ["workers=1"], "plan": ["data.loader.workers=0"], "run": ["data.loader.workers=0"]}
"""Command -> what changes nothing but how many processes there are."""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which a reader of the page works."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget("avl_birds")


def follow(command: str, folder: Path) -> int:
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "bench"]:
        named = next(name for name in QUICK if command.startswith(f"python -m bench {name} "))
        return main([*words[3:], *QUICK[named]])
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], check=False, timeout=60).returncode
    assert command == "pip install --editable ."
    install(folder, (folder / "pyproject.toml").read_text())
    forget("avl_birds")
    return 0


@pytest.mark.slow
def test_the_page_leads_from_nothing_to_a_board(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(FILES) == {"make_birds.py", "avl_birds.py", "pyproject.toml"} and len(COMMANDS) == 5
    shown = {}
    for command in COMMANDS:
        assert follow(command, reader) == 0, command
        shown[command] = capsys.readouterr().out
    begins = "file,species,split\nblackbird_0.wav,blackbird,train\n"
    assert begins in PAGE and (reader / "data/birds/clips.csv").read_text().startswith(begins)
    check, plan, run = (text for command, text in shown.items() if " -m bench " in command)
    assert "board birds: ready" in check and "log-mel" in check
    assert "train_birds" in plan and "train_birds" in run
    (record,) = (json.loads(path.read_text()) for path in (reader / "leaderboards/results").glob("*.json"))
    assert (record["board"], record["n"], record["sample"]) == ("birds", 16, False)
    assert [package["name"] for package in record["packages"] if package["role"] == "dataset"] == ["birds"]
    assert (reader / "leaderboards/birds.md").is_file() and (reader / "leaderboards/birds.csv").is_file()


def test_a_row_that_is_none_and_a_missing_recording_are_reported(reader: Path, capsys) -> None:
    """What the page has its readers try."""
    for command in COMMANDS[:2]:
        assert follow(command, reader) == 0
    (reader / "data/birds/wav/robin_9.wav").unlink()
    rows = (reader / "data/birds/clips.csv").read_text().replace("wren_9.wav,wren,test", "wren_9.wav,wren,nowhere")
    (reader / "data/birds/clips.csv").write_text(rows)
    assert follow(COMMANDS[2], reader) == 0
    report = json.loads((reader / "runs/cache/reports/birds.json").read_text())
    assert report["splits"]["test"]["usable"]["sound"]["excluded"] == {"malformed row": 1, "missing": 1}
    assert "robin_9" in capsys.readouterr().out
