"""What a stage gave out for a split, and how it is stored.

A task whose predictions are of another shape derives its own from `Predictions` and names it (`Task.predictions`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.types import Scale, Similarity

ABOUT = b"avl-bench"
"""The metadata of a table of predictions that are not columns."""


@dataclass
class Predictions:
    """What a stage gave out for a split; row i of every array belongs to `clip_id[i]`."""

    clip_id: Sequence[str] | NDArray[np.str_]
    target: NDArray[np.floating]
    """[N, C], above 0 where the clip has the class; one-hot for classification."""
    scores: Mapping[str, NDArray[np.floating]]
    """Modality -> logits or what `scale` says [N, C], or for retrieval embeddings [N, D]."""
    group: NDArray[np.str_] | None = None
    """[N] what a row belongs to. Retrieval: what is to be found, a clip (of which there may be several captions) or its
    video; None: each row is a clip of its own. Localisation: the video of which the row is a second."""
    steps: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Localisation: group -> the classes that are to be found in it, in their order; one may come twice."""
    similarity: Similarity = "cosine"
    """How embeddings are compared."""
    scale: Scale = "logits"
    """What the scores of classes are; all tasks look at their order alone, ensembles do not."""
    missing: int = 0
    """Official clips of the split that are not among these."""
    classes: Sequence[str] = ()
    """[C] the names of the target's columns, where they are known."""

    def take(self, rows: NDArray[np.intp]) -> Self:
        """These rows, in this order."""
        return replace(
            self,
            clip_id=np.asarray(self.clip_id)[rows],
            target=np.asarray(self.target)[rows],
            scores={modality: np.asarray(score)[rows] for modality, score in self.scores.items()},
            group=None if self.group is None else np.asarray(self.group)[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several splits that share no clip, such as all folds of a cross-validation, as one."""
        first = parts[0]
        groups = [np.asarray(part.group) for part in parts if part.group is not None]
        return replace(
            first,
            clip_id=np.concatenate([np.asarray(part.clip_id) for part in parts]),
            target=np.concatenate([part.target for part in parts]),
            scores={name: np.concatenate([part.scores[name] for part in parts]) for name in first.scores},
            group=np.concatenate(groups) if len(groups) == len(parts) else None,
            steps={group: steps for part in parts for group, steps in part.steps.items()},
            missing=sum(part.missing for part in parts),
        )

    def to_table(self) -> pa.Table:
        """One row a clip: id, classes, group, scores by modality; what else is needed to measure them again is in the
        metadata."""
        columns: dict[str, Any] = {
            "clip_id": pa.array(self.clip_id),
            "classes": pa.array([np.flatnonzero(row).tolist() for row in self.target]),
        }
        if self.group is not None:
            columns["group"] = pa.array(np.asarray(self.group, dtype=str))
        for modality, scores in self.scores.items():
            columns[modality] = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1])
        about = {
            "num_classes": self.target.shape[1],
            "steps": {group: np.asarray(steps).tolist() for group, steps in self.steps.items()},
            "similarity": self.similarity,
            "scale": self.scale,
            "missing": self.missing,
            "classes": list(self.classes),
        }
        return pa.table(columns, metadata={ABOUT: json.dumps(about, sort_keys=True)})

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """What `to_table` made."""
        others = ("clip_id", "classes", "group")
        scores = {name: np.stack(table[name].to_numpy()) for name in table.column_names if name not in others}
        # Older files have nothing but columns: of logits, which are as many as the classes.
        about = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
        target = np.zeros((len(table), about.pop("num_classes", max(map(np.shape, scores.values()))[1])), np.float32)
        for row, classes in enumerate(table["classes"].to_pylist()):
            target[row, classes] = 1
        group = np.array(table["group"].to_pylist()) if "group" in table.column_names else None
        return cls(table["clip_id"].to_pylist(), target, scores, group, **about)
