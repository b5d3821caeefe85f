"""FSD50K (Fonseca et al. 2022): 51,197 freesound clips of 0.3 to 30 s, 200 classes, several labels a clip.

Official files: `FSD50K.ground_truth/{dev,eval,vocabulary}.csv`; labels include the classes' parents already. Media:
`FSD50K.dev_audio/<fname>.wav` and `FSD50K.eval_audio/<fname>.wav`, in any folder shape and container.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Tagging, and_linear


class FSD50K(source.Source):
    name = "fsd50k"
    title = "FSD50K"
    citation = "Fonseca, Favory, Pons, Font, Serra. IEEE/ACM TASLP 2022, arXiv 2010.00475"
    holds = "51,197 clips of 0.3 to 30 s (108 h), 200 classes of sound, several a clip"
    licence = "Creative Commons, each clip its own"
    url = "https://zenodo.org/record/4060432"
    folders = ("FSD50K", "fsd50k")
    splits = ("train", "val", "eval")
    sizes: ClassVar = {"train": 36796, "val": 4170, "eval": 10231}  # three public readers agree
    multilabel = True
    # PSLA's FSD50K recipe: 3,000 frames cover 30 s.
    defaults: ClassVar = {"inputs": {"audio": {"frames": 3000, "mean": -4.6476, "std": 4.5699}}}
    boards = (
        *and_linear(Board("fsd50k", dataset="fsd50k", train="train", split="eval", task=Tagging(), main="mAP")),
        # On which a model is chosen; the paper's protocol reports the chosen one's score on `eval`.
        Board("fsd50k-val", dataset="fsd50k", train="train", split="val", task=Tagging(), main="mAP"),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("vocabulary.csv",)  # and the list of the split

    @cached_property
    def classes(self) -> list[str]:
        return self._vocabulary["label"].tolist()

    @property
    def class_codes(self) -> list[str]:
        """Machine ids (`/m/0395lw`) of AudioSet's ontology."""
        return self._vocabulary["mid"].tolist()

    @cached_property
    def _vocabulary(self) -> source.Rows:
        """`vocabulary.csv`, in the order of the class index; it has no header: index,label,mid."""
        return source.read_rows(self.find("vocabulary.csv"), ("index", "label", "mid")).numbered("index", "label")

    def read_split(self, split: str) -> source.Official:
        if split == "eval":
            rows = source.read_rows_by_header(self.find("eval.csv"), ("fname", "labels", "mids"))
        else:
            rows = source.read_rows_by_header(self.find("dev.csv"), ("fname", "labels", "mids", "split"))
            rows.keep_split("split", split, ("train", "val"))
        fname = rows["fname"].str.removesuffix(".wav")
        labels = rows.labels("labels", self.classes, separator=",")
        return rows.official({"clip_id": fname, "labels": labels})
