"""`docs/adding_a_method.md`, followed word by word in an empty folder, with fewer clips and epochs."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli import main
from tests.conftest import REPOSITORY
from tests.installed import forget, install
from tests.sample_data import SampleMaker

PAGE = (
    (REPOSITORY / "docs" / "adding_a_method.md").read_text(encoding="utf-8").partition("\n## What a stage can say")[0]
)
STEP = re.compile(r"^`(?P<file>methods/[\w/.]+)`|^```\w*\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = [f"stages.{stage}.{setting}" for stage in ("pretrain", "finetune") for setting in ("epochs=1", "batch_size=8")]
NAME = "two_towers"


def steps() -> Iterator[tuple[str, str]]:
    """(File, its content) of what is to be written, ("", command) of what is to be typed, in the page's order.

    A block of code belongs to the file that the last paragraph before it begins with.
    """
    file = ""
    for step in STEP.finditer(PAGE):
        if step["file"]:
            file = step["file"]
        elif step["block"].startswith("python -m "):
            yield from (("", line) for line in step["block"].splitlines())
        else:
            yield file, step["block"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_sample: SampleMaker) -> Iterator[Path]:
    """An empty working directory, and the small sample data where `bench run` looks for it."""
    make_sample(tmp_path / "data" / "sample", ["vggsound"], counts={"vggsound": {"train": 16, "test": 12}})
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget(NAME)


@pytest.mark.slow
def test_the_guide_leads_to_a_method_that_trains_and_is_measured(here: Path, monkeypatch, capsys) -> None:
    typed, printed = [], ""
    for file, text in steps():
        if file:
            assert (here / file).is_file(), f"{file} was not made by `bench new`"
            (here / file).write_text(text, encoding="utf-8")
            continue
        typed.append(text)
        program, *arguments = shlex.split(text.removeprefix("python -m "))
        if program == "pip":
            toml = printed.partition(" needs\n")[2].partition("\nnext:\n")[0]
            (here / "methods" / "pyproject.toml").write_text(toml)
            install(here / "methods", toml)
            monkeypatch.syspath_prepend(here / "methods")
            forget(NAME)
        elif program == "pytest":
            tests = runpy.run_path(str(here / "methods" / "tests" / f"test_{NAME}.py"))
            run = [test() for name, test in tests.items() if name.startswith("test_")]
            assert len(run) == 2
        else:
            assert main([*arguments, *(QUICK if arguments[0] in ("plan", "run") else [])]) == 0
            printed = capsys.readouterr().out
    assert [line.split()[3] for line in typed if line.startswith("python -m bench")] == ["new", "plan", "run"]
    records = [json.loads(path.read_text()) for path in (here / "leaderboards/sample/results").glob("*.json")]
    assert {record["board"] for record in records} == {"vggsound", "vggsound-a2v", "vggsound-v2a"}
    assert {(record["method"], record["n"]) for record in records} == {(NAME, 12)}
