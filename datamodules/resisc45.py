"""NWPU-RESISC45 (Cheng, Han, Lu 2017): pictures of the ground from above, 45 classes of scenes, one a picture.

Official files: the makers split nothing. `resisc45-{train,val,test}.txt` of Neumann et al. (arXiv 1911.06721), which
torchgeo reads, too: a file a line, 60, 20 and 20 % of the pictures. Classes are those of the three lists, sorted.
Media: `NWPU-RESISC45/<class>/<class>_<nnn>.jpg`, 256 x 256 pixels, 700 of each class.

PolyViT splits by the same shares in the order of TensorFlow Datasets: other pictures, so that its numbers and those of
these lists do not compare to the last tenth.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Classification, and_linear
from datamodules.picture_sets import PictureSource

SPLITS = ("train", "val", "test")
NAME = r"^(.+)_\d{3}\.jpg$"


class RESISC45(PictureSource):
    name = "resisc45"
    title = "NWPU-RESISC45"
    citation = "Cheng, Han, Lu. Proceedings of the IEEE 2017, arXiv 1703.00121"
    holds = "31,500 pictures of the ground from above, 256 x 256, 45 classes of scenes, one a picture"
    url = "https://gcheng-nwpu.github.io/#Datasets"
    folders = ("NWPU-RESISC45", "RESISC45", "resisc45")
    splits = SPLITS
    sizes: ClassVar = {"train": 18900, "val": 6300, "test": 6300}  # 60, 20 and 20 % of 45 x 700
    boards = (
        *and_linear(
            Board("resisc45", dataset="resisc45", train="train", split="test", task=Classification(), main="top1")
        ),
        Board("resisc45-val", dataset="resisc45", train="train", split="val", task=Classification(), main="top1"),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return tuple(f"resisc45-{split}.txt" for split in SPLITS)

    def _rows(self, split: str) -> source.Rows:
        rows = source.read_words(self.find(f"resisc45-{split}.txt"), ("file",))
        rows["class"] = rows["file"].str.extract(NAME)[0].fillna("")
        return rows

    @cached_property
    def classes(self) -> list[str]:
        return sorted({name for split in SPLITS for name in self._rows(split)["class"] if name})

    def read_split(self, split: str) -> source.Official:
        rows = self._rows(split)
        rows.reject(rows["class"] == "", "no name like <class>_<nnn>.jpg: " + rows["file"])
        folder = "NWPU-RESISC45/" if (self.root / "NWPU-RESISC45").is_dir() else ""
        clip_id = rows["file"].str.removesuffix(".jpg")
        picture = folder + rows["class"] + "/" + rows["file"]
        return self.official(rows, split, clip_id, picture, rows.labels("class", self.classes))
