"""`bench speed eval`, as typed, in a small size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bench.cli import main
from bench.speed import ranking
from bench.tasks.ranks import retrieval_ranks
from tests.conftest import REPOSITORY


def test_the_speed_of_ranks_is_reported_with_memory_and_ratios(capsys, monkeypatch) -> None:
    monkeypatch.setattr(ranking, "SAMPLE", 50)
    assert main(["speed", "eval", "queries=120", "items=300", "dim=24"]) == 0
    shown = capsys.readouterr().out
    for text in ("120 queries x 300 items x 24 dimensions", "sort every row", "bench.tasks.ranks", "times ours", "MiB"):
        assert text in shown
    assert "50 of 120 were timed" in shown
    assert "the same rank in 50 of 50 sorted rows" in shown


def test_sorting_gives_the_same_ranks_and_half_are_among_the_best_ten() -> None:
    query_QD, gallery_ND = ranking.embeddings(400, 2000, 64, seed=1)
    rows = np.arange(0, 400, 3)
    ours = retrieval_ranks(query_QD, gallery_ND, similarity="dot")
    by_sorting, *_ = ranking.sorted_ranks(query_QD, gallery_ND, rows)
    np.testing.assert_array_equal(by_sorting, ours.averaged[rows])
    assert ours.found(10).mean() == pytest.approx(0.5, abs=0.1)


def test_sorting_averages_ties() -> None:
    ranks, *_ = ranking.sorted_ranks(np.ones((4, 2), np.float32), np.ones((4, 2), np.float32), np.arange(4))
    np.testing.assert_array_equal(ranks, 1.5)


MEASURE = """
import numpy as np
from bench.speed import ranking
held = np.ones(30 << 20, np.uint8)
print(ranking.measured(lambda: np.ones(80 << 20, np.uint8).sum())[1])
"""


def test_peak_memory_is_that_above_what_was_there() -> None:
    # In a process of its own: in this one earlier tests have left memory that would be used again.
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None" or 75 << 20 < int(done.stdout) < 130 << 20


def test_sizes_that_are_not_possible_are_refused(capsys) -> None:
    assert main(["speed", "eval", "queries=5", "items=4"]) == 2
    assert "queries <= items" in capsys.readouterr().err
