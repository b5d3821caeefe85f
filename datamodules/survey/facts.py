"""Facts about a dataset on a disk; `survey` collects them, `findings` draws conclusions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SHARES = (0.0, 0.05, 0.5, 0.95, 1.0)
"""The quantiles that are reported of a distribution."""


@dataclass
class Usable:
    """The clips of a split that can be used for their sound, their pictures, or both."""

    clips: int
    official: int
    coverage: float
    """Share of the official clips."""
    excluded: dict[str, int]
    examples: dict[str, list[str]]


@dataclass
class SplitFacts:
    """A split as it lies on the disk."""

    listed: int
    """Rows of the official file."""
    official: int
    """Clips of the official release; `listed` where it is not known or less."""
    overlong: int
    """Listed clips beyond those of the official release."""
    malformed: list[str]
    usable: dict[str, Usable]
    need: str
    """Of `usable`, what the numbers below are of: both, or what of sound and pictures more clips have."""
    seconds: list[float]
    """How much of the usable clips is there, the quantiles `SHARES`; empty where there are none."""
    listed_seconds: float | None
    """How long the listed clips are, median; None where the list does not say."""
    short: int
    """Usable clips of which clearly less is there than is listed."""
    clips_of_class: dict[str, int]
    """Class -> usable clips."""
    silent: int
    still: int
    """Clips whose picture never changes; they are used."""
    with_text: int | None
    """Clips that say something; None where the dataset has no text."""
    with_features: dict[str, int]
    """Kind -> clips whose video has a feature file of it; of the kinds that were asked for."""
    streams: dict[str, Usable]
    """Of the streams that were asked for, each by itself, and `all of these`, where they are several."""
    scored: dict[str, Usable]
    """Board that scores this split -> the clips of it that can be, with what it looks at."""


@dataclass
class SoundFacts:
    """Of the sound of some usable clips, their padding left out."""

    clips: int
    mean: float
    """Of the log-mels."""
    std: float
    assumed_mean: float
    """What the dataset's configuration normalises with."""
    assumed_std: float
    sample_rate: int
    mel_bins: int
    level: list[float]
    """The clips' levels (RMS, dB below full scale), the quantiles `SHARES`."""


@dataclass
class Finding:
    """Something that matters to measurements on this data."""

    what: str
    next_step: str


@dataclass
class Survey:
    """All that `bench data check` reports."""

    dataset: str
    root: str
    sample: bool
    """Whether it is made-up sample data."""
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Split -> why its official file cannot be read."""
    shared_videos: list[dict[str, Any]] = field(default_factory=list)
    """Pairs of splits that have source videos in common."""
    log_mel: SoundFacts | None = None
    unread: list[str] = field(default_factory=list)
    """Of the streams that were asked for, those of which no split has a clip."""
    findings: list[Finding] = field(default_factory=list)
    boards: dict[str, str] = field(default_factory=dict)
    """Board -> why it cannot be measured; empty if it can."""
