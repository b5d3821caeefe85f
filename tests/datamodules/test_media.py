"""Decoding, on real files: which frame and which sample comes back, and what is said of files that are no good."""

from __future__ import annotations

import contextlib
import math
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

from datamodules.media import frame_reader
from datamodules.media.container import Container
from datamodules.media.decode import REASONS, Media, MediaError, check, read_audio, read_frames
from datamodules.media.placement import WITNESSES
from tests.media_files import HEIGHT, WIDTH, noise, number_of, numbered_frame, rotate_mp4, tone, write_media

SIZE = 32


def numbers(path: Path, times: list[float]) -> list[int]:
    return [number_of(picture) for picture in read_frames(path, times, SIZE)]


def film(count: int) -> list[np.ndarray]:
    return [numbered_frame(index) for index in range(count)]


def reason(path: Path, need_audio: bool = True, need_video: bool = True) -> str:
    with pytest.raises(MediaError) as error:
        check(path, need_audio, need_video)
    assert error.value.path == path
    assert str(path) in str(error.value)
    assert error.value.reason in REASONS
    assert error.value.reason in str(error.value)
    return error.value.reason


# Sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def stereo_wav(folder: Path) -> Path:
    path = folder / "stereo.wav"
    samples = np.round(noise(3.0, 44100, channels=2) * 2**15).astype(np.int16)
    scipy.io.wavfile.write(path, 44100, samples.T)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_wav_is_read_as_scipy_reads_it(tmp_path: Path, dtype: type) -> None:
    sound = noise(0.5, 8000)[0].clip(-1, 1)
    if dtype == np.uint8:
        samples = np.round(sound * 127 + 128).astype(dtype)
        expected = (samples.astype(float) - 128) / 128
    elif np.issubdtype(dtype, np.integer):
        samples = np.round(sound * np.iinfo(dtype).max).astype(dtype)
        expected = samples / -float(np.iinfo(dtype).min)
    else:
        samples = expected = sound.astype(dtype)
    scipy.io.wavfile.write(tmp_path / "a.wav", 8000, samples)
    got = read_audio(tmp_path / "a.wav", 0, 1, 8000)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_channels_are_averaged_not_summed_at_3_db_more(stereo_wav: Path) -> None:
    _, samples = scipy.io.wavfile.read(stereo_wav)
    got = read_audio(stereo_wav, 0, 3, 44100)
    np.testing.assert_allclose(got, samples.mean(1) / 2**15, atol=1e-7)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.floats(0, 3.2), seconds=st.floats(0.001, 1.5))
def test_a_span_of_wav_is_exactly_that_slice(stereo_wav: Path, start: float, seconds: float) -> None:
    _, samples = scipy.io.wavfile.read(stereo_wav)
    first = round(start * 44100)
    expected = samples.mean(1)[first : first + round(seconds * 44100)] / 2**15
    np.testing.assert_allclose(read_audio(stereo_wav, start, seconds, 44100), expected, atol=1e-7)


@pytest.mark.parametrize("sample_rate", [16000, 48000, 22050, 11025])
@pytest.mark.parametrize("start", [0.0, 0.0123, 1.0, 1.23456, 2.7])
def test_a_resampled_span_is_that_slice_of_the_resampled_whole(
    stereo_wav: Path, start: float, sample_rate: int
) -> None:
    whole = read_audio(stereo_wav, 0, 10, sample_rate)
    first = round(start * sample_rate)
    expected = whole[first : first + round(0.5 * sample_rate)]
    np.testing.assert_allclose(read_audio(stereo_wav, start, 0.5, sample_rate), expected, atol=1e-6)


def test_resampling_agrees_with_scipy_on_sound_below_the_new_nyquist(tmp_path: Path) -> None:
    low = scipy.signal.firwin(501, 6000, fs=44100)
    sound = scipy.signal.lfilter(low, 1, noise(1.0, 44100)[0]).astype(np.float32)
    scipy.io.wavfile.write(tmp_path / "a.wav", 44100, sound)
    got = read_audio(tmp_path / "a.wav", 0, 1, 16000)
    expected = scipy.signal.resample_poly(sound, 160, 441)
    assert len(got) == 16000
    inner = slice(200, -200)
    np.testing.assert_allclose(got[inner], expected[inner], atol=2e-3)


AUDIO_FILES = {
    "a.flac": ("flac", 44100, 0.0),
    "a.m4a": ("aac", 44100, 1e-3),
    "a.mp4": ("aac", 16000, 1e-3),
    "a.ogg": ("libopus", 48000, 1e-3),
    "a.mp3": ("libmp3lame", 44100, 1e-3),
    "a.mov": ("pcm_s16le", 44100, 0.0),
}


@pytest.fixture(scope="module")
def audio_file(folder: Path):
    def make(name: str) -> Path:
        codec, rate, _ = AUDIO_FILES[name]
        path = folder / name
        if not path.exists():
            options = {"aac_pns": "0"} if codec == "aac" else {}
            write_media(path, sound=noise(4.0, rate), rate=rate, audio_codec=codec, audio_options=options)
        return path

    return make


@pytest.mark.parametrize("name", AUDIO_FILES)
@pytest.mark.parametrize("start", [0.01, 1.7, 3.3])
def test_a_span_of_any_codec_is_that_slice_of_the_whole(audio_file, name: str, start: float) -> None:
    path, (_, rate, tolerance) = audio_file(name), AUDIO_FILES[name]
    first = round(start * rate)
    whole = read_audio(path, 0, 10, rate)
    got = read_audio(path, start, 0.5, rate)
    assert len(got) == round(0.5 * rate)
    np.testing.assert_allclose(got, whole[first : first + len(got)], atol=tolerance)


@pytest.mark.parametrize("name", AUDIO_FILES)
def test_encoded_sound_comes_back_at_its_place(audio_file, name: str) -> None:
    """Against what was written: encoder delay (AAC's priming, Opus' pre-skip, MP3's) must have been removed."""
    path, (_, rate, _) = audio_file(name), AUDIO_FILES[name]
    written = noise(4.0, rate)[0]
    got = read_audio(path, 1.0, 1.0, rate)
    lags = scipy.signal.correlate(written[rate // 2 : rate // 2 * 5], got, "valid")
    assert lags.argmax() == rate // 2
    assert len(read_audio(path, 0, 10, rate)) == pytest.approx(4 * rate, abs=1024)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mov"])
@pytest.mark.parametrize("start", [0.0, 1.5])
def test_a_tone_is_heard_at_its_onset_and_frequency(tmp_path: Path, suffix: str, start: float) -> None:
    path = tmp_path / f"a.{suffix}"
    write_media(path, frames=film(30), sound=tone(3.0, 44100, onset=2.0), rate=44100)
    got = read_audio(path, start, 1.2, 16000)
    if start == 0:
        assert np.abs(got).max() < 0.02
        return
    onset = np.flatnonzero(np.abs(got) > 0.1)[0] / 16000 + start
    # MPEG-TS does not say what of AAC is priming (1024 samples); Matroska counts milliseconds.
    assert onset == pytest.approx(2.0, abs=0.03 if suffix == "ts" else 0.003)
    heard = got[round((2.1 - start) * 16000) :]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert spectrum.argmax() * 16000 / len(heard) == pytest.approx(1000, abs=2)
    assert np.abs(heard).max() == pytest.approx(0.5, abs=0.03)


def test_sound_that_begins_after_the_picture_is_late_and_zero_before(tmp_path: Path) -> None:
    path = tmp_path / "late.mp4"
    write_media(path, frames=film(30), sound=tone(2.0, 16000), audio_start=1.0)
    got = read_audio(path, 0, 3, 16000)
    onset = np.flatnonzero(np.abs(got) > 0.1)[0] / 16000
    assert onset == pytest.approx(1.0, abs=0.003)
    assert np.abs(got[:14900]).max() == 0  # AAC's priming comes 1024 samples before


def test_sound_is_cut_where_it_ends_and_never_padded(stereo_wav: Path) -> None:
    assert len(read_audio(stereo_wav, 2.5, 1.0, 44100)) == 22050
    assert len(read_audio(stereo_wav, 2.5, 1.0, 16000)) == 8000
    assert len(read_audio(stereo_wav, 3.0, 1.0, 16000)) == 0
    assert len(read_audio(stereo_wav, 300.0, 1.0, 16000)) == 0
    assert read_audio(stereo_wav, 300.0, 1.0, 16000).dtype == np.float32


@pytest.mark.parametrize(
    "arguments", [(-1, 1, 8000), (0, 0, 8000), (0, math.nan, 8000), (math.inf, 1, 8000), (0, 1, 0)]
)
def test_senseless_spans_are_value_errors(stereo_wav: Path, arguments: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError):
        read_audio(stereo_wav, *arguments)


# Frames

VIDEO_FILES = {
    "b-frames.mp4": dict(video_options={"g": "12", "bf": "3", "b-pyramid": "normal", "sc_threshold": "0"}),
    "one-gop.mp4": dict(video_options={"g": "250", "bf": "2", "sc_threshold": "0"}),
    "open-gop.mp4": dict(video_options={"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3:scenecut=0"}),
    "intra-refresh.mp4": dict(video_options={"x264-params": "intra-refresh=1:keyint=10:bframes=0"}),
    "a.mkv": dict(video_options={"g": "12", "bf": "3"}),
    "a.ts": dict(video_options={"g": "12", "bf": "3"}),
    "a.flv": dict(video_options={"g": "12", "bf": "3"}),
    "mpeg4.avi": dict(video_codec="mpeg4"),
    "a.webm": dict(video_codec="libvpx-vp9", video_options={"g": "12", "deadline": "realtime", "cpu-used": "8"}),
}
FPS, COUNT = 15, 100


@pytest.fixture(scope="module")
def video_file(folder: Path):
    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            write_media(path, frames=film(COUNT), fps=FPS, **VIDEO_FILES[name])
        return path

    return make


@pytest.mark.parametrize("name", VIDEO_FILES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=8))
def test_each_time_gives_the_frame_shown_then(video_file, name: str, indices: list[int]) -> None:
    """In any order, with repeats; in the middle of a frame's time and at its very start."""
    path = video_file(name)
    assert numbers(path, [(index + 0.5) / FPS for index in indices]) == indices
    assert numbers(path, [index / FPS for index in indices]) == indices


@pytest.mark.parametrize("name", VIDEO_FILES)
def test_the_pixels_do_not_depend_on_what_else_is_read(video_file, name: str) -> None:
    """Frames that are jumped over, dropped undecoded or sought to leave the wanted ones as they are."""
    path = video_file(name)
    whole = read_frames(path, [(index + 0.5) / FPS for index in range(COUNT)], SIZE)
    for index in (0, 1, 6, 37, 61, 98, 99):
        np.testing.assert_array_equal(read_frames(path, [(index + 0.5) / FPS], SIZE)[0], whole[index])


def test_frames_equal_a_plain_decoding_of_everything(video_file) -> None:
    path = video_file("b-frames.mp4")
    with av.open(str(path)) as container:
        plain = [
            frame.to_ndarray(width=SIZE, height=SIZE, format="rgb24", interpolation="BICUBIC")
            for frame in container.decode(video=0)
        ]
    np.testing.assert_array_equal(read_frames(path, [(index + 0.5) / FPS for index in range(COUNT)], SIZE), plain)


def test_times_outside_give_the_first_and_the_last_frame(video_file) -> None:
    for name in VIDEO_FILES:
        assert numbers(video_file(name), [1e9, -5.0, 1e300, COUNT / FPS + 1, 0.0]) == [99, 0, 99, 99, 0], name


def test_frames_that_begin_after_the_sound_are_late(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", frames=film(20), video_start=1.0, sound=tone(3.0, 16000))
    assert numbers(path, [0.0, 0.9, 1.05, 1.55]) == [0, 0, 0, 5]


def test_mpeg_ts_times_count_from_its_first_stamp(tmp_path: Path) -> None:
    options = {"output_ts_offset": "100"}
    path = write_media(
        tmp_path / "a.ts", frames=film(30), sound=tone(3.0, 44100, 1.0), rate=44100, container_options=options
    )
    with av.open(str(path)) as container:
        assert container.start_time > 90e6
        video = container.streams.video[0]
        late = float(video.start_time * video.time_base) - container.start_time / av.time_base
    assert 0 <= late < 0.1
    assert numbers(path, [late + 0.25, late + 2.55]) == [2, 25]
    onset = np.flatnonzero(np.abs(read_audio(path, 0.0, 2.0, 16000)) > 0.1)[0] / 16000
    assert onset == pytest.approx(1.0, abs=0.03)


def test_colours_are_right_and_sizes_are_squashed(tmp_path: Path) -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, : WIDTH // 2] = (200, 40, 30)
    picture[:, WIDTH // 2 :] = (20, 60, 180)
    path = write_media(tmp_path / "a.mp4", frames=[picture] * 3)
    got = read_frames(path, [0.1], 224)
    assert got.shape == (1, 224, 224, 3) and got.dtype == np.uint8
    np.testing.assert_allclose(got[0, 20:-20, 20:90].mean((0, 1)), (200, 40, 30), atol=6)
    np.testing.assert_allclose(got[0, 20:-20, 134:-20].mean((0, 1)), (20, 60, 180), atol=6)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_phone_s_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    picture = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2] = 230  # the upper left corner; turned clockwise it comes to the upper right
    path = write_media(tmp_path / "a.mp4", frames=[picture] * 3)
    rotate_mp4(path, degrees)
    got = read_frames(path, [0.0], SIZE)[0].mean(-1)
    corners = [got[8, 8], got[8, -8], got[-8, -8], got[-8, 8]]  # clockwise
    assert int(np.argmax(corners)) == degrees // 90


def test_sound_and_frames_from_one_opening_equal_those_from_two(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", frames=film(40), sound=noise(4, 16000))
    with Media(path) as media:
        sound, frames = media.audio(0.5, 2, 16000), media.frames([0.5, 1.5], SIZE)
        again = media.audio(0.5, 2, 16000)
    np.testing.assert_array_equal(sound, read_audio(path, 0.5, 2, 16000))
    np.testing.assert_array_equal(sound, again)
    np.testing.assert_array_equal(frames, read_frames(path, [0.5, 1.5], SIZE))


def test_no_times_give_no_frames(video_file) -> None:
    assert read_frames(video_file("one-gop.mp4"), [], SIZE).shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sparse_frames_of_a_long_video_are_sought_not_decoded_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    frames = [numbered_frame(index % 256) for index in range(600)]
    path = write_media(tmp_path / f"a.{suffix}", frames=frames, fps=5, video_options={"g": "10", "preset": "ultrafast"})
    sent = []
    decode = Container.decode
    monkeypatch.setattr(Container, "decode", lambda *args: sent.append(1) or decode(*args))
    read = []
    next_packet = frame_reader.FrameReader._next_packet
    monkeypatch.setattr(frame_reader.FrameReader, "_next_packet", lambda self: read.append(1) or next_packet(self))
    times = [3.1, 41.1, 77.1, 118.9]
    assert numbers(path, times) == [int(time * 5) % 256 for time in times]
    assert len(sent) < 60
    assert len(read) < 200


def test_sparse_frames_are_right_where_seeking_lands_between_keyframes(tmp_path: Path) -> None:
    frames = [numbered_frame(index % 256) for index in range(400)]
    path = write_media(tmp_path / "a.ts", frames=frames, fps=25, video_codec="mpeg2video", video_options={"g": "60"})
    dense = read_frames(path, [index / 25 + 0.02 for index in range(400)], SIZE)
    for index in (290, 333, 399):
        np.testing.assert_array_equal(read_frames(path, [index / 25 + 0.02], SIZE)[0], dense[index])


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Packets sent to decoders, and frames that came back."""
    counts = {"sent": 0, "back": 0}
    decode = Container.decode

    def counted(self: Container, kind: str, packet: av.Packet | None) -> list:
        frames = decode(self, kind, packet)
        counts["sent"] += 1
        counts["back"] += len(frames)
        return frames

    monkeypatch.setattr(Container, "decode", counted)
    return counts


def test_frames_that_nothing_refers_to_are_not_decoded_unless_wanted(video_file, traffic: dict[str, int]) -> None:
    read_frames(video_file("one-gop.mp4"), [90.5 / FPS], SIZE)
    assert traffic["sent"] <= 96
    assert traffic["back"] < 70


@pytest.mark.parametrize("name", VIDEO_FILES)
def test_no_packet_is_decoded_twice(video_file, traffic: dict[str, int], name: str) -> None:
    read_frames(video_file(name), [(index + 0.5) / FPS for index in range(COUNT)], SIZE)
    assert traffic["sent"] <= COUNT + 1


def test_keyframes_between_are_used(video_file, traffic: dict[str, int]) -> None:
    """Of groups of 12 frames, the wanted frame's is decoded and no other."""
    read_frames(video_file("b-frames.mp4"), [95.5 / FPS], SIZE)
    assert traffic["sent"] <= 15


def test_no_more_sound_is_decoded_than_is_needed(audio_file, traffic: dict[str, int]) -> None:
    read_audio(audio_file("a.m4a"), 2.0, 0.2, 16000)
    assert traffic["back"] <= 0.7 * 44100 / 1024 + 5 + WITNESSES


# Files that are no good


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
