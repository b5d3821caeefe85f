"""What happens when within a clip, as a column of an official table: for datasets that annotate events in time."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

SPANS = pd.ArrowDtype(pa.list_(pa.struct([("start", pa.float64()), ("end", pa.float64()), ("label", pa.int16())])))
"""The type of a column of such lists: seconds, on the clock of the table's `start` and `end`, and the class index."""


def span_lists(lists: Sequence[Sequence[tuple[float, float, int]] | None]) -> pd.Series:
    """Lists of (start, end, class index) as a column of type `SPANS`; None where nobody has annotated the clip, an
    empty list where nothing happens in it."""
    names = ("start", "end", "label")
    rows = [None if each is None else [dict(zip(names, span, strict=True)) for span in each] for each in lists]
    return pd.Series(pa.array(rows, SPANS.pyarrow_dtype), dtype=SPANS)
