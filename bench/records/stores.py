"""Records where several people share them: any folder or URL that fsspec reaches, e.g. `s3://bucket/avl-bench`.

A store holds the records of real data as `<id>.json` and those of the sample data under `sample/`, as `leaderboards/`
does. It only grows: a record's name ends in a hash of its content, and what is there is never written again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from bench.errors import UserError
from bench.records import archive
from bench.records.archive import Record, RecordError


class Store:
    """Records under a URL.

    Args:
        url: a folder, or any URL of fsspec.
        sample: those of the made-up sample data.

    Raises:
        UserError: no store can be reached by such a URL.
    """

    def __init__(self, url: str, sample: bool):
        try:
            self._fs, root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise UserError(f"store={url}: {error}") from error
        self.url = url
        self._folder = posixpath.join(root, "sample") if sample else root

    def put(self, record: Record) -> bool:
        """Adds a record, whole or not at all; whether it was not yet there.

        Raises:
            UserError: another record has its name, or it is not what its id says.
            OSError: the store cannot be written to.
        """
        name, text = f"{record.id}.json", record.to_json().encode()
        archive.checked(text, name, record.id)
        path = posixpath.join(self._folder, name)
        if isinstance(self._fs, LocalFileSystem):
            new = not Path(path).exists()
            try:
                archive.write(record, Path(self._folder))
            except FileExistsError as error:
                raise UserError(f"store={self.url}: {error}") from error
            return new
        try:
            self._fs.pipe_file(path, text, mode="create")
        except FileExistsError:
            if self._fs.cat_file(path) != text:
                raise UserError(f"store={self.url}: {name} is another record there; none is overwritten") from None
            return False
        return True

    def names(self) -> set[str]:
        """Of the files that may be records."""
        try:
            found = self._fs.ls(self._folder, detail=False, refresh=True)
        except FileNotFoundError:
            return set()
        return {posixpath.basename(path) for path in found if path.endswith(".json")}

    def get(self, name: str) -> Record:
        """A record.

        Raises:
            RecordError: it is none, or not the one that its name says.
        """
        source = f"{self.url}/{name}"
        path = posixpath.join(self._folder, name)
        if (size := self._fs.size(path)) > archive.MAX_BYTES:
            raise RecordError(f"{source}: {size} bytes; a record has at most {archive.MAX_BYTES}")
        return archive.checked(self._fs.cat_file(path), name, source)


def pull(store: Store, folder: Path) -> Iterator[Record | RecordError]:
    """Copies what is not yet in `folder` into it; what is not a record is reported and left where it is."""
    for name in sorted(store.names() - {path.name for path in folder.glob("*.json")}):
        try:
            record = store.get(name)
            archive.write(record, folder)
            yield record
        except RecordError as error:
            yield error


def push(folder: Path, store: Store) -> Iterator[Record | RecordError]:
    """Copies what is not yet in the store into it."""
    there = store.names()
    for path in sorted(folder.glob("*.json")):
        if path.name not in there:
            try:
                record = archive.read(path)
                store.put(record)
                yield record
            except RecordError as error:
                yield error
