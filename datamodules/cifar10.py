"""CIFAR-10 (Krizhevsky 2009): pictures of 32 x 32 pixels, ten classes, one a picture.

Official files, of `cifar-10-binary.tar.gz`: `cifar-10-batches-bin/batches.meta.txt` (classes, in the order of their
numbers), `data_batch_{1..5}.bin` and `test_batch.bin`: records of the class's number and the picture, 1,024 bytes each
of red, green and blue. Media: the same files; a picture is read where it lies.

The python version is a pickle, which runs the code that it holds, and is not read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datamodules import source
from datamodules.picture_sets import PictureSource, picture_boards, with_held_out

SIDE = 32


class CIFAR(PictureSource):
    """What CIFAR-10 and CIFAR-100 have in common."""

    archive: ClassVar[str]
    names_file: ClassVar[str]
    """That of the classes."""
    train_files: ClassVar[tuple[str, ...]]
    test_file: ClassVar[str]
    label_bytes: ClassVar[int]
    """Of a record, before the picture; the last of them is the class."""
    held_share = 0.02  # PolyViT's share

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return cls.names_file, *cls.train_files, cls.test_file

    def _find(self, name: str) -> Path:
        if found := self.find_any(name):
            return found
        raise source.DataError(
            f"{self.title}: no {name} in {self.root} or one folder below it; it is in {self.archive}, the binary "
            f"version (the python version is a pickle, and not read): {self.url}"
        )

    @cached_property
    def classes(self) -> list[str]:
        path = self._find(self.names_file)
        names = [line.strip() for _, line in source.lines_of(path)]
        if len(set(names)) < len(names):
            raise source.DataError(f"{path}: a class stands there twice: {', '.join(names)}")
        return names

    def read_split(self, split: str) -> source.Official:
        import numpy as np

        from datamodules.media.parts import part_of  # FFmpeg comes with it

        values: list[tuple[str, str, str, str]] = []
        size = self.label_bytes + 3 * SIDE * SIDE
        for name in [self.test_file] if split == "test" else self.train_files:
            path = self._find(name)
            records, rest = divmod(path.stat().st_size, size)
            numbers = np.memmap(path, np.uint8, "r") if records else np.zeros(0, np.uint8)
            of_file = numbers[self.label_bytes - 1 :: size][:records].tolist()
            where = self.relative(path)
            for place, number in enumerate(of_file):
                label = self.classes[number] if number < len(self.classes) else str(number)
                picture = part_of(where, place * size + self.label_bytes, SIDE)
                values.append((f"{path.stem}_{place:05}", path.stem, label, picture))
            if rest:
                values.append((f"{path.stem}_{records:05}", path.stem, "", ""))
        rows = source.rows_of(self.root, ("name", "file", "label", "picture"), values, [name for name, *_ in values])
        rows.reject(rows["picture"] == "", "the file ends within it")
        labels = rows.labels("label", self.classes)
        return self.official(rows, split, rows["name"], rows["picture"], labels, file=rows["file"])


class CIFAR10(CIFAR):
    name = "cifar10"
    title = "CIFAR-10"
    citation = "Krizhevsky. Technical report, University of Toronto, 2009"
    holds = "60,000 pictures of 32 x 32 pixels, 10 classes, one a picture"
    url = "https://www.cs.toronto.edu/~kriz/cifar.html"
    folders = ("CIFAR-10", "cifar10", "cifar-10-batches-bin")
    splits, nested = with_held_out("train", "test")
    sizes: ClassVar = {"train": 50000, "fit": 49000, "held_out": 1000, "test": 10000}
    boards = picture_boards("cifar10", "train", "test")
    archive = "cifar-10-binary.tar.gz"
    names_file = "batches.meta.txt"
    train_files = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    test_file = "test_batch.bin"
    label_bytes = 1
