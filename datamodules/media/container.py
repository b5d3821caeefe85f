"""An opened media file: its sound and its pictures, and their packets from any time on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, overload

import av
from av.audio.stream import AudioStream
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from datamodules.errors import FileError

REASONS = {
    "missing": "there is no such file",
    "empty": "the file has no bytes",
    "unreadable": "the file cannot be read from the disk",
    "not media": "no container that FFmpeg knows",
    "truncated": "the media ends before its header says",
    "no audio": "there is no sound track",
    "no video": "there is no video track",
    "silent": "the sound is silence from start to end",
    "undecodable": "the streams cannot be decoded",
}
"""Why a file cannot be used -> what that means."""

TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
"""FFmpeg reads any text as these, and paints it as a video."""
MAX_PIXELS = 8192 * 4352
"""Of a frame: the most that H.264, HEVC, VP9 and AV1 have a level for; a larger size is taken for a broken header."""
LAST_STAMP_FORMATS = {"matroska", "asf", "nut"}
"""What their headers give for the duration is where the last stamp ends, not how far that is from the first one."""
MAX_HOLE_SECONDS = 600.0
"""Holes in the sound are zeros; a longer one, of sound or of pictures, is taken for broken stamps."""
CODEC_OPTIONS = {"max_pixels": str(MAX_PIXELS)}
"""A frame may say another size than the header; decoders refuse it before they allocate."""


class MediaError(FileError):
    """A media file that cannot be used."""

    reasons = REASONS


class Container:
    """An opened file.

    Of several tracks of a kind, the one marked as default is read, as players do; else the first.

    Attributes:
        audio, video: the stream that is read, None if there is none.
        origin: the container's first stamp, in seconds; times are counted from there.
        from_start: whether the packets that were asked for last come from the start of the file.
        damaged: packets that could not be decoded so far.

    Raises:
        MediaError: the file cannot be opened, or holds neither sound nor video.
    """

    def __init__(self, path: Path):
        self.path = path
        self.damaged, self.from_start = 0, True
        self._open()
        if (self.audio is None and self.video is None) or self.formats & TEXT_FORMATS:
            self.close()
            raise MediaError(path, "not media", "there is neither a sound nor a video track")

    def _open(self) -> None:
        self._container = _open(self.path)
        self._untouched = True
        streams = self._container.streams
        self.audio: AudioStream | None = _default(streams.audio)
        # The cover picture of a song is a video stream to FFmpeg.
        pictures = Disposition.attached_pic | Disposition.timed_thumbnails
        self.video: VideoStream | None = _default([s for s in streams.video if not s.disposition & pictures])
        self.origin = Fraction(max(self._container.start_time or 0, 0), av.time_base)

    def close(self) -> None:
        self._container.close()

    @property
    def formats(self) -> set[str]:
        """FFmpeg's names of the format; MP4 has several."""
        return set(self._container.format.name.split(","))

    @property
    def duration(self) -> float:
        """Seconds from the origin to the end, as the header says or FFmpeg estimates; 0 if unknown."""
        seconds = (self._container.duration or 0) / av.time_base
        if self.formats & LAST_STAMP_FORMATS and seconds > self.origin:  # some writers put the difference there
            seconds -= float(self.origin)
        return seconds

    @overload
    def stream(self, kind: Literal["audio"]) -> AudioStream: ...

    @overload
    def stream(self, kind: Literal["video"]) -> VideoStream: ...

    @overload
    def stream(self, kind: str) -> AudioStream | VideoStream: ...

    def stream(self, kind: str) -> AudioStream | VideoStream:
        """The stream, which is another object after the file was opened again.

        Raises:
            MediaError: there is none.
        """
        stream = self.audio if kind == "audio" else self.video
        if stream is None:
            raise MediaError(self.path, f"no {kind}")
        return stream

    def require_decodable(self, kind: str) -> None:
        """Raises `MediaError` if there is no stream that FFmpeg can decode."""
        stream = self.stream(kind)
        if stream.codec_context is None:
            raise MediaError(self.path, "undecodable", f"no decoder for its {kind}")
        if isinstance(stream, AudioStream):
            if stream.sample_rate <= 0:
                raise MediaError(self.path, "undecodable", "the sound has no sample rate")
        elif not 0 < stream.width * stream.height <= MAX_PIXELS:
            raise MediaError(self.path, "undecodable", f"frames of {stream.width} x {stream.height} pixels")

    def tick(self, kind: str) -> Fraction:
        """Seconds of the stream's unit of time."""
        base = self.stream(kind).time_base
        assert base is not None  # FFmpeg gives every stream one
        return base

    def packets(self, kind: str, seconds: float) -> Iterator[av.Packet | None]:
        """The stream's packets in decoding order, from one stamped at or before `seconds`; then None."""
        if seconds > 0 and self.duration:
            stream = self.stream(kind)
            seconds = min(seconds, self.duration)
            target = math.floor((Fraction(seconds) + self.origin) / self.tick(kind))
            self._untouched = self.from_start = False
            try:
                self._container.seek(target, stream=stream)
                packets = _until_damage(self._container.demux(stream))
                packet = next(packets)
                if packet is not None and (first := stamp(packet)) is not None and first <= target:
                    yield packet
                    yield from packets
                    return
            except av.FFmpegError:
                pass  # this container cannot be searched
        if not self._untouched:
            self.close()
            self._open()
        self._untouched, self.from_start = False, True
        yield from _until_damage(self._container.demux(self.stream(kind)))

    def decode(self, kind: str, packet: av.Packet | None) -> list:
        """The frames that come out after `packet`, none if it is damaged; all that are left after None."""
        context = self.stream(kind).codec_context
        if not context.is_open:
            context.thread_count = 1  # the workers are the parallelism
            context.options = CODEC_OPTIONS
        try:
            return context.decode(packet)
        except av.FFmpegError:
            self.damaged += 1
            return []


def _default(streams: Sequence[Stream]) -> Any:
    """The stream that the file marks as the default one, else the first, else None."""
    marked = (stream for stream in streams if stream.disposition & Disposition.default)
    return next(marked, next(iter(streams), None))


def stamp(packet: av.Packet) -> int | None:
    """When the packet is shown, else decoded, in ticks; None if it does not say."""
    return packet.dts if packet.pts is None else packet.pts


def _open(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise MediaError(path, "missing")
    if path.is_dir():
        raise MediaError(path, "not media", "this is a folder")
    try:
        if path.stat().st_size == 0:
            raise MediaError(path, "empty")
        # Names are never URLs, and no playlist may lead away from the disk.
        options = {"protocol_whitelist": "file"} | CODEC_OPTIONS  # to open a file, FFmpeg decodes its first frames
        return av.open(f"file:{path}", metadata_errors="replace", options=options)
    except av.FFmpegError as error:
        with path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            raise MediaError(path, "truncated", "an MP4 without its index (moov), which comes last") from error
        raise MediaError(path, "not media") from error
    except OSError as error:
        raise MediaError(path, "unreadable", str(error)) from error


def _until_damage(packets: Iterator[av.Packet]) -> Iterator[av.Packet | None]:
    """Packets with content; then None, at the end or where the container cannot be read on."""
    try:
        for packet in packets:
            if packet.size:
                yield packet
    except (av.FFmpegError, IndexError):
        pass  # PyAV fails at its list of streams, after the last packet, where damage made streams appear on the way
    yield None
