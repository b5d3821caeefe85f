"""Features of the pictures from public backbones, in the files that `features` reads.

What AVLnet, MCN and Everything at Once are fed: antoine77340/video_feature_extractor, with today's libraries. Its two
networks were a ResNet-152 on single frames (`2d`) and a ResNeXt-101 on 16 frames (`3d`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from datamodules.files import replacing
from datamodules.media.decode import Media, MediaError
from datamodules.progress import Track, no_progress
from datamodules.source import DataError
from datamodules.weight_files import read_checkpoint

VECTOR_LENGTH = 1.0
"""L2 norm of each vector, as with the `--l2_normalize 1` that video_feature_extractor has by default. Methods that
want it (Everything at Once) normalise again, which changes nothing; other people's files may not be so."""
PRECISION = np.float16
"""As its `--half_precision 1`."""
BLOCK_FRAMES = 512
"""Frames that are decoded at a time, 140 MB at 224 x 400 pixels; each block is sought anew, from a keyframe on."""
HEADS = ("fc", "classifier", "head")
"""What torchvision's video networks call their classifier, which is taken off."""


class Extractor(nn.Module):
    """Frames -> vectors.

    Attributes:
        fps: frames a second that it wants.
        frames: frames of a vector; a last group that is not full is filled up with black ones.
        short_side: pixels.
        device: where it runs.
        model: the network without its classifier: [N, ...] -> [N, D].
        mean, std: [3] by which pixels in 0..1 are normalised.
        origin: what the vectors depend on, in words; vectors of different origin are not mixed in one folder.
    """

    fps: float
    frames: int
    short_side: int
    device: str
    model: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    origin: dict[str, Any]

    def pixels(self, frames_NTHWC: np.ndarray) -> Tensor:
        """uint8 [N, frames, H, W, 3] -> what the network takes, normalised, on the device."""
        raise NotImplementedError

    @torch.inference_mode()
    def forward(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 [N, frames, H, W, 3] RGB -> float32 [N, D], each of length 1."""
        features_ND = self.model(self.pixels(frames_NTHWC)).float()
        return (VECTOR_LENGTH * F.normalize(features_ND, dim=1)).cpu().numpy()


class Extractor2D(Extractor):
    """One frame a second, short side 224, no crop -> a timm network's pooled features.

    Args:
        name: of the timm model, e.g. `resnet152`; it must take pictures of any shape, as convolutional ones do.
        weights: a checkpoint of it; its classifier, if it is there, is not used.
        pretrained: in place of a checkpoint, timm's own weights, which it downloads.
        device: `cpu` or `cuda`.

    Raises:
        DataError: neither or both of weights and pretrained; a checkpoint that does not fit, naming the keys.
    """

    fps, frames, short_side = 1.0, 1, 224

    def __init__(self, name: str, weights: Path | None = None, *, pretrained: bool = False, device: str = "cpu"):
        super().__init__()
        _need_weights(name, weights, pretrained)
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
        if weights is not None:
            classifier = cast(Any, model.default_cfg).get("classifier") or ()
            _load(model, weights, (classifier,) if isinstance(classifier, str) else tuple(classifier))
        config = timm.data.resolve_model_data_config(model)
        self.device, self.model = device, model.eval().to(device)
        self.mean, self.std = config["mean"], config["std"]
        self.origin = _origin(self, name, weights)

    def pixels(self, frames_NTHWC: np.ndarray) -> Tensor:
        return _normalise(frames_NTHWC[:, 0], self.mean, self.std, self.device).movedim(-1, 1)


class Extractor3D(Extractor):
    """Windows of 16 frames at 24 a second, centre crop -> what goes into a torchvision video network's classifier.

    The crop is as large as the weights' own transforms say (112 pixels for `r3d_18`), and the short side is resized
    to just that.

    Args:
        name: of the model in `torchvision.models.video`, e.g. `r3d_18`.
        weights: a checkpoint of it; its classifier, if it is there, is not used.
        pretrained: in place of a checkpoint, torchvision's own weights, which it downloads.
        device: `cpu` or `cuda`.

    Raises:
        DataError: as `Extractor2D`.
    """

    fps, frames = 24.0, 16

    def __init__(self, name: str, weights: Path | None = None, *, pretrained: bool = False, device: str = "cpu"):
        super().__init__()
        if name not in torchvision.models.list_models(torchvision.models.video):
            known = ", ".join(torchvision.models.list_models(torchvision.models.video))
            raise DataError(f"torchvision has no video model {name!r}; it has {known}")
        _need_weights(name, weights, pretrained)
        official = torchvision.models.get_model_weights(name).DEFAULT
        model = torchvision.models.get_model(name, weights=official if pretrained else None)
        head = next(head for head in HEADS if hasattr(model, head))
        setattr(model, head, nn.Identity())
        if weights is not None:
            _load(model, weights, (head,))
        transforms = official.transforms()
        self.device, self.model = device, model.eval().to(device)
        self.short_side = transforms.crop_size[0]
        self.mean, self.std = transforms.mean, transforms.std
        self.origin = _origin(self, name, weights)

    def pixels(self, frames_NTHWC: np.ndarray) -> Tensor:
        height, width = frames_NTHWC.shape[2:4]
        top, left = (height - self.short_side) // 2, (width - self.short_side) // 2
        square = frames_NTHWC[:, :, top : top + self.short_side, left : left + self.short_side]
        return _normalise(square, self.mean, self.std, self.device).movedim(-1, 1)


@dataclass
class Report:
    """What an extraction did."""

    written: int = 0
    present: int = 0
    """Videos whose file was there already."""
    excluded: dict[str, str] = field(default_factory=dict)
    """Video id -> why it has no features, one of `container.REASONS` or "not finite"."""

    def __str__(self) -> str:
        counts = "".join(f", {n} {reason}" for reason, n in Counter(self.excluded.values()).most_common())
        return f"{self.written} written, {self.present} there already{counts}"


def extract(
    videos: Mapping[str, Path],
    out: Path,
    kind: str,
    extractor: Extractor,
    batch: int = 32,
    track: Track = no_progress,
) -> Report:
    """Writes `<out>/<video id>_<kind>.npy` of each video: float16 [T, D], rows of length 1.

    The names are AVLnet's; the format is `.npy` and not `.npz`, of which clips read only their rows. A file appears
    only when it is whole; what is there is left alone, so an extraction that was cut off goes on. `<out>/<kind>.json`
    says what the features were made with.

    A video is as long as the longer of its sound and pictures, rounded to whole frames; past the last frame it is
    the last frame that is seen.

    Args:
        videos: id -> file.
        out: folder, made if missing.
        kind: e.g. `2d`.
        extractor: frames -> vectors.
        batch: vectors at a time.
        track: shows progress.

    Returns:
        What was done; a video that cannot be used is counted there and stops nothing.

    Raises:
        DataError: the folder has features of this kind that were made with something else.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / f"{kind}.json", extractor.origin)
    report = Report()
    for video_id, path in track(videos.items(), f"features {kind}", len(videos)):
        target = out / f"{video_id}_{kind}.npy"
        if target.exists():
            report.present += 1
            continue
        try:
            features_TD = video_features(path, extractor, batch)
        except MediaError as error:
            report.excluded[video_id] = error.reason
            continue
        with np.errstate(over="ignore"):
            stored_TD = features_TD.astype(PRECISION)
        if not np.isfinite(stored_TD).all():
            report.excluded[video_id] = "not finite"
            continue
        _write(target, stored_TD)
        report.written += 1
    return report


def video_features(path: Path, extractor: Extractor, batch: int) -> np.ndarray:
    """float32 [T, D] of a whole video, T = ceil(frames / extractor.frames).

    Raises:
        MediaError: the video cannot be used.
    """
    with Media(path) as media:
        blocks = list(_blocks(media, extractor, batch))
    return np.concatenate(blocks)


def _blocks(media: Media, extractor: Extractor, batch: int) -> Iterator[np.ndarray]:
    seconds = media.check(need_audio=False, need_video=True).duration
    times = np.arange(max(1, round(seconds * extractor.fps))) / extractor.fps
    group = extractor.frames
    step = max(1, BLOCK_FRAMES // group) * group
    for start in range(0, len(times), step):
        frames_THWC = media.frames_short_side(times[start : start + step].tolist(), extractor.short_side)
        missing = -len(frames_THWC) % group
        frames_THWC = np.pad(frames_THWC, ((0, missing), (0, 0), (0, 0), (0, 0)))
        frames_NTHWC = frames_THWC.reshape(-1, group, *frames_THWC.shape[1:])
        for first in range(0, len(frames_NTHWC), batch):
            yield extractor(frames_NTHWC[first : first + batch])


def _write(target: Path, features: np.ndarray) -> None:
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.save(file, features)


def _claim(path: Path, origin: dict[str, Any]) -> None:
    """Notes what the features of a folder are made with; they are never of two origins."""
    text = json.dumps(origin, indent=2, sort_keys=True) + "\n"
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(text)
    elif path.read_text() != text:
        raise DataError(f"{path}: the features beside it were made otherwise; take another folder, or delete them all")


def _normalise(frames: np.ndarray, mean: Any, std: Any, device: str) -> Tensor:
    """uint8 [..., 3] -> float32 [..., 3]."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(device).float() / 255
    return (pixels - torch.tensor(mean, device=device)) / torch.tensor(std, device=device)


def _need_weights(name: str, weights: Path | None, pretrained: bool) -> None:
    if (weights is None) == (not pretrained):
        raise DataError(
            f"{name} needs weights, as features of a random network say nothing: "
            f"name either a checkpoint file, or pretrained=True to have the library download its own"
        )


def _load(model: nn.Module, path: Path, heads: tuple[str, ...]) -> None:
    """Loads a file's weights, with or without `module.` before their names, but for the classifier."""
    try:
        state = read_checkpoint(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    state = {name.removeprefix("module."): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.startswith(tuple(f"{head}." for head in heads))}
    wanted = model.state_dict()
    faults = {
        "missing": wanted.keys() - state.keys(),
        "unknown": state.keys() - wanted.keys(),
        "of another shape": {name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape},
    }
    if any(faults.values()):
        text = "; ".join(
            f"{len(keys)} {what}: {', '.join(sorted(keys)[:5])}{', …' if len(keys) > 5 else ''}"
            for what, keys in faults.items()
            if keys
        )
        raise DataError(f"{path}: its keys do not fit the model {type(model).__name__}: {text}")
    model.load_state_dict(state)


def _origin(extractor: Extractor, name: str, weights: Path | None) -> dict[str, Any]:
    checksum = "pretrained"
    if weights is not None:
        with open(weights, "rb") as file:
            checksum = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "extractor": type(extractor).__name__,
        "model": name,
        "weights": checksum,
        "fps": extractor.fps,
        "frames": extractor.frames,
        "short_side": extractor.short_side,
        "mean": list(extractor.mean),
        "std": list(extractor.std),
    }
