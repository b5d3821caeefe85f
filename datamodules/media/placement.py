"""Where decoded sound lies in time, by the stamps of its frames: the same wherever reading begins.

A frame is what a decoder returns for one packet. Times are samples from the start of the media.
"""

from __future__ import annotations

from collections.abc import Sequence

COUNTED_FORMATS = {"wav", "w64", "aiff", "caf", "au", "flac", "mp3", "aac", "ac3", "eac3", "amr", "ogg"}
"""Formats that store no stamps, or sums of samples: FFmpeg counts for us, and each stamp is right to the sample."""
SLACK_SECONDS = 0.001
"""Two stamps that are rounded to milliseconds (Matroska, FLV, and MP4 made from them) are wrong by this together."""
WITNESSES = 8
"""Frames whose stamps must agree that the sound lies elsewhere: single ones are wrong (Vorbis that was copied out of
Ogg, by up to 0.02 s where the block size changes), or jitter (recordings of what is streamed)."""


def slack(rate: int) -> int:
    """`SLACK_SECONDS` in samples, and one for the rounding to samples."""
    return round(SLACK_SECONDS * rate) + 1


def place(
    stamps: Sequence[int | None], counts: Sequence[int], rate: int, grid: int | None, start: int | None = None
) -> list[int]:
    """The positions of frames that follow each other.

    A frame follows the one before without a gap, unless the next stamps all say that it is later or earlier. A read
    that begins in the middle has to know where the first frame lies. Frames of one length lie on a *grid*: sound whose
    stamps agree with the grid of the file's first frame lies on it, even after a gap, so that a look at a few frames
    suffices (`on_grid`).

    Args:
        stamps: [n] of each frame, None where it has none.
        counts: [n] samples.
        rate: samples a second.
        grid: where the second frame of the file begins, if frames are of one length.
        start: where the first of these frames lies; None = at its stamp.

    Returns:
        [n] positions.
    """
    positions: list[int] = []
    tolerance = slack(rate)
    expected = start if start is not None else (stamps[0] or 0 if stamps else 0)
    for index, (stamp, count) in enumerate(zip(stamps, counts, strict=True)):
        position = expected
        if stamp is not None and index + (start is not None):
            strayed = abs(stamp - expected) > tolerance and _moved(stamps, counts, index, expected, tolerance)
            if strayed:
                position = stamp
            if grid is not None and (strayed or (expected - grid) % count):
                aligned = on_grid(stamps[index:], counts[index:], rate, grid)
                position = position if aligned is None else aligned
        positions.append(position)
        expected = position + count
    return positions


def on_grid(stamps: Sequence[int | None], counts: Sequence[int], rate: int, grid: int) -> int | None:
    """Where on the grid the first frame lies; None if the frames are not of one length or their stamps disagree.

    Args:
        stamps, counts, rate, grid: see `place`; only the first `WITNESSES` frames are looked at.
    """
    if len(stamps) < WITNESSES or stamps[0] is None:
        return None
    count, tolerance = counts[0], slack(rate)
    for stamp, length in zip(stamps[:WITNESSES], counts[:WITNESSES], strict=True):
        if stamp is None or length != count or abs(stamp - _nearest(stamp, count, grid)) > tolerance:
            return None
    return _nearest(stamps[0], count, grid)


def _nearest(stamp: int, count: int, grid: int) -> int:
    return grid + (stamp - grid + count // 2) // count * count


def _moved(stamps: Sequence[int | None], counts: Sequence[int], index: int, expected: int, tolerance: int) -> bool:
    """Whether all of the next stamps are later, or all are earlier, than those of sound that follows at `expected`."""
    sides = set()
    for stamp, count in zip(stamps[index : index + WITNESSES], counts[index : index + WITNESSES], strict=True):
        if stamp is not None:
            if abs(stamp - expected) <= tolerance:
                return False
            sides.add(stamp > expected)
        expected += count
    return len(sides) == 1
