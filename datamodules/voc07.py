"""PASCAL VOC 2007 (Everingham et al. 2010): pictures of things of 20 classes, several a picture.

Official files, of `VOCtrainval_06-Nov-2007.tar` and `VOCtest_06-Nov-2007.tar`, in `VOCdevkit/VOC2007/ImageSets/Main`:
`{train,val,trainval,test}.txt` (a picture a line), and of each class `<class>_{train,val,trainval,test}.txt`, each line
a picture's number and 1 (the class is there), -1 (it is not) or 0 (it is only seen with difficulty). Classes are those
that have lists, sorted. Media: `VOCdevkit/VOC2007/JPEGImages/<number>.jpg`.

What is seen with difficulty is no label, so that training takes it for absent (a choice of ours, as papers do not say);
it is the column `ignored`, which the board leaves out, as the devkit does. The XML files with boxes are not read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, VOCTagging, and_linear
from datamodules.picture_sets import PictureSource

SPLITS = ("train", "val", "trainval", "test")
LIST = re.compile(rf"(?P<name>.+)_({'|'.join(SPLITS)})\.txt")
JUDGED = ("1", "-1", "0")
MAIN = "VOC2007/ImageSets/Main"


class VOC07(PictureSource):
    name = "voc07"
    title = "PASCAL VOC 2007"
    citation = "Everingham et al. IJCV 2010"
    holds = "9,963 pictures from Flickr, things of 20 classes, several a picture"
    licence = "Flickr's terms of use"
    url = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"
    folders = ("VOCdevkit", "VOC2007", "voc07", "VOC07")
    splits = SPLITS
    nested = frozenset({("train", "trainval"), ("val", "trainval")})
    sizes: ClassVar = {"train": 2501, "val": 2510, "trainval": 5011, "test": 4952}
    multilabel = True
    boards = (
        *and_linear(Board("voc07", dataset="voc07", train="trainval", split="test", task=VOCTagging(), main="mAP11")),
        Board("voc07-val", dataset="voc07", train="train", split="val", task=VOCTagging(), main="mAP11"),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # a folder of them

    @cached_property
    def _lists(self) -> Path:
        own = self.root / "ImageSets/Main"
        return own if own.is_dir() else self.find_folder(MAIN, archive="VOCtrainval_06-Nov-2007.tar and VOCtest's")

    @cached_property
    def classes(self) -> list[str]:
        names = {named["name"] for path in self._lists.iterdir() if (named := LIST.fullmatch(path.name))}
        if not names:
            raise source.DataError(f"{self._lists}: no list is called <class>_test.txt; unpack the archives anew")
        return sorted(names)

    def read_split(self, split: str) -> source.Official:
        names = self.classes
        rows = source.read_words(source.file_of(self._lists, split, ".txt"), ("number",))
        each = [self._judged(f"{name}_{split}") for name in names]
        judged = [[of_class.get(number, "") for of_class, _ in each] for number in rows["number"]]
        silent = [f"{name}_{split}.txt" for name in names]
        lacking = rows["number"].map(
            {number: silent[said.index("")] for number, said in zip(rows["number"], judged, strict=True) if "" in said}
        )
        rows.reject(lacking.notna(), lacking.fillna("") + " says nothing of the picture " + rows["number"])
        there, unclear = (
            source.class_lists([[place for place, said in enumerate(of_clip) if said == value] for of_clip in judged])
            for value in ("1", "0")
        )
        pictures = self.relative(self._lists.parent.parent / "JPEGImages") + "/"
        clips = {"clip_id": rows["number"], "labels": there, "picture": pictures + rows["number"] + ".jpg"}
        official = rows.official(clips | {"ignored": unclear})
        return replace(official, malformed=[*official.malformed, *(fault for _, faults in each for fault in faults)])

    def _judged(self, name: str) -> tuple[dict[str, str], list[str]]:
        """(picture -> what a class's list says of it, what of the list cannot be read)."""
        rows = source.read_words(source.file_of(self._lists, name, ".txt"), ("number", "judged"))
        rows.reject(~rows["judged"].isin(JUDGED), "none of 1, -1 and 0: " + rows["judged"])
        read = rows.official({"clip_id": rows["number"], "judged": rows["judged"]})
        return dict(zip(read.clips["clip_id"], read.clips["judged"], strict=True)), read.malformed
