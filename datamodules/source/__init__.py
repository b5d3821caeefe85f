"""What official files say of a dataset: all that a dataset's file needs, as `source.Source`, `source.read_rows`, ….

What reads files takes pandas, for which `python -m bench list` need not wait: it is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.source.dataset import MediaKind, Official, Source, find_root
from datamodules.source.official_text import read_text

if TYPE_CHECKING:
    from datamodules.source.annotations import Segment, read_each, rows_of, segments_table
    from datamodules.source.rows import (
        LABELS,
        Rows,
        class_lists,
        milliseconds,
        padded,
        read_rows,
        read_rows_by_header,
    )
else:
    READERS = {
        "annotations": ("Segment", "read_each", "rows_of", "segments_table"),
        "rows": ("LABELS", "Rows", "class_lists", "milliseconds", "padded", "read_rows", "read_rows_by_header"),
    }

    def __getattr__(name: str) -> Any:
        for module, names in READERS.items():
            if name in names:
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "LABELS",
    "DataError",
    "MediaKind",
    "Official",
    "Rows",
    "Segment",
    "Source",
    "class_lists",
    "find_root",
    "milliseconds",
    "padded",
    "read_each",
    "read_rows",
    "read_rows_by_header",
    "read_text",
    "rows_of",
    "segments_table",
]
