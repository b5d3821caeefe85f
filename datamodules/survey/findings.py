"""Findings of a survey that matter to measurements on the data, each with what to do next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from datamodules.manifest.exclusions import CURES, MALFORMED, NOT_LISTED
from datamodules.media.container import REASONS
from datamodules.survey.facts import Finding, SoundFacts, SplitFacts, Survey, Usable

SHORT_SHARE = STILL_SHARE = QUIET_SHARE = 0.01
"""Of a split's usable clips; fewer are only counted."""
MEAN_OFF = 1.0
"""Natural logarithm of power (4.3 dB) by which the mean log-mel may differ from what is assumed."""
STD_RATIO = 1.33
"""By which the standard deviation may be larger or smaller."""
QUIET_LEVEL = -60.0
"""dB below full scale: reported where 5 % of clips are below it."""
DECIBELS = 4.343
"""In a natural logarithm of power."""

NOTHING_OF_IT = "not what this stream reads"
"""Reason of the clips of a split in which a stream can find nothing."""

_AGAIN = "download these files again, or remove them"
NEXT_STEPS = {
    "missing": "download what still exists; if the files are there, compare their names with docs/data.md",
    **dict.fromkeys(("empty", "not media", "truncated", "undecodable"), _AGAIN),
    **dict.fromkeys(("crashes the decoder", "takes too long"), _AGAIN),
    "unreadable": "look whether the disk works and who may read these files",
    "silent": "they are left out where sound is needed; if there are many, download them again",
    "no audio": "they are left out where sound is needed; if there are many, download them again with sound",
    "no video": "they are left out where pictures are needed",
    "beyond the end of its file": "the file ends before the clip begins in it; if it is the cut clip, name it with its "
    "start or set data.media=clips, else download the video again",
    NOTHING_OF_IT: "the example says what the stream looked for; change its settings, or read it of another dataset",
    NOT_LISTED: "the list is shorter than the official one; download the official file",
    MALFORMED: "the report has their lines; download the official file again",
    **CURES,
}


def findings(found: Survey) -> list[Finding]:
    """Of a survey, in the order in which they are to be dealt with."""
    each = [*_left_out(found), *_lists(found), *_lengths(found), *_classes(found), *_pictures(found)]
    if found.log_mel is not None:
        each += _sound(found.log_mel)
    return [*each, *_shared(found)]


def _left_out(found: Survey) -> Iterator[Finding]:
    splits: dict[str, list[str]] = defaultdict(list)
    for split, facts in found.splits.items():
        for reason, count in _excluded(facts).items():
            splits[reason].append(f"{count:,} of {split}")
    for reason, counts in splits.items():
        meaning = f" ({REASONS[reason]})" if reason in REASONS else ""
        yield Finding(f"{reason}{meaning}: {', '.join(counts)}", _next_step(reason))


def _excluded(facts: SplitFacts) -> dict[str, int]:
    """Reason -> clips; of the streams that were asked for, reasons beside those of sound and pictures."""
    found = dict(_best(facts).excluded)
    for usable in facts.streams.values():
        found |= {reason: count for reason, count in usable.excluded.items() if reason not in found}
    return found


def _next_step(reason: str) -> str:
    """What to do about clips that are left out for it; those of files beside media are `what: why`."""
    what, beside, why = reason.rpartition(": ")
    if reason in NEXT_STEPS or not beside:
        return NEXT_STEPS.get(reason, "see the report")
    return f"put each {what} where the official files name it" if why == "missing" else f"get or make each {what} anew"


def _best(facts: SplitFacts) -> Usable:
    return facts.usable[facts.need]


def _lists(found: Survey) -> Iterator[Finding]:
    for split, facts in found.splits.items():
        if facts.overlong:
            yield Finding(
                f"{split} lists {facts.listed:,} clips, {facts.overlong:,} more than the official release",
                "copies with other rows circulate; download the official list, as scores on another one do not compare",
            )


def _lengths(found: Survey) -> Iterator[Finding]:
    for split, facts in found.splits.items():
        clips = _best(facts).clips
        if facts.short > SHORT_SHARE * clips and facts.listed_seconds is not None:
            yield Finding(
                f"{facts.short:,} of the {clips:,} usable clips of {split} are clearly shorter than listed: "
                f"{facts.seconds[0]:.1f} s at least, {facts.seconds[2]:.1f} s in the median, of "
                f"{facts.listed_seconds:.1f} s",
                "cut them again from the whole videos; numbers measured on clips of another length do not compare",
            )


def _classes(found: Survey) -> Iterator[Finding]:
    for split, facts in found.splits.items():
        empty = [name for name, count in facts.clips_of_class.items() if not count]
        if empty and _best(facts).clips:
            some = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
            yield Finding(
                f"{len(empty)} of the {len(facts.clips_of_class)} classes have no usable clip in {split}: {some}",
                "get clips of these classes; until then means over classes are without them",
            )


def _pictures(found: Survey) -> Iterator[Finding]:
    for split, facts in found.splits.items():
        clips = facts.usable["pictures"].clips
        if facts.still > STILL_SHARE * clips:
            yield Finding(
                f"{facts.still:,} of the {clips:,} clips of {split} with pictures show one picture all the time",
                "they are used; where videos were made of sound files, download the originals again",
            )


def _sound(facts: SoundFacts) -> Iterator[Finding]:
    off, ratio = facts.mean - facts.assumed_mean, facts.std / facts.assumed_std
    if abs(off) > MEAN_OFF or not 1 / STD_RATIO < ratio < STD_RATIO:
        yield Finding(
            f"log-mels have mean {facts.mean:.2f} and standard deviation {facts.std:.2f}; {facts.assumed_mean:.2f} and "
            f"{facts.assumed_std:.2f} are assumed: on average {abs(off) * DECIBELS:.0f} dB "
            f"{'more' if off > 0 else 'less'} in a band",
            f"to train from scratch, set data.inputs.audio.mean={facts.mean:.4f} and .std={facts.std:.4f}; for others' "
            "weights leave them, and look whether the files were converted with another gain or rate",
        )
    if facts.level[1] < QUIET_LEVEL:
        yield Finding(
            f"one clip in twenty has a level below {facts.level[1]:.0f} dB of full scale (median {facts.level[2]:.0f})",
            "listen to some of them: sound that was converted wrongly is nearly silent",
        )


def _shared(found: Survey) -> Iterator[Finding]:
    for pair in found.shared_videos:
        yield Finding(
            f"{' and '.join(pair['splits'])} share {pair['videos']:,} source videos ({pair['clips']:,} clips of the "
            f"latter), e.g. {', '.join(pair['examples'][:3])}",
            "if the official lists do not, yours were changed; else mention it with results of models trained on both",
        )
