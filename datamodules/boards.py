"""Leaderboards, as datasets declare them: which clips are scored, and which task they are scored at.

What a board says of its task is one of the small dataclasses below. How the task is measured and shown is a file of its
own, which the dataclass names and nothing here imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal

EMPTY = ("", 0)
"""Values of a board's own fields that its protocol leaves out."""
FOLDS = "folds"
"""As `Board.split`: the folds of a cross-validation, each scored by a model that was trained on the others."""
WHOLE = "all"
"""As `Board.split`: all clips of a dataset that has several official splits."""


@dataclass(frozen=True)
class BoardTask:
    """What a board says of its task: the options of the protocol that only this task has, as fields.

    Derive one for a task of your own (`docs/adding_a_task.md`). Its fields are text or numbers, and share no name with
    those of `Board`.
    """

    name: ClassVar[str]
    """The name in records, tables and exports."""
    measured_by: ClassVar[str]
    """`module:Class` of the task (`bench.tasks.base.Task`), imported when it is needed."""

    def __init_subclass__(cls) -> None:
        if not (hasattr(cls, "name") and hasattr(cls, "measured_by")):
            raise TypeError(f"{cls.__name__} needs name and measured_by, see BoardTask")

    @property
    def looked_at(self) -> str:
        """Modalities that a clip must have to be scored, whatever the method; empty: those that the method uses."""
        return ""

    def protocol(self) -> dict[str, Any]:
        """The fields that differ from their defaults, so that a new field does not separate new scores from old."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


@dataclass(frozen=True)
class Tagging(BoardTask):
    """Any number of classes per clip."""

    name = "tagging"
    measured_by = "bench.tasks.tagging:TaggingTask"


@dataclass(frozen=True)
class VOCTagging(BoardTask):
    """Any number of classes per clip, of which some are not judged: the column `ignored` of the dataset's table."""

    name = "tagging (VOC 2007)"
    measured_by = "bench.tasks.voc:VOCTask"


@dataclass(frozen=True)
class Classification(BoardTask):
    """One class per clip."""

    name = "classification"
    measured_by = "bench.tasks.classification:ClassificationTask"

    by: Literal["", "names"] = ""
    """Classes are learned from clips, or (`names`) known by their names alone: nothing has learned on the dataset."""


@dataclass(frozen=True)
class RankedClassification(Classification):
    """The same where the right class is worth the more the fewer are ranked above it: MAP@3."""

    name = "ranked classification"
    measured_by = "bench.tasks.classification:RankedTask"


@dataclass(frozen=True)
class Retrieval(BoardTask):
    """Clips of one modality are searched by another modality of the same clip."""

    name = "retrieval"
    measured_by = "bench.tasks.retrieval:RetrievalTask"

    query: str
    """The modality of the queries, e.g. `a`."""
    gallery: str
    """The modality of the gallery, e.g. `v`."""
    unit: Literal["", "video"] = ""
    """What is retrieved: a clip, or (`video`) a whole video by its clips."""
    missing: Literal["", "misses"] = ""
    """Missing official clips are left out, or (`misses`) count as not found (docs/protocols.md, section 8)."""

    @property
    def looked_at(self) -> str:
        return self.query + self.gallery


@dataclass(frozen=True)
class GradedRetrieval(BoardTask):
    """Clips of one modality are searched by those of another or of the same; how much each is worth to a query is
    graded by what their classes have to do with each other (`Source.class_relevance`)."""

    name = "graded retrieval"
    measured_by = "bench.tasks.graded:GradedTask"

    query: str
    """The modality of the queries, e.g. `a`."""
    gallery: str
    """The modality of the gallery. Where it is that of the queries, a clip is not found by itself."""

    @property
    def looked_at(self) -> str:
        return "".join(dict.fromkeys(self.query + self.gallery))


@dataclass(frozen=True)
class ClassRetrieval(GradedRetrieval):
    """The same where nobody has graded the classes: a clip is worth 1 to those with a class in common, and else 0."""

    name = "class retrieval"
    measured_by = "bench.tasks.graded:ClassRetrievalTask"


@dataclass(frozen=True)
class Neighbours(BoardTask):
    """Clips are compared with those of the board's training split, and the nearest ones should be of their class."""

    name = "neighbours"
    measured_by = "bench.tasks.neighbours:NeighboursTask"


@dataclass(frozen=True)
class Localisation(BoardTask):
    """The steps of a video are localised in time. A row is a second."""

    name = "localisation"
    measured_by = "bench.tasks.localisation:LocalisationTask"

    normalise: Literal["", "log_softmax"] = ""
    """Normalisation of a second's scores of the video's steps, before these are placed."""
    average: Literal["", "task"] = ""
    """Recall is averaged over videos, or (`task`) over those of each task (with the same steps), then over tasks."""


@dataclass(frozen=True)
class Correspondence(BoardTask):
    """Does a picture belong to a sound? Each clip's picture is asked with its own sound and with another video's."""

    name = "correspondence"
    measured_by = "bench.tasks.correspondence:CorrespondenceTask"

    @property
    def looked_at(self) -> str:
        return "av"


@dataclass(frozen=True)
class SoundSources(BoardTask):
    """What makes the sound is localised in the picture. The dataset's table has the `boxes` of each clip."""

    name = "sound source localisation"
    measured_by = "bench.tasks.sound_sources:SoundSourcesTask"

    truth: Literal["", "consensus"] = ""
    """A place is part of the object if it is in any of the clip's boxes, or (`consensus`) as much as the boxes of two
    people, each one's half, agree on."""

    @property
    def looked_at(self) -> str:
        return "a"  # the picture may be a file that the table names, and no video


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
        TypeError: `task` is not a `BoardTask`, or one of its fields has the name of a board's.
    """

    name: str
    """E.g. `audioset-20k`; also the file name of its tables."""
    dataset: str
    train: str
    """The split on which methods are expected to train; shown, but not enforced."""
    split: str
    """The split that is scored."""
    task: BoardTask
    main: str
    """The metric that sorts the board, e.g. `mAP`, `top1`, `R@1`."""
    views: int = 1
    """Number of windows of each clip, evenly spaced, whose outputs are averaged."""
    crops: int = 0
    """Squares that are cut out of each window's pictures, beside each other along the longer side, whose outputs are
    averaged, too: 3 = left, middle and right; 0 = the one in the middle, or the whole picture."""
    folds: int = 0
    """How many models a method's number is the mean of. With `split="folds"` a cross-validation over the splits
    `fold1`, `fold2`, …; else over a dataset's official splits: `test1` is scored by a model trained on `train1`, where
    `split` is `test` and `train` is `train`. Those overlap: what tests one trains another."""
    per_class: int = 0
    """Score only the first clips of each class by id; 0 = all."""
    features: Literal["", "frozen"] = ""
    """`frozen`: nothing is learned on the dataset but a classifier of what a network gives, which stays as it is."""
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

    @property
    def cross_validates(self) -> bool:
        """Whether its folds are parts of one set, which share no clip, and no official splits."""
        return self.split == FOLDS

    def scored(self, fold: int = 0) -> str:
        """The split that is scored, of a board of folds that of this one (from 1)."""
        return self.split if not fold else f"{'fold' if self.cross_validates else self.split}{fold}"

    @property
    def splits(self) -> list[str]:
        """All splits that are scored."""
        return [self.scored(fold + 1) for fold in range(self.folds)] or [self.split]

    def trained(self, fold: int) -> list[str]:
        """The splits that the model of a fold is trained on."""
        others = [split for split in self.splits if split != self.scored(fold)]
        return others if self.cross_validates else [f"{self.train}{fold}"]

    @property
    def to_choose_by(self) -> bool:
        """Whether its split is there for choosing a model, and not for reporting one: its name ends in `-val`."""
        return self.name.endswith("-val")

    def protocol(self) -> dict[str, Any]:
        """Everything that must be equal for two scores to be comparable."""
        own = {name: value for name, value in self._own().items() if value not in EMPTY and name != "main"}
        return own | self._of_task()

    def definition(self) -> dict[str, Any]:
        """The whole board as plain data for a record, from which `bench.tasks.board_of` restores it."""
        return self._own() | self._of_task()

    def _own(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "task"}

    def _of_task(self) -> dict[str, Any]:
        return {"task": self.task.name} | self.task.protocol()


def and_linear(board: Board) -> tuple[Board, ...]:
    """The board, on which all of a network is trained, and `<name>-linear`, where its features are frozen."""
    return board, replace(board, name=f"{board.name}-linear", features="frozen")


def official_split_boards(name: str, folds: int) -> tuple[Board, ...]:
    """A dataset's boards over so many official splits and ten windows of a clip: `<name>`, `<name>-linear`, and
    `<name>-retrieval` by nearest neighbours; and over all of its clips, as nothing is trained, `<name>-zero-shot`."""
    board = partial(Board, dataset=name, train="train", split="test", folds=folds, views=10)
    return (
        *and_linear(board(name, task=Classification(), main="top1")),
        board(f"{name}-retrieval", task=Neighbours(), main="near@1"),
        board(f"{name}-zero-shot", task=Classification(by="names"), main="top1", train="none", split=WHOLE, folds=0),
    )


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
        name: prefix of the boards' names.
        directions: (query, gallery) of each, as `("t", "av")`.
        suffix: suffix of the boards' names.
        unit: of `Retrieval`.
        missing: of `Retrieval`.
        others: of `Board`, the same for all.
    """
    tasks = [Retrieval(query, gallery, unit, missing) for query, gallery in directions]
    return tuple(
        Board(f"{name}-{task.query}2{task.gallery}{suffix}", task=task, main="R@1", **others) for task in tasks
    )


def graded_boards(
    name: str,
    directions: Iterable[Sequence[str]],
    task: type[GradedRetrieval] = GradedRetrieval,
    main: str = "nDCG@30",
    **others: Any,
) -> tuple[Board, ...]:
    """The same of graded retrieval, or of a `task` derived from it that is sorted by another metric."""
    tasks = [task(query, gallery) for query, gallery in directions]
    return tuple(Board(f"{name}-{each.query}2{each.gallery}", task=each, main=main, **others) for each in tasks)


def sound_source_boards(name: str, task: SoundSources, **others: Any) -> tuple[Board, ...]:
    """A board that is sorted by cIoU@0.5, and `<name>-peak`, of the same measurement by the peak; chance is what the
    picture's middle gets."""
    return (
        Board(name, task=task, main="cIoU@0.5", **others),
        Board(f"{name}-peak", task=task, main="peak", **others),
    )
