"""Which listed clips cannot be used, why, and what can be done about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from datamodules.manifest.media_index import DEAD_LINK, UNKNOWN_SUFFIX
from datamodules.manifest.placing import WHICH_SECONDS

EXAMPLES = 5
MALFORMED, NOT_LISTED = "malformed row", "not listed"
"""Reasons of official clips that no list names."""
CURES = {
    WHICH_SECONDS: "a file with the bare id of a video may be a cut clip or the whole video; say which with "
    "data.media=clips or data.media=videos; where several clips share the file, give each one of its own, named with "
    "its start; clips of different recordings need files whose names differ in more than the folder",
    UNKNOWN_SUFFIX: "a file with the clip's name has a suffix that is none of media; rename or convert it",
    DEAD_LINK: "a link with the clip's name leads to nothing; link it anew",
}
"""Reason for which clips are left out -> what to do about it."""


class Exclusions:
    """Which clips cannot be used, each for the first reason that was found.

    Attributes:
        none: [clips] bool, the clips that can be used.
        counts: reason -> number of clips.
        examples: reason -> the first few.
        unnamed: official clips that are none of these: rows that are malformed, and those that are not listed.

    Args:
        table: the listed clips, with clip_id and labels.
        malformed: the rows of the list that are none.
        unlisted: how many more clips the official release has.
    """

    def __init__(self, table: pd.DataFrame, malformed: Sequence[str], unlisted: int):
        self._table = table[["clip_id", "labels"]]
        self._reason = np.full(len(table), "", dtype=object)
        self.none = np.ones(len(table), dtype=bool)
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.unnamed = len(malformed) + unlisted
        if malformed:
            self.counts[MALFORMED], self.examples[MALFORMED] = len(malformed), list(malformed[:EXAMPLES])
        if unlisted:
            self.counts[NOT_LISTED] = unlisted

    def add(self, reason: str, mask: pd.Series | np.ndarray | bool) -> None:
        """Excludes the clips of a boolean mask."""
        found = np.asarray(mask, dtype=bool) & self.none
        if found.any():
            self.counts[reason] += int(found.sum())
            self.examples.setdefault(reason, []).extend(self._table["clip_id"][found].head(EXAMPLES))
            self.none &= ~found
            self._reason[found] = reason

    @property
    def left_out(self) -> pd.DataFrame:
        """As `Manifest.left_out`."""
        out = ~self.none
        reason = pd.Series(self._reason[out], index=np.flatnonzero(out), dtype="str")
        return self._table[out].assign(reason=reason).reset_index(drop=True)


def explain_exclusions(excluded: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> str:
    """Why clips were left out, and what to do about it: `3 missing (e.g. a, b); 1 which seconds? (e.g. c): …`."""
    some = {reason: f" (e.g. {', '.join(rows[:2])})" for reason, rows in examples.items() if rows}
    cures = {reason: f": {cure}" for reason, cure in CURES.items()}
    return "; ".join(f"{n} {reason}{some.get(reason, '')}{cures.get(reason, '')}" for reason, n in excluded.items())
