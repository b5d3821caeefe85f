"""AudioSet-Instruments (Arandjelovic and Zisserman 2018): the clips of AudioSet with an instrument, a singer or a tool.

Official files: those of AudioSet, and beside them `ontology.json` (audioset/ontology: a list of `id`, `name`,
`child_ids`, …). Media: those of AudioSet.
A split is AudioSet's without the clips that have none of 110 classes; which clips the paper had (263 k, 30 k and 4.3 k)
was never published. The clips keep all of their labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from datamodules import source
from datamodules.audioset import AudioSet
from datamodules.boards import Board, Correspondence, graded_boards

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

INSTRUMENTS = (
    *("Accordion", "Acoustic guitar", "Alto saxophone", "Bagpipes", "Banjo", "Bass (instrument role)", "Bass drum"),
    *("Bass guitar", "Bassoon", "Bell", "Bicycle bell", "Bowed string instrument", "Brass instrument", "Bugle"),
    *("Cello", "Change ringing (campanology)", "Chant", "Child singing", "Chime", "Choir", "Church bell", "Clarinet"),
    *("Clavinet", "Cornet", "Cowbell", "Crash cymbal", "Cymbal", "Dental drill, dentist's drill", "Didgeridoo"),
    *("Double bass", "Drill", "Drum", "Drum kit", "Drum machine", "Drum roll", "Electric guitar", "Electric piano"),
    *("Electronic organ", "Female singing", "Filing (rasp)", "Flute", "French horn", "Glockenspiel", "Gong"),
    *("Guitar", "Hammer", "Hammond organ", "Harmonica", "Harp", "Harpsichord", "Hi-hat", "Jackhammer", "Jingle bell"),
    *("Keyboard (musical)", "Male singing", "Mallet percussion", "Mandolin", "Mantra", "Maraca"),
    *("Marimba, xylophone", "Mellotron", "Musical ensemble", "Musical instrument", "Oboe", "Orchestra", "Organ"),
    *("Percussion", "Piano", "Pizzicato", "Plucked string instrument", "Power tool", "Rapping"),
    *("Rattle (instrument)", "Rhodes piano", "Rimshot", "Sampler", "Sanding", "Sawing", "Saxophone"),
    *("Scratching (performance technique)", "Shofar", "Singing", "Singing bowl", "Sitar", "Snare drum"),
    *("Soprano saxophone", "Steel guitar, slide guitar", "Steelpan", "String section", "Strum", "Synthesizer"),
    *("Synthetic singing", "Tabla", "Tambourine", "Tapping (guitar technique)", "Theremin", "Timpani", "Tools"),
    *("Trombone", "Trumpet", "Tubular bells", "Tuning fork", "Ukulele", "Vibraphone", "Violin, fiddle", "Wind chime"),
    *("Wind instrument, woodwind instrument", "Wood block", "Yodeling", "Zither"),
)
"""Names of the classes, below musical instruments, singing and tools: marl/l3embedding
`resources/audioset_filters/audioset_filter_ots.csv`."""
NEAREST = 20
"""The relevance of a class to itself; each edge of the tree between two takes one away (appendix A.2)."""


class AudioSetInstruments(AudioSet):
    name = "audioset_instruments"
    title = "AudioSet-Instruments"
    citation = "Arandjelovic, Zisserman. ECCV 2018, arXiv 1712.06651"
    holds = "the clips of AudioSet with one of 110 classes of instruments, singing and tools"
    url = "https://github.com/audioset/ontology"
    folders = ("AudioSet-Instruments", *AudioSet.folders)
    sizes: ClassVar = {}
    boards = (
        *graded_boards(
            "audioset-instruments",
            ("vv", "va", "av", "aa"),
            dataset="audioset_instruments",
            train="unbalanced",
            split="eval",
        ),
        Board(
            "audioset-instruments-avc",
            dataset="audioset_instruments",
            train="unbalanced",
            split="eval",
            task=Correspondence(),
            main="accuracy",
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return (*super().required_files(), "ontology.json")

    def class_relevance(self) -> np.ndarray:
        from datamodules.ontology import distances  # it takes numpy, for which a list of datasets need not wait

        return (NEAREST - distances(self.find("ontology.json"), self.class_codes)).clip(0)

    def read_split(self, split: str) -> source.Official:
        official = super().read_split(split)
        kept = _has_any(official.clips["labels"], [i for i, name in enumerate(self.classes) if name in INSTRUMENTS])
        return official.only(kept)


def _has_any(labels: pd.Series, classes: Sequence[int]) -> NDArray[np.bool_]:
    """[n] whether a clip has any of the classes."""
    import numpy as np  # a list of datasets need not wait for these
    import pyarrow as pa
    import pyarrow.compute as pc

    from datamodules.table import arrow

    lists = arrow(labels)
    hit = pc.is_in(pc.list_flatten(lists), value_set=pa.array(classes, pa.int16()))
    found = np.zeros(len(lists), dtype=bool)
    found[pc.list_parent_indices(lists).filter(hit).to_numpy()] = True
    return found
