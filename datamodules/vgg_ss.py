"""VGG Sound Source (Chen et al. 2021): boxes around what sounds in test clips of VGGSound.

Official files, in `metadata` of hche11/Localizing-Visual-Sounds-the-Hard-Way: `vggss.json` (`file`, `class`, `bbox`:
one to seven boxes of two corners, as shares of the picture) and `vggss_test.csv` (a file a line; no header). Media:
`audio/<id>_<start:06d>.wav` with the middle frame `frames/<id>_<start:06d>.jpg`, which is the column `frame` for a
stream of kind `image`; or the videos of VGGSound.

A few coordinates are about -2.9e16: what lies outside of the picture is cut to its edge. That leaves two clips without
an object, which are scored and not found, as by the official code.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from datamodules import source
from datamodules.boards import SoundSources, sound_source_boards
from datamodules.boxes import box, box_lists

CLIP_SECONDS = 10
FILE = r"^(?P<video>.{11})_(?P<start>\d{6})$"


class VGGSS(source.Source):
    name = "vgg_ss"
    title = "VGG-SS"
    citation = "Chen, Xie, Afouras, Nagrani, Vedaldi, Zisserman. CVPR 2021, arXiv 2104.02691"
    holds = "5,158 clips of VGGSound with boxes around what sounds, 221 classes, one a clip"
    url = "https://www.robots.ox.ac.uk/~vgg/research/lvs/"
    folders = ("VGG-SS", "vggss", "vgg_ss")
    splits = ("test",)
    sizes: ClassVar = {"test": 5158}  # measured on vggss_test.csv
    media = "auto"
    boards = sound_source_boards("vgg-ss", SoundSources(), dataset="vgg_ss", train="none", split="test")

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("vggss.json", "vggss_test.csv")

    @cached_property
    def _annotated(self) -> dict[str, tuple[str, Any]]:
        """File -> its class and its boxes."""
        return source.read_json(
            self.find("metadata/vggss.json", "vggss.json"),
            "a list of objects with file, class and bbox",
            lambda content: {str(each["file"]): (str(each["class"]), each["bbox"]) for each in content},
        )

    @cached_property
    def classes(self) -> list[str]:
        return sorted({label for label, _ in self._annotated.values()})

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find("metadata/vggss_test.csv", "vggss_test.csv"), ("file",))
        file = rows["file"]
        named = file.str.extract(FILE)
        rows.reject(named["video"].isna(), "no file name like <id>_<start:06d>: " + file)
        none: list[list[float]] = []
        boxes = source.read_each(rows, self._boxes, file, otherwise=none)
        number = {label: index for index, label in enumerate(self.classes)}
        labels = [[number[self._annotated[name][0]]] if name in self._annotated else [] for name in file]
        start = named["start"].astype("float64")
        return rows.official(
            {
                "clip_id": file,
                "video_id": named["video"].fillna(""),
                "start": start,
                "end": start + CLIP_SECONDS,
                "labels": source.class_lists(labels),
                "boxes": box_lists(boxes),
                "frame": "frames/" + file + ".jpg",
            },
            stems=[named["video"].fillna("")],
            timed_stems=[file],
        )

    def _boxes(self, file: str) -> list[list[float]]:
        if file not in self._annotated:
            raise source.DataError(f"vggss.json has no boxes of {file}")
        boxes = self._annotated[file][1]
        try:
            return [box(numbers) for numbers in boxes]
        except (TypeError, ValueError) as error:
            raise source.DataError(f"vggss.json: {file}: {error}") from error
