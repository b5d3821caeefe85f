"""Scenes and timelines as media files; the same scene gives the same bytes."""

from __future__ import annotations

import os
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from datamodules.sample import features, picture, sound, timeline
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import FPS, Scene

Flaw = Literal["", "missing", "truncated", "silent", "no audio", "text"]
"""What is wrong with a file, as happens on real disks: it is not there, its second half is not, its sound
is all zeros, a video has no sound track, or it is a text file."""

# mbtree with B-frames reads uninitialised memory for pictures this small: the same frames gave different bytes.
# Without scenecut, impacts do not become keyframes.
_X264 = {
    "preset": "veryfast",
    "threads": "1",
    "flags": "+bitexact",
    "x264-params": "mbtree=0:scenecut=0",
}


_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".avi": "avi"}
_MPEG4 = {"threads": "1", "flags": "+bitexact", "qmin": "3", "qmax": "5"}
"""AVI has no place for the order in which H.264 shows its frames; what is older has none."""


PICTURES = {".jpg", ".JPEG"}


@dataclass(frozen=True)
class Quality:
    crf: int
    """x264's, bigger is worse."""
    bit_rate: int
    """Of the sound, bits a second."""
    aac_coder: str
    """FFmpeg's; `fast` takes half the time of `twoloop`, and speech is as clear."""


CLIPS = Quality(crf=25, bit_rate=48000, aac_coder="twoloop")
LONG_VIDEOS = Quality(crf=28, bit_rate=24000, aac_coder="fast")


@dataclass(frozen=True)
class Clip:
    """A media file to be written; its suffix says as what."""

    path: Path
    scene: Scene | Timeline
    flaw: Flaw = ""
    features: Path | None = None
    """The folder of its precomputed features, which a video has that has no flaw, or just no sound track."""
    still: Path | None = None
    """A JPEG file of the frame in its middle."""
    begin: int | None = None
    """Of a picture that is a part of a file which is there already: its byte, see `datamodules.media.parts`."""


def write(clip: Clip) -> None:
    """Renders the clip's scene into its file, or into its part of a file, with the clip's flaw, features and still."""
    if clip.begin is not None:
        _write_part(clip.path, clip.begin, _middle(clip.scene))
        return
    if clip.still:
        _write_jpeg(clip.still, clip.scene)
    if clip.flaw == "missing":
        return
    if clip.flaw == "text":
        clip.path.write_text("Video unavailable\n")
        return
    if clip.path.suffix in PICTURES:
        _write_jpeg(clip.path, clip.scene)
    else:
        _write_media(clip)
    if clip.flaw == "truncated":
        os.truncate(clip.path, clip.path.stat().st_size // 2)


def _write_media(clip: Clip) -> None:
    waveform = _sound(clip.scene)
    if clip.flaw == "silent":
        waveform[:] = 0
    if clip.path.suffix == ".wav":
        _write_wav(clip.path, waveform)
    elif clip.path.suffix == ".flac":
        _write_flac(clip.path, waveform)
    else:
        quality = CLIPS if isinstance(clip.scene, Scene) else LONG_VIDEOS
        frames = _picture(clip.scene)
        _write_video(clip.path, frames, None if clip.flaw == "no audio" else waveform, quality)
        if clip.features and clip.flaw in ("", "no audio"):
            features.write(clip.features, clip.path.stem, frames)


def _sound(scene: Scene | Timeline) -> NDArray[np.float32]:
    return sound.render(scene) if isinstance(scene, Scene) else timeline.render_sound(scene)


def _picture(scene: Scene | Timeline) -> NDArray[np.uint8]:
    return picture.render(scene) if isinstance(scene, Scene) else timeline.render_picture(scene)


def _middle(scene: Scene | Timeline) -> NDArray[np.uint8]:
    """[H, W, 3] the frame in its middle."""
    frames = _picture(scene)
    return np.ascontiguousarray(frames[len(frames) // 2])


def _write_jpeg(path: Path, scene: Scene | Timeline) -> None:
    path.write_bytes(simplejpeg.encode_jpeg(_middle(scene), quality=95))


def _write_part(path: Path, begin: int, picture_HW3: NDArray[np.uint8]) -> None:
    """A third as wide and as high: red, then green, then blue."""
    height, width = (side // 3 for side in picture_HW3.shape[:2])
    small_HW3 = picture_HW3.reshape(height, 3, width, 3, 3).mean((1, 3)).round().astype(np.uint8)
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(small_HW3.transpose(2, 0, 1).tobytes())


def _write_wav(path: Path, waveform: NDArray[np.float32]) -> None:
    """16 bits, mono, `sound.SAMPLE_RATE`."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sound.SAMPLE_RATE, len(waveform), "NONE", ""))
        file.writeframes(np.round(waveform * 32767).astype("<i2").tobytes())


def _write_flac(path: Path, waveform: NDArray[np.float32]) -> None:
    """The same samples, without a loss."""
    with av.open(str(path), "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=sound.SAMPLE_RATE, layout="mono", options={"flags": "+bitexact"})
        samples = np.round(waveform * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = sound.SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_video(path: Path, frames: NDArray[np.uint8], waveform: NDArray[np.float32] | None, quality: Quality) -> None:
    """H.264 with a keyframe a second, and AAC; in AVI MPEG-4 and PCM. One thread and no dates: the bytes depend on the
    arguments only.

    Args:
        path: its suffix is one of `_CONTAINERS`.
        frames: [T, H, W, 3] RGB, `FPS` a second.
        waveform: [T] mono, `sound.SAMPLE_RATE`; None = no sound track.
        quality: of both.
    """
    container_format = _CONTAINERS[path.suffix]
    h264 = {"crf": str(quality.crf), **_X264}
    with av.open(str(path), "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        if path.suffix == ".avi":
            video = container.add_stream("mpeg4", rate=FPS, options=_MPEG4)
        else:
            video = container.add_stream("libx264", rate=FPS, options=h264)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.gop_size = FPS
        audio = None
        if waveform is not None and path.suffix == ".avi":
            audio = container.add_stream("pcm_s16le", rate=sound.SAMPLE_RATE, layout="mono")
        elif waveform is not None:
            aac = {"flags": "+bitexact", "aac_coder": quality.aac_coder}
            audio = container.add_stream("aac", rate=sound.SAMPLE_RATE, layout="mono", options=aac)
            audio.bit_rate = quality.bit_rate

        for picture_HWC in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        if audio is not None and waveform is not None:
            sound_frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
            sound_frame.sample_rate = sound.SAMPLE_RATE
            # Without a time the file would not say that AAC decoders give 1024 samples of silence first.
            sound_frame.pts = 0
            container.mux(audio.encode(sound_frame))
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))
