"""AudioSet (Gemmeke et al. 2017): 527 classes of sound in 10 s YouTube clips, several labels a clip.

Official files: `balanced_train_segments.csv`, `unbalanced_train_segments.csv`, `eval_segments.csv`,
`class_labels_indices.csv`; a split needs only its own. Media: one file a clip, anywhere below the folder, named as AST
(`<id>_<start>.flac`) or downloaders (`<id>_<start_ms>_<end_ms>.mp4`, `<id>_<start_ms>.mp4`) name them; or, as PANNs
(`Y<id>.wav`) and CAV-MAE (`<id>.flac`) do, by the id alone, as whole videos are.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Tagging

SEGMENT_FILES = {
    "balanced": "balanced_train_segments.csv",
    "unbalanced": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
}
OFFICIAL = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"


class AudioSet(source.Source):
    name = "audioset"
    title = "AudioSet"
    citation = "Gemmeke, Ellis, Freedman, Jansen, Lawrence, Moore, Plakal, Ritter. ICASSP 2017"
    holds = "2.08 M clips of 10 s, 527 classes of sound, several a clip"
    licence = "CC BY 4.0, its ontology CC BY-SA 4.0"
    url = "https://research.google.com/audioset/download.html"
    folders: ClassVar[tuple[str, ...]] = ("AudioSet", "audioset")
    splits = tuple(SEGMENT_FILES)
    sizes: ClassVar = {"balanced": 22160, "unbalanced": 2041789, "eval": 20371}  # PANNs (audioset_tagging_cnn)
    media = "auto"
    multilabel = True
    defaults: ClassVar = {"inputs": {"audio": {"mean": -4.2677393, "std": 4.5689974}}}  # AST, AudioMAE dataset.py
    boards: ClassVar[tuple[Board, ...]] = (
        Board("audioset-20k", dataset="audioset", train="balanced", split="eval", task=Tagging(), main="mAP"),
        Board("audioset-2m", dataset="audioset", train="unbalanced+balanced", split="eval", task=Tagging(), main="mAP"),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("class_labels_indices.csv",)  # and the list of the split

    @cached_property
    def _class_rows(self) -> source.Rows:
        rows = source.read_rows_by_header(self.find("class_labels_indices.csv"), ("index", "mid", "display_name"))
        return rows.numbered("index", "mid", "display_name")

    @cached_property
    def classes(self) -> list[str]:
        return self._class_rows["display_name"].tolist()

    @property
    def class_codes(self) -> list[str]:
        """Machine ids (`/m/09x0r`) of the ontology."""
        return self._class_rows["mid"].tolist()

    def read_split(self, split: str) -> source.Official:
        path = self.find(SEGMENT_FILES[split])
        rows = source.read_rows(path, ("video_id", "start_seconds", "end_seconds", "labels"))
        if rows.malformed and not len(rows):
            raise source.DataError(
                f'{path}: no row is `id, start, end, "labels"`, as in a copy that went through a spreadsheet: '
                f"{rows.malformed[0]}. The official file: {OFFICIAL}/{path.name}"
            )
        video_id, start, end = rows["video_id"], rows.numbers("start_seconds"), rows.numbers("end_seconds")
        labels = rows.labels("labels", self.class_codes, separator=",")
        from_ms, to_ms = source.milliseconds(start), source.milliseconds(end)
        clip_id = video_id + "_" + from_ms
        return rows.official(
            {"clip_id": clip_id, "video_id": video_id, "start": start, "end": end, "labels": labels},
            stems=["Y" + video_id, video_id],
            timed_stems=[clip_id + "_" + to_ms, clip_id, video_id + "_" + source.padded(start, width=1)],
        )
