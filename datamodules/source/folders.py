"""Users' folders, as they are: with links that lead back, links to nowhere, and folders that cannot be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)


class Folder(NamedTuple):
    """One folder, without what lies below it."""

    path: str
    files: list[str]
    """Names, sorted."""
    dead_links: list[str]
    """Names of links to what is not there, sorted."""
    links: list[str]
    """Names of links to folders, sorted."""


def walk(root: Path) -> Iterator[Folder]:
    """`root` and the folders below it in the order of their paths, hidden ones left out.

    Links to folders are followed, but each folder is visited once, by its device and inode: one that leads back would
    be followed for ever. A folder that cannot be read, or whose name is no UTF-8 (no path in it could be written down),
    is reported and left out; files with such names are left out silently, as no list can name them.
    """
    visited: set[tuple[int, int]] = set()
    waiting = [str(root)]
    while waiting:
        path = waiting.pop()
        try:
            stat = os.stat(path)
            if (stat.st_dev, stat.st_ino) in visited:
                continue
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            log.warning("%s is not looked into: %s", _printable(path), error.strerror or error)
            continue
        visited.add((stat.st_dev, stat.st_ino))
        folders, files, dead_links, links = [], [], [], []
        for entry in found:
            if _is(entry, "dir"):
                if not entry.name.startswith("."):
                    folders.append(entry.path)
                    if entry.is_symlink():
                        links.append(entry.name)
            elif not _is_utf8(entry.name):
                continue
            elif _is(entry, "file"):
                files.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                dead_links.append(entry.name)
        yield Folder(path, files, dead_links, links)
        for folder in reversed(folders):
            if _is_utf8(folder):
                waiting.append(folder)
            else:
                log.warning("%s is not looked into: its name is no UTF-8; rename it", _printable(folder))


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    """Whether it is, or a link in the end leads to, a "file" or a "dir"."""
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError:  # a link that leads to itself, or through what must not be read
        return False


def _is_utf8(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _printable(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()
