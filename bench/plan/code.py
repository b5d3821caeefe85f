"""The Python code that a stage was run with. No identity counts it: that is what a method's `version` is for."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench import registry
from bench.plan.layout import CODE
from datamodules.files import write_json


@cache
def code_of(method: str) -> dict[str, str]:
    """Hash of the code of `method.py` and of all that it imports of its own package, such as `experiments.common`.

    Comments, docstrings and layout do not count.

    Returns:
        path, from the folder that holds the package -> hash.
    """
    folder = registry.method_folder(method)
    root = folder.parents[registry.methods()[method].count(".")]
    waiting, found = [folder / "method.py"], {}
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name not in found:
            tree = ast.parse(path.read_bytes())
            waiting += _imported(tree, path, root)
            found[name] = hashlib.sha256(ast.unparse(_code_alone(tree)).encode()).hexdigest()[:16]
    return found


def note_code(folder: Path, method: str) -> None:
    """Writes into a run's folder by which code the stage is run."""
    write_json(folder / CODE, code_of(method))


def changed_since(folder: Path, method: str) -> list[str]:
    """The files whose code is another than that which a run's stage was begun with; none where it was not noted."""
    try:
        noted = json.loads((folder / CODE).read_text())
    except FileNotFoundError:
        return []
    now = code_of(method)
    return sorted(name for name in noted.keys() | now.keys() if noted.get(name) != now.get(name))


def _imported(tree: ast.Module, path: Path, root: Path) -> Iterator[Path]:
    """The files of the same package that a file imports."""
    package = path.relative_to(root).parts[:-1]
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package[: len(package) + 1 - level] if level else ()
                start = ".".join([*above, *([module] if module else [])])
                modules = [start, *(f"{start}.{alias.name}" for alias in names)]
            case _:
                continue
        for place in (root.joinpath(*name.split(".")) for name in modules if name.split(".")[0] == package[0]):
            yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _code_alone(tree: ast.Module) -> ast.Module:
    """Without docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return tree


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
