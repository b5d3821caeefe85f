"""The sample data's narrated videos (HowTo100M, YouCook2 and the like)."""

from __future__ import annotations

import inspect
import itertools
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from datamodules import sample
from datamodules.media.decode import Media, check
from datamodules.sample import howto100m, media, narration, picture, recipes, sound, timeline, world
from datamodules.sample.ids import ALPHABET
from datamodules.streams.text import SAMPLE_WORDS
from tests.datamodules.sample_files import RATE, official_files, read_csv, read_sound, read_table, spectrum_of
from tests.sample_data import SampleMaker

SMALL = {
    "howto100m": {"train": 11},
    "youcook2": {"training": 3, "validation": 15},
    "msrvtt": {"train": 2, "test": 12},
}
REPOSITORY = Path(sample.__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    make_sample(root, tuple(SMALL), counts=SMALL)
    return root


@pytest.fixture(scope="module")
def full_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_files(tmp_path_factory.mktemp("lists"), [*SMALL])


# Words


def test_the_vocabulary_needs_no_torch_and_is_small() -> None:
    code = "import sys; from datamodules.sample.narration import VOCABULARY; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
    assert 40 <= len(narration.VOCABULARY) == len(set(narration.VOCABULARY)) <= 60
    assert list(narration.VOCABULARY) == sorted(narration.VOCABULARY) == SAMPLE_WORDS


def test_every_combination_but_the_neutral_one_has_a_sentence_of_its_own() -> None:
    said = [narration.sentence(kind) for kind in world.COMBINATIONS if (kind.timbre, kind.look) != (0, 0)]
    assert len(set(said)) == len(said) == 255
    assert ("ring", "the", "bell", "with", "the", "red", "square") in said
    assert set(itertools.chain(*said)) <= set(narration.VOCABULARY)


def likeness(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """[V, T - W + 1] of each word of the vocabulary: the normalised correlation of its sound with the waveform [T]."""
    size, width = next_fast_len(len(waveform), real=True), len(narration.say("the", RATE))
    templates = np.stack([narration.say(word, RATE) for word in narration.VOCABULARY]).astype(np.float32)
    spectrum = rfft(waveform.astype(np.float32), size)
    valid = len(waveform) - width + 1
    products = np.stack([irfft(spectrum * rfft(word, size).conj(), size)[:valid] for word in templates])
    passed = np.concatenate([[0], np.cumsum(waveform.astype(np.float64) ** 2)])
    energy = passed[width:] - passed[:-width]
    return products / np.sqrt(energy * (templates**2).sum(axis=1, keepdims=True) + 1e-3)


def test_no_two_words_sound_alike() -> None:
    for i, word in enumerate(narration.VOCABULARY):
        best = np.abs(likeness(np.pad(narration.say(word, RATE), 800))).max(axis=1)
        assert best[i] == pytest.approx(1, abs=0.01)
        assert np.delete(best, i).max() < 0.7, word


def transcribe(waveform: NDArray[np.float32]) -> list[tuple[float, str]]:
    """(seconds, word) of all that is said: where the likeliest of all words is likely, and likeliest of all nearby."""
    scores = likeness(waveform)
    best, words = scores.max(axis=0), scores.argmax(axis=0)
    said = []
    while best.max() > 0.5:
        at = int(best.argmax())
        said.append((at / RATE, narration.VOCABULARY[words[at]]))
        best[max(0, at - 2400) : at + 2400] = 0
    return sorted(said)


# HowTo100M


def test_howto100m_files_read_as_the_official_ones(root: Path) -> None:
    folder = root / "HowTo100M"
    assert (folder / "HowTo100M_v1.csv").read_text().startswith("video_id,category_1,category_2,rank,task_id\n")
    assert '"' not in (folder / "HowTo100M_v1.csv").read_text()
    rows = read_table(folder / "HowTo100M_v1.csv")
    assert any(" & " in row["category_1"] for row in rows) and any(" & " in row["category_2"] for row in rows)
    assert all(len(row["video_id"]) == 11 and set(row["video_id"]) <= set(ALPHABET) for row in rows)
    tasks = dict(read_csv(folder / "task_ids.csv"))
    assert {row["task_id"] for row in rows} == set(tasks) and len(tasks) == 8

    ids = {row["video_id"] for row in rows}
    captions = json.loads((folder / "caption.json").read_text())
    assert set(captions) == ids == {path.stem for path in (folder / "videos").iterdir()}
    assert len(ids) == SMALL["howto100m"]["train"]
    assert (folder / "vocabulary.txt").read_text().splitlines() == list(narration.VOCABULARY)
    for lines in captions.values():
        assert lines.keys() == {"start", "end", "text"}
        assert len(lines["start"]) == len(lines["end"]) == len(lines["text"])
        assert set(" ".join(lines["text"]).split()) <= set(narration.VOCABULARY)


def test_howto100m_captions_are_like_those_of_speech_recognition(full_lists: Path) -> None:
    captions = json.loads((full_lists / "HowTo100M/caption.json").read_text())
    overlaps, gaps = [], []
    for lines in captions.values():
        start, end = np.array(lines["start"]), np.array(lines["end"])
        assert (start >= 0).all() and (start < end).all() and (np.diff(start) > 0).all()
        assert all(text.split()[0] in narration.FILLERS for text in lines["text"])
        overlaps += list(end[:-1] > start[1:])
        gaps.append(np.diff(start).max())
    assert np.mean(overlaps) > 0.5
    assert np.mean(np.array(gaps) > 8) == pytest.approx(0.05), "videos with a stretch without sentences"


def test_howto100m_captions_are_what_is_said_and_when(root: Path) -> None:
    captions = json.loads((root / "HowTo100M/caption.json").read_text())
    for id_, lines in list(captions.items())[-2:]:  # the last one has a stretch without sentences
        waveform = read_sound(root / f"HowTo100M/videos/{id_}.mp4")
        said = transcribe(waveform)
        assert [word for _, word in said] == " ".join(lines["text"]).split()
        times = iter(time for time, _ in said)
        for start, end, text in zip(lines["start"], lines["end"], lines["text"], strict=True):
            spoken = [next(times) for _ in text.split()]
            assert start - 0.01 <= spoken[0] and spoken[-1] + narration.WORD_SECONDS <= end + 0.01
            assert end <= len(waveform) / RATE + 0.1


def test_howto100m_videos_have_five_to_eight_steps_and_their_rendered_length(root: Path) -> None:
    clips = howto100m.lay_out(fresh(root / "again"), 0, SMALL["howto100m"])
    for clip in clips:
        assert 5 <= len(clip.scene.turns) <= 8
        info = check(root / "HowTo100M/videos" / clip.path.name, need_audio=True, need_video=True)
        assert (info.width, info.height, info.fps, info.sample_rate) == (96, 96, 8, 16000)
        assert info.duration == pytest.approx(clip.scene.seconds, abs=0.1)


def fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


# YouCook2


def test_youcook2_files_read_as_the_official_ones(root: Path) -> None:
    folder = root / "YouCook2"
    known = json.loads((folder / "annotations/youcookii_annotations_trainval.json").read_text())["database"]
    unknown = json.loads((folder / "annotations/youcookii_annotations_test_segments_only.json").read_text())["database"]
    types = dict(read_csv(folder / "label_foodtype.csv"))
    assert len(types) == 8
    assert Counter(video["subset"] for video in known.values()) == SMALL["youcook2"]
    assert {video["subset"] for video in unknown.values()} == {"testing"}
    for id_, video in {**known, **unknown}.items():
        assert len(id_) == 11 and video["video_url"].endswith(f"watch?v={id_}")
        assert video["recipe_type"] in types
        assert 4 <= len(video["annotations"]) <= 6
        assert [annotation["id"] for annotation in video["annotations"]] == list(range(len(video["annotations"])))
        ends = 0
        for start, end in (annotation["segment"] for annotation in video["annotations"]):
            assert isinstance(start, int) and isinstance(end, int)
            assert ends <= start < end <= video["duration"]
            ends = end
    assert all("sentence" in note for video in known.values() for note in video["annotations"])
    assert not any("sentence" in note for video in unknown.values() for note in video["annotations"])
    said = {word for video in known.values() for note in video["annotations"] for word in note["sentence"].split()}
    assert said <= set(narration.VOCABULARY)
    assert (folder / "vocabulary.txt").read_text().splitlines() == list(narration.VOCABULARY)
    for split, subset in (("train", "training"), ("val", "validation"), ("test", "testing")):
        expected = {f"{v['recipe_type']}/{id_}" for id_, v in {**known, **unknown}.items() if v["subset"] == subset}
        lines = (folder / f"splits/{split}_list.txt").read_text().splitlines()
        assert len(lines) == len(expected) and set(lines) == expected


def test_youcook2_retrieval_set_is_a_part_of_the_validation_segments(root: Path) -> None:
    folder = root / "YouCook2"
    path = folder / "csv/validation_youcook.csv"
    assert path.read_text().startswith("end,start,task,text,video_id\n")
    database = json.loads((folder / "annotations/youcookii_annotations_trainval.json").read_text())["database"]
    rows = {(r["video_id"], r["task"], int(r["start"]), int(r["end"]), r["text"]) for r in read_table(path)}
    listed = {
        (id_, video["recipe_type"], *note["segment"], note["sentence"])
        for id_, video in database.items()
        if video["subset"] == "validation"
        for note in video["annotations"]
    }
    assert rows < listed
    assert len({row[0] for row in rows}) == SMALL["youcook2"]["validation"] - 1


def test_youcook2_media_are_where_the_annotations_say_but_for_one(root: Path) -> None:
    folder = root / "YouCook2"
    flaws = json.loads((folder / "SAMPLE.json").read_text())["flaws"]
    database = json.loads((folder / "annotations/youcookii_annotations_trainval.json").read_text())["database"]
    found = {path.stem: path for path in folder.glob("raw_videos/*/*/*.*")}
    assert Counter(path.suffix for path in found.values()) == {".mp4": 16, ".mkv": 1}
    (missing,) = database.keys() - found.keys()
    assert list(flaws.items()) == [
        (f"raw_videos/validation/{database[missing]['recipe_type']}/{missing}.mp4", "missing")
    ]
    for id_, path in found.items():
        assert path.parts[-3:-1] == (database[id_]["subset"], database[id_]["recipe_type"])
        assert check(path, need_audio=True, need_video=True).duration == pytest.approx(
            database[id_]["duration"], abs=0.1
        )


def read_pictures(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """[T, H, W, 3] all frames, and [T] their times."""
    with Media(path) as opened:
        times = np.arange(0.001, opened.info().duration - 0.1, 1 / world.FPS)
        return opened.frames(list(times), picture.SIZE).astype(int), times


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_youcook2_steps_are_seen_and_said_in_their_segments(root: Path, suffix: str) -> None:
    folder = root / "YouCook2"
    database = json.loads((folder / "annotations/youcookii_annotations_trainval.json").read_text())["database"]
    colours = {name: np.array(rgb) for name, rgb in picture._COLOURS.items()}
    for path in sorted(folder.glob(f"raw_videos/*/*/*.{suffix}"))[:2]:
        notes = database[path.stem]["annotations"]
        said, (frames, times) = transcribe(read_sound(path)), read_pictures(path)
        floor = frames[:, picture.FLOOR + 4 :].mean(axis=(1, 3)).max(axis=1)
        impacts = times[floor - np.median(floor) > 80]
        changed = np.abs(frames - frames[0]).max(axis=-1) > 60  # nothing has begun in the first frame
        assert not changed[times < notes[0]["segment"][0]].any()
        assert all(any(s <= t < e for s, e in (note["segment"] for note in notes)) for t in impacts)
        for note in notes:
            start, end = note["segment"]
            assert 2 <= ((start <= impacts) & (impacts < end)).sum() <= 10
            words = [word for time, word in said if start - 0.35 <= time < start + 2.8]
            assert note["sentence"] in " ".join(words)
            inside = (times >= start) & (times < start + 3)
            above_floor = changed[inside, : picture.FLOOR - 1]
            colour = np.median(frames[inside, : picture.FLOOR - 1][above_floor], axis=0)
            stated = next((word for word in note["sentence"].split() if word in colours), "grey")
            nearest = min(colours, key=lambda name: np.abs(colours[name] - colour).sum())
            assert nearest == stated, (note["sentence"], colour)


# MSR-VTT


def test_msrvtt_clips_show_one_step_each_and_say_its_sentence(root: Path, full_lists: Path) -> None:
    folder = root / "MSRVTT"
    captions: dict[str, list[str]] = {}
    for said in json.loads((folder / "MSRVTT_data.json").read_text())["sentences"]:
        captions.setdefault(said["video_id"], []).append(said["caption"])
    for id_ in ("video0", "video7010"):
        spoken = " ".join(word for _, word in transcribe(read_sound(folder / f"videos/all/{id_}.mp4")))
        assert min(captions[id_], key=len) in spoken and len(set(captions[id_])) == 5
    shortest: dict[str, str] = {}
    for said in json.loads((full_lists / "MSRVTT/MSRVTT_data.json").read_text())["sentences"]:
        known = shortest.get(said["video_id"], said["caption"])
        shortest[said["video_id"]] = min(known, said["caption"], key=len)
    tested = [shortest[row["video_id"]] for row in read_table(full_lists / "MSRVTT/MSRVTT_JSFUSION_test.csv")]
    assert len(set(tested)) == len(tested) == 40, "else two clips would be right"


# Sound and picture of the steps


def test_steps_sound_as_their_tool_when_they_hit_the_ground(tmp_path: Path) -> None:
    """In a narrated video whose voice is taken out."""
    heard = [k for k, kind in enumerate(world.KINDS) if kind.group == "heard"] + list(range(20, 30, 2))
    spectra = {
        world.KINDS[k].timbre: np.mean(
            [spectrum_of(sound.render(world.scene((0, "test", "reference", i), (k,)))) for i in range(6)], axis=0
        )
        for k in heard
    }
    right = []
    for number, recipe in enumerate(recipes.RECIPES):
        video = recipes.film((0, "test", "steps", number), recipe, [4, 32, 60, 88, 116])
        unspoken = replace(video.timeline, words=(), loudness=1.0)
        clip = media.Clip(tmp_path / f"{number}.mp4", unspoken)
        media.write(clip)
        waveform = read_sound(clip.path)
        for turn in unspoken.turns:
            for impact in turn.actor.impacts:
                at = (turn.start + impact) * RATE // world.FPS
                before, after = waveform[at - 400 : at - 80], waveform[at : at + 320]
                ringing = impact - max((i for i in turn.actor.impacts if i < impact), default=-9) < 5
                assert ringing or (after**2).mean() > 4 * (before**2).mean()
            if turn.actor.timbre != world.NEUTRAL:
                step = waveform[turn.start * RATE // world.FPS :][: 3 * RATE]
                nearest = min(spectra, key=lambda timbre: ((spectra[timbre] - spectrum_of(step)) ** 2).sum())
                right.append(nearest == turn.actor.timbre)
    assert len(right) > 25 and np.mean(right) > 0.85


def test_the_voice_is_louder_than_the_impacts() -> None:
    video = recipes.film((0, "test", "voice", 0), recipes.RECIPES[0], [4, 32, 60])
    unspoken = timeline.render_sound(replace(video.timeline, words=()))
    assert 0.05 < np.abs(unspoken).max() < 0.6 * narration.LOUDNESS + 0.05
    assert narration.LOUDNESS < np.abs(timeline.render_sound(video.timeline)).max() <= 1


# Making


def test_they_are_made_only_if_asked_for() -> None:
    assert inspect.signature(sample.make).parameters["datasets"].default == ("audioset", "vggsound")
