"""What datasets of pictures have in common: a clip is a picture, which the column `picture` names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from datamodules import source
from datamodules.boards import Board, Classification, and_linear

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = {".jpg", ".jpeg", ".png"}
FIT, HELD_OUT = "fit", "held_out"
"""The parts of the official training split of a dataset that has no split to choose a model on: PolyViT trains on the
one and chooses on the other. Which pictures are held out is ours, as its order of files is that of TensorFlow
Datasets."""


class PictureSource(source.Source):
    """Pictures without sound, the same for every method that has a stream `image`."""

    defaults: ClassVar[dict[str, Any]] = {"inputs": {"streams": {"image": {"kind": "image", "column": "picture"}}}}
    held_share: ClassVar[float] = 0.0
    """Of the training pictures, those that are held out."""

    def relative(self, path: Path) -> str:
        """A path as the column `picture` has it."""
        return path.relative_to(self.root).as_posix()

    def official(
        self,
        rows: source.Rows,
        split: str,
        clip_id: pd.Series,
        picture: pd.Series,
        labels: pd.Series,
        file: pd.Series | None = None,
    ) -> source.Official:
        """The pictures of a split; of `FIT` and `HELD_OUT` that part of the training split's rows.

        Args:
            rows: of the training split, or of another one.
            split: which is wanted.
            clip_id: of each.
            picture: path below the dataset's folder, or what `media.parts.part_of` says.
            labels: of each.
            file: its name without suffix; default: the id.
        """
        if split in (FIT, HELD_OUT):
            rows.belongs_elsewhere(is_held_out(clip_id, self.held_share) != (split == HELD_OUT))
        stems = None if file is None else [file]
        return rows.official({"clip_id": clip_id, "labels": labels, "picture": picture}, stems)


def is_held_out(clip_id: pd.Series, share: float) -> pd.Series:
    """[n] bool, a `share` of the pictures and one at least: those whose ids have the smallest hashes."""
    place = clip_id.map(lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest()).rank(method="first")
    return place <= max(1, round(share * len(clip_id)))


def with_held_out(train: str, *others: str) -> tuple[tuple[str, ...], frozenset[tuple[str, str]]]:
    """`Source.splits` and `Source.nested` of a dataset whose split `train` has the two parts."""
    return (train, FIT, HELD_OUT, *others), frozenset({(FIT, train), (HELD_OUT, train)})


def picture_boards(name: str, train: str, split: str, chosen: str = "") -> tuple[Board, ...]:
    """`<name>` and `<name>-linear` of a dataset with one class a picture, and a board to choose a model by.

    Args:
        name: of the dataset.
        train, split: those of the first two.
        chosen: the name of the third, on which pictures that are held out are scored; default `<name>-val`.
    """
    task = Classification()
    return (
        *and_linear(Board(name, dataset=name, train=train, split=split, task=task, main="top1")),
        Board(chosen or f"{name}-val", dataset=name, train=FIT, split=HELD_OUT, task=task, main="top1"),
    )


def pictures_in(folder: Path) -> Iterator[Path]:
    """Those in the folders of a folder, each folder's sorted."""
    for each in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        yield from sorted(path for path in each.iterdir() if path.suffix.lower() in SUFFIXES)
