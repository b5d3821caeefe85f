"""The folder of a new method: a small classifier that works at once, in the one shape that all methods have."""

from __future__ import annotations

import importlib.util
import json
import keyword
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from bench import registry
from bench.errors import UserError

GROUP = "avl_bench.methods"
TEMPLATES = Path(__file__).parent / "template"
FILES = ("__init__.py", "model.py", "method.py", "checkpoints.py", "config.yaml", "README.md")
LONGEST = 40
"""Characters of a name, so that no line which it stands in gets too long."""
TAKEN = ("common", "tests")
"""Folders that stand beside methods."""

PROJECT = """\
[project]
name = "${name}"
version = "0.1.0"

"""
TABLES = """\
[project.entry-points."avl_bench.methods"]
${points}

[tool.setuptools]
packages = ${packages}
package-data = {${data}}
"""
# The suite's style, in which the templates are written.
STYLE = """
[tool.ruff]
line-length = 120
lint.isort.known-first-party = ["bench", "datamodules", "experiments"]
"""
PACKAGE_DATA = ["*.yaml", "*.md"]


def new(name: str, title: str = "", folder: Path | None = None) -> None:
    """Makes a method and its tests, and prints what was made and what to do next.

    Args:
        name: of the method, its folder and its package.
        title: of the paper; default: from the name.
        folder: the folder of the method's folder; none = the suite's `experiments/`. Elsewhere the method is a package
            of its own, that the suite finds by an entry point.

    Raises:
        UserError: a name that cannot be used, or something is in the way. Nothing is left behind then.
    """
    ours = folder is None or folder.resolve() == registry.EXPERIMENTS.resolve()
    folder = registry.EXPERIMENTS if folder is None else folder
    tests = folder.parent / "tests" / folder.name if ours else folder / "tests"
    package, test = folder / name, tests / f"test_{name}.py"
    _check_name(name)
    for path in (package, test):
        if path.exists():
            raise UserError(f"{_shown(path)} exists already; nothing is overwritten")
    if ours and not tests.is_dir():
        raise UserError(f"{folder.parent} is no checkout of the suite; say with --folder where the method shall be")
    if not ours and importlib.util.find_spec(name) is not None:
        raise UserError(f"there is a Python package {name!r} already; importing the method would be ambiguous")

    words = {
        "name": name,
        "package": f"{folder.name}.{name}" if ours else name,
        "title": " ".join(title.split()) or name.replace("_", " ").capitalize(),
    }
    files = {file: _render(file, words) for file in FILES}
    try:
        _write(package, files, test, _render("test.py", words))
    except OSError as error:
        raise UserError(f"could not make {_shown(package)}: {error}; nothing was changed") from error
    print(f"made {_shown(package)} ({', '.join(FILES)}) and {_shown(test)}")
    if not ours:
        beside = "beside what else stands in it, " if (folder / "pyproject.toml").is_file() else ""
        print(f"\nfor `pip install --editable {_shown(folder)}`, {beside}{_shown(folder / 'pyproject.toml')} needs\n")
        print(_pyproject(folder, name), end="")
    print(f"\nnext:\n  python -m bench plan {name}\n  python -m bench run {name}\n  python -m pytest {_shown(test)}")


def _pyproject(folder: Path, name: str) -> str:
    """What the folder's `pyproject.toml` must say: of the methods that are there already as well as of the new one. All
    of it, or, of one that exists, the tables that name methods."""
    path = folder / "pyproject.toml"
    known = _read_toml(path)
    tools = known.get("tool", {}).get("setuptools", {})
    others = [file.parent.name for file in sorted(folder.glob("*/config.yaml")) if file.parent.name != name]
    points = {each: each for each in others} | known.get("project", {}).get("entry-points", {}).get(GROUP, {})
    points[name] = name
    packages = tools.get("packages")
    data = {each: PACKAGE_DATA for each in (*others, name)} | tools.get("package-data", {})
    words = {
        "points": "\n".join(f"{key} = {json.dumps(value)}" for key, value in points.items()),
        "packages": json.dumps(list(dict.fromkeys([*(packages if isinstance(packages, list) else ()), *others, name]))),
        "data": ", ".join(
            f"{key if key.isidentifier() else json.dumps(key)} = {json.dumps(data[key])}" for key in data
        ),
        "name": name,
    }
    return Template(TABLES if known else PROJECT + TABLES + STYLE).substitute(words)


def _read_toml(path: Path) -> dict[str, Any]:
    """Raises a UserError: it is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{_shown(path)}: {error}") from error


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"{name!r} cannot be a method's name; it must be a Python identifier in lower case: my_net")
    if len(name) > LONGEST:
        raise UserError(f"{name!r} has {len(name)} characters; a method's name has at most {LONGEST}")
    kinds = {"method": registry.methods(), "dataset": registry.datasets(), "folder beside the methods": TAKEN}
    for kind, names in kinds.items():
        if name in names:
            raise UserError(f"{name!r} is the name of a {kind} already")


def _render(file: str, words: Mapping[str, str]) -> str:
    """The template of a file with the words filled in; imports stand in their order, whatever the name."""
    text = Template((TEMPLATES / f"{file}.tmpl").read_text(encoding="utf-8")).substitute(words)
    if not file.endswith(".py"):
        return text
    blocks = groupby(text.splitlines(), key=lambda line: line.startswith("from "))
    return "".join(f"{line}\n" for is_import, lines in blocks for line in (sorted(lines) if is_import else lines))


def _write(package: Path, files: Mapping[str, str], test: Path, test_text: str) -> None:
    """All or nothing: files are written in a folder beside and moved to their places."""
    with ExitStack() as undo:
        for folder in (package.parent, test.parent):
            for missing in [f for f in (*reversed(folder.parents), folder) if not f.exists()]:
                missing.mkdir()
                undo.callback(missing.rmdir)
        with tempfile.TemporaryDirectory(dir=package.parent, prefix=".new-") as beside:
            made = Path(beside, package.name)
            made.mkdir()
            for file, text in files.items():
                (made / file).write_text(text, encoding="utf-8")
            made_test = Path(beside, test.name)
            made_test.write_text(test_text, encoding="utf-8")
            made_test.rename(test)
            undo.callback(test.unlink)
            made.rename(package)
        undo.pop_all()


def _shown(path: Path) -> str:
    """As one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
