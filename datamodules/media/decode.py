"""Decoding: seconds of sound and chosen frames out of any container, and only those (PyAV, that is FFmpeg).

Times are seconds from the start of the media: 0 is the container's first timestamp (MPEG-TS does not begin at 0),
and sound and picture share this clock, so a stream that begins late is late here too.

Every fault of a file is a `MediaError` that says which file, and one of `REASONS`; wrong arguments are `ValueError`s.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from datamodules.media.container import LAST_STAMP_FORMATS, MAX_HOLE_SECONDS, REASONS, Container, MediaError, stamp
from datamodules.media.frame_reader import FrameReader
from datamodules.media.headers import avi_has_index, avi_seconds, matroska_begin, ogg_is_ended, wav_seconds
from datamodules.media.pcm import lay_out, resample, seconds_read, span
from datamodules.media.sound_reader import SoundReader

__all__ = ["REASONS", "Media", "MediaError", "MediaInfo", "check", "read_audio", "read_frames"]

SILENCE_PEAK = 1e-4
"""Sound that never exceeds this (-80 dBFS, about 3 steps of 16-bit sound) is silent."""
TRUNCATED_SECONDS = 0.5
"""A stream may end this much before its header says; cutting tools are often off by a few frames."""
DECLARING_FORMATS = {"mov", "matroska", "avi", "wav", "w64", "flac", "aiff", "asf", "flv"}
"""Containers whose header states a duration; FFmpeg measures or estimates that of others (MPEG-TS, MP3, ADTS)."""
MAX_PEAK = 10.0
"""Codecs overshoot full scale a little; damaged AAC and MP3 come out thousands of times as loud."""
MAX_SECONDS = 1e8
"""Later times (three years) mean the end; FFmpeg's 64-bit stamps would not hold them."""

FRAME_TOLERANCE_SECONDS = 0.0004
"""A frame counts as shown from this much before its stamp: at 2/30 s it is the one Matroska stamps 0.067. Less than
half a millisecond, as of 29.97 frames a second the one stamped 0.5005 is not yet shown at 0.5 s."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds. Rates and sizes are 0 where there is no such stream."""

    duration: float
    """Seconds."""
    has_audio: bool
    has_video: bool
    sample_rate: int = 0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    sound_end: float = 0.0
    """Second at which the sound ends, as far as it was looked for."""


class Media:
    """An open file, a context manager. Sound and frames of a file are both read from one `Media`.

    Raises:
        MediaError: the file cannot be opened, or holds neither sound nor video.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._container = Container(self.path)
        self._reformatter = VideoReformatter()

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._container.close()

    def info(self) -> MediaInfo:
        """What the header says; nothing is decoded. `check` says what is really there."""
        audio, video = self._container.audio, self._container.video
        return MediaInfo(
            duration=self._container.duration,
            has_audio=audio is not None,
            has_video=video is not None,
            sample_rate=audio.sample_rate if audio and audio.codec_context else 0,
            fps=float(video.average_rate or 0) if video else 0.0,
            width=video.width if video and video.codec_context else 0,
            height=video.height if video and video.codec_context else 0,
        )

    def audio(self, start: float, seconds: float, sample_rate: int) -> np.ndarray:
        """The sound of [start, start + seconds): the mean of the channels, resampled by swresample.

        It is the same slice of the whole file's sound, to the sample, wherever reading begins (see `placement`).
        Holes, and what is before late sound, are zeros.

        Args:
            start: seconds.
            seconds: how much.
            sample_rate: Hz.

        Returns:
            float32 [T] in -1..1, T <= round(seconds * sample_rate): less, or none, where the sound ends; not padded.

        Raises:
            MediaError: "no audio", or "undecodable".
        """
        if not (0 <= start < math.inf and 0 < seconds < math.inf and sample_rate > 0):
            raise ValueError(f"start {start}, seconds {seconds}, sample rate {sample_rate}")
        self._container.require_decodable("audio")
        first, count = round(start * sample_rate), round(seconds * sample_rate)
        reader = SoundReader(self._container)
        pieces = reader.read(*seconds_read(first, count, self._container.stream("audio").sample_rate, sample_rate))
        if not reader.rate:
            raise MediaError(self.path, "undecodable", "no sound could be decoded")
        begin, end = span(first, count, reader.rate, sample_rate)
        sound = resample(lay_out(pieces, begin, end), reader.rate, sample_rate)
        offset = first - begin * sample_rate // reader.rate
        sound = sound[offset : offset + count]
        self._peak(sound)
        return sound

    def frames(self, times: Sequence[float], size: int) -> np.ndarray:
        """The frames shown at `times`: each the last one stamped at or before its time.

        Before the first frame that is the first, past the end it is the last. Resized to the square without a crop,
        with swscale's bicubic filter, which widens when it shrinks a picture (it does not alias) and is the closest
        to the antialiased resizing of Pillow and torchvision. Phones' rotation by quarter turns is applied.

        Args:
            times: seconds, in any order.
            size: pixels.

        Returns:
            uint8 [len(times), size, size, 3], RGB.

        Raises:
            MediaError: "no video", or "undecodable" where no frame could be decoded.
        """
        return self._pictures(times, size, size)

    def frames_short_side(self, times: Sequence[float], short_side: int) -> np.ndarray:
        """As `frames`, but the picture keeps its shape and its shorter side becomes `short_side` pixels.

        The longer side is rounded down; pixels count as square, as in antoine77340/video_feature_extractor.

        Returns:
            uint8 [len(times), H, W, 3], RGB.
        """
        self._container.require_decodable("video")
        stream = self._container.stream("video")
        shorter = min(stream.width, stream.height)
        return self._pictures(times, *(side * short_side // shorter for side in (stream.width, stream.height)))

    def _pictures(self, times: Sequence[float], width: int, height: int) -> np.ndarray:
        """The frames shown at `times`, resized to `width` x `height` pixels and then turned as they are to be shown."""
        if min(width, height) <= 0 or not all(map(math.isfinite, times)):
            raise ValueError(f"size {width} x {height}, times {times}")
        self._container.require_decodable("video")
        container, base = self._container, self._container.tick("video")
        ticks = [
            math.floor((Fraction(min(float(t), MAX_SECONDS) + FRAME_TOLERANCE_SECONDS) + container.origin) / base)
            for t in times
        ]
        pictures: dict[int, np.ndarray] = {}
        reader = FrameReader(container)
        previous: VideoFrame | None = None
        for index in sorted(range(len(times)), key=ticks.__getitem__):
            frame = reader.shown_at(ticks[index], last=ticks[index] == max(ticks))
            if frame is not previous:
                picture, previous = self._picture(frame, width, height), frame
            pictures[index] = picture
        if not pictures:
            return np.empty((0, height, width, 3), np.uint8)
        return np.stack([pictures[index] for index in range(len(times))])

    def _picture(self, frame: VideoFrame, width: int, height: int) -> np.ndarray:
        bicubic = Interpolation.BICUBIC
        resized = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=bicubic, threads=1)
        return np.rot90(resized.to_ndarray(), round(frame.rotation / 90) % 4)

    def check(self, need_audio: bool, need_video: bool) -> MediaInfo:
        """Whether the file can be used, by decoding what is needed of it: the whole sound, the video's keyframes.

        Damage between keyframes is not seen, but for packets that are all zeros, as unfinished downloads have them.

        Returns:
            What is there; `duration` is where the last of it ends.

        Raises:
            MediaError: with the reason. "silent" counts only if sound is needed.
        """
        needed = [kind for kind, need in (("audio", need_audio), ("video", need_video)) if need]
        for kind in needed:
            self._container.require_decodable(kind)
        ends, peak = {}, math.inf
        if self._container.video is not None:
            ends["video"] = self._video_end(decode=need_video)
        if self._container.audio is not None and need_audio:
            ends["audio"], peak = self._sound_end_and_peak()
        elif self._container.audio is not None:
            ends["audio"] = max(
                (self._packet_end(p) for p in self._container.packets("audio", 0.0) if p is not None), default=0.0
            )
        self._check_length(ends, needed)
        if peak < SILENCE_PEAK:
            raise MediaError(self.path, "silent", f"the sound never exceeds {SILENCE_PEAK:g} of full scale")
        return replace(self.info(), duration=max(ends.values()), sound_end=ends.get("audio", 0.0))

    def _sound_end_and_peak(self) -> tuple[float, float]:
        """The second at which the decodable sound ends, and its largest magnitude."""
        reader = SoundReader(self._container)
        stamps, counts, peak = [], [], 0.0
        for frame in reader.frames():
            stamps.append(frame.stamp)
            counts.append(len(frame.sound))
            peak = max(peak, self._peak(frame.sound))
        positions = reader.place(stamps, counts)
        if not positions:
            raise MediaError(self.path, "undecodable", "no sound could be decoded")
        reader.check_holes(positions, counts)
        end = positions[-1] + counts[-1]
        lost = (end - positions[0] - sum(counts)) / reader.rate
        if self._container.damaged and lost > TRUNCATED_SECONDS:
            raise MediaError(self.path, "undecodable", f"{lost:.1f} s in the middle of the sound cannot be decoded")
        return end / reader.rate, peak

    def _peak(self, sound: np.ndarray) -> float:
        """The largest magnitude, if that is one that sound can have."""
        peak = float(np.abs(sound).max(initial=0))
        if not peak <= MAX_PEAK:
            text = "that are not numbers" if math.isnan(peak) else f"of {peak:g} times full scale"
            raise MediaError(self.path, "undecodable", f"the sound has samples {text}")
        return peak

    def _video_end(self, decode: bool) -> float:
        """The second at which the last frame that is there ends; with `decode`, some keyframe must be decodable."""
        end, decoded = 0.0, 0
        for packet in self._container.packets("video", 0.0):
            if packet is not None and any(bytes(packet)):
                hole = self._packet_end(packet) - end
                if hole > MAX_HOLE_SECONDS:
                    raise MediaError(self.path, "undecodable", f"a hole of {hole:.0f} s in the pictures")
                end += max(hole, 0.0)
            if decode and (packet is None or packet.is_keyframe):
                decoded += len(self._container.decode("video", packet))
        if decode and not decoded:
            raise MediaError(self.path, "undecodable", "no keyframe could be decoded")
        return end

    def _packet_end(self, packet: av.Packet) -> float:
        return float(((stamp(packet) or 0) + (packet.duration or 0)) * packet.time_base - self._container.origin)

    def _check_length(self, ends: dict[str, float], needed: list[str]) -> None:
        """Raises "truncated" where a needed stream ends clearly before the header says; `ends` are in seconds."""
        formats = self._container.formats
        if "ogg" in formats and not ogg_is_ended(self.path):
            raise MediaError(self.path, "truncated", "its last page is cut, or not marked as the last")
        if not formats & DECLARING_FORMATS or ("avi" in formats and avi_has_index(self.path)):
            return
        declared = {}
        for kind in needed:
            stream = self._container.stream(kind)
            if stream.duration is not None and not formats & LAST_STAMP_FORMATS:
                end = ((stream.start_time or 0) + stream.duration) * self._container.tick(kind)
                declared[kind] = float(end - self._container.origin)
        if "wav" in formats and "audio" in needed:
            declared["audio"] = wav_seconds(self.path) or ends["audio"]
        if "avi" in formats:
            said = avi_seconds(self.path)
            declared |= {kind: said[kind] for kind in needed if kind in said}
        if not declared and self._container.duration:
            # These formats say only how long the longest stream is.
            longest = max(ends, key=ends.__getitem__)
            declared[longest] = self._container.duration
            if "flv" in formats and declared[longest] > self._container.origin:
                declared[longest] -= float(self._container.origin)  # FFmpeg writes how long, others the last stamp
            if "matroska" in formats:
                declared[longest] += float(self._container.origin) - (matroska_begin(self.path) or 0.0)
        for kind, seconds in declared.items():
            if ends[kind] < seconds - TRUNCATED_SECONDS:
                text = f"the {kind} ends at {ends[kind]:.2f} s, the header says {seconds:.2f} s"
                raise MediaError(self.path, "truncated", text)


def read_audio(path: str | os.PathLike[str], start: float, seconds: float, sample_rate: int) -> np.ndarray:
    """`Media.audio` of a file that is opened for it."""
    with Media(path) as media:
        return media.audio(start, seconds, sample_rate)


def resized(picture_HW3: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, 3] RGB, resized as `Media.frames` does."""
    frame, bicubic = VideoFrame.from_ndarray(picture_HW3), Interpolation.BICUBIC
    return _RESIZE.reformat(frame, size, size, "rgb24", interpolation=bicubic, threads=1).to_ndarray()


_RESIZE = VideoReformatter()


def read_frames(path: str | os.PathLike[str], times: Sequence[float], size: int) -> np.ndarray:
    """`Media.frames` of a file that is opened for it."""
    with Media(path) as media:
        return media.frames(times, size)


def check(path: str | os.PathLike[str], need_audio: bool, need_video: bool) -> MediaInfo:
    """`Media.check` of a file that is opened for it."""
    with Media(path) as media:
        return media.check(need_audio, need_video)
