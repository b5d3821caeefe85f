"""What official files say of a dataset: all that a dataset's file needs, as `source.Source`, `source.read_rows`, ….

What reads files takes pandas, for which `python -m bench list` need not wait: it is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.source.dataset import (
    MediaKind,
    Official,
    Source,
    each_once,
    find_root,
    joined,
    official_splits,
    overlapping,
)
from datamodules.source.official_text import read_text

if TYPE_CHECKING:
    from datamodules.source.annotations import (
        Segment,
        file_of,
        lines_of,
        read_each,
        read_json,
        rows_of,
        timed_steps,
    )
    from datamodules.source.rows import (
        LABELS,
        Rows,
        class_lists,
        milliseconds,
        padded,
        read_rows,
        read_rows_by_header,
        read_words,
        segment_ids,
    )
else:
    READERS = {
        "annotations": ("Segment", "file_of", "lines_of", "read_each", "read_json", "rows_of", "timed_steps"),
        "rows": (
            *("LABELS", "Rows", "class_lists", "milliseconds", "padded"),
            *("read_rows", "read_rows_by_header", "read_words", "segment_ids"),
        ),
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
    "file_of",
    "each_once",
    "find_root",
    "joined",
    "lines_of",
    "milliseconds",
    "official_splits",
    "overlapping",
    "padded",
    "read_each",
    "read_json",
    "read_rows",
    "read_rows_by_header",
    "read_text",
    "read_words",
    "rows_of",
    "segment_ids",
    "timed_steps",
]
