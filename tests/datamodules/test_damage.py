"""Damaged files: no crash, no hang, no leak, and the reason of each; `tests/benchmarks/damage.py` takes 2,000."""

from __future__ import annotations

import io
import os
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import scipy.io.wavfile

from datamodules.media.container import MAX_PIXELS, _until_damage
from datamodules.media.decode import REASONS, MediaError, check, read_audio, read_frames
from datamodules.media.headers import _riff_chunks
from tests.datamodules.damage import (
    BREAKS,
    CONTAINERS,
    absurd_duration,
    absurd_frame_size,
    damaged_files,
    good_file,
)
from tests.datamodules.examine import FRAME_TIMES, Outcome, examine_all
from tests.media_files import noise, numbered_frame, write_media

pytestmark = pytest.mark.slow

FILES_A_CONTAINER = 3
LIMIT_SECONDS = 5.0
MEGABYTE = 1_000_000


class Case(NamedTuple):
    container: str
    name: str
    good: Path
    outcome: Outcome


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    files = list(damaged_files(tmp_path_factory.mktemp("damage"), FILES_A_CONTAINER))
    outcomes = examine_all([broken for *_, broken in files], LIMIT_SECONDS)
    return [Case(*file[:3], outcome) for file, outcome in zip(files, outcomes, strict=True)]


def test_every_file_is_read_or_has_its_reason(cases: list[Case]) -> None:
    assert len(cases) == FILES_A_CONTAINER * len(CONTAINERS) * len(BREAKS) == 150
    odd = [c.outcome for c in cases for verdict in c.outcome.verdicts if verdict not in ("read", *REASONS)]
    assert not odd
    assert {len(c.outcome.verdicts) for c in cases} == {3}


@pytest.mark.parametrize(
    ("name", "checked", "sound", "frames"),
    [
        ("empty", {"empty"}, {"empty"}, {"empty"}),
        ("wrong extension", {"read"}, {"read"}, {"read"}),
        ("no audio", {"no audio"}, {"no audio"}, {"read"}),
        ("no video", {"no video"}, {"read"}, {"no video"}),
        ("zero frames", {"undecodable", "no video"}, {"read"}, {"undecodable", "no video"}),
    ],
)
def test_the_reason_is_the_one_that_was_made(
    cases: list[Case], name: str, checked: set[str], sound: set[str], frames: set[str]
) -> None:
    outcomes = [c.outcome for c in cases if c.name == name]
    assert len(outcomes) == FILES_A_CONTAINER * len(CONTAINERS)
    for outcome in outcomes:
        assert outcome.check in checked, outcome
        assert outcome.sound in sound, outcome
        assert outcome.frames in frames, outcome


def test_what_is_accepted_is_as_long_as_it_was(cases: list[Case]) -> None:
    """Where the header says it: MPEG-TS does not say its length, and damage may hit any stamp."""
    for c in cases:
        if c.outcome.check == "read" and c.name != "flip bytes" and c.container != "ts":
            whole = check(c.good, need_audio=True, need_video=True).duration
            assert c.outcome.duration == pytest.approx(whole, abs=0.55), c


def test_damage_to_the_header_alone_leaves_sound_and_frames_as_they_were(cases: list[Case]) -> None:
    compared = set()
    for c in cases:
        if c.name in ("wrong extension", "absurd frame size") and c.outcome.check == "read":
            frames = (read_frames(path, FRAME_TIMES, 32) for path in (c.good, c.outcome.path))
            np.testing.assert_array_equal(*frames, err_msg=str(c))
            sound = (read_audio(path, 0, 10, 16000) for path in (c.good, c.outcome.path))
            np.testing.assert_array_equal(*sound, err_msg=str(c))
            compared.add((c.name, c.container))
    assert {container for name, container in compared if name == "wrong extension"} == set(CONTAINERS)
    assert {container for name, container in compared if name == "absurd frame size"} >= {"mp4", "mkv", "avi"}


def test_neither_memory_nor_file_handles_leak(cases: list[Case]) -> None:
    outcomes = [c.outcome for c in cases]
    assert len({outcome.handles for outcome in outcomes}) == 1
    assert outcomes[-1].memory - outcomes[len(outcomes) // 2].memory < 30 * MEGABYTE
    assert outcomes[-1].peak < 500 * MEGABYTE


def _crash(path: Path) -> Outcome:
    if path.name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return Outcome(path, "read")


def _hang(path: Path) -> Outcome:
    if path.name == "hang":
        time.sleep(600)
    return Outcome(path, "read")


def test_crashes_and_hangs_are_reported_with_the_name_and_the_next_file_is_examined() -> None:
    found = list(examine_all([Path("a"), Path("crash"), Path("b")], 60, _crash))
    assert [(str(outcome.path), outcome.check) for outcome in found] == [
        ("a", "read"),
        ("crash", "crash"),
        ("b", "read"),
    ]
    found = list(examine_all([Path("hang")], 0.2, _hang))
    assert [(str(outcome.path), outcome.check) for outcome in found] == [("hang", "hang")]


# What the damage found


def reason(path: Path, need_audio: bool, need_video: bool) -> str:
    with pytest.raises(MediaError) as error:
        check(path, need_audio, need_video)
    return error.value.reason


def test_a_frame_size_in_the_codec_is_bounded_before_anything_is_allocated(tmp_path: Path) -> None:
    good = good_file(tmp_path, "ts", 0)
    path = absurd_frame_size(good, tmp_path / "huge.ts", np.random.default_rng(0))
    with av.open(str(path), options={"max_pixels": str(MAX_PIXELS)}) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (16000, 16000)
    assert reason(path, False, True) == "undecodable"
    check(path, need_audio=True, need_video=False)


def test_a_jump_of_hours_in_the_stamps_is_no_length(tmp_path: Path) -> None:
    path = absurd_duration(good_file(tmp_path, "ts", 0), tmp_path / "jump.ts", np.random.default_rng(0))
    with av.open(str(path)) as container:
        stamps = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size]
    assert max(stamps) - min(stamps) > 3600
    assert reason(path, True, False) == reason(path, False, True) == "undecodable"


def test_a_truncated_avi_is_found_though_its_index_is_lost(tmp_path: Path) -> None:
    frames = [numbered_frame(index) for index in range(30)]
    path = write_media(
        tmp_path / "a.avi", frames=frames, video_codec="mpeg4", sound=noise(3.0, 16000), audio_codec="libmp3lame"
    )
    data = path.read_bytes()
    check(path, need_audio=True, need_video=True)
    for share in (0.6, 0.7, 0.8):
        path.write_bytes(data[: round(len(data) * share)])
        for need in ((True, True), (True, False), (False, True)):
            assert reason(path, *need) == "truncated"
    path.write_bytes(data[: data.rindex(b"idx1")])
    check(path, need_audio=True, need_video=True)


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_a_truncated_ogg_is_found(tmp_path: Path, codec: str) -> None:
    path = write_media(tmp_path / "a.ogg", sound=noise(3.0, 48000), rate=48000, audio_codec=codec)
    data = path.read_bytes()
    check(path, need_audio=True, need_video=False)
    for end in (len(data) * 6 // 10, len(data) - 1, data.rindex(b"OggS")):
        path.write_bytes(data[:end])
        assert reason(path, True, False) == "truncated"


def test_sound_thousands_of_times_too_loud_is_refused(tmp_path: Path) -> None:
    sound = noise(1.0, 16000)[0]
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, 5 * sound)
    check(tmp_path / "a.wav", need_audio=True, need_video=False)
    sound[5000] = -2e4
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, sound)
    assert reason(tmp_path / "a.wav", True, False) == "undecodable"
    with pytest.raises(MediaError, match="times full scale"):
        read_audio(tmp_path / "a.wav", 0, 1, 8000)


@pytest.mark.parametrize("count", [1, 5, 21, 22])
def test_sound_shorter_than_the_resamplers_filter_is_no_error(tmp_path: Path, count: int) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", 48000, noise(1.0, 48000)[0, :count])
    got = read_audio(tmp_path / "a.wav", 0, 1, 16000)
    assert got.dtype == np.float32
    assert len(got) <= count


def test_streams_that_appear_on_the_way_end_the_packets_and_raise_nothing() -> None:
    """PyAV raises IndexError after the last packet; it depends on what lies in freed memory, so no file is sure to."""

    def packets() -> Iterator[av.Packet]:
        yield av.Packet(b"a")
        raise IndexError

    assert [packet and bytes(packet) for packet in _until_damage(packets())] == [b"a", None]


def test_holes_in_a_riff_file_are_not_walked_through() -> None:
    chunks = b"RIFF\0\0\0\0AVI LIST\4\0\0\0hdrl" + b"strh" + struct.pack("<I", 3) + b"abc\0" + b"JUNK\0\0\0\0"
    found = list(_riff_chunks(io.BytesIO(chunks + bytes(8000) + b"data\4\0\0\0abcd")))
    assert found == [(b"LIST", 4), (b"strh", 3), (b"JUNK", 0)]
