"""Packages of other people that say something wrong: the error names it, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.cli import main
from bench.config.compose import compose
from bench.errors import UserError
from tests.installed import forget, install

WHOLE = """
from functools import cached_property

from datamodules import source
from datamodules.boards import Board, Classification


class Birds(source.Source):
    name = "birds"
    title = "Birds"
    folders = ("birds",)
    splits = ("train", "test")
    boards = (Board("birds", dataset="birds", train="train", split="test", task=Classification(), main="top1"),)

    @classmethod
    def required_files(cls):
        return ()

    @cached_property
    def classes(self):
        return ["wren"]

    def read_split(self, split):
        raise NotImplementedError
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget("avl_faulty")


def installed(folder: Path, group: str, name: str, place: str, text: str = WHOLE) -> None:
    (folder / "avl_faulty.py").write_text(text)
    point = f'entry-points."avl_bench.{group}".{name} = "{place}"'
    install(folder, f'project = {{name = "avl-faulty", version = "1", {point}}}')
    forget("avl_faulty")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    boards = ", "    bords = ", "does not say boards"),
        ("def classes", "def klasses", "does not say classes"),
        ('    title = "Birds"\n', "", "does not say title"),
        ('("train", "test")', '("train")', "splits of avl_faulty:Birds is 'train', which is no tuple of strs"),
        ('main="top1"),)', 'main="top1"))', "boards of avl_faulty:Birds is Board("),
        ('dataset="birds"', 'dataset="bird"', "the board birds of avl_faulty:Birds says dataset='bird'"),
    ],
)
def test_a_dataset_that_does_not_say_all_is_named_with_what_it_lacks(folder, capsys, old, new, message):
    installed(folder, "datasets", "birds", "avl_faulty:Birds", WHOLE.replace(old, new))
    assert main(["list"]) == 2
    assert re.search(rf"bench: dataset birds: .*{re.escape(message)}", capsys.readouterr().err)


def test_the_same_dataset_without_a_fault(folder, capsys):
    installed(folder, "datasets", "birds", "avl_faulty:Birds")
    assert main(["list"]) == 0 and "birds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        ("avl_nowhere:Birds", WHOLE, "No module named 'avl_nowhere'"),
        ("avl_faulty:Bird", WHOLE, "avl_faulty has no class 'Bird'"),
        ("avl_faulty:Birds", "import avl_not_installed", "No module named 'avl_not_installed'"),
    ],
)
def test_an_entry_point_that_names_no_dataset_is_named(folder, capsys, place, text, message):
    installed(folder, "datasets", "birds", place, text)
    assert main(["list"]) == 2
    error = capsys.readouterr().err
    assert f"dataset birds is {place!r} by an entry point of the group avl_bench.datasets" in error
    assert message in error and "pyproject.toml" in error


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("avl_nowhere", "there is no package 'avl_nowhere'"),
        ("avl_nowhere.net", "No module named 'avl_nowhere'"),
        ("avl_faulty", "its package avl_faulty"),
    ],
)
def test_an_entry_point_that_names_no_method_is_named(folder, capsys, place, message):
    installed(folder, "methods", "faulty_net", place)
    assert main(["plan", "faulty_net"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("bench: method faulty_net") and message in error


def test_a_method_s_folder_that_is_not_installed_is_seen(folder, capsys):
    (folder / "methods" / "faulty_net").mkdir(parents=True)
    (folder / "methods" / "faulty_net" / "config.yaml").touch()
    assert main(["plan", "faulty_net"]) == 2
    error = capsys.readouterr().err
    assert "methods/faulty_net/ looks like one" in error and "pip install --editable" in error
    assert main(["plan", "another_net"]) == 2
    assert "looks like one" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "stages.train_esc10.train=fold1",
            "stages.train_esc10.train=fold1: it is a list; write stages.train_esc10.train=[fold1]",
        ),
        ("stages.train_esc10=3", "stages.train_esc10=3: it has keys of its own"),
        ("stages=3", "stages=3: it has keys of its own"),
        ("stages.train_esc10.train={a:1}", "a mapping stands where another has a list"),
        ("stage.x=3", "no such key 'stage.x'"),
    ],
)
def test_a_value_of_the_wrong_shape_is_named_with_what_is_wanted(setting, message):
    with pytest.raises(UserError, match=re.escape(message)):
        compose("baseline_cnn", [setting])


def test_own_datasets_are_whole():
    for name in registry.datasets():
        registry.dataset(name)


def test_boards_of_one_name_are_refused_with_both_of_their_datasets(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Else the one's clips would be measured on the other's board."""
    installed(folder, "datasets", "birds", "avl_faulty:Birds", WHOLE.replace('Board("birds"', 'Board("vggsound"'))
    assert main(["list"]) == 2
    said = capsys.readouterr().err
    assert "vggsound (datamodules.vggsound:VGGSound) and birds (avl_faulty:Birds) both have a board vggsound" in said
