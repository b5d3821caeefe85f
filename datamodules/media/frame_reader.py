"""Finding frames by time in a stream of packets, decoding only what these frames depend on."""

from __future__ import annotations

import math
from collections import deque

import av
from av.video.frame import VideoFrame

from datamodules.media.container import Container, MediaError

SEEK_MARGIN_SECONDS = 1.0
"""Containers are searched by decoding time, which runs ahead of the time at which a frame is shown."""
SEEK_GAP_SECONDS = 10.0
"""Up to here, reading on past packets (without decoding them) is cheaper than seeking."""


class FrameReader:
    """Finds frames at rising times, decoding only what these depend on.

    Packets are read ahead, undecoded, until all that can be shown by the wanted time are known (a packet is never
    shown before its decoding time). A keyframe shown by then makes everything before it needless. Of what remains,
    frames of H.264 that are not wanted and that no frame refers to are not decoded either.
    Should the wanted frame not come out (keyframes that are none, damage), everything from the start is decoded.
    """

    def __init__(self, container: Container):
        self._container = container
        self._careful = False
        self._start(0.0)

    def _start(self, seconds: float) -> None:
        self._packets = self._container.packets("video", seconds)
        self._sought, self._ended, self._drained = seconds > 0, False, False
        self._read_until: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._waiting: deque[av.Packet] = deque()
        self._decoded: deque[VideoFrame] = deque()
        self._shown: VideoFrame | None = None
        self._stamps: list[int] = []
        self._sent: set[int | None] = set()

    def shown_at(self, target: int, last: bool) -> VideoFrame:
        """The frame shown at `target`, in ticks of the stream; `last` if no later one will be asked for."""
        self._seek(target)
        self._read(target)
        wanted = max((stamp for stamp in self._stamps if stamp <= target), default=None)
        while not self._settled(target, wanted) and self._send(wanted, last):
            pass
        found = self._shown or (self._decoded[0] if self._decoded else None)
        lost = self._sought if wanted is None else found is None or _stamp(found) != wanted
        if found is None or lost:
            if not self._careful:
                self._careful = True
                self._start(0.0)
                return self.shown_at(target, last)
            if found is None:
                raise MediaError(self._container.path, "undecodable", "no frame could be decoded")
        return found

    def _settled(self, target: int, wanted: int | None) -> bool:
        while self._decoded and _stamp(self._decoded[0]) <= target:
            self._shown = self._decoded.popleft()
        return bool(self._decoded) or (self._shown is not None and _stamp(self._shown) == wanted)

    def _seek(self, target: int) -> None:
        """Skips ahead to `target` if that leads further than where packets have been read to."""
        stream, base = self._container.stream("video"), self._container.tick("video")
        here = math.floor(self._container.origin / base) if self._read_until is None else self._read_until
        if self._careful or target - here <= SEEK_GAP_SECONDS / base:
            return
        aim = target - math.ceil(SEEK_MARGIN_SECONDS / base)
        keyframe = stream.index_entries.search_timestamp(aim)
        if keyframe < 0 or stream.index_entries[keyframe].timestamp > here:
            self._start(float(aim * base - self._container.origin))

    def _read(self, target: int) -> None:
        """Reads packets until all frames shown at or before `target` are known."""
        while not self._careful and (self._read_until is None or self._read_until <= target):
            packet = self._next_packet()
            if packet is None:
                return
            if packet.is_keyframe and packet.pts is not None and packet.pts <= target:
                self._forget()
                if (context := self._container.stream("video").codec_context).is_open:
                    context.flush_buffers()
            elif not (packet.is_keyframe or self._waiting or self._sent):
                continue  # MPEG-TS is sought to any frame; what decodes from here would be broken
            self._waiting.append(packet)
            if packet.pts is not None and not packet.is_discard:
                self._stamps.append(packet.pts)

    def _next_packet(self) -> av.Packet | None:
        packet = None if self._ended else next(self._packets)
        if packet is None:
            self._ended = True
        elif packet.dts is not None:
            self._read_until = packet.dts
        return packet

    def _send(self, wanted: int | None, last: bool) -> bool:
        """Sends the decoder one packet more; False if it has had them all."""
        if self._drained:
            return False
        if last and wanted is not None and wanted in self._sent:
            packet = None  # flushes the decoder, which returns the frames that it held back
        else:
            packet = self._waiting.popleft() if self._waiting else self._next_packet()
        if packet is None:
            self._drained = True
        else:
            context = self._container.stream("video").codec_context
            passed = wanted is not None and packet.pts is not None and packet.pts < wanted
            context.skip_frame = "NONREF" if passed and context.name == "h264" else "DEFAULT"
            self._sent.add(packet.pts)
        self._decoded.extend(self._container.decode("video", packet))
        return True


def _stamp(frame: VideoFrame) -> int:
    stamps = (frame.pts, frame.dts, 0)
    return next(stamp for stamp in stamps if stamp is not None)
