"""The stages that train, of every method that the registry finds."""

from __future__ import annotations

from functools import cache

import pytest

from bench import registry
from bench.contract.cases import Case, cases

SETTINGS = {"mcn": ("stages.*.options.clusters=4",)}
"""What the contract's few clips need."""


@cache
def of_all_methods() -> list[Case]:
    """See `bench.contract.cases.cases`."""
    return [case for method in registry.methods() for case in cases(method, *SETTINGS.get(method, ()))]


def every_stage(function):
    """Runs a test once for every stage that trains, as its argument `case`."""
    return pytest.mark.parametrize("case", of_all_methods(), ids=str)(function)
