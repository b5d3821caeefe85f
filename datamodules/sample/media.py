"""Scenes as media files; the same scene gives the same bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from datamodules.sample import picture, sound
from datamodules.sample.world import FPS, Scene

Flaw = Literal["", "missing", "truncated", "silent", "text"]
"""What is wrong with a file, as happens on real disks: it is not there, its second half is not, its sound
is all zeros, or it is a text file."""

# mbtree with B-frames reads uninitialised memory for pictures this small: the same frames gave different bytes.
# Without scenecut, impacts do not become keyframes.
_X264 = {
    "crf": "25",
    "preset": "veryfast",
    "threads": "1",
    "flags": "+bitexact",
    "x264-params": "mbtree=0:scenecut=0",
}


@dataclass(frozen=True)
class Clip:
    """A media file to be written."""

    path: Path
    scene: Scene
    flaw: Flaw = ""


def write(clip: Clip) -> None:
    """Renders the clip's scene into its MP4 file, with the clip's flaw."""
    if clip.flaw == "missing":
        return
    if clip.flaw == "text":
        clip.path.write_text("Video unavailable\n")
        return
    waveform = sound.render(clip.scene)
    if clip.flaw == "silent":
        waveform[:] = 0
    _write_mp4(clip.path, picture.render(clip.scene), waveform)
    if clip.flaw == "truncated":
        os.truncate(clip.path, clip.path.stat().st_size // 2)


def _write_mp4(path: Path, frames: NDArray[np.uint8], waveform: NDArray[np.float32]) -> None:
    """H.264 with a keyframe a second, and AAC. One thread and no dates: the bytes depend on the arguments only.

    Args:
        frames: [T, H, W, 3] RGB, `FPS` a second.
        waveform: [T] mono, `sound.SAMPLE_RATE`.
    """
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=FPS, options=_X264)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.gop_size = FPS
        audio = container.add_stream("aac", rate=sound.SAMPLE_RATE, layout="mono", options={"flags": "+bitexact"})
        audio.bit_rate = 48000

        for picture_HWC in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        sound_frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        sound_frame.sample_rate = sound.SAMPLE_RATE
        # Without a time the file would not say that AAC decoders give 1024 samples of silence first.
        sound_frame.pts = 0
        container.mux(audio.encode(sound_frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
