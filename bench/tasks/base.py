"""What a task is: the base of all of them, and what it says of predictions.

Tables read it, so nothing here imports torch or scipy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, NoReturn, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import UserError
from bench.tasks.metrics import Floats, bootstrap
from bench.tasks.predictions import Predictions
from datamodules.boards import Board, BoardTask
from datamodules.types import Scale, Similarity

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.manifest.build import Manifest

Options = TypeVar("Options", bound=BoardTask)


class EvaluationError(UserError, ValueError):
    """Predictions that cannot be measured; the message names the board, what is wrong and the first clips."""


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is read and shown."""

    label: str
    better: Literal["higher", "lower"] = "higher"
    percent: bool = False
    """Stored as a fraction, shown times 100."""
    decimals: int = 1
    lowest: float = 0.0
    highest: float = 1.0


@dataclass(frozen=True)
class Metric:
    """A value and its 95 % bootstrap interval over clips."""

    value: float
    low: float
    high: float


class Statistic(NamedTuple):
    """A task's metrics as functions of how often each unit is drawn."""

    units: NDArray[np.str_]
    """[U] what a bootstrap draws, by name: clips, or videos where they are measured as a whole."""
    measure: Callable[[Floats], dict[str, Floats]]
    """Weights [U, B] -> metric -> [B]."""
    interval: Callable[[Floats, float], tuple[float, float]]
    """(a number's values on resamples, the number itself) -> (low, high)."""


@dataclass(frozen=True)
class Evaluation:
    """What a task says of predictions."""

    metrics: dict[str, Metric]
    """In the order of `Task.metrics`."""
    n: int
    """Clips scored."""
    chance: dict[str, float]
    """Metric -> its expected value for a random scorer on these clips."""
    notes: dict[str, int] = field(default_factory=dict)
    """What a reader must know about the numbers, e.g. `classes_without_positives`."""


class Given(NamedTuple):
    """What of a method's outputs is measured."""

    scores: Mapping[str, Tensor]
    """Modality -> [B, ...]."""
    scale: Scale


class Task(ABC, Generic[Options]):
    """A task as one board has it: everything that the suite knows about it.

    A derived class defines its `metrics` and measures them (`statistic`, `chance`); the rest has defaults. The
    methods that measure are given predictions that `checked` has returned.

    Args:
        board: whose `task` is the dataclass that names this class.
    """

    metrics: ClassVar[Mapping[str, MetricInfo]]
    """Its metrics, in the order in which tables show them."""
    rule: ClassVar[str] = ""
    """The line under a table: what is done where something cannot be measured, or is a tie."""
    predictions: ClassVar[type[Predictions]] = Predictions
    """The shape of its predictions, and how they are stored."""
    outputs: ClassVar[tuple[str, ...]] = ("logits", "probabilities")
    """Keys of a method's outputs, each modality -> [B, ...], of which the first one present is measured."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of the dataset's table that it needs and not all tables have."""
    in_time: ClassVar[bool] = False
    """Whether a row of the dataset's table is a second of a video."""
    names_classes: bool = False
    """Whether clips are compared with the names of classes, whose token ids are in `spec.class_text`."""
    zero_shot: bool = False
    """Whether nothing that is measured may have learned on the board's dataset."""
    searches_training: ClassVar[bool] = False
    """Whether scored clips are compared with those of the board's training split, see `searched`."""
    averages: ClassVar[bool] = False
    """Whether several networks' scores can be averaged; `probability` and `mean_logits` say how."""
    class_score: ClassVar[str] = ""
    """What `by_class` gives, e.g. `accuracy`; empty: classes are not measured by themselves, nor shown on the page."""

    def __init__(self, board: Board):
        self.board = board
        self.options: Options = board.task  # type: ignore[assignment]  # the dataclass that names this class

    # ---- how it is shown

    @property
    def title(self) -> str:
        """The task's name in the text under a table."""
        return self.options.name

    @property
    def unit(self) -> str:
        """The unit of the bootstrap, in the plural."""
        return "clips"

    def hub_name(self, modality: str) -> str:
        """The task's name on model hubs."""
        return self.options.name

    def run_page(self, modality: str, predictions: Predictions) -> dict[str, Any]:
        """What a run's page shows beside its record, if the task has a `class_score`.

        Returns:
            A table by class: `score` (its heading), and of each class `names`, `n` clips and `value` in 0..1, or None.
            Beside it `matrix` ([class][taken for] -> clips) or `pairs` ([class, taken for, clips]).
        """
        target_NC = np.asarray(predictions.target) > 0
        values = [round(float(v), 4) if np.isfinite(v) else None for v in self.by_class(modality, predictions)]
        names = list(predictions.classes) or [f"class {number}" for number in range(target_NC.shape[1])]
        return {"score": self.class_score, "names": names, "n": target_NC.sum(0).tolist(), "value": values}

    # ---- what it asks of the data and of a method

    def require_columns(self, table: pd.DataFrame) -> None:
        """Raises UserError: the dataset's table lacks one of `columns`."""
        if lacking := [name for name in self.columns if name not in table]:
            raise UserError(
                f"board {self.board.name}: {self.options.name} needs {', '.join(lacking)} of each clip, which "
                f"{self.board.dataset} does not list"
            )

    def groups(self, table: pd.DataFrame, clip_id: Sequence[str]) -> NDArray[np.str_] | None:
        """`Predictions.group` of some clips of a manifest's table; None where the task needs none."""
        return None

    def scored_modalities(self, modality: str) -> tuple[str, ...]:
        """The modalities whose scores are measured, for a stage of this modality."""
        return (modality,)

    def given(self, outputs: Mapping[str, Any]) -> Given:
        """The part of the outputs of a method's `predict_step` that it measures.

        Raises:
            EvaluationError: none of `self.outputs` is there.
        """
        for key in self.outputs:
            if outputs.get(key):
                return Given(outputs[key], "probabilities" if key == "probabilities" else "logits")
        raise EvaluationError(
            f"{self.board.name}: {self.options.name} measures {' or '.join(self.outputs)}; the method gave: "
            f"{', '.join(outputs) or 'none'}"
        )

    def target(self, batch: Mapping[str, Any]) -> Tensor:
        """[B, ...] the targets of a batch."""
        label: Tensor = batch["label"]
        return label

    def described(self, predictions: Predictions, scored: Manifest, similarity: Similarity) -> Predictions:
        """The predictions with what else the task needs.

        Args:
            predictions: as the stage returned them.
            scored: the clips of the board.
            similarity: how the stage's embeddings are compared.
        """
        group = self.groups(scored.table, list(predictions.clip_id))
        return replace(predictions, group=group, steps=scored.steps, similarity=similarity)

    def searched(self, predictions: Predictions, gallery: Predictions) -> Predictions:
        """The predictions as they are stored, where the task `searches_training`.

        Args:
            predictions: of the scored clips.
            gallery: of the clips of the board's training split, by the same network, each once, not augmented.
        """
        raise NotImplementedError(f"{type(self).__name__} compares with no training clips")

    # ---- how it is measured

    def evaluate(self, modality: str, predictions: Predictions) -> Evaluation:
        """The metrics with their intervals (`statistic`, bootstrapped), `chance`, `notes` and `count`."""
        statistic = self.statistic(modality, predictions)
        found = bootstrap(statistic.measure, len(statistic.units), statistic.interval)
        return Evaluation(
            # The intervals are cut to the numbers that are possible.
            metrics={
                name: Metric(value, max(low, self.metrics[name].lowest), min(high, self.metrics[name].highest))
                for name, (value, low, high) in found.items()
            },
            n=self.count(modality, predictions),
            chance=self.chance(modality, predictions),
            notes={name: count for name, count in self.notes(modality, predictions).items() if count},
        )

    @abstractmethod
    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """The metrics as functions of weights, for the bootstrap to draw the clips. All of `metrics`, in their order.

        Raises:
            EvaluationError: the predictions cannot be measured.
        """

    @abstractmethod
    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """Metric -> its expected value for a random scorer on these clips."""

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        """What a reader must know about the numbers, name -> count; counts of 0 are left out."""
        return {}

    def count(self, modality: str, predictions: Predictions) -> int:
        """The number of clips that are scored."""
        return len(predictions.clip_id)

    def by_class(self, modality: str, predictions: Predictions) -> NDArray[np.floating]:
        """[C] `class_score` of each class; NaN where a class cannot be measured."""
        raise NotImplementedError(f"{type(self).__name__} does not measure classes by themselves")

    def probability(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """[N, C] the probabilities of these logits."""
        raise NotImplementedError(f"{type(self).__name__} knows no probabilities")

    def mean_logits(self, logits: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """[N, C] logits of the mean of several networks' probabilities, however sure these are."""
        raise NotImplementedError(f"{type(self).__name__} knows no probabilities")

    # ---- what can be measured

    def checked(self, modality: str, predictions: Predictions) -> Predictions:
        """The predictions that are measured, sorted by clip id, so that the order of the clips does not matter.

        Raises:
            EvaluationError: they are not one finite score of the expected shape for each clip.
        """
        ids, target = np.asarray(predictions.clip_id, dtype=str), np.asarray(predictions.target)
        if not len(ids):
            raise EvaluationError(f"{self.board.name}: no clips to evaluate")
        if target.ndim < 2 or len(target) != len(ids):
            raise EvaluationError(
                f"{self.board.name}: target of shape {target.shape} for {len(ids)} clips; expected [N, C]"
            )
        distinct, counts = np.unique(ids, return_counts=True)
        if len(distinct) < len(ids):
            twice = _some(distinct[counts > 1])
            raise EvaluationError(
                f"{self.board.name}: {twice} more than once; every clip must be evaluated exactly once"
            )
        self.require_finite("targets", target, ids)
        wanted = self.scored_modalities(modality)
        for each in wanted:
            if each not in predictions.scores:
                have = ", ".join(predictions.scores) or "none"
                raise EvaluationError(f"{self.board.name}: no scores for modality {each!r}; the method gave: {have}")
            self.check_scores(each, np.asarray(predictions.scores[each]), replace(predictions, clip_id=ids))
        scores = {each: predictions.scores[each] for each in wanted}
        return replace(predictions, clip_id=ids, target=target, scores=scores).take(np.argsort(ids))

    def check_scores(self, modality: str, score: Floats, predictions: Predictions) -> None:
        """Raises EvaluationError: the scores of one modality do not fit the target, or are not finite."""
        if score.shape != np.shape(predictions.target):
            self.refuse_shape(modality, score, predictions)
        self.require_finite(f"scores of {modality!r}", score, np.asarray(predictions.clip_id))

    def refuse_shape(self, modality: str, score: Floats, predictions: Predictions) -> NoReturn:
        """Raises EvaluationError, always."""
        shape = np.shape(predictions.target)
        raise EvaluationError(f"{self.board.name}: scores {score.shape} of {modality!r} do not fit {shape}")

    def require_finite(self, what: str, values: NDArray[Any], ids: NDArray[np.str_]) -> None:
        """Raises EvaluationError: numbers are not finite, naming the clips."""
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            raise EvaluationError(
                f"{self.board.name}: {what} are NaN or infinite for {_some(np.sort(ids[bad]))} of {len(ids)}"
            )


class ClassScores(Task[Options]):
    """A task whose scores are of classes: what tagging and classification have in common."""

    averages = True

    def hub_name(self, modality: str) -> str:
        return "audio-classification" if modality == "a" else "video-classification"


class Embeddings(Task[Options]):
    """A task that compares embeddings: what the kinds of retrieval have in common."""

    outputs = ("embedding",)

    def check_scores(self, modality: str, score: Floats, predictions: Predictions) -> None:
        """Embeddings may be of any length."""
        ids = np.asarray(predictions.clip_id)
        if score.ndim != 2 or len(score) != len(ids):
            self.refuse_shape(modality, score, predictions)
        # As they will be compared: a float64 that float32 cannot hold would tie with all, or stand before all.
        dots = predictions.similarity == "dot"
        with np.errstate(over="ignore"):
            compared = score.astype(np.float32, copy=False) if dots else score
        self.require_finite(f"scores of {modality!r}{' as float32' if dots else ''}", compared, ids)

    def compared(self, query: str, gallery: str, predictions: Predictions) -> tuple[Floats, Floats]:
        """The embeddings of two modalities.

        Raises:
            EvaluationError: they are of two lengths.
        """
        query_ND, gallery_ND = predictions.scores[query], predictions.scores[gallery]
        if query_ND.shape != gallery_ND.shape:
            raise EvaluationError(
                f"{self.board.name}: embeddings {query_ND.shape} of {query!r} and {gallery_ND.shape} of {gallery!r} "
                f"cannot be compared"
            )
        return query_ND, gallery_ND


def _some(ids: NDArray[np.str_], shown: int = 5) -> str:
    """`3 clips (a, b, c)`; no more than the first few are named."""
    names = ", ".join(ids[:shown]) + (", …" if len(ids) > shown else "")
    return f"{len(ids)} {'clip' if len(ids) == 1 else 'clips'} ({names})"
