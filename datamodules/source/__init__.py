"""What official files say of a dataset. A dataset's file imports all that it needs from here."""

from datamodules.errors import DataError
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

__all__ = [
    "LABELS",
    "DataError",
    "MediaKind",
    "Official",
    "Rows",
    "Source",
    "class_lists",
    "find_root",
    "milliseconds",
    "padded",
    "read_rows",
    "read_rows_by_header",
]
