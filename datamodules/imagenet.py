"""ImageNet-1k (ILSVRC 2012; Russakovsky et al. 2015): pictures of 1,000 synsets of WordNet, one a picture.

Official files: the 1,000 wnids, sorted, are the class index; they are those of the devkit's `meta.mat`, of Kaggle's
`LOC_synset_mapping.txt`, or else the training folders, if these are 1,000. What the validation pictures show is said by
the folders in which they lie; where they lie in one, by the devkit's `ILSVRC2012_validation_ground_truth.txt`, whose
numbers are those of `meta.mat` and not sorted as the wnids are, or by Kaggle's `LOC_val_solution.csv`.
Media: `train/<wnid>/<wnid>_<n>.JPEG` and `val/[<wnid>/]ILSVRC2012_val_<nnnnnnnn>.JPEG`; some are CMYK, one is a PNG.

What the test pictures show was never given out: `val` is scored, and models are chosen on a part of `train`.
"""

from __future__ import annotations

import logging
import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from datamodules import source
from datamodules.picture_sets import PictureSource, picture_boards, pictures_in, with_held_out

log = logging.getLogger(__name__)

CLASSES = 1000
WNID = re.compile(r"n\d{8}")
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


class Synset(NamedTuple):
    wnid: str
    words: str
    number: int = 0
    """The devkit's, from 1; 0 = not known."""


class ImageNet(PictureSource):
    name = "imagenet"
    title = "ImageNet-1k"
    citation = "Russakovsky et al. IJCV 2015, arXiv 1409.0575"
    holds = "1,331,167 pictures from the web, 1,000 classes, one a picture"
    licence = "for research and teaching that is not commercial, by ImageNet's terms"
    url = "https://www.image-net.org/challenges/LSVRC/2012/"
    folders = ("ImageNet", "ILSVRC2012", "imagenet-1k", "ILSVRC")
    splits, nested = with_held_out("train", "val")
    held_share = 0.01  # PolyViT's share
    sizes: ClassVar = {"train": 1281167, "fit": 1268355, "held_out": 12812, "val": 50000}
    listed = False
    boards = picture_boards("imagenet", "train", "val", chosen="imagenet-held_out-val")

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # of several that say the same, one

    @cached_property
    def synsets(self) -> list[Synset]:
        """Sorted by their wnids."""
        if devkit := self.find_any("data/meta.mat", "meta.mat", "ILSVRC2012_devkit_t12/data/meta.mat"):
            return sorted(_of_devkit(devkit))
        if mapping := self.find_any("LOC_synset_mapping.txt", "synset_words.txt"):
            lines = (line.partition(" ") for _, line in source.lines_of(mapping))
            return sorted(Synset(wnid, words) for wnid, _, words in lines)
        names = sorted(path.name for path in self._folder("train").iterdir() if WNID.fullmatch(path.name))
        if len(names) != CLASSES:
            raise source.DataError(
                f"{self.title}: {len(names)} of {CLASSES} training folders, so that the class index is not known; put "
                f"the devkit's meta.mat or Kaggle's LOC_synset_mapping.txt into {self.root}"
            )
        return [Synset(name, name) for name in names]

    @property
    def classes(self) -> list[str]:
        """The wnids: two classes are called `crane`."""
        return [synset.wnid for synset in self.synsets]

    @property
    def class_texts(self) -> list[str]:
        return [synset.words.partition(",")[0] for synset in self.synsets]

    @property
    def class_codes(self) -> list[str]:
        return self.classes

    def _folder(self, split: str) -> Path:
        names = (f"Data/CLS-LOC/{split}", f"ILSVRC2012_img_{split}", split)
        return self.find_folder(*names, archive=f"ILSVRC2012_img_{split}.tar")

    def read_split(self, split: str) -> source.Official:
        folder = self._folder("val" if split == "val" else "train")
        in_folders = any(WNID.fullmatch(path.name) and path.is_dir() for path in folder.iterdir())
        rows = self._by_folders(folder) if split != "val" or in_folders else self._listed(folder)
        if split == "val":
            log.info("%s: what val shows is said by %s", self.title, "its folders" if in_folders else rows.path.name)
        labels = rows.labels("wnid", self.classes)
        return self.official(rows, split, rows["name"], rows["picture"], labels)

    def _by_folders(self, folder: Path) -> source.Rows:
        found = list(pictures_in(folder))
        values = [(path.stem, path.parent.name, self.relative(path)) for path in found]
        places = [f"{path.parent.name}/{path.name}" for path in found]
        return source.rows_of(folder, ("name", "wnid", "picture"), values, places)

    def _listed(self, folder: Path) -> source.Rows:
        """Of the pictures in one folder, whether they are there or not."""
        if truth := self.find_any(f"data/{TRUTH}", TRUTH, f"ILSVRC2012_devkit_t12/data/{TRUTH}"):
            wnids = {str(synset.number): synset.wnid for synset in self.synsets if synset.number}
            if not wnids:
                raise source.DataError(f"{truth}: its numbers are those of the devkit's meta.mat, which is not there")
            numbers = [line.strip() for _, line in source.lines_of(truth)]
            values = [(f"ILSVRC2012_val_{n:08}", wnids.get(number, number)) for n, number in enumerate(numbers, 1)]
        elif truth := self.find_any("LOC_val_solution.csv"):
            solution = source.read_rows_by_header(truth, ("ImageId", "PredictionString"))
            values = list(zip(solution["ImageId"], solution["PredictionString"].str.split(" ").str[0], strict=True))
        else:
            raise source.DataError(
                f"{self.title}: the pictures of {folder} lie in no folders of synsets, and neither {TRUTH} nor "
                f"LOC_val_solution.csv, which say what they show, is in {self.root}"
            )
        places = [f"{truth.name}:{n}" for n in range(1, len(values) + 1)]
        named = [(name, wnid, f"{self.relative(folder)}/{name}.JPEG") for name, wnid in values]
        return source.rows_of(truth, ("name", "wnid", "picture"), named, places)


def _of_devkit(path: Path) -> list[Synset]:
    """The 1,000 that have no others below them."""
    from scipy.io import loadmat

    try:
        rows = loadmat(path, squeeze_me=True)["synsets"]
        return [
            Synset(str(row["WNID"]), str(row["words"]), int(row["ILSVRC2012_ID"]))
            for row in rows
            if row["num_children"] == 0
        ]
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise source.DataError(f"{path}: not the devkit's meta.mat: {error}") from error
