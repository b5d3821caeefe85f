"""Writes real media files through PyAV, whose frames and samples say where in the file they are."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
BITS = 8


def numbered_frame(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 [height, width, 3]: `index` as 4 x 2 grey blocks, one a bit (rows first, lowest bit first)."""
    bits = (index >> np.arange(BITS)) & 1
    picture = np.where(bits.reshape(2, 4), 230, 25).astype(np.uint8)
    picture = picture.repeat(height // 2, axis=0).repeat(width // 4, axis=1)
    return np.repeat(picture[..., None], 3, axis=2)


def number_of(picture: np.ndarray) -> int:
    """The index that `numbered_frame` painted, from a picture [size, size, 3] that may be resized and compressed."""
    size = len(picture)
    blocks = picture.mean(-1).reshape(2, size // 2, 4, size // 4).mean((1, 3)).ravel()
    return int(((blocks > 128) << np.arange(BITS)).sum())


def tone(seconds: float, rate: int, onset: float = 0.0, hertz: float = 1000.0) -> np.ndarray:
    """float32 [T]: silence, and from `onset` on a sine of amplitude 0.5 that starts at phase 0."""
    t = np.arange(round(seconds * rate)) / rate
    return np.where(t >= onset, 0.5 * np.sin(2 * np.pi * hertz * (t - onset)), 0).astype(np.float32)


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """float32 [channels, T]: white noise, the same at no two times."""
    return (0.2 * np.random.default_rng(seed).standard_normal((channels, round(seconds * rate)))).astype(np.float32)


def write_media(
    path: Path,
    *,
    frames: Iterable[np.ndarray] | None = None,
    fps: int = 10,
    video_codec: str = "libx264",
    video_options: dict[str, str] | None = None,
    video_start: float = 0.0,
    sound: np.ndarray | None = None,
    rate: int = 16000,
    audio_codec: str = "aac",
    audio_options: dict[str, str] | None = None,
    audio_start: float = 0.0,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes `frames` (RGB) and `sound` ([T] or [channels, T], float32) into one file, interleaved."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        video = audio = None
        if frames is not None:
            frames = list(frames)
            video = container.add_stream(video_codec, rate=fps, options=video_options or {})
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuv420p"
        if sound is not None:
            sound = np.atleast_2d(sound)
            layout = {1: "mono", 2: "stereo"}[len(sound)]
            audio = container.add_stream(audio_codec, rate=rate, layout=layout, options=audio_options or {})
        packets = []
        if video is not None:
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts, frame.time_base = index + round(video_start * fps), Fraction(1, fps)
                packets += video.encode(frame)
            packets += video.encode()
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(*_in_format(sound, audio.codec_context.format.name), layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(audio_start * rate), Fraction(1, rate)
            packets += audio.encode(frame)
            packets += audio.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def _in_format(sound: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Float sound as one of FFmpeg's sample formats."""
    if name.startswith("s16"):
        sound = np.round(sound * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)
    elif name.startswith("s32"):
        sound = np.round(sound * 2.0**31).clip(-(2**31), 2**31 - 1).astype(np.int32)
    if not name.endswith("p"):
        sound = sound.T.reshape(1, -1)
    return np.ascontiguousarray(sound), name


def rotate_mp4(path: Path, degrees: int) -> None:
    """Sets the display matrix of the first track, as phones do: to be shown turned clockwise by `degrees`."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, section 8.3.2, version 0
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    values = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)


def film(count: int) -> list[np.ndarray]:
    """The first so many numbered frames."""
    return [numbered_frame(index) for index in range(count)]
