"""The sample's precomputed features: their files, and what can be read off them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from datamodules.features import stored as reader
from datamodules.media.decode import Media
from datamodules.sample import features, howto100m, picture, timeline, world
from datamodules.sample.media import Clip, write
from tests.sample_data import SampleMaker

TINY = {"howto100m": {"train": 2}, "youcook2": {"validation": 6}, "crosstask": {"annotated": 2}}
KINDS = tuple(features.RATES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_sample: SampleMaker) -> Path:
    root = tmp_path_factory.mktemp("features")
    make_sample(root, tuple(TINY), counts=TINY)
    return root


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[timeline.Timeline]:
    clips = howto100m.lay_out(tmp_path_factory.mktemp("lists"), 1, {"train": 64})
    return [clip.scene for clip in clips]


@pytest.fixture(scope="module")
def rows(videos: list[timeline.Timeline]) -> dict[str, list[NDArray[np.float16]]]:
    """Kind -> what is seen of each video."""
    found: dict[str, list[NDArray[np.float16]]] = {kind: [] for kind in KINDS}
    for video in videos:
        frames = timeline.render_picture(video)
        for kind in KINDS:
            found[kind].append(features.describe(frames, kind))
    return found


def looks(video: timeline.Timeline, kind: str) -> NDArray[np.int64]:
    """[T] of the actor that is on the stage in the middle of each row, -1 where there is none."""
    middles = (np.arange(math.ceil(video.seconds * features.RATES[kind])) + 0.5) / features.RATES[kind] * world.FPS
    seen = np.full(len(middles), -1)
    for turn in video.turns:
        seen[(turn.start <= middles) & (middles < turn.start + world.FRAMES)] = turn.actor.look
    return seen


@pytest.mark.parametrize(("folder", "videos"), [("HowTo100M", 2), ("YouCook2", 5), ("CrossTask", 2)])
def test_every_sound_video_has_a_file_of_each_kind_as_the_reader_wants_them(root: Path, folder: str, videos: int):
    found = reader.index_features(root / folder / "features", KINDS)
    paths = {path.stem: path for path in (root / folder).rglob("*") if path.suffix in (".mp4", ".mkv")}
    assert found["2d"].keys() == found["3d"].keys() == paths.keys() and len(paths) == videos
    for id_, path in paths.items():
        with Media(path) as media:
            seconds = media.info().duration
        for kind, rate in features.RATES.items():
            assert reader.check_features(found[kind][id_], features.DIM) == pytest.approx(seconds * rate, abs=1.1)
            with np.load(found[kind][id_]) as archive:
                assert archive.files == ["features"] and archive["features"].dtype == np.float16


@pytest.mark.parametrize("flaw", ["missing", "truncated", "silent", "text"])
def test_a_video_with_a_flaw_has_no_features(tmp_path: Path, videos: list[timeline.Timeline], flaw: str):
    write(Clip(tmp_path / "a.mp4", videos[0], flaw, features=tmp_path))
    assert not list(tmp_path.glob("*.npz"))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path, videos: list[timeline.Timeline]):
    frames = timeline.render_picture(videos[0])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        features.write(tmp_path / name, "x", frames)
        features._network.cache_clear()
        features._usual.cache_clear()
    for kind in KINDS:
        first, second = (tmp_path / name / f"x_{kind}.npz" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_have_length_one_and_none_is_negative_or_like_all_others(
    rows: dict[str, list[NDArray[np.float16]]], kind: str
):
    few = np.concatenate(rows[kind][:6])
    assert np.linalg.norm(few.astype(float), axis=1) == pytest.approx(1, abs=2e-3) and few.min() >= 0
    assert (few.astype(float) @ few.astype(float).mean(axis=0)).mean() < 0.7
    assert (few > 0).any(axis=0).all(), "a number that is always 0"


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_sees_its_own_time_only(videos: list[timeline.Timeline], kind: str):
    frames = timeline.render_picture(videos[0])
    before = features.describe(frames, kind)
    every = world.FPS / features.RATES[kind]
    row = 6
    changed = frames.copy()
    changed[math.ceil(row * every) : int((row + 1) * every)] = 255 - frames[0]
    assert np.flatnonzero((features.describe(changed, kind) != before).any(axis=1)).tolist() == [row]


def test_an_actor_is_described_alike_wherever_it_stands():
    actor = world.scene((0, "test", "shift", 0), (3,)).actors[0]
    empty = np.full((1, picture.SIZE, picture.SIZE, 3), 120, np.float32).repeat(world.FRAMES, axis=0)

    def row(look: int, x: float) -> NDArray[np.float64]:
        kind = world.combination(world.NEUTRAL, look)
        moved = world.Actor(**{**vars(actor), "kind": kind, "x": x, "drift": 0.0})
        frames = empty.copy()
        picture.draw(frames, moved)
        return features.describe(picture.rounded(frames), "2d")[1].astype(float)

    here = np.stack([row(look, 0.3) for look in range(1, 16)])
    there = np.stack([row(look, 0.7) for look in range(1, 16)])
    assert (here @ there.T).argmax(axis=1).tolist() == list(range(15))


@pytest.mark.parametrize("kind", KINDS)
def test_the_look_of_the_actor_on_stage_can_be_read_off_linearly(
    videos: list[timeline.Timeline], rows: dict[str, list[NDArray[np.float16]]], kind: str
):
    seen = [looks(video, kind) for video in videos]

    def on_stage(part: slice) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        x, y = np.concatenate(rows[kind][part]).astype(np.float32), np.concatenate(seen[part])
        return x[y >= 0], y[y >= 0]

    half = len(videos) // 2
    probe = LogisticRegression(C=100, max_iter=200).fit(*on_stage(slice(half)))
    assert probe.score(*on_stage(slice(half, None))) > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_the_colour_of_an_even_wall_is_not_seen(kind: str):
    grey, blue = (np.full((16, picture.SIZE, picture.SIZE, 3), colour, np.uint8) for colour in (90, (40, 60, 230)))
    assert (features.describe(grey, kind) == features.describe(blue, kind)).all()
