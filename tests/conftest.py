"""What several tests share: one thread, no GPU needed, the sample data made once."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

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
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample data set: real media in the official layouts."""
    from datamodules import sample

    root = tmp_path_factory.mktemp("sample")
    sample.make(root, counts=SMALL)
    return root
