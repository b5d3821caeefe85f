"""Sound to the sample: each codec in each container, whole and in windows, against ffmpeg's decode by its stamps.

python tests/benchmarks/samples.py        # needs the program ffmpeg; FFMPEG names another one
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import av
import numpy as np

from datamodules.media.decode import read_audio

FFMPEG = [os.environ.get("FFMPEG", "ffmpeg"), "-hide_banner", "-nostdin", "-y"]
SECONDS, WINDOW_SECONDS, WINDOWS = 12, 0.5, 40
LAGS = 1100
"""Samples, either way, in which a misplaced window is looked for."""
CODECS = {
    "pcm_s16le": (44100, "wav w64 caf mov mkv mka avi nut"),
    "pcm_s16be": (44100, "aiff au"),
    "flac": (44100, "flac ogg mkv mka mp4"),
    "libvorbis": (44100, "ogg mkv webm mp4"),
    "libmp3lame": (44100, "mp3 mp4 mov mkv mka avi flv ts"),
    "aac": (44100, "aac m4a mp4 mov mkv mka avi flv ts"),
    "libopus": (48000, "ogg opus mkv webm mp4 ts"),
}
"""Encoder -> sample rate, containers."""
PICTURES = {"mp4": "mpeg4", "mov": "mpeg4", "mkv": "mpeg4", "webm": "libvpx", "avi": "mpeg4", "ts": "mpeg2video"}
"""Containers that are given pictures too -> their codec."""


def write(path: Path, codec: str, rate: int) -> None:
    """Claps over a chirp, at which codecs change their block size."""
    wave = f"0.2*sin(2*PI*(200*t+60*t*t))+0.6*(random(0)-0.5)*exp(-8*mod(t\\,0.4)):s={rate}:d={SECONDS}"
    film = ["-f", "lavfi", "-i", f"testsrc2=s=160x120:r=25:d={SECONDS}"]
    pictures = [*film, "-c:v", PICTURES[path.suffix[1:]]] if path.suffix[1:] in PICTURES else []
    sound = ["-f", "lavfi", "-i", f"aevalsrc={wave}"]
    subprocess.run([*FFMPEG, "-loglevel", "error", *sound, *pictures, "-c:a", codec, "-strict", "-2", path], check=True)


def reference(path: Path, rate: int) -> np.ndarray:
    """What ffmpeg decodes, from the first frame's stamp on; 0 is the container's first stamp, if not negative.

    The filter `ashowinfo` prints the stamps. None of these files has a gap, so that the other frames follow.
    """
    command = [*FFMPEG, "-copyts", "-i", path, "-map", "0:a", "-af", "ashowinfo", "-ac", "1", "-f", "f32le", "-"]
    run = subprocess.run(command, capture_output=True, check=True)
    first = float(re.search(rb"pts_time:\s*(\S+)", run.stderr)[1])
    with av.open(str(path)) as container:
        origin = max(container.start_time or 0, 0) / av.time_base
    late = round((first - origin) * rate)
    return np.concatenate([np.zeros(max(late, 0), np.float32), np.frombuffer(run.stdout, "<f4")[max(-late, 0) :]])


def lag(sound: np.ndarray, whole: np.ndarray, first: int) -> int:
    """By how many samples `sound` is elsewhere than at `first` in `whole`."""
    size = len(sound)
    padded = np.pad(whole, (LAGS, LAGS + size))[first : first + size + 2 * LAGS]
    product = np.fft.irfft(np.fft.rfft(padded) * np.fft.rfft(sound, len(padded)).conj(), len(padded))
    return int(product[: 2 * LAGS + 1].argmax()) - LAGS


def row(path: Path, codec: str, rate: int) -> str:
    expected, whole = reference(path, rate), read_audio(path, 0, 2 * SECONDS, rate)
    size = min(len(expected), len(whole))
    off = np.abs(whole[:size] - expected[:size]).max()
    lags, worst, cost = [], 0.0, 0.0
    for start in np.random.default_rng(1).uniform(0, SECONDS - WINDOW_SECONDS - 0.1, WINDOWS):
        first, begun = round(start * rate), time.perf_counter()
        got = read_audio(path, float(start), WINDOW_SECONDS, rate)
        cost += time.perf_counter() - begun
        slice_ = whole[first : first + round(WINDOW_SECONDS * rate)]
        assert len(got) == len(slice_), f"{path}: {start}"
        lags.append(abs(lag(got, expected, first)))
        worst = max(worst, float(np.abs(got - slice_).max()))
    shift = lag(whole[rate : 5 * rate], expected, rate)
    return (
        f"| {codec} | {path.suffix[1:]} | {len(whole) - len(expected):+d} | {shift} | {off:.0e} "
        f"| {sum(value > 0 for value in lags)} | {max(lags)} | {worst:.0e} | {1000 * cost / WINDOWS:.1f} |"
    )


def main() -> None:
    print(
        "| codec | container | whole: length | shift | largest difference | windows shifted, of 40 | by at most ",
        end="",
    )
    print("| difference from the whole | ms a window |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for codec, (rate, containers) in CODECS.items():
            for suffix in containers.split():
                path = Path(folder) / f"{codec}.{suffix}"
                write(path, codec, rate)
                print(row(path, codec, rate), flush=True)


if __name__ == "__main__":
    main()
