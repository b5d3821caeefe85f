"""What is said of files that are no good, and of good ones."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.media.decode import REASONS, MediaError, check, read_audio, read_frames
from tests.media_files import HEIGHT, WIDTH, film, noise, number_of, numbered_frame, tone, write_media

SIZE = 32


def reason(path: Path, need_audio: bool = True, need_video: bool = True) -> str:
    with pytest.raises(MediaError) as error:
        check(path, need_audio, need_video)
    assert error.value.path == path
    assert str(path) in str(error.value)
    assert error.value.reason in REASONS
    assert error.value.reason in str(error.value)
    return error.value.reason


def cut(path: Path, share: float, name: str) -> Path:
    data = path.read_bytes()
    target = path.with_name(name)
    target.write_bytes(data[: round(len(data) * share)])
    return target


@pytest.fixture(scope="module")
def good(folder: Path) -> Path:
    return write_media(folder / "good.mp4", frames=film(40), sound=noise(4.0, 16000))


@pytest.fixture(scope="module")
def faststart(folder: Path) -> Path:
    options = {"movflags": "faststart"}
    return write_media(folder / "fast.mp4", frames=film(40), sound=noise(4.0, 16000), container_options=options)


def test_good_files_are_described(good: Path, stereo_wav: Path) -> None:
    info = check(good, need_audio=True, need_video=True)
    assert info.has_audio and info.has_video
    assert info.duration == pytest.approx(4.0, abs=0.07)
    assert (info.width, info.height, info.fps, info.sample_rate) == (WIDTH, HEIGHT, 10.0, 16000)
    info = check(stereo_wav, need_audio=True, need_video=False)
    assert (info.has_audio, info.has_video, info.duration) == (True, False, 3.0)


def test_the_kinds_of_what_is_not_media_are_distinguished(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.mp4") == "missing"
    assert reason(tmp_path) == "not media"
    (tmp_path / "empty.mp4").touch()
    assert reason(tmp_path / "empty.mp4") == "empty"
    for name in ("text.mp4", "text.txt", "text.wav"):
        (tmp_path / name).write_text("<html>Video unavailable</html>\n" * 100)
        assert reason(tmp_path / name) == "not media", name
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    assert reason(tmp_path / "list.m3u8") == "not media"
    (tmp_path / "random.mp4").write_bytes(np.random.default_rng(0).bytes(50000))
    assert reason(tmp_path / "random.mp4") in ("not media", "undecodable")


def test_a_video_without_sound_and_a_sound_without_video(tmp_path: Path) -> None:
    mute = write_media(tmp_path / "mute.mp4", frames=film(10))
    blind = write_media(tmp_path / "blind.mp4", sound=tone(1.0, 16000))
    assert reason(mute, True, True) == reason(mute, True, False) == "no audio"
    assert reason(blind, True, True) == reason(blind, False, True) == "no video"
    assert check(mute, False, True).has_audio is False
    assert check(blind, True, False).has_video is False
    for read, path in ((lambda p: read_audio(p, 0, 1, 8000), mute), (lambda p: read_frames(p, [0], SIZE), blind)):
        with pytest.raises(MediaError, match=str(path)):
            read(path)


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_frame(3))))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(tone(1.0, 44100)[None], "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    with av.open(str(path)) as container:
        assert container.streams.video, "the file has no cover: the test tests nothing"
    assert check(path, need_audio=True, need_video=False).has_video is False
    assert reason(path) == "no video"


def test_silence_is_found_and_quiet_sound_is_not_silence(tmp_path: Path) -> None:
    silent = write_media(tmp_path / "silent.mp4", frames=film(10), sound=np.zeros(16000, np.float32))
    assert reason(silent) == "silent"
    assert check(silent, need_audio=False, need_video=True).has_audio
    quiet = write_media(tmp_path / "quiet.wav", sound=tone(1.0, 16000) * 1e-3, audio_codec="pcm_s16le")
    check(quiet, need_audio=True, need_video=False)


def test_truncated_files_are_found(tmp_path: Path, good: Path, faststart: Path, stereo_wav: Path) -> None:
    assert reason(cut(good, 0.6, "no-index.mp4")) == "truncated"
    for need in ((True, True), (True, False), (False, True)):
        assert reason(cut(faststart, 0.6, "cut.mp4"), *need) == "truncated"
    assert reason(cut(stereo_wav, 0.6, "cut.wav"), True, False) == "truncated"
    flac = write_media(tmp_path / "a.flac", sound=noise(3, 16000), audio_codec="flac")
    assert reason(cut(flac, 0.6, "cut.flac"), True, False) == "truncated"
    mkv = write_media(tmp_path / "a.mkv", frames=film(30), sound=noise(3, 16000))
    assert reason(cut(mkv, 0.6, "cut.mkv")) == "truncated"


def test_what_is_there_of_a_truncated_file_can_be_read(faststart: Path) -> None:
    path = cut(faststart, 0.6, "cut-2.mp4")
    assert 1.0 * 16000 < len(read_audio(path, 0, 10, 16000)) < 3.5 * 16000
    assert read_frames(path, [0.0, 1.0, 3.9], SIZE).shape == (3, SIZE, SIZE, 3)
    assert number_of(read_frames(path, [0.55], SIZE)[0]) == 5


def test_a_download_that_ends_in_zeros_is_truncated(faststart: Path) -> None:
    data = faststart.read_bytes()
    path = faststart.with_name("zeros.mp4")
    path.write_bytes(data[: len(data) * 6 // 10] + bytes(len(data) - len(data) * 6 // 10))
    for need in ((True, True), (True, False), (False, True)):
        assert reason(path, *need) in ("truncated", "undecodable")


def test_a_hole_in_the_sound_is_found(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", sound=noise(6.0, 16000))
    data = bytearray(path.read_bytes())
    sound = data.index(b"mdat")
    size = int.from_bytes(data[sound - 4 : sound], "big")
    data[sound + size // 3 : sound + size * 2 // 3] = bytes([255]) * (size * 2 // 3 - size // 3)
    path.write_bytes(data)
    assert reason(path, True, False) == "undecodable"


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_header_that_does_not_know_its_size_is_accepted(stereo_wav: Path, size: int) -> None:
    path = stereo_wav.with_name(f"streamed-{size}.wav")
    data = bytearray(stereo_wav.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    assert check(path, need_audio=True, need_video=False).duration == 3.0


def test_a_wav_header_that_promises_ten_times_more_is_truncated(stereo_wav: Path) -> None:
    path = stereo_wav.with_name("boast.wav")
    data = bytearray(stereo_wav.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", len(data) * 10)
    path.write_bytes(data)
    assert reason(path, True, False) == "truncated"


def test_sound_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    sound = tone(1.0, 16000)
    sound[8000] = np.nan
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, sound)
    assert reason(tmp_path / "a.wav", True, False) == "undecodable"
    with pytest.raises(MediaError, match="not numbers"):
        read_audio(tmp_path / "a.wav", 0, 1, 16000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_raises_nothing_but_media_errors(faststart: Path, data: st.DataObject) -> None:
    content = bytearray(faststart.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        junk = data.draw(st.binary(min_size=1, max_size=64))
        content[place : place + len(junk)] = junk
    path = faststart.with_name("damaged.mp4")
    path.write_bytes(content)
    for use in (
        lambda: check(path, True, True),
        lambda: read_audio(path, 0.5, 2, 8000),
        lambda: read_frames(path, [0.1, 3.0], SIZE),
    ):
        try:
            use()
        except MediaError as error:
            assert error.reason in REASONS


def test_nothing_is_left_open_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str], good: Path, faststart: Path, folder: Path
) -> None:
    (folder / "text.mp4").write_text("text")
    paths = [good, cut(faststart, 0.6, "cut-3.mp4"), folder / "text.mp4", cut(good, 0.5, "cut-4.mp4")]
    before = len(os.listdir("/proc/self/fd"))
    for path in paths * 3:
        for use in (
            lambda p: check(p, True, True),
            lambda p: read_frames(p, [1], 8),
            lambda p: read_audio(p, 0, 1, 8000),
        ):
            with contextlib.suppress(MediaError):
                use(path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert capfd.readouterr() == ("", "")


def test_media_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(MediaError("a/b.mp4", "silent", "why")))
    assert (error.path, error.reason, error.detail) == (Path("a/b.mp4"), "silent", "why")
    assert str(error) == "a/b.mp4: silent: why"
