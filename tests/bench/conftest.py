"""What the tests of `bench` share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.runs import Server, server


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("output")) as served:
        yield served
