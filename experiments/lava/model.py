"""LAVA's network: three encoders of their own, and projections in which clips are compared.

A reconstruction from the first author's development code (sumanthgenz/lava, August 2021, `src/encoder.py`), a year
older than the paper, whose body could not be read.

Shape suffixes: B clips, T samples, F frames, M mel bins, L tokens, P values of a token, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks, spectrogram

from datamodules.precision import full_precision
from datamodules.streams.text import make_tokenizer
from datamodules.types import Batch, Inputs, TextInputs
from experiments.common.networks.batch_norm import GlobalBatchNorm
from experiments.common.networks.patches import looked_at, patchify, video_grid

CENTROID = "centroid"
"""The relation of the modalities to their mean."""
SHARED = "shared"
"""The projections of all relations, where these share them."""
FILTERS_RATE, PADDED = 16000, 10
"""Torchaudio's default rate, for which the authors' mel filters are made whatever the sound's, and the zeros at both
ends of it (`src/utils.py`, `get_log_mel_spec`)."""


@dataclass
class SpectrogramConfig:
    """Log-mels; defaults are those of `src/utils.py` and `src/augment.py`."""

    fft: int = 1730
    """Samples of a frame; half as many lie between two."""
    mel_bins: int = 80
    frames: int = 512
    patch: int = 8
    """Frames of a token, of all mel bins."""


@dataclass
class LAVAConfig:
    """The network; defaults are those of `src/train.py` and `src/encoder.py`."""

    text: Literal["titles", "captions", "none"] = "titles"
    """What the text of pretraining is, which every row of a board says: titles of the videos, captions of the clips (or
    what is said in them), or none. Never names of classes: they would give the labels away."""
    dim: int = 1024
    """Channels, and as many of the feed-forward layers."""
    depth: int = 4
    heads: int = 4
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    video_patch: list[int] = field(default_factory=lambda: [4, 28])
    """Pictures and pixels of a side of a token."""
    vocabulary: int = 48000
    """Token ids, with the padding."""
    pairwise: list[str] = field(default_factory=lambda: ["av", "at", "vt"])
    """Pairs of modalities that are contrasted; those of which one is not looked at are left out."""
    use_centroid: bool = True
    """Whether each modality is contrasted with the clips' centroids, too."""
    scale: float = 14.285
    """s at the start, 1 / 0.07: a learned factor of the cosines, neither bounded nor in log space."""
    share_projection: bool = True
    """One linear projection a modality; else one a modality and relation, of two layers for video (commit 5e513f5)."""


class LogMel(nn.Module):
    """[B, T] sound -> [B, M, F] log2 of mel powers, in the middle of the frames, 0 where there is no sound at all."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: SpectrogramConfig):
        super().__init__()
        self.config = config
        with torch.device("cpu"):  # torchaudio looks at the values, which the meta device has not
            filters = melscale_fbanks(config.fft // 2 + 1, 0.0, FILTERS_RATE / 2, config.mel_bins, FILTERS_RATE)
        self.register_buffer("window", torch.hann_window(config.fft), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @torch.no_grad()
    def forward(self, sound_BT: Tensor, length_B: Tensor) -> Tensor:
        """Of clips of these lengths, zero after the end."""
        fft, frames = self.config.fft, self.config.frames
        hop = fft // 2
        with full_precision(sound_BT.device):
            power = spectrogram(sound_BT.float(), PADDED, self.window, fft, hop, fft, power=2.0, normalized=False)
            mel_BMF = (power.mT @ self.filters).mT.log2()
        mel_BMF = F.pad(mel_BMF, (0, max(0, frames - mel_BMF.shape[2])))[:, :, :frames]
        present_B1 = (1 + (length_B[:, None] + 2 * PADDED) // hop).clamp(max=frames)
        place_F = torch.arange(frames, device=sound_BT.device)
        mel_BMF = mel_BMF.masked_fill(~mel_BMF.isfinite() | (place_F >= present_B1)[:, None], 0.0)
        from_BF = (place_F - (frames - present_B1) // 2) % frames
        return mel_BMF.gather(2, from_BF[:, None].expand_as(mel_BMF))


class Encoder(nn.Module):
    """[B, L, P] tokens -> [B, D]: post-norm layers, whose output is read where a learned token stands, at the end."""

    def __init__(self, values: int, tokens: int, config: LAVAConfig):
        super().__init__()
        dim, scale = config.dim, config.dim**-0.5
        self.proj = nn.Linear(values, dim)
        self.token = nn.Parameter(scale * torch.randn(1, dim))
        self.positions = nn.Parameter(scale * torch.rand(tokens + 1, dim))
        # Theirs all start with the same weights, as torch's stack copies one layer; here each draws its own.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, config.heads, dim, 0.0, "gelu", batch_first=True)
            for _ in range(config.depth)
        )
        self.fc = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))

    def forward(self, values_BLP: Tensor) -> Tensor:
        x_BLD = self.proj(values_BLP)
        x_BLD = torch.cat([x_BLD, self.token.expand(len(x_BLD), 1, -1)], dim=1) + self.positions
        for layer in self.layers:
            x_BLD = layer(x_BLD)
        return self.fc(x_BLD[:, -1])


class AudioEncoder(Encoder):
    """[B, T] sound and its [B] lengths -> [B, D]; a token is some frames of all mel bins."""

    def __init__(self, config: LAVAConfig):
        own = config.spectrogram
        super().__init__(own.patch * own.mel_bins, own.frames // own.patch, config)
        self.patch = (own.mel_bins, own.patch)
        self.log_mel = LogMel(own)

    def hear(self, mel_BMF: Tensor) -> Tensor:
        """[B, M, F] log-mels -> [B, D]."""
        return self(patchify(mel_BMF[:, None], self.patch))


class VideoEncoder(Encoder):
    """[B, 3, T, H, W] pictures -> [B, D]; a token is a block of pixels of some pictures."""

    def __init__(self, config: LAVAConfig, inputs: Inputs):
        tubelet, side = config.video_patch
        times, rows, columns = video_grid(looked_at(inputs.video, "video"), side, tubelet)
        super().__init__(tubelet * side * side * 3, times * rows * columns, config)
        self.patch = (tubelet, side, side)

    def see(self, video_B3THW: Tensor) -> Tensor:
        return self(patchify(video_B3THW, self.patch))


class TextEncoder(Encoder):
    """[B, L] token ids -> [B, D]; the padding after the end is looked at, too."""

    def __init__(self, config: LAVAConfig, text: TextInputs | None):
        if text is None:
            raise ValueError("data.inputs.text is not set: name the tokenizer, or leave t out of the modality")
        if text.file is not None or text.tokenizer == "words":
            ids = make_tokenizer(text).size
            if ids > config.vocabulary:
                raise ValueError(
                    f"the tokenizer {text.file or text.tokenizer} has {ids} ids: set model.vocabulary={ids}"
                )
        super().__init__(config.dim, text.length, config)
        self.embedding = nn.Embedding(config.vocabulary, config.dim)

    def read(self, ids_BL: Tensor) -> Tensor:
        return self(self.embedding(ids_BL))


class Encoders(nn.Module):
    """Those of some modalities. They share nothing."""

    def __init__(self, config: LAVAConfig, inputs: Inputs, text: TextInputs | None, modalities: str):
        super().__init__()
        self.config, self.modalities = config, modalities
        self.encoders = nn.ModuleDict()
        for modality in modalities:
            self.encoders[modality] = (
                AudioEncoder(config) if modality == "a" else
                VideoEncoder(config, inputs) if modality == "v" else TextEncoder(config, text)
            )  # fmt: skip

    def encode(self, batch: Batch, modality: str, log_mel_noise: Tensor | float = 0.0) -> Tensor:
        """[B, D] of one modality: what is judged by linear probes."""
        encoder: Any = self.encoders[modality]
        if modality == "a":
            streams = cast(Mapping[str, Tensor], batch)
            mel_BMF = encoder.log_mel(streams["waveform"], streams["waveform_length"])
            return encoder.hear(mel_BMF + log_mel_noise)
        return encoder.see(batch["video"]) if modality == "v" else encoder.read(batch["text"])


class LAVA(Encoders):
    """With the projections of each relation: a pair of modalities, or all of them and their centroid."""

    def __init__(self, config: LAVAConfig, inputs: Inputs, text: TextInputs | None, modalities: str):
        super().__init__(config, inputs, text, modalities)
        pairs = [pair for pair in config.pairwise if set(pair) <= set(modalities)]
        self.relations = {pair: pair for pair in pairs} | ({CENTROID: modalities} if config.use_centroid else {})
        if not self.relations:
            raise ValueError("nothing is left of the loss: set model.use_centroid, or name pairs in model.pairwise")
        names = {SHARED: modalities} if config.share_projection else self.relations
        self.scale = nn.Parameter(torch.tensor([config.scale]))
        self.projections = nn.ModuleDict(
            {name: nn.ModuleDict({m: self._projection(m) for m in members}) for name, members in names.items()}
        )

    def _projection(self, modality: str) -> nn.Module:
        dim = self.config.dim
        if self.config.share_projection or modality != "v":
            return nn.Linear(dim, dim)
        return nn.Sequential(nn.Linear(dim, dim), GlobalBatchNorm(dim), nn.GELU(), nn.Linear(dim, dim))

    def project(self, unit_BD: Tensor, modality: str, relation: str) -> Tensor:
        """[B, D] unit vectors, which are compared within a relation.

        Args:
            unit_BD: what the encoder gives, at length 1; or zeros, which become the projection's bias.
            modality: whose.
            relation: of `relations`.
        """
        name = SHARED if self.config.share_projection else relation
        return F.normalize(cast(nn.ModuleDict, self.projections[name])[modality](unit_BD), dim=1)
