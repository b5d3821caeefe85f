"""Do the intervals hold what they promise? Simulated methods whose true scores are known; run it by hand:

python -m tests.benchmarks.intervals [trials=500] [pairs=500]

- coverage: in how many trials the 95 % interval of mAP, accuracy and R@10 holds the true value;
- comparisons: how often `compare` finds a difference of 2 points on 5,000 clips, how often one between two seeds of one
  method, and both again where a random tenth of each side's clips is missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from bench import registry, tasks
from bench.compare.paired import compare
from bench.tasks import Predictions
from bench.tasks.metrics import average_precision
from datamodules.boards import Board

CLASSES, CLIPS = 10, 2000
PREVALENCE = (0.02, 0.05, 0.1)
"""Of all classes of a simulated tagging board: 40, 100 and 200 positives a class."""


TAGGING, CLASSIFICATION = registry.board("audioset-20k"), registry.board("vggsound")
RETRIEVAL = replace(registry.board("vggsound-a2v"), per_class=0)


def names(n: int) -> NDArray:
    return np.array([f"clip{i:05}" for i in range(n)])


def tagging(rng: np.random.Generator, prevalence: float, n: int) -> Predictions:
    """Scores of positives are normal around 1.5, those of negatives around 0; labels of a clip are independent."""
    target = rng.random((n, CLASSES)) < prevalence
    scores = rng.normal(size=(n, CLASSES)) + 1.5 * target
    return Predictions(names(n), target.astype(float), {"a": scores.astype(np.float32)})


def classification(rng: np.random.Generator, skill: float, n: int, labels: NDArray | None = None) -> Predictions:
    target = np.eye(CLASSES)[rng.integers(CLASSES, size=n) if labels is None else labels]
    scores = rng.normal(size=(n, CLASSES)) + skill * target
    return Predictions(names(n), target, {"av": scores.astype(np.float32)})


def true_map(prevalence: float) -> float:
    """Of infinitely many clips: the integral of precision over recall."""
    threshold = np.linspace(9.5, -8, 200_001)
    recall, false_alarms = norm.sf(threshold, 1.5), norm.sf(threshold)
    precision = prevalence * recall / (prevalence * recall + (1 - prevalence) * false_alarms)
    return float(np.trapezoid(precision, recall))


def true_accuracy(skill: float) -> float:
    """The chance that the right class's score is the highest."""
    x = np.linspace(-9, 12, 200_001)
    return float(np.trapezoid(norm.pdf(x - skill) * norm.cdf(x) ** (CLASSES - 1), x))


def coverage(
    board: Board,
    modality: str,
    metric: str,
    true: float,
    draw: Callable[[np.random.Generator], Predictions],
    trials: int,
) -> str:
    held = 0
    for trial in range(trials):
        found = tasks.evaluate(board, modality, draw(np.random.default_rng(trial))).metrics[metric]
        held += found.low <= true <= found.high
    return f"{metric:5} true {100 * true:5.2f}: held in {100 * held / trials:.1f} % of {trials} trials"


def retrieval(noise: float, n: int = 500) -> Callable[[np.random.Generator], Predictions]:
    """Queries are the gallery's items with noise; each trial has a gallery of its own."""

    def draw(rng: np.random.Generator) -> Predictions:
        gallery = rng.normal(size=(n, 16))
        query = gallery + noise * rng.normal(size=gallery.shape)
        scores = {"a": query.astype(np.float32), "v": gallery.astype(np.float32)}
        return Predictions(names(n), np.ones((n, 1)), scores)

    return draw


def true_recall(draw: Callable[[np.random.Generator], Predictions], repeats: int) -> float:
    """R@10 over many draws."""
    values = []
    for seed in range(repeats):
        one = tasks.statistic(RETRIEVAL, "av", draw(np.random.default_rng(10**6 + seed)))
        values.append(one.measure(np.ones((len(one.units), 1), np.float32))["R@10"][0])
    return float(np.mean(values))


def some(predictions: Predictions, rng: np.random.Generator) -> Predictions:
    """Without a random tenth of the clips."""
    return predictions.take(np.flatnonzero(rng.random(len(predictions.clip_id)) > 0.1))


def pair(rng: np.random.Generator, skills: tuple[float, float], shared: float, n: int) -> list[Predictions]:
    """Two methods on the same clips. `shared`: of the noise's variance; what makes a clip hard is the same for both."""
    labels = rng.integers(CLASSES, size=n)
    common = rng.normal(size=(n, CLASSES))
    sides = []
    for skill in skills:
        side = classification(rng, skill, n, labels)
        gain = skill * side.target
        side.scores["av"][:] = gain + np.sqrt(1 - shared) * (side.scores["av"] - gain) + np.sqrt(shared) * common
        sides.append(side)
    return sides


def mcnemar(sides: list[Predictions]) -> bool:
    """Whether McNemar's test separates them, on the clips of which only one side is right."""
    right = [side.scores["av"].argmax(1) == side.target.argmax(1) for side in sides]
    wins, losses = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    return binomtest(wins, wins + losses).pvalue <= 0.05


def comparisons(title: str, skills: tuple[float, float], shared: float, pairs: int, n: int = 5000) -> str:
    """How often two methods, of which the first is right on 70 % of the clips, are separated."""
    whole = missing = alike = reference = 0
    for number in range(pairs):
        rng = np.random.default_rng(number)
        sides = pair(rng, skills, shared, n)
        found = [compare(CLASSIFICATION, *each, ("av", "av")) for each in (sides, [some(side, rng) for side in sides])]
        sure = [not d.low <= 0 <= d.high for d in (x.differences["top1"] for x in found)]
        whole, missing, alike = whole + sure[0], missing + sure[1], alike + (sure[0] == sure[1])
        reference += mcnemar(sides)
    shares = [f"{100 * count / pairs:.1f}" for count in (whole, reference, missing, alike)]
    return (
        f"{title}, {100 * shared:.0f} % of the noise shared: separated in {shares[0]} % of {pairs} pairs, "
        f"by McNemar's test in {shares[1]}; with a tenth of each side's clips missing in {shares[2]}, "
        f"the same conclusion in {shares[3]}"
    )


def main(trials: int = 500, pairs: int = 500) -> None:
    began = time.monotonic()
    for prevalence in PREVALENCE:
        true, draw = true_map(prevalence), partial(tagging, prevalence=prevalence, n=CLIPS)
        print(coverage(TAGGING, "a", "mAP", true, draw, trials), f"({100 * prevalence:.0f} % positives)", flush=True)
    for skill in (1.0, 3.0):
        draw = partial(classification, skill=skill, n=CLIPS)
        print(coverage(CLASSIFICATION, "av", "top1", true_accuracy(skill), draw, trials), flush=True)
    for noise in (1.0, 2.0):
        draw = retrieval(noise)
        print(coverage(RETRIEVAL, "av", "R@10", true_recall(draw, 2000), draw, trials), flush=True)
    skill = 2.12
    more = next(s for s in np.arange(skill, 3, 0.001) if true_accuracy(s) >= true_accuracy(skill) + 0.02)
    for shared in (0.5, 0.9):
        print(comparisons("2 points", (skill, more), shared, pairs), flush=True)
        print(comparisons("two seeds", (skill, skill), shared, pairs), flush=True)
    print(f"took {time.monotonic() - began:.0f} s; a sample of the true map's estimate: {check():.3f}")


def check(n: int = 400_000) -> float:
    """mAP of very many clips at 2 % positives, beside `true_map(0.02)`."""
    big = tagging(np.random.default_rng(1), 0.02, n)
    return float(np.mean(average_precision(big.target[:, :2], big.scores["a"][:, :2]))) - true_map(0.02)


if __name__ == "__main__":
    main(**{key: int(value) for key, value in (argument.split("=") for argument in sys.argv[1:])})
