"""Ranks where items may tie: tied items are in no order, and what is said of a rank is what is expected of a random one
(docs/protocols.md, section 0, rule 6). Suffix: Q queries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranks(NamedTuple):
    """How the gallery stands towards each query's best right items, whose score is the same."""

    above_Q: NDArray[np.intp]
    """Items that score higher, all of them wrong."""
    wrong_Q: NDArray[np.intp]
    """Wrong items of the same score."""
    right_Q: NDArray[np.intp]
    """Right items of it, at least one."""

    @property
    def averaged(self) -> NDArray[np.float64]:
        """[Q] how many wrong items are expected before the first right one; 0 is the best rank.

        Of w wrong and r right items in random order, w / (r + 1) of the wrong stand before the first right one.
        """
        return self.above_Q + self.wrong_Q / (self.right_Q + 1)

    def found(self, k: int) -> NDArray[np.float64]:
        """[Q] the share of the orders of tied items in which a right one is among the first k of all.

        With m = k - above of the tied items among them, 1 - C(wrong, m) / C(wrong + right, m): 0 where more than k - 1
        items stand above, 1 where all tied ones fit in.
        """
        missed_Q = np.ones(len(self.above_Q))
        for place in range(k):  # the chance that this one of the tied items is wrong, too
            wrong_Q = np.maximum(self.wrong_Q - place, 0)
            missed_Q *= np.where(place < k - self.above_Q, wrong_Q / (wrong_Q + self.right_Q), 1)
        return 1 - missed_Q
