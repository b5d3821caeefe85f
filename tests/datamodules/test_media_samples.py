"""Sound to the sample: the whole file lies as plain decoding placed by its stamps, and a window is a slice of it."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io.wavfile

from datamodules.media.decode import read_audio
from datamodules.media.placement import on_grid, place
from tests.datamodules.test_media_clock import with_hole
from tests.media_files import write_media

RATE = 44100


def claps(seconds: float, rate: int) -> np.ndarray:
    """float32 [T]: bursts of noise, at which codecs change their block size."""
    t = np.arange(round(seconds * rate)) / rate
    burst = np.random.default_rng(0).standard_normal(len(t)) * 0.3 * np.exp(-8 * (t % 0.4))
    return burst.clip(-1, 1).astype(np.float32)


def plainly(path: Path) -> list[tuple[int, np.ndarray]]:
    """(Stamp in samples, sound [n]) of the frames that FFmpeg decodes, in their order."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [
            (round(frame.pts * stream.time_base * frame.sample_rate), frame.to_ndarray().mean(0))
            for frame in container.decode(stream)
        ]


def windows_equal(path: Path, whole: np.ndarray, rate: int, tolerance: float = 1e-4, count: int = 12) -> None:
    for start in np.random.default_rng(1).uniform(0, len(whole) / rate - 0.2, count):
        first = round(start * rate)
        expected = whole[first : first + round(0.3 * rate)]
        got = read_audio(path, float(start), 0.3, rate)
        assert len(got) == len(expected), start
        np.testing.assert_allclose(got, expected, atol=tolerance, err_msg=str(start))


FILES = {
    "a.wav": "pcm_s16le",
    "a.mkv": "pcm_s16le",
    "b.mov": "pcm_s16le",
    "b.avi": "pcm_s16le",
    "a.flac": "flac",
    "c.mkv": "flac",
    "c.ogg": "flac",
    "a.mp3": "libmp3lame",
    "d.mkv": "libmp3lame",
    "d.avi": "libmp3lame",
    "d.ts": "libmp3lame",
    "e.m4a": "aac",
    "e.mkv": "aac",
    "e.flv": "aac",
    "e.ts": "aac",
    "e.aac": "aac",
    "f.ogg": "libopus",
    "f.webm": "libopus",
    "f.mp4": "libopus",
}


@pytest.mark.parametrize("name", FILES)
def test_the_whole_is_plain_decoding_and_a_window_is_a_slice_of_it(tmp_path: Path, name: str) -> None:
    codec = FILES[name]
    rate = 48000 if codec == "libopus" else RATE
    options = {"aac": {"aac_pns": "0"}}.get(codec, {})  # its noise is drawn anew in each decoder
    path = write_media(tmp_path / name, sound=claps(4, rate), rate=rate, audio_codec=codec, audio_options=options)
    whole = read_audio(path, 0, 10, rate)
    expected = np.concatenate([sound for _, sound in plainly(path)])
    begin = len(whole) - len(expected)
    assert 0 <= begin <= 0.005 * rate  # Matroska with Vorbis begins at its first packet, which has no sound
    if expected.dtype == np.int16:
        expected = expected / 2**15
    if not np.issubdtype(expected.dtype, np.integer) and np.abs(expected).max() <= 2:
        np.testing.assert_allclose(whole[begin:], expected, atol=1e-6)
    windows_equal(path, whole, rate)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="PyAV has no Vorbis encoder: needs the program ffmpeg")
@pytest.mark.parametrize("suffix", ["ogg", "mkv"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_vorbis_lies_by_the_sum_of_its_samples_where_block_sizes_change(tmp_path: Path, suffix: str, rate: int) -> None:
    """Its stamps in Ogg are wrong there, and stay so in Matroska when they are copied."""
    path = tmp_path / "a.ogg"
    scipy.io.wavfile.write(tmp_path / "a.wav", rate, claps(6, rate))
    command = [
        "ffmpeg",
        "-loglevel",
        "error",
        "-i",
        tmp_path / "a.wav",
        "-c:a",
        "libvorbis",
        "-page_duration",
        "300000",
    ]
    subprocess.run([*command, path], check=True)
    frames = plainly(path)
    assert any(stamp + len(sound) != after for (stamp, sound), (after, _) in pairwise(frames)), "tests nothing"
    if suffix == "mkv":
        path = copied(path, tmp_path / "a.mkv")
    expected = np.concatenate([sound for _, sound in frames])
    whole = read_audio(path, 0, 10, rate)
    begin = len(whole) - len(expected)
    assert 0 <= begin <= 0.02 * rate
    np.testing.assert_allclose(whole[begin:], expected, atol=1e-6)
    windows_equal(path, whole, rate, count=30)


def copied(source: Path, target: Path, later: int = 0, after: int = 0) -> Path:
    """The packets of a file in another one; those stamped after `after` come `later`, in ticks."""
    with av.open(str(source)) as container, av.open(str(target), "w") as sink:
        stream = container.streams.audio[0]
        copy = sink.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is None:
                continue
            if packet.pts > after:
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
            packet.stream = copy
            sink.mux(packet)
    return target


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("later", [330, -765, 3000])
def test_sound_is_where_it_is_stamped_though_one_packet_is_stamped_longer_or_shorter(
    tmp_path: Path, suffix: str, later: int
) -> None:
    options = {"aac_pns": "0"}
    plain = write_media(tmp_path / "plain.mp4", sound=claps(6, 48000), rate=48000, audio_options=options)
    path = copied(plain, tmp_path / f"a.{suffix}", later=later)
    whole = read_audio(path, 0, 10, 48000)
    straight = read_audio(plain, 0, 10, 48000)
    # Matroska has no stamps before 0: the priming counts as sound.
    shift = later + (1024 if suffix == "mkv" else 0)
    at = 48000 + np.arange(-60, 61)
    errors = [np.abs(whole[k : k + 48000] - straight[48000 - shift : 96000 - shift]).max() for k in at]
    assert abs(at[int(np.argmin(errors))] - 48000) <= (0 if suffix == "mp4" else 48)  # Matroska rounds to 1 ms
    assert min(errors) < 1e-5
    windows_equal(path, whole, 48000, count=20)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("b.mkv", "aac"), ("a.mp4", "aac")])
@pytest.mark.parametrize("hole", [(1.5, 2.2345), (1.5, 1.53), (1.234567, 3.1)])
def test_windows_around_a_hole_are_slices_of_the_whole(
    tmp_path: Path, name: str, codec: str, hole: tuple[float, float]
) -> None:
    with_hole(tmp_path / name, codec, RATE, 0.3, hole, 5.0)
    whole = read_audio(tmp_path / name, 0, 10, RATE)
    windows_equal(tmp_path / name, whole, RATE, 2e-2 if codec == "aac" else 0, count=30)


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_windows_of_sound_that_ffmpeg_seeks_by_bytes_are_slices_of_the_whole(tmp_path: Path, codec: str) -> None:
    path = write_media(tmp_path / "a.wav", sound=claps(14.0, RATE), rate=RATE, audio_codec=codec)
    windows_equal(path, read_audio(path, 0.0, 60.0, RATE), RATE)


def test_windows_past_the_end_are_empty_in_every_container(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "a.mp3", "e.mkv", "f.ogg", "e.ts", "e.aac"):
        path = write_media(tmp_path / name, sound=claps(2, 48000), rate=48000, audio_codec=FILES[name])
        for start in (2.2, 60.0):
            assert len(read_audio(path, start, 0.5, 48000)) == 0, name
        assert 0 < len(read_audio(path, 1.9, 0.5, 48000)) < 0.2 * 48000, name


def test_jumps_must_be_confirmed_and_jitter_is_no_jump() -> None:
    counts = [1000] * 40
    regular = [index * 1000 for index in range(40)]
    assert place(regular, counts, RATE, None) == regular
    once = [stamp + 500 * (index == 20) for index, stamp in enumerate(regular)]
    assert place(once, counts, RATE, None) == regular
    jitter = [stamp + 300 * (-1) ** index * (index > 0) for index, stamp in enumerate(regular)]
    assert place(jitter, counts, RATE, None)[:39] == regular[:39]  # of the last one there is no other witness
    later = [stamp + 500 * (index >= 20) for index, stamp in enumerate(regular)]
    assert place(later, counts, RATE, None) == later
    rounded = [stamp + (-20, 20, 0)[index % 3] for index, stamp in enumerate(later)]
    assert np.abs(np.array(place(rounded, counts, RATE, None)) - later).max() <= 40


@pytest.mark.parametrize("seed", range(20))
def test_where_the_grid_accepts_a_frame_the_whole_has_it_there(seed: int) -> None:
    """The look at a few frames in the middle never contradicts reading from the start, whatever the stamps do."""
    rng = np.random.default_rng(seed)
    counts = [1024] * 400
    drift = np.cumsum(rng.choice([0, 0, 0, 0, 0, 30, -30, 700], 400)) * (seed % 2) + rng.integers(0, 3, 400) * 7
    stamps = [int(stamp) for stamp in np.arange(400) * 1024 + drift + rng.integers(-22, 23, 400)]
    whole = place(stamps, counts, RATE, stamps[0] + 1024)
    accepted = 0
    for index in range(1, 390):
        start = on_grid(stamps[index:], counts[index:], RATE, stamps[0] + 1024)
        if start is not None:
            accepted += 1
            assert place(stamps[index:], counts[index:], RATE, stamps[0] + 1024, start) == whole[index:]
    assert accepted or seed % 2
