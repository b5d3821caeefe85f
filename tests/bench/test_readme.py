"""The README's table of methods, compared with their configurations."""

from __future__ import annotations

import re

import pytest

from bench import registry
from bench.config.compose import compose
from tests.conftest import REPOSITORY

ROW = re.compile(r"^\| \[`(?P<method>\w+)`\].*\| (?P<boards>[^|]*) \|$", re.M)
LISTED = {row["method"]: row["boards"] for row in ROW.finditer((REPOSITORY / "README.md").read_text(encoding="utf-8"))}


@pytest.mark.parametrize("method", registry.methods())
def test_the_table_of_methods_has_all_boards_of_each(method: str) -> None:
    stages = [stage for preset in ("paper", "tiny") for stage in compose(method, [f"preset={preset}"]).stages.values()]
    assert set(re.findall(r"`([\w-]+)`", LISTED[method])) == {stage.board for stage in stages if stage.board}
