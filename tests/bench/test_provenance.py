"""What a record says of methods and datasets of other packages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import registry
from bench.page.repeat import command
from bench.records import provenance
from bench.records.archive import new_record
from tests import gated_method
from tests.bench.test_records import fields


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A method and a dataset of another package, as pip installs them; the folder that holds them."""
    folder = gated_method.install(tmp_path / "site")
    (folder / "their_data.py").write_text("from datamodules.esc50 import ESC50\n\n\nclass Theirs(ESC50):\n    pass\n")
    points = next(Path(folder).glob("*.dist-info/entry_points.txt"))
    points.write_text(points.read_text() + "\n[avl_bench.datasets]\ntheirs = their_data:Theirs\n")
    monkeypatch.syspath_prepend(str(folder))
    for cached in (registry.methods, registry.datasets):
        cached.cache_clear()
    yield Path(folder)
    for cached in (registry.methods, registry.datasets):
        cached.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_what_is_the_suite_s_own_is_named_by_its_commit_alone():
    assert provenance.packages("mavil", ["esc50", "audioset"]) == ()


def test_a_method_and_a_dataset_of_another_package_are_named_with_version_and_source(outside: Path):
    method, dataset = provenance.packages("gated", ["esc50", "theirs"])
    assert (method["role"], method["name"], dataset["role"], dataset["name"]) == (
        "method",
        "gated",
        "dataset",
        "theirs",
    )
    assert method["distribution"] == dataset["distribution"] and method["version"]
    assert method["commit"] is method["dirty"] is None
    before = [method["source_sha256"], dataset["source_sha256"]]
    with (outside / "their_data.py").open("a") as file:
        file.write("# changed\n")
    after = [each["source_sha256"] for each in provenance.packages("gated", ["theirs"])]
    assert after[0] == before[0] and after[1] != before[1]


def test_the_source_of_a_dataset_is_its_whole_package_helpers_too(outside: Path):
    package = outside / "their_package"
    (package / "sets").mkdir(parents=True)
    for file in ("__init__.py", "helper.py", "sets/__init__.py"):
        (package / file).touch()
    (outside / "their_data.py").rename(package / "sets" / "data.py")
    points = next(outside.glob("*.dist-info/entry_points.txt"))
    points.write_text(points.read_text().replace("their_data:", "their_package.sets.data:"))
    registry.datasets.cache_clear()

    def source() -> str:
        (found,) = [each for each in provenance.packages("gated", ["theirs"]) if each["role"] == "dataset"]
        return found["source_sha256"]

    before = source()
    (package / "helper.py").write_text("LIST = 'another'\n")
    assert source() != before


def test_one_that_lies_in_a_repository_is_named_by_its_commit_and_cleanliness(outside: Path):
    git(outside, "init", "-q")
    git(outside, "add", ".")
    git(outside, "commit", "-qm", "all")
    (found,) = provenance.packages("gated", [])
    assert (found["commit"], found["dirty"]) == (git(outside, "rev-parse", "HEAD"), False)
    (outside / "their_data.py").write_text("# changed\n")
    assert provenance.packages("gated", [])[0]["dirty"] is True


def test_one_that_only_lies_below_a_repository_is_not_of_its_commit(outside: Path):
    git(outside.parent, "init", "-q")
    git(outside.parent, "commit", "-qm", "without it", "--allow-empty")
    assert provenance.packages("gated", [])[0]["commit"] is None


def test_one_that_was_installed_from_a_repository_is_named_by_the_commit_that_pip_noted(outside: Path):
    about = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "0123abcd" * 5}}
    next(outside.glob("*.dist-info/entry_points.txt")).with_name("direct_url.json").write_text(json.dumps(about))
    assert provenance.packages("gated", [])[0]["commit"] == "0123abcd" * 5


def test_the_command_that_repeats_a_run_names_what_is_outside_the_suite(outside: Path):
    (package,) = provenance.packages("gated", [])
    made = new_record(**fields(method="elsewhere", packages=(package,)))
    needed, line = command(made).splitlines()
    assert needed == (
        f"# needs method gated: {package['distribution']} {package['version']}, "
        f"source SHA-256 {package['source_sha256']}"
    )
    assert line.startswith("python -m bench run elsewhere ")
    hostile = new_record(**fields(method="elsewhere", packages=(package | {"version": "1\nrm -rf ~"},)))
    assert command(hostile).splitlines()[0].startswith("# ") and len(command(hostile).splitlines()) == 2
