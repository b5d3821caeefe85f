"""A method of another package that looks at pictures alone, on datasets of pictures: trained, measured, packed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from tests.installed import forget, install
from tests.sample_data import SampleMaker

PACKAGE = Path(__file__).parent.parent / "outside" / "stills"
RECORD = 1 + 3 * 32 * 32
COUNTS = {"cifar10": {"train": 100, "test": 50}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Iterator[Path]:
    """The package, as if installed, with sample data."""
    site = tmp_path_factory.mktemp("site")
    (site / "stills").symlink_to(PACKAGE / "stills")
    install(site, (PACKAGE / "pyproject.toml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        forget("stills")
        make_sample(site / "data", list(COUNTS), COUNTS)
        yield site
    forget("stills")


def arguments(site: Path, folder: Path, *overrides: str) -> list[str]:
    places = [f"data_root={site / 'data'}", f"runs={folder / 'runs'}", f"leaderboards={folder / 'boards'}"]
    return ["stills", "preset=tiny", *places, *overrides]


def record(folder: Path, stage: str) -> dict[str, Any]:
    (path,) = (folder / "runs" / "stills").glob(f"{stage}-*")
    return json.loads((path / "record.json").read_text())


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert main(["run", *arguments(site, folder, "stage=train")]) == 0
    return folder


def test_it_learns_what_is_in_the_pictures_without_a_word_on_where_they_lie(trained):
    measured = record(trained, "train")
    assert measured["n"] == 50 and measured["metrics"]["top1"]["value"] > 0.35, "chance is 0.1"


def test_pictures_that_are_none_are_counted_before_anything_is_trained(site, tmp_path, capsys):
    shutil.copytree(site / "data", tmp_path / "data")
    path = tmp_path / "data/CIFAR-10/cifar-10-batches-bin/test_batch.bin"
    content = bytearray(path.read_bytes()[: 10 * RECORD + 7])
    content[3 * RECORD] = 77  # no class
    path.write_bytes(content)
    assert main(["plan", *arguments(site, tmp_path, "stage=train", f"data_root={tmp_path / 'data'}")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "only 9 of the 11 official clips of cifar10" in said and "2 malformed" in said
