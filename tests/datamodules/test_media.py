"""Decoding, on real files: which frame and which sample comes back."""

from __future__ import annotations

import math
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
from datamodules.media.decode import Media, read_audio, read_frames
from datamodules.media.placement import WITNESSES
from tests.media_files import HEIGHT, WIDTH, film, noise, number_of, numbered_frame, rotate_mp4, tone, write_media

SIZE = 32


def numbers(path: Path, times: list[float]) -> list[int]:
    return [number_of(picture) for picture in read_frames(path, times, SIZE)]


# Sound


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
