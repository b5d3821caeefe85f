"""The sample data's recordings (ESC-50, FSD50K) and narrated videos (HowTo100M, YouCook2 and the like)."""

from __future__ import annotations

import csv
import hashlib
import inspect
import itertools
import json
import re
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
from datamodules.sample import esc50, fsd50k, howto100m, media, narration, picture, recipes, sound, timeline, world
from datamodules.sample.ids import ALPHABET
from datamodules.streams.text import SAMPLE_WORDS

SMALL = {
    "esc50": {f"fold{fold}": 32 for fold in range(1, 6)},
    "fsd50k": {"train": 32, "val": 8, "eval": 16},
    "howto100m": {"train": 11},
    "youcook2": {"training": 3, "validation": 15},
    "crosstask": {"annotated": 3},
    "mining_youtube": {"test": 3},
    "msrvtt": {"train": 2, "test": 12},
}
TINY = {
    "esc50": {"fold1": 3, "fold2": 3},
    "fsd50k": {"train": 3, "val": 1, "eval": 3},
    "howto100m": {"train": 2},
    "youcook2": {"training": 1, "validation": 3},
    "crosstask": {"annotated": 2},
    "mining_youtube": {"test": 2},
    "msrvtt": {"train": 1, "test": 3},
}
RATE = sound.SAMPLE_RATE
REPOSITORY = Path(sample.__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layouts")
    sample.make(root, tuple(SMALL), counts=SMALL, workers=1)
    return root


@pytest.fixture(scope="module")
def full_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official files of the default size, without the media."""
    root = tmp_path_factory.mktemp("lists")
    for name in SMALL:
        layout = sample.LAYOUTS[name]
        (root / layout.FOLDER).mkdir()
        layout.lay_out(root / layout.FOLDER, 0, layout.COUNTS)
    return root


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_sound(path: Path) -> NDArray[np.float32]:
    with Media(path) as opened:
        return opened.audio(0, 1000, RATE)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ESC-50


def test_esc50_csv_reads_as_the_official_one(root: Path) -> None:
    lines = (root / "ESC-50/meta/esc50.csv").read_text().splitlines()
    assert lines[0] == "filename,fold,target,category,esc10,src_file,take"
    assert all(re.fullmatch(r"([1-5])-(\d+)-([A-Z])-(\d+)\.wav,\1,\4,[a-z_]+,(True|False),\2,\3", s) for s in lines[1:])
    rows = read_table(root / "ESC-50/meta/esc50.csv")
    assert {row["filename"] for row in rows} == {path.name for path in (root / "ESC-50/audio").iterdir()}
    assert len(rows) == len({row["filename"] for row in rows}) == sum(SMALL["esc50"].values())
    assert len({(row["target"], row["category"], row["esc10"]) for row in rows}) == 16


def test_esc50_folds_are_balanced_and_share_no_source(full_lists: Path) -> None:
    rows = read_table(full_lists / "ESC-50/meta/esc50.csv")
    assert Counter((row["fold"], row["target"]) for row in rows) == {
        (str(fold), str(target)): 3 for fold in range(1, 6) for target in range(16)
    }
    assert len({row["target"] for row in rows if row["esc10"] == "True"}) == 10
    folds_of, clips_of = {}, Counter(row["src_file"] for row in rows)
    for row in rows:
        folds_of.setdefault(row["src_file"], set()).add((row["fold"], row["target"]))
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert set(clips_of.values()) == {1, 2}, "some sources have two takes"


def test_esc50_recordings_are_16_khz_mono_and_some_end_in_digital_silence(root: Path) -> None:
    padded = 0
    paths = sorted((root / "ESC-50/audio").iterdir())
    for path in paths:
        with Media(path) as opened:
            info = opened.info()
        assert (info.sample_rate, info.has_video) == (16000, False)
        assert info.duration == pytest.approx(esc50.SECONDS, abs=1e-3)
        waveform = read_sound(path)
        assert np.abs(waveform).max() > 0.1
        padded += not waveform[round(1.0 * RATE) :].any()
    assert 0.05 < padded / len(paths) < 0.25


def spectrum_of(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """[64] the loudest that each band gets, in logarithms."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::256] * np.hanning(512)
    bands = np.abs(np.fft.rfft(windows))[:, :256].reshape(len(windows), 64, 4).mean(axis=2)
    return np.log(bands.max(axis=0) + 0.01)


def test_esc50_targets_are_heard(root: Path) -> None:
    rows = read_table(root / "ESC-50/meta/esc50.csv")
    spectra = np.array([spectrum_of(read_sound(root / "ESC-50/audio" / row["filename"])) for row in rows])
    targets, held_out = np.array([int(row["target"]) for row in rows]), np.array([row["fold"] == "5" for row in rows])
    means = np.stack([spectra[~held_out & (targets == target)].mean(axis=0) for target in range(16)])
    nearest = ((spectra[held_out, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == targets[held_out]).mean() > 0.9


# FSD50K


def test_fsd50k_csvs_read_as_the_official_ones(root: Path) -> None:
    truth = root / "FSD50K/FSD50K.ground_truth"
    vocabulary = read_csv(truth / "vocabulary.csv")
    assert [row[0] for row in vocabulary] == [str(i) for i in range(len(vocabulary))], "there is no header"
    mid_of = {label: mid for _, label, mid in vocabulary}
    assert 18 <= len(mid_of) == len(set(mid_of.values())) == len(vocabulary) <= 24
    assert {mid[:3] for mid in mid_of.values()} == {"/m/", "/t/"}

    raw = (truth / "dev.csv").read_text().splitlines() + (truth / "eval.csv").read_text().splitlines()
    assert raw[0] == "fname,labels,mids,split" and "fname,labels,mids" in raw
    bodies = [line for line in raw if not line.startswith("fname")]
    assert all(('"' in line) == bool(re.match(r'\d+,"', line)) for line in bodies)
    assert any('"' not in line for line in bodies), "a single label is not quoted"

    names = []
    for file, folder in (("dev", "FSD50K.dev_audio"), ("eval", "FSD50K.eval_audio")):
        rows = read_table(truth / f"{file}.csv")
        assert {f"{int(row['fname'])}.wav" for row in rows} == {p.name for p in (root / "FSD50K" / folder).iterdir()}
        assert all([mid_of[label] for label in r["labels"].split(",")] == r["mids"].split(",") for r in rows)
        names += [row["fname"] for row in rows]
    assert len(set(names)) == len(names) == 56
    assert Counter(row["split"] for row in read_table(truth / "dev.csv")) == {"train": 32, "val": 8}


def test_fsd50k_labels_hold_all_parents_and_every_class_is_everywhere(full_lists: Path) -> None:
    truth = full_lists / "FSD50K/FSD50K.ground_truth"
    rows = read_table(truth / "dev.csv") + [{**row, "split": "eval"} for row in read_table(truth / "eval.csv")]
    present: dict[str, Counter[str]] = {}
    for row in rows:
        labels = row["labels"].split(",")
        assert len(set(labels)) == len(labels)
        assert all(fsd50k.PARENTS.get(label, label) in labels for label in labels)
        # Nothing but the one or two sounds and what is above them.
        assert 1 <= len(set(labels) & set(fsd50k.LEAVES)) <= 2
        above = {fsd50k.PARENTS.get(label) for label in labels}
        assert set(labels) - set(fsd50k.LEAVES) <= above
        present.setdefault(row["split"], Counter()).update(labels)
    assert all(set(counts) == set(fsd50k.VOCABULARY) for counts in present.values())
    assert min(present["eval"].values()) >= 5
    assert present["eval"]["Bell"] < present["eval"]["Chime_and_bell"] < present["eval"]["Musical_instrument"]


def test_fsd50k_recordings_are_of_unequal_lengths(root: Path) -> None:
    lengths = []
    for path in (root / "FSD50K").glob("*_audio/*.wav"):
        waveform = read_sound(path)
        assert np.abs(waveform).max() > 0.1
        lengths.append(len(waveform) / RATE)
    assert 0.59 <= min(lengths) < 0.7 and 2 < max(lengths) <= 4
    assert len(set(lengths)) > 30


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


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    sample.make(tmp_path / "one", tuple(TINY), counts=TINY, workers=1)
    sample.make(tmp_path / "two", ("esc50", "youcook2", "crosstask"), counts=TINY, workers=2)
    sample.make(tmp_path / "two", ("fsd50k", "howto100m", "mining_youtube", "msrvtt"), counts=TINY, workers=1)
    one = hashes(tmp_path / "one")
    assert one == hashes(tmp_path / "two")
    assert {Path(path).suffix for path in one} >= {".wav", ".mp4", ".mkv", ".csv", ".json", ".npz"}
    sample.make(tmp_path / "other", tuple(TINY), counts=TINY, workers=1, seed=1)
    other = hashes(tmp_path / "other")
    fixed = {hash_ for path, hash_ in one.items() if Path(path).name in UNSEEDED}
    assert set(one.values()) & set(other.values()) == fixed


UNSEEDED = {
    *(".sample.lock", "vocabulary.csv", "vocabulary.txt", "task_ids.csv", "label_foodtype.csv"),
    *("MSRVTT_train.7k.csv", "MSRVTT_train.9k.csv"),
}


def test_a_recording_does_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    sample.make(tmp_path, tuple(TINY), counts=TINY, workers=1)
    small = hashes(root)
    suffixes = {".wav", ".mp4", ".mkv"}
    tiny = {path: hash_ for path, hash_ in hashes(tmp_path).items() if Path(path).suffix in suffixes}
    assert len(tiny) == sum(sum(counts.values()) for counts in TINY.values())
    assert all(small[path] == hash_ for path, hash_ in tiny.items())


def test_they_are_made_only_if_asked_for() -> None:
    assert inspect.signature(sample.make).parameters["datasets"].default == ("audioset", "vggsound")
