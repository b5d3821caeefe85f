"""Packages of other people, found as if pip had installed them, without the network that it may ask."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from bench import registry
from bench.plan.code import code_of
from datamodules.streams import known


def install(folder: Path, pyproject: str) -> None:
    """What `pip install --editable` leaves of a package: its name, version and entry points.

    Args:
        folder: which holds the package, and is or will be on `sys.path`.
        pyproject: the text of its `pyproject.toml`.
    """
    project = tomllib.loads(pyproject)["project"]
    groups = project["entry-points"]
    about = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (about / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()) for group, points in groups.items())
    )
    modules = {value.partition(":")[0].partition(".")[0] for points in groups.values() for value in points.values()}
    (about / "top_level.txt").write_text("".join(f"{name}\n" for name in sorted(modules)))


def forget(package: str) -> None:
    """What was found and imported before the package came, or left, is looked for again."""
    for cached in (registry.methods, registry.datasets, registry.boards, known.kinds, code_of):
        cached.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[module]
