"""What is wrong with a user's data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar


class DataError(Exception):
    """The data cannot be used as it is; the message says which files and what to do."""


class FileError(Exception):
    """A file that cannot be used. `path` is the file, `reason` one of `reasons`; the text has both and details."""

    reasons: ClassVar[Mapping[str, str]]
    """Why a file cannot be used -> what that means."""

    def __init__(self, path: str | os.PathLike[str], reason: str, detail: str = ""):
        self.path, self.reason, self.detail = Path(path), reason, detail or self.reasons[reason]
        super().__init__(f"{self.path}: {reason}: {self.detail}")

    def __reduce__(self) -> tuple[type[FileError], tuple[Path, str, str]]:
        """Errors travel from the workers that read to the process that counts them."""
        return type(self), (self.path, self.reason, self.detail)
