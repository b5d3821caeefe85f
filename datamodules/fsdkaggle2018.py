"""FSDKaggle2018 (Fonseca et al. 2018): Freesound clips of 0.3 to 30 s, 41 classes, one a clip; DCASE 2018's task 2.

Official files, of Zenodo: `FSDKaggle2018.meta/train_post_competition.csv` (fname, label, manually_verified,
freesound_id, license) and `test_post_competition_scoring_clips.csv` (the same with `usage` for `manually_verified`);
columns are read by their names. Kaggle's copy has no test labels, and its `train.csv` the first three columns.
Media: `FSDKaggle2018.audio_train/<fname>` and `FSDKaggle2018.audio_test/<fname>`, 8 hex digits and `.wav`, 44.1 kHz.
Some wavs have no samples; they are counted as clips that cannot be used.

`verified` is the part of the training clips whose labels somebody has checked; `public` and `private` are the parts of
the test clips that the competition scored before and after its end. Test clips that it `Ignored` are none.
"""

from __future__ import annotations

from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, RankedClassification

CLASSES = (
    *("Acoustic_guitar", "Applause", "Bark", "Bass_drum", "Burping_or_eructation", "Bus", "Cello", "Chime"),
    *("Clarinet", "Computer_keyboard", "Cough", "Cowbell", "Double_bass", "Drawer_open_or_close", "Electric_piano"),
    *("Fart", "Finger_snapping", "Fireworks", "Flute", "Glockenspiel", "Gong", "Gunshot_or_gunfire", "Harmonica"),
    *("Hi-hat", "Keys_jangling", "Knock", "Laughter", "Meow", "Microwave_oven", "Oboe", "Saxophone", "Scissors"),
    *("Shatter", "Snare_drum", "Squeak", "Tambourine", "Tearing", "Telephone", "Trumpet", "Violin_or_fiddle"),
    "Writing",
)
TRAIN, TEST = "train_post_competition.csv", "test_post_competition_scoring_clips.csv"
USAGES = {"Public": "public", "Private": "private", "Ignored": ""}
"""What the column `usage` says -> the part of the test clips."""


class FSDKaggle2018(source.Source):
    name = "fsdkaggle2018"
    title = "FSDKaggle2018"
    citation = "Fonseca, Plakal, Font, Ellis, Favory, Pons, Serra. DCASE 2018, arXiv 1807.09902"
    holds = "11,073 clips of 0.3 to 30 s, 41 classes of sound, one a clip"
    licence = "Creative Commons, each clip its own"
    url = "https://zenodo.org/record/2552860"
    folders = ("FSDKaggle2018", "fsdkaggle2018", "freesound-audio-tagging")
    splits = ("train", "verified", "test", "public", "private")
    sizes: ClassVar = {"train": 9473, "test": 1600}
    nested = frozenset({("train", "verified"), ("test", "public"), ("test", "private")})
    boards = (
        Board(
            "fsdkaggle2018",
            dataset="fsdkaggle2018",
            train="train",
            split="test",
            task=RankedClassification(),
            main="MAP@3",
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # the training list has two names

    @property
    def classes(self) -> list[str]:
        return list(CLASSES)

    def read_split(self, split: str) -> source.Official:
        if split in ("train", "verified"):
            rows = source.read_rows_by_header(self.find(TRAIN, "train.csv"), ("fname", "label", "manually_verified"))
            known = rows["manually_verified"].isin(("0", "1"))
            rows.reject(~known, "manually_verified is neither 0 nor 1: " + rows["manually_verified"])
            rows.belongs_elsewhere(known & (rows["manually_verified"] == "0") & (split == "verified"))
        else:
            rows = source.read_rows_by_header(self.find(TEST), ("fname", "label", "usage"))
            rows.reject(~rows["usage"].isin(USAGES), "the usage is none of Public, Private, Ignored: " + rows["usage"])
            part = rows["usage"].map(USAGES)
            rows.belongs_elsewhere((part == "") | (part.notna() & (part != split) & (split != "test")))
        labels = rows.labels("label", CLASSES)
        return rows.official({"clip_id": rows["fname"].str.removesuffix(".wav"), "labels": labels})
