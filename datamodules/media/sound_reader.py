"""Finding sound by time in a stream of packets, decoding only what lies around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.audio.codeccontext import AudioCodecContext

from datamodules.media.container import MAX_HOLE_SECONDS, Container, MediaError
from datamodules.media.pcm import mono
from datamodules.media.placement import COUNTED_FORMATS, WITNESSES, on_grid, place

PREROLL_SECONDS = 0.5
"""Sound is decoded from this much before its start, for codecs to settle: MP3's bit reservoir reaches back
0.25 s, Opus asks for 0.08 s (RFC 7845, section 4.6), AAC needs its overlap and SBR a few frames of 0.05 s."""
VARIABLE_CODECS = {"vorbis"}
"""Frames may be alike for long and yet lie on no grid."""
OPUS_STEP_SECONDS = 0.0025
"""The duration of all Opus packets is a multiple of this (RFC 6716, section 2.1.4)."""
TIMELINES = 8
"""Files whose timelines are remembered: each has 16 bytes a packet, 0.2 MB for 5 minutes of AAC."""


class Frame(NamedTuple):
    """What a decoder returns."""

    stamp: int | None
    """Samples from the start of the media."""
    sound: np.ndarray
    """float32 [n], mono."""


class SoundReader:
    """Reads stretches of a file's sound, each frame at its place (see `placement`).

    The start of a stretch is found by the stamps if they are exact; if not, by the grid on which frames of one length
    lie; and if they do not, by counting the samples of all packets before, without decoding them.

    Attributes:
        rate: samples a second, 0 as long as nothing was decoded.
    """

    def __init__(self, container: Container):
        self._container = container
        self._counted = bool(container.formats & COUNTED_FORMATS)
        # After a seek, FFmpeg stamps FLAC in Ogg wrongly on the last page, and ADPCM by bytes, as if a block's header
        # held sound; decoding them from the start is quick.
        codec = container.stream("audio").codec_context.name
        self._unsought = ("ogg" in container.formats and codec == "flac") or codec.startswith("adpcm_")
        self._grid: int | None = None
        self._scale = (0, 1, 0)
        self.rate = 0

    def read(self, start: float, end: float) -> list[tuple[int, np.ndarray]]:
        """(Position in samples, sound [n]) of the frames in the seconds [start, end) and around them.

        The last of them are past the end, if any are there.

        Raises:
            MediaError: "undecodable".
        """
        start = 0.0 if self._unsought else start - PREROLL_SECONDS
        if start > 0 and not self._counted and not self.rate:
            self._find_grid()
        frames = self._until(start, end)
        if not self.rate:  # there is nothing after the start
            self._find_grid()
        if self._container.from_start:
            positions = self.place([frame.stamp for frame in frames], [len(frame.sound) for frame in frames])
        else:
            first = frames[0] if len(frames) > 1 else None
            if (
                first
                and first.stamp is not None
                and first.stamp + len(first.sound) < (start + PREROLL_SECONDS) * self.rate
            ):
                frames = frames[1:]  # it lacks the overlap with the one before, and may be cut
            positions = self._place_from(frames)
        self.check_holes(positions, [len(frame.sound) for frame in frames], max(start, 0.0))
        return [(position, frame.sound) for position, frame in zip(positions, frames, strict=True)]

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """The frames from about `start` seconds on, as they are decoded.

        Raises:
            MediaError: "undecodable".
        """
        container = self._container
        # FFmpeg counts a page's packets back from its end, the first one as if a short block came before it.
        by_end = "ogg" in container.formats and container.stream("audio").codec_context.name == "vorbis"
        for packet in container.packets("audio", start):
            for frame in container.decode("audio", packet):
                if not self.rate:
                    self._set_rate(frame.sample_rate)
                if frame.sample_rate != self.rate:
                    raise MediaError(container.path, "undecodable", "the sample rate changes on the way")
                stamp = None if frame.pts is None else self.samples(frame.pts)
                if by_end and packet is not None and packet.pts is not None and packet.duration:
                    stamp = self.samples(packet.pts + packet.duration) - frame.samples
                yield Frame(stamp, mono(frame))

    def _set_rate(self, rate: int) -> None:
        self.rate = rate
        ticks = self._container.tick("audio") * rate
        self._scale = (ticks.numerator, ticks.denominator, round(self._container.origin * rate))

    def samples(self, ticks: int) -> int:
        """The stream's ticks as samples from the start of the media; the rate must be known."""
        numerator, denominator, origin = self._scale
        return (ticks * numerator + denominator // 2) // denominator - origin

    def place(self, stamps: Sequence[int | None], counts: Sequence[int]) -> list[int]:
        """Where frames lie that are read from the start of the file."""
        if self._counted:
            return _as_stamped(stamps, counts)
        if stamps and self._container.stream("audio").codec_context.name not in VARIABLE_CODECS:
            self._grid = (stamps[0] or 0) + counts[0]
        return place(stamps, counts, self.rate, self._grid)

    def _find_grid(self) -> None:
        """Reads the first frame of the file."""
        for frame in self.frames():
            self.place([frame.stamp], [len(frame.sound)])
            break

    def _until(self, start: float, end: float) -> list[Frame]:
        """The frames from `start` on, until enough are past the end to say where the last ones before it lie."""
        frames, here, past = [], 0, 0
        for frame in self.frames(start):
            frames.append(frame)
            here = here if frame.stamp is None else frame.stamp
            past = past + 1 if here >= end * self.rate else 0
            here += len(frame.sound)
            if past == (1 if self._counted else WITNESSES):
                break
        return frames

    def _place_from(self, frames: list[Frame]) -> list[int]:
        """Where frames lie that are read from the middle of the file."""
        stamps, counts = [frame.stamp for frame in frames], [len(frame.sound) for frame in frames]
        if self._counted or not frames:
            return _as_stamped(stamps, counts)
        start = None if self._grid is None else on_grid(stamps, counts, self.rate, self._grid)
        if start is None and stamps[0] is not None:
            status = self._container.path.stat()
            start = timeline(self._container.path, status.st_size, status.st_mtime_ns).position(stamps[0])
        return place(stamps, counts, self.rate, self._grid, start)

    def check_holes(self, positions: list[int], counts: list[int], start: float = 0.0) -> None:
        """Raises "undecodable" if frames lie too far behind each other; `start` is where they were looked for."""
        end = round(start * self.rate)
        for position, count in zip(positions, counts, strict=True):
            if position - end > MAX_HOLE_SECONDS * self.rate:
                hole = (position - end) / self.rate
                raise MediaError(self._container.path, "undecodable", f"a hole of {hole:.0f} s in the sound")
            end = position + count


def _as_stamped(stamps: Sequence[int | None], counts: Sequence[int]) -> list[int]:
    positions, expected = [], 0
    for stamp, count in zip(stamps, counts, strict=True):
        positions.append(expected if stamp is None else stamp)
        expected = positions[-1] + count
    return positions


class Timeline(NamedTuple):
    """Where the sound of each packet of a file lies."""

    stamps: np.ndarray
    positions: np.ndarray

    def position(self, stamp: int) -> int:
        """Where the frame with this stamp lies."""
        index = np.abs(self.stamps - stamp).argmin()
        return int(self.positions[index] + stamp - self.stamps[index])


@lru_cache(TIMELINES)
def timeline(path: Path, size: int, mtime_ns: int) -> Timeline:
    """Counts the samples of a file's packets, decoding the first ones only.

    Args:
        path: the file.
        size, mtime_ns: of it; another file of this name has another timeline.
    """
    with closing(Container(path)) as container:
        reader = SoundReader(container)
        frames = list(islice(reader.frames(), 2))
        if not frames:
            raise MediaError(path, "undecodable", "no sound could be decoded")
        stamps = [frame.stamp or 0 for frame in frames]
        counts = [len(frame.sound) for frame in frames]
        first, usual = stamps[-1], counts[-1]
        for ticks, seconds, count in _packets(container):
            stamp = reader.samples(ticks)
            if stamp > first:
                stamps.append(stamp)
                counts.append(_samples_of(container.stream("audio").codec_context, seconds, count, reader.rate, usual))
        positions = reader.place(stamps, counts)
    return Timeline(np.array(stamps, np.int64), np.array(positions, np.int64))


def _packets(container: Container) -> Iterator[tuple[int, Fraction, int]]:
    """(Stamp in ticks, duration in seconds, bytes) of the packets of sound, by the index if that has all (MP4)."""
    stream, tick = container.stream("audio"), container.tick("audio")
    if "mp4" in container.formats and len(stream.index_entries) == stream.frames:
        entries = [(entry.timestamp, entry.size) for entry in stream.index_entries if not entry.is_discard]
        for (stamp, size), (end, _) in pairwise([*entries, entries[-1]]):
            yield stamp, (end - stamp) * tick, size
        return
    for packet in container.packets("audio", 0.0):
        if packet is not None and packet.pts is not None:
            yield packet.pts, (packet.duration or 0) * packet.time_base, packet.size


def _samples_of(codec: AudioCodecContext, seconds: Fraction, size: int, rate: int, usual: int) -> int:
    """How many samples a packet holds, by its duration (which is rounded to ticks) and its bytes.

    Args:
        codec: whose packet it is.
        seconds, size: of the packet.
        rate: samples a second.
        usual: samples of a frame, for codecs whose frames are of one length.
    """
    if codec.name == "vorbis":
        assert codec.extradata is not None  # without Vorbis' headers there is no decoder
        header = codec.extradata.index(b"\x01vorbis")
        sizes = codec.extradata[header + 28]  # both block sizes, as exponents of 2 (Vorbis I, section 4.2.2)
        short, long = 1 << (sizes & 15), 1 << (sizes >> 4)
        return min((short // 2, (short + long) // 4, long // 2), key=lambda count: abs(count - seconds * rate))
    if codec.name == "opus":
        return round(float(seconds) / OPUS_STEP_SECONDS) * round(OPUS_STEP_SECONDS * rate)
    if codec.name.startswith("pcm_"):
        bits = int("".join(filter(str.isdigit, codec.name)) or 8)
        return size * 8 // (bits * codec.layout.nb_channels)
    return usual
