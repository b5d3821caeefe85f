"""Boxes around objects in a picture, as columns of a dataset's table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def box(numbers: Iterable[float]) -> list[float]:
    """Two corners, x and y of each, as shares of the picture.

    Raises:
        ValueError: they are not four finite numbers.
    """
    found = [float(number) for number in numbers]
    if len(found) != 4 or not all(map(math.isfinite, found)):
        raise ValueError(f"a box is four numbers, not {found}")
    return found


def box_lists(boxes: Sequence[Sequence[Sequence[float]]]) -> pd.Series:
    """The boxes of each clip as a column, without a Python object a row."""
    import pandas as pd  # a list of datasets need not wait for these
    import pyarrow as pa

    type_ = pa.list_(pa.list_(pa.float64()))
    return pd.Series(pa.array(boxes, type_), dtype=pd.ArrowDtype(type_))
