"""One clock for a file: stamps that begin late, sound that begins late or has holes, and which of several tracks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from datamodules.media.decode import Media, MediaError, check, read_audio, read_frames
from tests.media_files import HEIGHT, WIDTH, number_of, numbered_frame, tone, write_media

RATE = 44100
CODECS = {
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "flv": ("flv", "aac"),
    "nut": ("mpeg4", "aac"),
    "wmv": ("wmv2", "wmav2"),
    "ts": ("mpeg2video", "mp2"),
    "avi": ("mpeg4", "libmp3lame"),
}
"""Container -> codecs of pictures and sound."""


def av_file(path: Path, seconds: float = 3.0, **options) -> Path:
    video, audio = CODECS[path.suffix[1:]]
    rate = 48000 if audio == "libopus" else RATE
    frames = [numbered_frame(index) for index in range(round(seconds * 10))]
    sound = tone(seconds, rate, 0.5)
    return write_media(
        path,
        frames=frames,
        video_codec=video,
        sound=sound,
        rate=rate,
        audio_codec=audio,
        audio_options={"b": "128000"},  # WMA's encoder has no default
        **options,
    )


@pytest.mark.parametrize("begin", [1.9, 20.0, 1000.0])
@pytest.mark.parametrize("suffix", sorted(CODECS.keys() - {"avi"}))
def test_a_whole_file_whose_stamps_begin_late_is_whole(tmp_path: Path, suffix: str, begin: float) -> None:
    path = av_file(tmp_path / f"a.{suffix}", container_options={"output_ts_offset": str(begin)})
    for need in ((True, True), (True, False), (False, True)):
        assert check(path, *need).duration == pytest.approx(3.0, abs=0.15)
    with Media(path) as media:
        assert media.info().duration == pytest.approx(3.0, abs=0.35)
    onset = np.flatnonzero(np.abs(read_audio(path, 0, 2, 16000)) > 0.1)[0] / 16000
    assert onset == pytest.approx(0.5, abs=0.06)
    assert number_of(read_frames(path, [2.05 + 0.05 * (suffix == "wmv")], 32)[0]) in (19, 20)


@pytest.mark.parametrize("begin", [0.0, 1000.0])
def test_half_a_matroska_file_is_truncated_wherever_its_stamps_begin(tmp_path: Path, begin: float) -> None:
    path = av_file(tmp_path / "a.mkv", container_options={"output_ts_offset": str(begin)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for need in ((True, True), (True, False), (False, True)):
        with pytest.raises(MediaError, match="truncated"):
            check(path, *need)


def test_an_avi_whose_sound_or_pictures_begin_late_is_whole_and_half_of_it_is_not(tmp_path: Path) -> None:
    """The writer fills the time before with empty chunks, which count for the length that the header says."""
    for late in ("audio_start", "video_start"):
        path = av_file(tmp_path / f"{late}.avi", **{late: 2.0})
        for need in ((True, True), (True, False), (False, True)):
            check(path, *need)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(MediaError, match="truncated"):
            check(path, True, False)


def with_hole(path: Path, codec: str, rate: int, begin: float, hole: tuple[float, float], end: float) -> np.ndarray:
    """Writes noise from `begin` to `end` seconds without that of the hole, beside a film that begins at 0.

    Returns:
        float32 [T]: the sound as it was before encoding.
    """
    sound = (0.2 * np.random.default_rng(0).standard_normal(round(end * rate))).astype(np.float32)
    sound[: round(begin * rate)] = 0
    sound[round(hole[0] * rate) : round(hole[1] * rate)] = 0
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=10)
        film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if codec == "aac":
            stream.options = {"aac_pns": "0"}  # its noise is drawn anew in each decoder
        for index in range(round(end * 10)):
            picture = av.VideoFrame.from_ndarray(numbered_frame(index))
            picture.pts, picture.time_base = index, Fraction(1, 10)
            container.mux(film.encode(picture))
        container.mux(film.encode(None))
        spans = [(begin, hole[0]), (hole[1], end)]
        for first, last in ((round(a * rate), round(b * rate)) for a, b in spans):
            size = stream.codec_context.frame_size or 1024
            for at in range(first, last, size):
                piece = sound[None, at : min(at + size, last)]
                whole = np.round(piece * 2**15).astype(np.int16) if codec == "pcm_s16le" else piece
                frame = av.AudioFrame.from_ndarray(whole, "s16" if codec == "pcm_s16le" else "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sound


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.mkv", "aac"), ("a.mp4", "aac")])
@pytest.mark.parametrize("sample_rate", [RATE, 16000])
def test_a_window_in_a_hole_or_before_late_sound_is_zeros_and_as_long_as_any(
    tmp_path: Path, name: str, codec: str, sample_rate: int
) -> None:
    with_hole(tmp_path / name, codec, RATE, 1.5, (3.0, 5.0), 6.5)
    for start in (0.0, 0.3, 0.7, 3.3, 3.7, 4.2):
        got = read_audio(tmp_path / name, start, 0.6, sample_rate)
        assert len(got) == round(0.6 * sample_rate), start
        assert not got.any(), start
    for start in (1.6, 2.4, 5.3):
        assert np.abs(read_audio(tmp_path / name, start, 0.5, sample_rate)).max() > 0.1, start
    assert len(read_audio(tmp_path / name, 7.0, 0.5, sample_rate)) == 0
    check(tmp_path / name, need_audio=True, need_video=False)


def two_of_each(path: Path, default: int | None) -> Path:
    """Two sounds (500 Hz, 2 kHz) and two films (number 3, number 200), of which the `default`-th ones are marked."""
    with av.open(str(path), "w") as container:
        films = [container.add_stream("mpeg4", rate=10) for _ in range(2)]
        sounds = [container.add_stream("aac", rate=16000, layout="mono") for _ in range(2)]
        for index, (film, sound) in enumerate(zip(films, sounds, strict=True)):
            film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for stream in (film, sound):
                stream.disposition = Disposition.default if index == default else Disposition(0)
        container.start_encoding()
        for film, sound, number, hertz in zip(films, sounds, (3, 200), (500, 2000), strict=True):
            for index in range(20):
                picture = av.VideoFrame.from_ndarray(numbered_frame(number))
                picture.pts, picture.time_base = index, Fraction(1, 10)
                container.mux(film.encode(picture))
            container.mux(film.encode(None))
            frame = av.AudioFrame.from_ndarray(tone(2.0, 16000, hertz=hertz)[None], "fltp", "mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux([*sound.encode(frame), *sound.encode(None)])
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(("default", "read"), [(None, 0), (0, 0), (1, 1)])
def test_the_default_track_is_read_else_the_first_in_sound_and_in_pictures(
    tmp_path: Path, suffix: str, default: int | None, read: int
) -> None:
    path = two_of_each(tmp_path / f"a.{suffix}", default)
    got = read_audio(path, 0.5, 1.0, 16000)
    assert np.abs(np.fft.rfft(got)).argmax() == pytest.approx((500, 2000)[read], abs=2)
    assert number_of(read_frames(path, [1.0], 32)[0]) == (3, 200)[read]
