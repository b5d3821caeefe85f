"""Leaderboards, as datasets declare them: which clips are scored, and which task they are scored at.

What a board says of its task is one of the small dataclasses below. How the task is measured and shown is a file of its
own, which the dataclass names and nothing here imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

EMPTY = ("", 0)
"""Values of a board's own fields that its protocol leaves out."""


@dataclass(frozen=True)
class BoardTask:
    """What a board says of its task: the options of the protocol that only this task has, as fields.

    Derive one for a task of your own (`docs/adding_a_task.md`). A field holds text or a number, and is not called like
    one of `Board`.
    """

    name: ClassVar[str]
    """As records, tables and exports have it."""
    measured_by: ClassVar[str]
    """`module:Class` of the task (`bench.tasks.base.Task`), imported when it is needed."""

    def __init_subclass__(cls) -> None:
        if not (hasattr(cls, "name") and hasattr(cls, "measured_by")):
            raise TypeError(f"{cls.__name__} needs name and measured_by, see BoardTask")

    @property
    def looked_at(self) -> str:
        """The modalities that a clip must have to be scored, whatever the method; empty: those that the method uses."""
        return ""

    def protocol(self) -> dict[str, Any]:
        """The fields that are unlike their defaults, so that a new field does not part old scores from new ones."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


@dataclass(frozen=True)
class Tagging(BoardTask):
    """Any number of classes a clip."""

    name = "tagging"
    measured_by = "bench.tasks.tagging:TaggingTask"


@dataclass(frozen=True)
class Classification(BoardTask):
    """One class a clip."""

    name = "classification"
    measured_by = "bench.tasks.classification:ClassificationTask"


@dataclass(frozen=True)
class Retrieval(BoardTask):
    """Each clip of one modality is to be found by what another shows of it."""

    name = "retrieval"
    measured_by = "bench.tasks.retrieval:RetrievalTask"

    query: str
    """The modality of the queries, e.g. `a`."""
    gallery: str
    """The modality of the gallery, e.g. `v`."""
    unit: Literal["", "video"] = ""
    """What is asked for and found: a clip, or a whole video by its clips."""
    missing: Literal["", "misses"] = ""
    """Official clips that are not there are left out, or count as not found (docs/protocols.md, section 8)."""

    @property
    def looked_at(self) -> str:
        return self.query + self.gallery


@dataclass(frozen=True)
class Localisation(BoardTask):
    """The steps of a video are to be found in time. A row is a second."""

    name = "localisation"
    measured_by = "bench.tasks.localisation:LocalisationTask"

    normalise: Literal["", "log_softmax"] = ""
    """What is done to a second's scores of the steps to be found before these are placed."""
    average: Literal["", "task"] = ""
    """Recall is averaged over videos, or over those of a task (with the same steps), then over tasks."""


@dataclass(frozen=True)
class UnknownTask(BoardTask):
    """The task of a board whose package is not installed, as a record describes it: it is shown, but not measured."""

    measured_by = "bench.tasks.unknown:Unmeasured"

    called: str
    options: tuple[tuple[str, Any], ...] = ()
    """Those of its protocol."""

    @property
    def name(self) -> str:  # type: ignore[override]  # the one task whose name is not that of its class
        return self.called

    def protocol(self) -> dict[str, Any]:
        return dict(self.options)


@dataclass(frozen=True)
class Board:
    """A leaderboard, declared next to its dataset: dataset + split + protocol.

    Raises:
        TypeError: `task` is no `BoardTask`, or has a field that is called like one of these.
    """

    name: str
    """E.g. `audioset-20k`; also the file name of its tables."""
    dataset: str
    train: str
    """The split methods train on, as readers of the board expect; it is shown, not enforced."""
    split: str
    """The split that is scored."""
    task: BoardTask
    main: str
    """The metric that sorts the board, e.g. `mAP`, `top1`, `R@1`."""
    views: int = 1
    """Windows of each clip, evenly spaced over it, whose outputs are averaged."""
    folds: int = 0
    """Cross-validation over the splits `fold1`, `fold2`, …: each is scored by what was trained on the others."""
    per_class: int = 0
    """Score only the first clips of each class by id; 0 = all."""
    version: int = 1
    """Raised whenever the protocol changes in a way that changes scores."""

    def __post_init__(self) -> None:
        if not isinstance(self.task, BoardTask):
            raise TypeError(
                f"board {self.name}: task={self.task!r} must be an object of datamodules.boards, such as "
                f"Classification() or Retrieval(query='t', gallery='v'), or of a class derived from its BoardTask"
            )
        own = {f.name for f in fields(self)}
        if taken := sorted(own & {f.name for f in fields(self.task)}):
            raise TypeError(f"board {self.name}: its task {self.task.name} has fields called like a board's: {taken}")

    def protocol(self) -> dict[str, Any]:
        """All that must be equal for two scores to be comparable."""
        own = {name: value for name, value in self._own().items() if value not in EMPTY and name != "main"}
        return own | self._of_task()

    def definition(self) -> dict[str, Any]:
        """All that is said here, as plain data for a record; `bench.tasks.board_of` makes the board again."""
        return self._own() | self._of_task()

    def _own(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}

    def _of_task(self) -> dict[str, Any]:
        return {"task": self.task.name} | self.task.protocol()


def retrieval_boards(
    name: str,
    directions: Iterable[Sequence[str]],
    suffix: str = "",
    unit: Literal["", "video"] = "",
    missing: Literal["", "misses"] = "",
    **others: Any,
) -> tuple[Board, ...]:
    """A board for each direction of retrieval, `<name>-<query>2<gallery><suffix>`, sorted by R@1.

    Args:
        name: what their names begin with.
        directions: (query, gallery) of each, as `("t", "av")`.
        suffix: what their names end with.
        unit: of `Retrieval`.
        missing: of `Retrieval`.
        others: of `Board`, alike for all.
    """
    tasks = [Retrieval(query, gallery, unit, missing) for query, gallery in directions]
    return tuple(
        Board(f"{name}-{task.query}2{task.gallery}{suffix}", task=task, main="R@1", **others) for task in tasks
    )
