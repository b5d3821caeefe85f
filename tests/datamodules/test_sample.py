from __future__ import annotations

import csv
import itertools
import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules import sample
from datamodules.sample import media, picture, sound, world
from datamodules.sample.ids import ALPHABET
from tests.datamodules.sample_files import official_files, read_csv
from tests.sample_data import SampleMaker

SMALL = {
    "audioset": {"unbalanced_train": 60, "balanced_train": 30, "eval": 30},
    "vggsound": {"train": 60, "test": 30},
}
HEARD = [kind for kind, k in enumerate(world.KINDS) if k.group == "heard"]
SEEN = [kind for kind, k in enumerate(world.KINDS) if k.group == "seen"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("sample")
    make_sample(root, tuple(SMALL), counts=SMALL)
    return root


@pytest.fixture(scope="module")
def full_csvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_files(tmp_path_factory.mktemp("csvs"), [*SMALL])


def read_segments(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        comments = [next(file) for _ in range(3)]
        assert all(line.startswith("#") for line in comments)
        assert comments[2] == "# YTID, start_seconds, end_seconds, positive_labels\n"
        return list(csv.reader(file, skipinitialspace=True))


def decode(path: Path) -> tuple[NDArray[np.uint8], list[float], NDArray[np.float32]]:
    """Frames [T, H, W, 3], their times in seconds, and the sound [T]."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    with av.open(str(path)) as container:
        waveform = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return np.stack([f.to_ndarray(format="rgb24") for f in frames]), [float(f.time) for f in frames], waveform


# The official layouts


def test_audioset_csvs_read_as_the_official_ones(root: Path) -> None:
    classes = read_csv(root / "AudioSet/class_labels_indices.csv")
    assert classes[0] == ["index", "mid", "display_name"]
    assert [row[0] for row in classes[1:]] == [str(i) for i in range(30)]
    mids = {row[1] for row in classes[1:]}
    assert len(mids) == len({row[2] for row in classes[1:]}) == 30
    assert {mid[:3] for mid in mids} == {"/m/", "/t/"}
    raw_names = [
        line.split(",", 2)[2] for line in (root / "AudioSet/class_labels_indices.csv").read_text().splitlines()
    ]
    assert all(name[0] == name[-1] == '"' for name in raw_names[1:])
    assert any("," in row[2] for row in classes[1:])

    for split, count in SMALL["audioset"].items():
        rows = read_segments(root / f"AudioSet/{split}_segments.csv")
        assert len(rows) == count
        for id_, start, end, labels in rows:
            assert len(id_) == 11 and set(id_) <= set(ALPHABET)
            assert float(end) - float(start) == world.SECONDS
            assert set(labels.split(",")) <= mids
        assert any(row[0][0] in "-_" for row in rows)
        raw_rows = (root / f"AudioSet/{split}_segments.csv").read_text().splitlines()[3:]
        assert all(re.fullmatch(r'\S+, \d+\.000, \d+\.000, "[^" ]+"', row) for row in raw_rows)


def test_audioset_media_are_where_the_csvs_say_but_for_the_stated_flaws(root: Path) -> None:
    flaws = json.loads((root / "AudioSet/SAMPLE.json").read_text())["flaws"]
    for split in SMALL["audioset"]:
        folder = f"{split}_segments"
        expected = {f"{folder}/Y{row[0]}.mp4" for row in read_segments(root / f"AudioSet/{folder}.csv")}
        found = {f"{folder}/{path.name}" for path in (root / "AudioSet" / folder).iterdir()}
        assert found == {path for path in expected if flaws.get(path) != "missing"}


def test_vggsound_csvs_read_as_the_official_ones(root: Path) -> None:
    raw = (root / "VGGSound/vggsound.csv").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == sum(SMALL["vggsound"].values())
    rows = read_csv(root / "VGGSound/vggsound.csv")
    assert all(len(row) == 4 for row in rows)
    assert any("," in row[2] for row in rows) and any(row[0][0] in "-_" for row in rows)
    assert {f"{row[0]}_{int(row[1]):06d}.mp4" for row in rows} == set(os.listdir(root / "VGGSound/video"))

    statistics = read_csv(root / "VGGSound/stat.csv")
    assert not (root / "VGGSound/stat.csv").read_bytes().endswith(b"\n")
    labels = [row[0] for row in statistics]
    assert labels != sorted(labels), "readers must sort by themselves"
    assert {row[0]: int(row[1]) for row in statistics} == Counter(row[2] for row in rows)
    assert {row[2] for row in statistics} == {"heard only", "seen only", "heard and seen"}


def test_default_counts_and_classes_are_exactly_balanced(full_csvs: Path) -> None:
    rows = read_csv(full_csvs / "VGGSound/vggsound.csv")
    per_class = Counter((row[3], row[2]) for row in rows)
    assert len(per_class) == 60
    assert {count for (split, _), count in per_class.items() if split == "train"} == {24}
    assert {count for (split, _), count in per_class.items() if split == "test"} == {10}

    labels_of = {
        split: [row[3].split(",") for row in read_segments(full_csvs / f"AudioSet/{split}_segments.csv")]
        for split in ("unbalanced_train", "balanced_train", "eval")
    }
    assert {split: len(labels) for split, labels in labels_of.items()} == {
        "unbalanced_train": 720,
        "balanced_train": 360,
        "eval": 300,
    }
    everything = sum(labels_of.values(), [])
    assert all(len(set(labels)) == len(labels) <= 2 for labels in everything)
    assert np.mean([len(labels) == 2 for labels in everything]) == pytest.approx(0.4, abs=0.04)
    assert min(Counter(sum(labels_of["eval"], [])).values()) >= 10


def test_no_two_ids_are_equal_ignoring_case(full_csvs: Path) -> None:
    ids = [row[0] for row in read_csv(full_csvs / "VGGSound/vggsound.csv")]
    for path in full_csvs.glob("AudioSet/*_segments.csv"):
        ids += [row[0] for row in read_segments(path)]
    assert len({id_.lower() for id_ in ids}) == len(ids) == 2400


def test_sample_json_says_that_the_data_is_made_up(root: Path) -> None:
    for name, folder in (("audioset", "AudioSet"), ("vggsound", "VGGSound")):
        about = json.loads((root / folder / "SAMPLE.json").read_text())
        assert "MADE-UP" in about["about"]
        assert about["version"] == sample.VERSION and about["seed"] == 0 and about["clips"] == SMALL[name]


# The media


def test_media_are_h264_and_aac_of_three_seconds(root: Path) -> None:
    for path in sorted((root / "VGGSound/video").iterdir())[:3]:
        with av.open(str(path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.pix_fmt, video.width, video.height) == ("h264", "yuv420p", 96, 96)
            assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 16000, 1)
            assert audio.bit_rate > 40000
            assert container.duration / av.time_base == pytest.approx(3.0, abs=0.01)
            assert float(video.duration * video.time_base) == pytest.approx(3.0, abs=0.01)
            keyframes = [frame.time for frame in container.decode(video=0) if frame.key_frame]
        frames, times, waveform = decode(path)
        assert frames.shape == (24, 96, 96, 3)
        assert times == pytest.approx(np.arange(24) / 8)
        assert keyframes == [0, 1, 2]
        assert len(waveform) == pytest.approx(48000, abs=1024)


def test_decoded_sound_is_the_rendered_one_without_delay(tmp_path: Path) -> None:
    scene = world.scene((0, "test", "delay", 0), (1,))
    media.write(media.Clip(tmp_path / "clip.mp4", scene))
    rendered, decoded = sound.render(scene), decode(tmp_path / "clip.mp4")[2]
    assert np.corrcoef(rendered, decoded[: len(rendered)])[0, 1] > 0.99


def test_flaws_are_the_stated_ones_and_nowhere_else(root: Path) -> None:
    flaws = json.loads((root / "AudioSet/SAMPLE.json").read_text())["flaws"]
    assert json.loads((root / "VGGSound/SAMPLE.json").read_text())["flaws"] == {}
    assert Counter(flaws.values()) == {"missing": 2, "truncated": 1, "silent": 1, "text": 1}
    assert {Path(path).parent.name for path in flaws} == {"unbalanced_train_segments"}
    found = {}
    for path in sorted(root.glob("AudioSet/*/*.mp4")):
        try:
            loudest = np.abs(decode(path)[2]).max()
        except av.error.InvalidDataError:
            found[str(path.relative_to(root / "AudioSet"))] = "unreadable"
        else:
            if loudest < 0.05:
                assert loudest == 0
                found[str(path.relative_to(root / "AudioSet"))] = "silent"
    expected = {path: "silent" if flaw == "silent" else "unreadable" for path, flaw in flaws.items()}
    assert found == {path: flaw for path, flaw in expected.items() if flaws[path] != "missing"}
    text = next(root / "AudioSet" / path for path, flaw in flaws.items() if flaw == "text")
    assert text.read_text()


# Sound and picture


def visible_impacts(frames: NDArray[np.uint8], times: list[float]) -> list[float]:
    """Times of the frames in which some column of the floor is suddenly bright."""
    floor = frames[:, picture.FLOOR + 4 :].astype(float).mean(axis=(1, 3)).max(axis=1)
    return [time for time, light in zip(times, floor - np.median(floor), strict=True) if light > 100]


def steepness(waveform: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How steeply the log spectrum rises, every 5 ms, and the times in seconds."""
    hop, window = 80, 320
    steps = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, window // 2), window)[::hop]
    spectrum = np.log(np.abs(np.fft.rfft(steps * np.hanning(window))) + 0.05)
    rise = np.maximum(spectrum[2:] - spectrum[:-2], 0).mean(axis=1)
    # A step compares windows whose middles are 2 hops apart: it belongs to the middle between them.
    return rise, (np.arange(len(rise)) + 1) * hop / sound.SAMPLE_RATE


@pytest.mark.parametrize("kind", range(30))
def test_impacts_are_heard_when_they_are_seen(kind: int, tmp_path: Path) -> None:
    scene = world.scene((0, "test", "impacts", kind), (kind,))
    media.write(media.Clip(tmp_path / "clip.mp4", scene))
    frames, times, waveform = decode(tmp_path / "clip.mp4")
    impacts = visible_impacts(frames, times)
    assert impacts == pytest.approx([impact / world.FPS for impact in scene.actors[0].impacts])

    rise, rise_times = steepness(waveform)
    near = [np.flatnonzero(np.abs(rise_times - impact) < 0.06) for impact in impacts]
    for impact, steps in zip(impacts, near, strict=True):
        assert rise_times[steps[rise[steps].argmax()]] == pytest.approx(impact, abs=0.02)
    elsewhere = np.delete(rise, np.concatenate(near))
    assert elsewhere.max() < min(rise[steps].max() for steps in near), "a sound without an impact"


def test_actors_are_on_the_ground_at_their_impacts_only() -> None:
    for index in range(20):
        (actor,) = world.scene((0, "test", "ground", index), (0,)).actors
        assert [int(i) for i in np.flatnonzero(picture.heights(actor) == 0)] == list(actor.impacts)


def test_a_bigger_actor_sounds_lower_and_louder_and_covers_more_pixels() -> None:
    kind = world.KINDS.index(world.Kind("both", world.TIMBRES.index("beep"), world.LOOKS.index("yellow cross")))
    sizes, pitches, loudnesses, areas = [], [], [], []
    for index in range(20):
        scene = world.scene((0, "test", "size", index), (kind,))
        waveform, frames = sound.render(scene), picture.render(scene).astype(float)
        sizes.append(scene.actors[0].size)
        pitches.append(np.abs(np.fft.rfft(waveform)).argmax() / world.SECONDS)
        loudnesses.append(np.abs(waveform).max())
        wall = frames[:, : picture.FLOOR]
        areas.append((np.abs(wall - np.median(wall, axis=0)).max(axis=-1) > 50).sum(axis=(1, 2)).max())
    assert np.corrcoef(sizes, pitches)[0, 1] < -0.95
    assert np.corrcoef(sizes, loudnesses)[0, 1] > 0.85
    assert np.corrcoef(sizes, areas)[0, 1] > 0.8
    assert max(pitches) / min(pitches) <= 2 ** (4 / 12) * 1.01


# What can be known from what


def test_heard_only_classes_leave_no_trace_in_the_picture_and_seen_only_ones_none_in_the_sound() -> None:
    key = (0, "test", "trace", 0)
    pictures = [picture.render(world.scene(key, (kind,))) for kind in HEARD]
    assert all(np.array_equal(pictures[0], other) for other in pictures)
    sounds = [sound.render(world.scene(key, (kind,))) for kind in SEEN]
    assert all(np.array_equal(sounds[0], other) for other in sounds)


def test_each_modality_alone_can_know_16_of_30_and_both_together_all() -> None:
    def ceiling(of: list[object]) -> float:
        return len(set(of)) / len(of)

    assert len(world.KINDS) == 30
    assert ceiling([kind.timbre for kind in world.KINDS]) == pytest.approx(16 / 30)
    assert ceiling([kind.look for kind in world.KINDS]) == pytest.approx(16 / 30)
    assert ceiling([(kind.timbre, kind.look) for kind in world.KINDS]) == 1
    both = [kind for kind in world.KINDS if kind.group == "both"]
    assert (
        set(Counter(kind.timbre for kind in both).values()) == set(Counter(kind.look for kind in both).values()) == {2}
    )


def one_scene_a_timbre_and_look(purpose: str, repeats: int) -> tuple[list[world.Scene], NDArray[np.intp]]:
    """Scenes of 16 classes that together have every timbre and every look."""
    kinds = [*HEARD, *SEEN, *range(20, 30)]
    scenes = [world.scene((0, "test", purpose, r, kind), (kind,)) for r in range(repeats) for kind in kinds]
    return scenes, np.array([scene.actors[0].kind for scene in scenes])


def worst_recall(features: NDArray[np.float64], labels: NDArray[np.intp], train: int) -> float:
    """Of the label that is worst recognised: the share of its rows after the first `train` that are nearest to the
    mean of its rows among the first `train`."""
    every = range(labels.max() + 1)
    means = np.stack([features[:train][labels[:train] == label].mean(axis=0) for label in every])
    right = ((features[train:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == labels[train:]
    return min(float(right[labels[train:] == label].mean()) for label in every)


def test_timbres_are_easily_distinguished() -> None:
    scenes, kinds = one_scene_a_timbre_and_look("timbres", 8)
    timbres = np.array([world.KINDS[kind].timbre for kind in kinds])
    features = []
    for scene in scenes:
        windows = np.lib.stride_tricks.sliding_window_view(sound.render(scene), 512)[::512] * np.hanning(512)
        spectrum = np.log(np.abs(np.fft.rfft(windows))[:, :256].reshape(len(windows), 64, 4).mean(axis=2) + 0.01)
        features.append(spectrum.max(axis=0))
    assert worst_recall(np.array(features), timbres, train=180) > 0.9


def test_any_two_looks_differ_in_many_pixels_even_of_the_smallest_actor() -> None:
    scenes = [world.scene((0, "test", "looks", index), (0,)) for index in range(20)]
    smallest = min(scenes, key=lambda scene: scene.actors[0].size)
    kind_of_look = {kind.look: number for number, kind in enumerate(world.KINDS)}
    # Over all rooms: in one whose walls have an actor's own colour, its outline is faint.
    pictures = [
        [
            picture.render(replace(world.scene(smallest.key, (kind_of_look[look],)), room=room))[0].astype(int)
            for room in range(world.ROOMS)
        ]
        for look in range(16)
    ]
    for one, other in itertools.combinations(range(16), 2):
        differing = np.abs(np.subtract(pictures[one], pictures[other])).max(axis=-1) > 60
        assert differing.sum() > 100 * world.ROOMS, (world.LOOKS[one], world.LOOKS[other])
