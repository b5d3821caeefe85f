"""What lies in the folder of a stage's run."""

from __future__ import annotations

from pathlib import Path

DONE = "done.json"
"""Written last: the stage is finished."""
CODE = "code.json"
"""The code that the stage was begun with."""
WEIGHTS = "weights.pt"
VALIDATION = "validation.json"
"""What the validations of the training found, and the epoch whose weights were kept."""
FEATURES = "features"
LABELS = "labels.parquet"
"""The pseudo-labels of the clips whose features the stage extracted, a column each."""
PREDICTIONS = "predictions.parquet"
RECORD = "record.json"
NEW, LAST, PREVIOUS = RESUME = "resume.new.ckpt", "resume.ckpt", "resume.previous.ckpt"
"""From which a training that is cut off goes on, the newest first. `NEW` is there for the moment in which the last one
becomes the previous one."""


def is_cut_off(folder: Path) -> bool:
    """Whether a stage's training was begun and not finished."""
    return any((folder / name).is_file() for name in RESUME)
