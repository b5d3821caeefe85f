"""Classes found by what their files say, without importing any: importing all would take too long."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def classes_of(folder: Path, package: str, base: str, attribute: str) -> dict[str, str]:
    """What `attribute = "…"` says in the classes at the top of a folder's files -> `module:Class`.

    Args:
        folder: its files are read, not those of folders in it.
        package: the folder's name in Python.
        base: classes count that inherit the class of this name, or one that does.
        attribute: of the class, by which it is known.
    """
    files = {path.stem: ast.parse(path.read_bytes()) for path in sorted(folder.glob("*.py"))}
    classes = [(file, node) for file, tree in files.items() for node in tree.body if isinstance(node, ast.ClassDef)]
    kin = {base}
    while heirs := {node.name for _, node in classes if _bases(node) & kin} - kin:
        kin |= heirs
    own = [(file, node) for file, node in classes if node.name in kin]
    return {name: f"{package}.{file}:{node.name}" for file, node in own for name in _said(node, attribute)}


def _bases(node: ast.ClassDef) -> set[str]:
    """Names of the classes that it inherits: `Source` as well as `source.Source` and `Source[X]`."""
    plain = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    names = {base.id for base in plain if isinstance(base, ast.Name)}
    return names | {base.attr for base in plain if isinstance(base, ast.Attribute)}


def _said(node: ast.ClassDef, attribute: str) -> Iterator[str]:
    """What `attribute = "…"` says in a class."""
    for line in node.body:
        match line:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Constant(str(said))) if name == attribute:
                yield said
