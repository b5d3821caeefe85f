"""`bench new`: what it makes works at once, inside the suite and outside, and a failure leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.cli import main
from bench.commands.new import LONGEST
from bench.config.compose import compose
from bench.plan.code import code_of
from tests.conftest import REPOSITORY
from tests.installed import forget, install
from tests.sample_data import SampleMaker

SHARED = ("bench", "datamodules", "experiments/__init__.py", "experiments/common", "pyproject.toml", "setup.cfg")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the suite without methods, which is the working directory."""
    folder = tmp_path / "checkout"
    (folder / "tests" / "experiments").mkdir(parents=True)
    (folder / "experiments").mkdir()
    for shared in SHARED:
        (folder / shared).symlink_to(REPOSITORY / shared)
    monkeypatch.setattr(registry, "EXPERIMENTS", folder / "experiments")
    monkeypatch.chdir(folder)
    return folder


def python(folder: Path, *arguments: str) -> str:
    """Runs a module with a folder as the working directory; returns what it printed."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_new_method_has_the_one_shape_and_its_tests_pass(checkout, capsys):
    assert main(["new", "my_net", "--title", 'Of "Hearing" \\ and\n Seeing $well']) == 0
    names = {path.name for path in (checkout / "experiments" / "my_net").iterdir()}
    assert names == {"__init__.py", "model.py", "method.py", "checkpoints.py", "config.yaml", "README.md"}
    readme = (checkout / "experiments" / "my_net" / "README.md").read_text()
    assert readme.startswith('# Of "Hearing" \\ and Seeing $well\n')
    out = capsys.readouterr().out
    test = "tests/experiments/test_my_net.py"
    for command in ("bench plan my_net", "bench run my_net", f"pytest {test}"):
        assert f"python -m {command}\n" in out
    assert "entry-points" not in out
    assert "9 passed" in python(checkout, "pytest", "-q", "-p", "no:cacheprovider", test)


def test_the_readme_has_the_sections_of_the_others(checkout):
    def sections(readme: Path) -> list[str]:
        return [line for line in readme.read_text().splitlines() if line.startswith("## ")]

    assert main(["new", "my_net"]) == 0
    readme = checkout / "experiments" / "my_net" / "README.md"
    assert readme.read_text().startswith("# My net\n")
    assert sections(readme) == [s for s in sections(REPOSITORY / "experiments/mavil/README.md") if s != "## Cost"]


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs ruff")
def test_what_is_made_is_in_the_suite_s_style_whatever_the_name(checkout):
    """Imports of a name before and after `common` stand in different places; the longest makes the longest lines."""
    for name in ("a", "z_2", "commo", "common_net", "m" * LONGEST):
        assert main(["new", name]) == 0
    places = ("experiments", "tests")
    python(checkout, "ruff", "check", "--no-cache", *places)
    python(checkout, "ruff", "format", "--check", "--no-cache", *places)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """A folder with the method `avl_new_net`, as if installed with the lines that the command printed."""
    folder = tmp_path / "new" / "folder"
    assert main(["new", "avl_new_net", "--folder", str(folder)]) == 0
    toml = capsys.readouterr().out.partition(" needs\n")[2].partition("\nnext:\n")[0]
    (folder / "pyproject.toml").write_text(toml)
    project = tomllib.loads(toml)
    assert set(project["tool"]["setuptools"]["package-data"]["avl_new_net"]) == {"*.yaml", "*.md"}
    install(folder, toml)
    monkeypatch.syspath_prepend(folder)
    forget("avl_new_net")
    yield folder
    forget("avl_new_net")


def test_a_method_of_a_package_of_its_own_trains_and_comes_on_the_board(
    outside, tmp_path, capsys, make_sample: SampleMaker
):
    assert registry.methods()["avl_new_net"] == "avl_new_net"
    paper = compose("avl_new_net", ["preset=paper"])
    assert paper.model.widths == [32, 64, 128, 256] and list(paper.stages) == ["train_vggsound"]
    make_sample(tmp_path / "data", ["vggsound"], counts={"vggsound": {"train": 16, "test": 12}})
    quick = ["stages.train_vggsound.epochs=1", "stages.train_vggsound.batch_size=8", "model.widths=[8,8]"]
    places = [f"sample_root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}", f"leaderboards={tmp_path / 'boards'}"]
    assert main(["run", "avl_new_net", *quick, *places]) == 0
    [record] = [json.loads(path.read_text()) for path in (tmp_path / "boards/sample/results").glob("*.json")]
    assert record["method"] == "avl_new_net" and record["n"] == 12 and "avl_new_net" in capsys.readouterr().out

    # From those weights: sound alone, a part of the network is left over and the head is new.
    [weights] = tmp_path.glob("runs/*/train_vggsound-*/weights.pt")
    alone = ["stages.train_vggsound.modality=a", f"init={weights}"]
    assert main(["run", "avl_new_net", *quick, *places, *alone]) == 0
    assert len(list((tmp_path / "boards/sample/results").glob("*.json"))) == 2

    # What was done, or begun, by other code says so.
    again = ["avl_new_net", *quick, *places]
    assert main(["run", *again]) == 0
    said = capsys.readouterr().err
    assert "done already" in said and "other code" not in said
    with (outside / "avl_new_net" / "model.py").open("a") as file:
        file.write("CHANGED = True\n")
    code_of.cache_clear()
    assert main(["run", *again]) == 0
    assert "by other code: avl_new_net/model.py changed since; if" in capsys.readouterr().err
    assert main(["plan", *again]) == 0
    assert "by other" in capsys.readouterr().out
    weights.with_name("done.json").unlink()
    assert main(["run", *again]) == 0
    assert "begun by other code: avl_new_net/model.py changed since" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs ruff")
def test_a_package_of_its_own_is_in_the_style_that_its_pyproject_names(outside):
    python(outside, "ruff", "check", "--no-cache", "avl_new_net", "tests")
    python(outside, "ruff", "format", "--check", "--no-cache", "avl_new_net", "tests")


@pytest.mark.parametrize("written", [False, True])
def test_a_second_method_of_a_folder_leaves_the_first_its_entry_point(outside, capsys, written):
    """Also where the first one's `pyproject.toml` has been written and has more in it."""
    project = outside / "pyproject.toml"
    if written:
        more = 'other = "other.net"\n\n[tool.setuptools]'
        project.write_text(project.read_text().replace("[tool.setuptools]", more, 1))
    else:
        project.unlink()
    assert main(["new", "avl_second_net", "--folder", str(outside)]) == 0
    printed = tomllib.loads(capsys.readouterr().out.partition(" needs\n")[2].partition("\nnext:\n")[0])
    both = ["avl_new_net", "avl_second_net"]
    points = printed["project"]["entry-points"]["avl_bench.methods"]
    assert points == {name: name for name in both} | ({"other": "other.net"} if written else {})
    assert printed["tool"]["setuptools"]["packages"] == both
    assert set(printed["tool"]["setuptools"]["package-data"]) == set(both)
    assert ("name" in printed["project"]) != written


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MyNet", "must be a Python identifier in lower case"),
        ("my-net", "must be a Python identifier in lower case"),
        ("../net", "must be a Python identifier in lower case"),
        ("class", "must be a Python identifier in lower case"),
        ("n" * (LONGEST + 1), f"at most {LONGEST}"),
        ("mavil", "the name of a method"),
        ("vggsound", "the name of a dataset"),
        ("common", "the name of a folder beside the methods"),
        ("there", "experiments/there exists already"),
        ("tested", "tests/experiments/test_tested.py exists already"),
    ],
)
def test_a_name_that_cannot_be_used_changes_nothing(checkout, capsys, monkeypatch, name, message):
    monkeypatch.setattr(registry, "methods", lambda: {"mavil": "experiments.mavil"})
    (checkout / "experiments" / "there").mkdir()
    (checkout / "tests" / "experiments" / "test_tested.py").touch()
    before = tree(checkout)
    assert main(["new", name]) == 2
    assert message in capsys.readouterr().err
    assert tree(checkout) == before


def test_a_package_that_would_hide_another_is_refused(tmp_path, capsys):
    assert main(["new", "json", "--folder", str(tmp_path / "new")]) == 2
    assert "there is a Python package 'json' already" in capsys.readouterr().err
    assert not tree(tmp_path)


def test_without_a_checkout_a_folder_is_asked_for(tmp_path, monkeypatch, capsys):
    """As where the suite is installed without its tests."""
    (tmp_path / "experiments").mkdir()
    monkeypatch.setattr(registry, "EXPERIMENTS", tmp_path / "experiments")
    assert main(["new", "my_net"]) == 2
    assert "--folder" in capsys.readouterr().err and tree(tmp_path) == {tmp_path / "experiments"}


@pytest.mark.parametrize("moved", [0, 1])
def test_a_failure_on_the_way_leaves_nothing_behind(tmp_path, monkeypatch, capsys, moved):
    """The disk fails at the first move or at the second; the folders that were made for it go, too."""
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) > moved:
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert main(["new", "my_net", "--folder", str(tmp_path / "new" / "folder")]) == 2
    assert "no space left; nothing was changed" in capsys.readouterr().err
    assert len(calls) == moved + 1 and not tree(tmp_path)
