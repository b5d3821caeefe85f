"""Flickr-SoundNet's test set (Senocak et al. 2018): boxes that three people drew around what sounds.

Official files: `flickr_test.csv` (id, number; no header; hche11/Localizing-Visual-Sounds-the-Hard-Way `metadata`) and
`Annotations/<id>.xml`, in which each element below an annotator is a `bbox` of a name and four pixels of a picture of
256 x 256: left, top, right, bottom. Media: `audio/<id>.wav` with the picture `frames/<id>.jpg`, which is the column
`frame` for a stream of kind `image`.

The pairs for training (`Flickr_train_144k.txt`) are not read: train on another dataset.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from datamodules import source
from datamodules.boards import SoundSources, sound_source_boards
from datamodules.boxes import box, box_lists

PIXELS = 256
"""Height and width of the picture that was annotated."""


class FlickrSoundNet(source.Source):
    name = "flickr_soundnet"
    title = "Flickr-SoundNet"
    citation = "Senocak, Oh, Kim, Yang, Kweon. CVPR 2018, arXiv 1803.03849"
    holds = "250 pictures with their sound, and three people's boxes around what sounds"
    url = "https://github.com/ardasnck/learning_to_localize_sound_source"
    folders = ("Flickr-SoundNet", "flickr_soundnet", "SoundNet_Flickr")
    splits = ("test",)
    sizes: ClassVar = {"test": 250}  # measured on flickr_test.csv
    boards = sound_source_boards(
        "flickr-soundnet", SoundSources(truth="consensus"), dataset="flickr_soundnet", train="none", split="test"
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("flickr_test.csv",)  # and the folder of annotations

    @property
    def classes(self) -> list[str]:
        """None."""
        return []

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find("metadata/flickr_test.csv", "flickr_test.csv"), ("id", "number"))
        folder = self.find_folder("Annotations", archive="the archive of annotations")
        none: list[list[float]] = []
        boxes = source.read_each(rows, partial(_boxes, folder), rows["id"], otherwise=none)
        return rows.official(
            {"clip_id": rows["id"], "boxes": box_lists(boxes), "frame": "frames/" + rows["id"] + ".jpg"}
        )


def _boxes(folder: Path, name: str) -> list[list[float]]:
    """Those of all annotators, as shares of the picture."""
    path = source.file_of(folder, name, ".xml")
    where = f"{folder.name}/{path.name}"
    try:
        elements = [element for annotator in ElementTree.fromstring(source.read_text(path)) for element in annotator]
        boxes = [box([float(corner.text or "") / PIXELS for corner in each[1:]]) for each in elements]
    except (ElementTree.ParseError, ValueError) as error:
        raise source.DataError(f"{where}: {error}") from error
    if {element.tag for element in elements} != {"bbox"}:
        raise source.DataError(f"{where}: expected bbox elements, and nothing else, of each annotator")
    return boxes
