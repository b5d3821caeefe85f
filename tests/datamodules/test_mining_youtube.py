"""Mining YouTube's official files, with the quirks they have."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules import mining_youtube, sample
from datamodules.mining_youtube import MiningYouTube
from datamodules.source import DataError

MAPPING = "0 chop_it\n1 crack_egg\n2 pour_egg\n3 beat_mixture\n4 background\n"


def subtitles(*spans: tuple[float, float, str]) -> str:
    """As the official ones: a byte order mark, lines of Windows, and the annotators' own words."""

    def clock(seconds: float) -> str:
        ms = round(seconds * 1000)
        return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"

    parts = [f"{n}\r\n{clock(s)} --> {clock(e)}\r\n{word}\r\n\r\n" for n, (s, e, word) in enumerate(spans, 1)]
    return "\ufeff" + "".join(parts)


def labels(rate: float, seconds: float, *spans: tuple[float, float, str]) -> str:
    """A line a frame."""
    lines = ["background"] * round(seconds * rate)
    for start, end, name in spans:
        lines[round(start * rate) : round(end * rate)] = [name] * (round(end * rate) - round(start * rate))
    return "".join(f"{line}\n" for line in lines)


SPANS = ((75.277, 83.517, "crack_egg"), (85.618, 91.424, "pour_egg"), (91.424, 105.072, "crack_egg"))
"""The second follows on the first at once."""
SPOKEN = ((75.277, 83.517, "crack_eggs"), (117.584, 120.587, "spray_oil"), (85.618, 91.424, "pour_egg_whites"))
TRUTH, TRANSCRIPT = labels(29.97, 125, *SPANS), "background\ncrack_egg\nbackground\npour_egg\ncrack_egg\nbackground\n"


def write(root: Path, videos: str, truth: dict[str, str], transcript: dict[str, str], srt: dict[str, str]):
    for folder in ("test/groundTruth", "test/transcript", "test/annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "mapping_without_meta.txt").write_text(MAPPING)
    (root / "test/videos_test.txt").write_text(videos)
    for folder, suffix, texts in (
        *(("groundTruth", "txt", truth), ("transcript", "txt", transcript), ("annotations", "srt", srt)),
    ):
        for video, text in texts.items():
            (root / f"test/{folder}/{video}.{suffix}").write_bytes(text.encode())
    return MiningYouTube(root)


def write_one(root: Path, truth: str = TRUTH, transcript: str = TRANSCRIPT, srt: str | None = None) -> MiningYouTube:
    srt = subtitles(*SPOKEN, (91.5, 105.072, "crack_egg")) if srt is None else srt
    return write(root, "-1okAudsnAc", {"-1okAudsnAc": truth}, {"-1okAudsnAc": transcript}, {"-1okAudsnAc": srt})


def test_classes_are_those_of_the_mapping_without_the_background(tmp_path):
    source = write_one(tmp_path)
    assert source.classes == ["chop_it", "crack_egg", "pour_egg", "beat_mixture"]
    assert source.class_texts[0] == "chop it"
    assert source.official_size("test") == 250 and source.official_size("val") == 25


@pytest.mark.parametrize(
    "text",
    ["", "chop_it\n", "0 chop_it\n2 background\n", "1 chop_it\n2 background\n", "0 background\n1 chop_it\n"]
    + ["0 chop_it\n1 chop_it\n2 background\n", "0 chop_it\n1 cut_it\n"],
)
def test_another_mapping_is_refused(tmp_path, text):
    (tmp_path / "mapping_without_meta.txt").write_text(text)
    with pytest.raises(DataError, match=r"mapping_without_meta\.txt: (expected|the)"):
        _ = MiningYouTube(tmp_path).classes


def test_labels_of_frames_become_segments_in_seconds(tmp_path):
    official = write_one(tmp_path).read_split("test")
    assert official.malformed == [] and official.clips["clip_id"].tolist() == ["-1okAudsnAc"]
    assert official.clips["labels"].tolist() == [[1, 2]]
    assert official.steps.tolist() == [[1, 2, 1]], "in order, with repetitions, without background"
    assert official.segments["label"].tolist() == [1, 2, 1]
    for (_, segment), (start, end, _) in zip(official.segments.iterrows(), SPANS, strict=True):
        assert segment["start"] == pytest.approx(start, abs=0.02) and segment["end"] == pytest.approx(end, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(
    rate=st.sampled_from([8, 12.5, 15, 23.976, 24, 25, 29.97, 30, 50, 59.94]),
    gaps=st.lists(st.floats(1, 20), min_size=4, max_size=16),
    dropped=st.sets(st.integers(1, 3), max_size=2),
)
def test_the_rate_of_the_labels_is_found_from_the_times_of_the_actions(tmp_path_factory, rate, gaps, dropped):
    """Though some of the annotated actions are background in the labels, as their words are no class."""
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    spans = [(start, end, "crack_egg") for start, end in zip(times[::2], times[1::2], strict=False)]
    kept = [span for n, span in enumerate(spans) if n not in dropped]
    root = tmp_path_factory.mktemp("rate")
    source = write_one(root, labels(rate, times[-1] + 5, *kept), "crack_egg " * len(kept), subtitles(*spans))
    official = source.read_split("test")
    assume(not any("a second" in row for row in official.malformed))  # few actions may fit several rates
    assert official.malformed == []
    for (_, segment), (start, end, _) in zip(official.segments.iterrows(), kept, strict=True):
        assert segment["start"] == pytest.approx(start, abs=0.5) and segment["end"] == pytest.approx(end, abs=0.5)


def test_times_that_fit_several_rates_tell_none(tmp_path):
    spans = [(1.0, 2.0, "crack_egg"), (3.0, 4.0, "crack_egg")]
    source = write_one(tmp_path, labels(15, 9, spans[0]), "crack_egg", subtitles(*spans))
    official = source.read_split("test")
    assert official.clips.empty and "a second" in official.malformed[0]


def test_transcripts_may_stand_in_one_line_and_in_the_folders_of_the_example(tmp_path):
    write_one(tmp_path)
    for old, new, suffix in (("groundTruth", "gt", ".gt"), ("transcript", "grammar", ".grammar")):
        (tmp_path / "test" / old).rename(tmp_path / new)
        for path in (tmp_path / new).iterdir():
            path.write_text(" ".join(path.read_text().split()) + " " if new == "grammar" else path.read_text())
            path.rename(path.with_suffix(suffix))
    assert MiningYouTube(tmp_path).read_split("test").steps.tolist() == [[1, 2, 1]]


def test_val_is_a_list_of_its_own(tmp_path):
    source = write_one(tmp_path)
    (tmp_path / "test/videos_val.txt").write_text("-1okAudsnAc\r\n")
    assert source.read_split("val").clips["clip_id"].tolist() == ["-1okAudsnAc"]
    assert ("val", "test") in source.nested


def test_videos_that_cannot_be_read_are_counted_with_their_lines(tmp_path):
    good = {"truth": TRUTH, "transcript": TRANSCRIPT, "srt": subtitles(*SPOKEN, SPANS[2])}
    changed = {
        "no_truth": ({**good, "truth": None}, "no groundTruth/no_truth{.txt,"),
        "no_transcript": ({**good, "transcript": None}, "no transcript/no_transcript{"),
        "no_srt": ({**good, "srt": None}, "no annotations/no_srt{"),
        "unknown": ({**good, "truth": "background\nfly\n"}, "groundTruth/unknown.txt:2: unknown class 'fly'"),
        "unknown_2": ({**good, "transcript": "crack_egg fly"}, "transcript/unknown_2.txt:1: unknown class 'fly'"),
        "nothing": ({**good, "truth": "background\n" * 9}, "groundTruth/nothing: no action is labelled"),
        "no_times": ({**good, "srt": "crack_egg"}, "annotations/no_times.srt: there is no time"),
        "other": ({**good, "srt": subtitles((7000, 7001, "crack_egg"))}, "annotations/other.srt: the labels"),
    }
    texts = {
        kind: {"good": good[kind]} | {v: files[kind] for v, (files, _) in changed.items() if files[kind] is not None}
        for kind in good
    }
    videos = "".join(f"{video}\n" for video in ("good", *changed, "good"))
    official = write(tmp_path, videos, *texts.values()).read_split("test")
    assert official.clips["clip_id"].tolist() == ["good"] and set(official.segments["clip_id"]) == {"good"}
    *faults, twice = official.malformed
    for line, (fault, (_, why)) in enumerate(zip(faults, changed.values(), strict=True), 2):
        assert fault.startswith(f"videos_test.txt:{line}: {why}"), fault
    assert twice.startswith("videos_test.txt:10: ") and "twice" in twice


@pytest.mark.parametrize(
    ("folder", "archive"),
    [("groundTruth", "data_test"), ("transcript", "data_test"), ("annotations", "test/annotations")],
)
def test_a_missing_folder_is_an_error_that_names_the_archive(tmp_path, folder, archive):
    source = write_one(tmp_path)
    (tmp_path / "test" / folder).rename(tmp_path / "away")
    with pytest.raises(DataError, match=rf"no folder {folder}.*{archive}\.tar\.gz"):
        source.read_split("test")


def test_the_sample_labels_every_frame(tmp_path):
    layout = sample.layouts()["mining_youtube"]
    (tmp_path / layout.FOLDER).mkdir()
    clips = layout.lay_out(tmp_path / layout.FOLDER, 0, layout.COUNTS)
    source = MiningYouTube(tmp_path / layout.FOLDER)
    official, val = source.read_split("test"), source.read_split("val")
    assert len(official.clips) == 24 and len(val.clips) == 4 and official.malformed == val.malformed == []
    assert set(val.clips["clip_id"]) < set(official.clips["clip_id"])
    repeated = 0
    for video, steps, clip in zip(official.clips["clip_id"], official.steps, clips, strict=True):
        of_video = official.segments[official.segments["clip_id"] == video]
        assert of_video["label"].tolist() == list(steps)
        assert of_video["start"].tolist() == [turn.start / 8 for turn in clip.scene.turns]
        assert ((of_video["end"] - of_video["start"]) == 3).all()
        lines = (tmp_path / layout.FOLDER / f"test/groundTruth/{video}.txt").read_text().splitlines()
        assert len(lines) == round(clip.scene.seconds * 8) and lines[0] == lines[-1] == mining_youtube.BACKGROUND
        repeated += len(set(steps)) < len(steps)
    assert 0 < repeated < 24
