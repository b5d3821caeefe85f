"""Settings of augmentation, see the streams' files for what they do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from datamodules.frozen import Freezable


@dataclass
class AugmentConfig(Freezable):
    """Augmentation of training batches, on the device; all off by default."""

    roll_gain: bool = False
    """Circular roll of the waveform and a gain of Beta(10, 10) + 0.5 (AudioMAE `roll_mag_aug`)."""
    mixup: float = 0.0
    """Share of clips that are mixed with another training clip, see `mixing.py`."""
    freq_mask: int = 0
    """SpecAugment: largest number of mel bins that are masked."""
    time_mask: int = 0
    """SpecAugment: largest number of frames that each time mask covers."""
    time_masks: int = 1
    """SpecAugment: number of time masks, which may overlap."""
    noise: float = 0.0
    """`noise * u * U(0, 1)` is added to each bin of the normalised log-mels, with u from U(0, 1) for each clip; 0.1 in
    UAVM (`src/dataloader.py`)."""
    shift: int = 0
    """Circular roll of the normalised log-mels by -shift..shift - 1 frames; 10 in UAVM."""
    crop_scale: float = 1.0
    """Random resized crop: smallest share of the picture's area that is kept; 1 = no crop."""
    flip: bool = False
    """Horizontal flip of half of the clips."""
    color_jitter: float = 0.0
    """Share of clips whose brightness, saturation, contrast and hue are changed; 0.8 in MBT."""
    gray: float = 0.0
    """Share of clips turned grey; 0.1 in MBT."""
    volume: float = 0.0
    """The waveform is multiplied by U(1 - volume, 1 + volume), one number a clip; 0.2 in CrissCross (`wav_aug.py`)."""
    freq_masks: int = 1
    """SpecAugment: number of masks of mel bins, which may overlap."""
    mask_with: Literal["zero", "mean"] = "zero"
    """SpecAugment: what masked values become, before normalisation: 0, or the mean of the clip's log-mel; the frames'
    masks get that of what the bins' masks have left (s3prl, CrissCross and XKD `spec_aug.py`)."""
    resize_crop: list[float] = field(default_factory=list)
    """BYOL-A's random resized crop of the normalised log-mel: [least, most] share of its bins and of its frames that a
    box has, [0.6, 1.5] in BYOL-A, CrissCross and XKD; empty = none. See `resize_crop.py`."""
    jitter: list[float] = field(default_factory=list)
    """Most change of every clip's brightness, contrast, saturation and hue, as torchvision's `ColorJitter`; [0.4, 0.4,
    0.4, 0.2] in CrissCross and XKD; empty = none. See `video_changes.py`."""
    blur: float = 0.0
    """Share of clips blurred by a Gaussian of 0.1 to 2 pixels; 0.5 in CrissCross."""
    cutout: int = 0
    """Largest side, in pixels, of a block that is taken out of each clip's pictures; 20 in CrissCross."""
    erase: float = 0.0
    """Share of clips of whose normalised pictures a box of 2 to 33 % becomes noise; 0.25 in XKD. See
    `video_changes.py`."""
    time_warp: int = 0
    """Most frames by which a random frame of the log-mel is moved, with all others between it and the ends; 20 in
    CrissCross's and XKD's evaluations. Before SpecAugment's masks. See `resize_crop.py`."""
    crop_most: float = 1.0
    """Random resized crop: largest share of the picture's area that is kept; 0.4 in XKD's local views."""
