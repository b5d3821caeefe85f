"""How log-mels and frames divide into patches."""

from __future__ import annotations

from datamodules.types import AudioInputs, VideoInputs


def audio_grid(audio: AudioInputs, patch: int) -> tuple[int, int]:
    """(time, mel): 1024 frames of 128 mel bins are 64 x 8 patches of 16 x 16.

    Raises:
        ValueError: naming the input that does not divide.
    """
    return _divide("audio.frames", audio.frames, patch), _divide("audio.mel_bins", audio.mel_bins, patch)


def video_grid(video: VideoInputs, patch: int, tubelet: int) -> tuple[int, int, int]:
    """(time, height, width): 8 frames of 224 x 224 are 4 x 14 x 14 patches of 2 x 16 x 16.

    Raises:
        ValueError: naming the input that does not divide.
    """
    side = _divide("video.size", video.size, patch)
    return _divide("video.frames", video.frames, tubelet), side, side


def _divide(name: str, size: int, patch: int) -> int:
    if size < patch or size % patch:
        raise ValueError(f"{name} must be a multiple of the patch size {patch}, not {size}")
    return size // patch
