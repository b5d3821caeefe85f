"""What several tests share: one thread, no GPU needed, sample data rendered once, media judged and packed without
processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pyarrow as pa
import pytest
import torch

from datamodules.manifest.checks import Checks
from datamodules.manifest.judge import Judgement, judge
from tests.sample_data import SampleMaker

# Machines differ in speed and are shared; how long an example takes says nothing. In CI the examples are always the
# same, so that a change is judged by what it changes; everybody else looks for new ones.
hypothesis.settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("suite")

REPOSITORY = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    # Tests compare numbers, some of them bit for bit; the order of summing depends on the number of threads.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


SMALL = {
    "audioset": {"unbalanced_train": 48, "balanced_train": 32, "eval": 37},
    "vggsound": {"train": 60, "test": 61},
}
"""Clips of the small sample; eval and test have counts that two does not divide."""


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session, for all of its processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def make_sample(session_folder: Path) -> SampleMaker:
    return SampleMaker(session_folder / "rendered")


@pytest.fixture(scope="session")
def sample_root(session_folder: Path, make_sample: SampleMaker) -> Path:
    """A small sample data set: real media in the official layouts. Nobody changes it."""
    make_sample(session_folder / "sample", list(SMALL), counts=SMALL)
    return session_folder / "sample"


_JUDGED: dict[tuple[bytes, str], Judgement] = {}


@pytest.fixture(scope="module", autouse=True)
def judged_here() -> Iterator[None]:
    """Media files are judged in the test's own process, and what has the same bytes once: only a file that kills or
    blocks its process needs others. Tests of those have a fixture of this name that does nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checks, "_judgements", _judgements)
        yield


@pytest.fixture(scope="module", autouse=True)
def packed_here() -> Iterator[None]:
    """A pack that asks for one process is written by the test's own: starting one takes longer than packing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datamodules.packing.pack.ProcessPoolExecutor", _pool)
        yield


def _pool(workers: int, *arguments: Any, **options: Any) -> Any:
    return (
        nullcontext(SimpleNamespace(map=map)) if workers == 1 else ProcessPoolExecutor(workers, *arguments, **options)
    )


def _judgements(checks: Checks, paths: pa.ChunkedArray) -> Iterator[tuple]:
    return map(_judgement if checks.judge is judge else checks.judge, paths.to_pylist())


def _judgement(path: str) -> Judgement:
    try:
        content = blake2b(Path(path).read_bytes()).digest()
    except OSError:
        return judge(path)
    key = content, Path(path).suffix
    if key not in _JUDGED:
        _JUDGED[key] = judge(path)
    return _JUDGED[key]
