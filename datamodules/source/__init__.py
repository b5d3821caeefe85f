"""What official files say of a dataset. A dataset's file imports all that it needs from here."""

from datamodules.errors import DataError
from datamodules.source.annotations import Segment, read_each, rows_of, segments_table
from datamodules.source.dataset import (
    LABELS,
    MediaKind,
    Official,
    Rows,
    Source,
    class_lists,
    find_root,
    milliseconds,
    padded,
    read_rows,
    read_rows_by_header,
)
from datamodules.source.official_text import read_text

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
