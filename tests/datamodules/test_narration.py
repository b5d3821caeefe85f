"""Where clips are cut out of narrated videos: windows on whole seconds, captions, and one instead of the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.loading.narration import Cut, around_captions, at_random
from datamodules.source.captions import Said, grow
from datamodules.types import NarrationConfig

SILENT = Said(np.empty(0, np.float32), np.empty(0, np.float32), [])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def said(*spans: tuple[float, float]) -> Said:
    """Captions `said 0`, `said 1`, … in the order of their starts, as `Captions.of` gives them."""
    start, end = np.array(sorted(spans), np.float32).reshape(-1, 2).T
    return Said(start, end, [f"said {i}" for i in range(len(spans))])


def windows(duration: float, seconds: float, count: int, seed: int = 0) -> list[Cut]:
    return at_random(rng(seed), None, duration, NarrationConfig(count, "windows", seconds))


def mixed(captions: Said, duration: float, seconds: float, count: int, seed: int = 0) -> list[Cut]:
    return at_random(rng(seed), captions, duration, NarrationConfig(count, "mixed", seconds))


# --- windows


@given(st.floats(0, 1000), st.floats(0.5, 20), st.integers(1, 40), st.integers(0, 9))
def test_windows_begin_on_whole_seconds_and_lie_within_the_video(duration, seconds, count, seed):
    cuts = windows(duration, seconds, count, seed)
    assert len(cuts) == count
    for cut in cuts:
        assert cut.start == int(cut.start) and 0 <= cut.start <= cut.end <= duration and cut.text == ""
        assert cut.end - cut.start == pytest.approx(min(duration, seconds), abs=1e-9)


@pytest.mark.parametrize(("duration", "latest"), [(14.0, 4), (14.6, 4), (10.0, 0), (10.9, 0), (11.0, 1)])
def test_every_whole_second_from_which_a_window_fits_is_drawn(duration, latest):
    assert {cut.start for cut in windows(duration, 10.0, 200)} == set(range(latest + 1))


def test_the_windows_of_a_video_are_drawn_independently():
    assert len({cut.start for cut in windows(600.0, 10.0, 32)}) > 16


@pytest.mark.parametrize("duration", [0.0, 0.4, 3.7, 9.99])
def test_a_video_that_is_shorter_than_a_window_is_taken_whole(duration):
    assert windows(duration, 10.0, 3) == [Cut(0.0, duration)] * 3
    assert mixed(SILENT, duration, 10.0, 3) == [Cut(0.0, duration)] * 3


# --- mixed


def test_without_a_caption_at_either_border_a_window_stays_as_it_is_and_has_no_text():
    cuts = mixed(said((500.0, 503.0), (505.0, 508.0)), 100.0, 8.0, 50)
    assert cuts == mixed(SILENT, 100.0, 8.0, 50)
    assert all(cut.text == "" and 0 <= cut.start <= 92.0 for cut in cuts)
    assert all(cut.end - cut.start == pytest.approx(8.0) for cut in cuts)
    assert min(cut.start for cut in cuts) < 10 and max(cut.start for cut in cuts) > 82
    assert any(cut.start % 1 for cut in cuts), "these windows begin anywhere"


def test_a_caption_within_a_window_that_reaches_neither_border_is_not_taken():
    """Windows of 10 s out of 10.5 s: the caption lies within each of them."""
    assert {cut.text for cut in mixed(said((4.0, 6.0)), 10.5, 10.0, 20)} == {""}


def test_the_caption_at_the_start_counts_before_the_one_at_the_end():
    """Windows of 10 s out of 10.5 s begin within the first caption and end within the last."""
    both = said((0.0, 1.0), (9.5, 25.0))
    first, last = (Said(both.start[i : i + 1], both.end[i : i + 1], both.text[i : i + 1]) for i in (0, 1))
    grown = grow(both, 0, 10.0)
    assert grown == (0.0, 25.0, "said 0 said 1") and grow(both, 1, 10.0) == (9.5, 25.0, "said 1")
    assert mixed(both, 10.5, 10.0, 20) == [Cut(*grown)] * 20
    assert mixed(first, 10.5, 10.0, 20) == [Cut(0.0, 1.0, "said 0")] * 20
    assert mixed(last, 10.5, 10.0, 20) == [Cut(9.5, 25.0, "said 1")] * 20


def test_a_caption_brings_its_grown_borders_and_its_neighbours_words():
    spoken = said((0.0, 40.0), (41.0, 44.0), (45.0, 90.0))
    cuts = {cut for cut in mixed(spoken, 84.0, 8.0, 100) if cut.text}
    assert cuts == {Cut(0.0, 40.0, "said 0"), Cut(0.0, 44.0, "said 1 said 0"), Cut(45.0, 90.0, "said 2")}
    assert cuts == {Cut(*grow(spoken, i, 8.0)) for i in range(3)}


def test_of_captions_that_overlap_the_latest_counts():
    """As Everything at Once looks it up (`searchsorted` in the starts); the lines of speech recognition do overlap."""
    overlapping = said((0.0, 60.0), (1.0, 50.0), (2.0, 45.0))
    pairs = zip(mixed(SILENT, 40.0, 8.0, 30), mixed(overlapping, 40.0, 8.0, 30), strict=True)
    assert {cut.text for window, cut in pairs if window.start >= 2.0} == {"said 2"}


SPANS = st.tuples(st.integers(0, 160), st.integers(1, 60)).map(lambda s: (s[0] / 4, (s[0] + s[1]) / 4))


@given(st.lists(SPANS, max_size=12), st.integers(0, 50), st.sampled_from([0.5, 4.0, 8.0]), st.integers(0, 9))
def test_each_window_is_replaced_as_a_look_at_every_caption_says(spans, duration, seconds, seed):
    spoken = said(*spans)
    plain = mixed(SILENT, duration, seconds, 8, seed)
    expected = []
    for window in plain:
        at_start = [i for i in range(len(spans)) if spoken.start[i] <= window.start <= spoken.end[i]]
        at_end = [i for i in range(len(spans)) if spoken.start[i] <= window.end <= spoken.end[i]]
        chosen = (at_start or at_end)[-1:]
        expected += [Cut(*grow(spoken, i, seconds)) for i in chosen] or [window]
    assert mixed(spoken, duration, seconds, 8, seed) == expected


# --- captions


@given(st.integers(1, 20), st.integers(1, 50), st.integers(0, 9))
def test_captions_are_drawn_without_replacement_while_there_are_enough(captions, count, seed):
    spoken = said(*((10.0 * i, 10.0 * i + 9.0) for i in range(captions)))
    cuts = around_captions(rng(seed), spoken, NarrationConfig(count, "captions", 5.0))
    times = [sum(cut.text == text for cut in cuts) for text in spoken.text]
    assert sum(times) == len(cuts) == count and max(times) - min(times) <= 1
    assert {(cut.start, cut.end, cut.text) for cut in cuts} <= {grow(spoken, i, 5.0) for i in range(captions)}


def test_captions_are_drawn_in_any_order():
    spoken = said(*((10.0 * i, 10.0 * i + 9.0) for i in range(20)))
    starts = [cut.start for cut in around_captions(rng(), spoken, NarrationConfig(20, "captions", 5.0))]
    assert starts != sorted(starts) and len(set(starts)) == 20


def test_a_caption_s_clip_is_as_long_as_is_wanted_while_there_are_neighbours():
    spoken = said(*((3.0 * i, 3.0 * i + 2.5) for i in range(20)))
    cuts = around_captions(rng(), spoken, NarrationConfig(20, "captions", 8.0))
    assert all(8.0 <= cut.end - cut.start < 8.0 + 3.0 for cut in cuts)
    assert all(len(cut.text.split("said")) - 1 == 3 for cut in cuts)
