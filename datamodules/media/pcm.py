"""Decoded sound as numpy arrays: to mono, onto a timeline, to another sample rate."""

from __future__ import annotations

import math

import av
import numpy as np
from av.audio.plane import AudioPlane
from numpy.typing import DTypeLike

SAMPLE_FORMATS: dict[str, tuple[DTypeLike, int, int]] = {
    "u8": (np.uint8, 128, 2**7),
    "s16": (np.int16, 0, 2**15),
    "s32": (np.int32, 0, 2**31),
    "s64": (np.int64, 0, 2**63),
    "flt": (np.float32, 0, 1),
    "dbl": (np.float64, 0, 1),
}
"""FFmpeg's sample formats: type, value of silence, value of full scale (libavutil/samplefmt.h)."""

RESAMPLER_TAPS = 32
"""swresample's default `filter_size`, in samples of the lower rate."""
RESAMPLER_CHUNK = 1 << 14
"""Samples given to swresample at once; measured: 10 s at once take 4 times as long, as its buffers miss the cache."""


def mono(frame: av.AudioFrame) -> np.ndarray:
    """float32 [n]: the mean of the channels, as in `ffmpeg -ac 1` to integers and in torchaudio pipelines.

    swresample's own mix of floats is 3 dB louder: it does not normalise them (`rematrix_maxval`).
    """
    dtype, zero, full = SAMPLE_FORMATS[frame.format.name.rstrip("p")]
    samples, planes = frame.samples, frame.planes
    if frame.format.is_packed:
        count = frame.layout.nb_channels
        channels = list(_values(planes[0], dtype, samples * count).reshape(samples, count).T)
    else:
        channels = [_values(plane, dtype, samples) for plane in planes]
    mix = channels[0].astype(np.float32)
    for channel in channels[1:]:
        mix += channel
    if zero:
        mix -= zero * len(channels)
    if full * len(channels) != 1:
        mix *= 1 / (full * len(channels))
    return mix


def _values(plane: AudioPlane, dtype: DTypeLike, count: int) -> np.ndarray:
    return np.frombuffer(plane, dtype, count)  # type: ignore[call-overload]  # PyAV does not declare its buffers


def lay_out(pieces: list[tuple[int, np.ndarray]], begin: int, end: int) -> np.ndarray:
    """The samples [begin, end), less if the last piece ends before; zeros where no (position, sound [n]) has any."""
    end = max(begin, min(end, max((position + len(piece) for position, piece in pieces), default=begin)))
    sound = np.zeros(end - begin, np.float32)
    for position, piece in pieces:
        low, high = max(position, begin), min(position + len(piece), end)
        if low < high:
            sound[low - begin : high - begin] = piece[low - position : high - position]
    return sound


def span(first: int, count: int, rate: int, sample_rate: int) -> tuple[int, int]:
    """The samples [begin, end) at `rate` that determine the samples [first, first + count) at `sample_rate`.

    `begin` is a whole number of samples at both rates, for the resampler to compute the same points in time
    as it does from the start of the file.
    """
    if rate == sample_rate:
        return first, first + count
    step = rate // math.gcd(rate, sample_rate)
    margin = math.ceil(RESAMPLER_TAPS * max(1, rate / sample_rate))
    begin = max(first * rate // sample_rate - margin, 0) // step * step
    return begin, math.ceil((first + count) * rate / sample_rate) + margin


def seconds_read(first: int, count: int, rate: int, sample_rate: int) -> tuple[float, float]:
    """The seconds in which the samples of `span` lie, whatever the rate turns out to be once sound is decoded."""
    margin = 2 * RESAMPLER_TAPS / min(rate, sample_rate)
    return first / sample_rate - margin, (first + count) / sample_rate + margin


def resample(sound: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """float32 [n] at `rate` -> float32 [about n * sample_rate / rate]."""
    if rate == sample_rate or len(sound) == 0:
        return sound
    resampler = av.AudioResampler("fltp", "mono", sample_rate)
    pieces = [np.empty(0, np.float32)]  # swresample gives nothing for sound shorter than half its filter
    for position in range(0, len(sound), RESAMPLER_CHUNK):
        frame = av.AudioFrame.from_ndarray(sound[None, position : position + RESAMPLER_CHUNK], "fltp", "mono")
        frame.sample_rate = rate
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    return np.concatenate(pieces)
