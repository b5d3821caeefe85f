"""Multi-Moments in Time, second release (Monfort et al. 2021): clips of 3 s, of 305 classes of what happens, several a
clip.

Official files: `trainingSet.csv` and `validationSet.csv`, without a header, each line a file and the indices of its
classes, as many as it has (`0-3-6-2-9-1-2-6-14603629126_5.mp4,28,112`); `moments_categories.txt`, as of Moments in
Time.
Media: the files, in any folders.
"""

from __future__ import annotations

from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Tagging
from datamodules.moments import LISTS, Moments


class MultiMoments(Moments):
    name = "multi_moments"
    title = "Multi-Moments in Time"
    citation = "Monfort et al. TPAMI 2021, arXiv 1911.00232"
    holds = "about 1 M clips of 3 s, 305 classes of what happens, several a clip"
    folders = ("Multi_Moments_in_Time", "multi_moments", "mmit")
    sizes: ClassVar = {}
    number = 305
    multilabel = True
    boards = (Board("multi-moments", dataset="multi_moments", train="train", split="val", task=Tagging(), main="mAP"),)

    def read_split(self, split: str) -> source.Official:
        path = self.find(LISTS[split])
        lines = [(place.rpartition("/")[2], *line.partition(",")[::2]) for place, line in source.lines_of(path)]
        rows = source.rows_of(path, ("file", "indices"), [line[1:] for line in lines], [line[0] for line in lines])
        name = rows["file"].str.rpartition("/")[2].str.replace(r"\.\w+$", "", regex=True)
        labels = rows.labels("indices", [str(index) for index in range(len(self.classes))], separator=",")
        return rows.official({"clip_id": name, "labels": labels})
