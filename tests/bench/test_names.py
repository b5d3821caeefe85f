"""Names of the harness's classes."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.conftest import REPOSITORY


def test_two_classes_of_the_harness_never_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted((REPOSITORY / "bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert len(places) > 50  # something was read
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
