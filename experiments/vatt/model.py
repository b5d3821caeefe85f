"""VATT's network: transformers for cubes of pixels, stretches of a waveform and words, and the spaces in which clips
are compared (google-research `vatt/modeling/`).

Shape suffixes: B clips, L tokens, K of them that are kept, D channels, W length of a word's vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.streams.known import streams_of
from datamodules.types import Inputs
from experiments.common.networks.layers import LayerNorm, init_mae, transformer
from experiments.common.networks.patches import looked_at, video_grid
from experiments.common.networks.t5 import T5Encoder
from experiments.common.networks.tokens import First, Patches, Places

SOUND = "sound"
"""The stream of waveforms or of spectrograms."""


@dataclass
class Size:
    """Of a transformer; the defaults are Medium's."""

    dim: int = 1024
    depth: int = 12
    heads: int = 16
    mlp_ratio: float = 4.0


@dataclass
class VATTConfig:
    """Defaults are VATT-MBS; sources stand in `config.yaml`."""

    shared: bool = False
    """One transformer, as large as `video` says, for all modalities (VATT-MA), in the place of one each."""
    video: Size = field(default_factory=Size)
    audio: Size = field(default_factory=lambda: Size(768, 12, 12))
    text: Size = field(default_factory=lambda: Size(512, 6, 8))
    video_patch: list[int] = field(default_factory=lambda: [4, 16])
    """Frames and pixels of a token."""
    wave_patch: int = 128
    """Samples of a token, if sound is read as a waveform."""
    spectrum_patch: list[int] = field(default_factory=lambda: [16, 5])
    """Frames and mel bins of a token, if it is read as a spectrogram."""
    word_dim: int = 300
    projected: int = 1024
    """Length of the features of a shared transformer."""
    dropout: float = 0.1
    head: Literal["fac", "joint"] = "fac"
    """`fac`: pictures meet sound in a fine space, and from there words in a coarse one; `joint`: all in one space."""
    spaces: list[int] = field(default_factory=lambda: [512, 256])
    """Length of the embeddings in the fine and in the coarse space; a joint one is as the fine one."""

    def size(self, modality: str) -> Size:
        """Of the transformer that a modality goes through."""
        return self.video if self.shared else {"v": self.video, "a": self.audio, "t": self.text}[modality]

    def width(self, modality: str) -> int:
        """Length of a modality's features."""
        return self.projected if self.shared else self.size(modality).dim


def activated(before: int, after: int, *, bias: bool = True) -> nn.Sequential:
    """A linear layer and GELU."""
    return nn.Sequential(nn.Linear(before, after, bias=bias), nn.GELU()).apply(init_mae)


class SharedWords(nn.Module):
    """[B, L, W] vectors of words -> [B, 1 + L, D], for a shared transformer."""

    def __init__(self, length: int, dim: int, config: VATTConfig):
        super().__init__()
        self.pre = activated(config.word_dim, dim)
        self.places, self.dropout, self.first = Places([length], dim), nn.Dropout(config.dropout), First(dim)

    def forward(self, words_BLW: Tensor) -> Tensor:
        return self.first(self.dropout(self.pre(words_BLW) + self.places()))


class Transformer(nn.Module):
    """[B, L, D] -> the same; of words `there_BL` says which count."""

    def __init__(self, size: Size, dropout: float):
        super().__init__()
        self.blocks = transformer(size.dim, size.depth, size.heads, size.mlp_ratio, dropout=dropout).apply(init_mae)
        self.norm, self.dropout = LayerNorm(size.dim), nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, there_BL: Tensor | None = None) -> Tensor:
        mask = None if there_BL is None else there_BL[:, None, None]
        for block in self.blocks:
            x_BLD = block(x_BLD, attn_mask=mask)
        return self.dropout(self.norm(x_BLD))


class Towers(nn.Module):
    """What stands before, in and behind the transformers of some modalities.

    Args:
        config: of the network.
        inputs: of the stage.
        modalities: e.g. `vt`.
        words: at most, of a text.
    """

    def __init__(self, config: VATTConfig, inputs: Inputs, modalities: str, words: int = 0):
        super().__init__()
        self.config = config
        self.fronts = nn.ModuleDict({m: self._front(m, inputs, words) for m in modalities})
        self.transformers = nn.ModuleDict({self._name(m): self._transformer(m) for m in modalities})
        after = {m: activated(config.video.dim, config.projected) for m in modalities if config.shared}
        self.after = nn.ModuleDict(after)

    def _name(self, modality: str) -> str:
        return "shared" if self.config.shared else modality

    def _transformer(self, modality: str) -> nn.Module:
        size, dropout = self.config.size(modality), self.config.dropout
        if modality == "t" and not self.config.shared:
            return T5Encoder(size.dim, size.depth, size.heads, size.mlp_ratio, dropout)
        return Transformer(size, dropout)

    def _front(self, modality: str, inputs: Inputs, words: int) -> nn.Module:
        config, dim = self.config, self.config.size(modality).dim
        if modality == "t" and config.shared:
            return SharedWords(words, dim, config)
        if modality == "t":  # T5 knows places by itself; AGG is a word before them
            return nn.Sequential(First(config.word_dim), activated(config.word_dim, dim, bias=False))
        pre = activated(dim, dim) if config.shared else nn.Identity()
        if modality == "v":
            tubelet, side = config.video_patch
            pictures = video_grid(looked_at(inputs.video, "video"), side, tubelet)
            return Patches(3, (tubelet, side, side), pictures, dim, config.dropout, pre)
        if SOUND not in inputs.streams:
            raise ValueError(f"data.inputs.streams.{SOUND} is missing: a waveform or a spectrogram")
        _, *size = streams_of(inputs)[SOUND].example(1, "meta")[""].shape
        patch = config.spectrum_patch if len(size) > 1 else [config.wave_patch]
        grid = tuple(length // side for length, side in zip(size[-len(patch) :], patch, strict=True))
        return Patches(1, patch, grid, dim, config.dropout, pre)

    def forward(
        self, modality: str, x: Tensor, keep_BK: Tensor | None = None, there_BL: Tensor | None = None
    ) -> Tensor:
        """[B, D] what AGG, the first token, has become.

        Args:
            modality: which.
            x: [B, 3, T, H, W] pictures, [B, T] waveforms or [B, 1, F, M] spectrograms, [B, L, W] words.
            keep_BK: places of the tokens that are kept; None = all.
            there_BL: bool, the words that there are.
        """
        front, through = self.fronts[modality], self.transformers[self._name(modality)]
        if there_BL is not None:
            there_BL = torch.cat([torch.ones_like(there_BL[:, :1]), there_BL], 1)
            feature_BD = through(front(x), there_BL)[:, 0]
        else:
            feature_BD = through(front(x[:, None] if x.ndim == 2 else x, keep_BK))[:, 0]
        return self.after[modality](feature_BD) if self.config.shared else feature_BD


def compressed(before: int, after: int) -> list[nn.Module]:
    """ReLU, a linear layer and batch norm."""
    return [nn.ReLU(), nn.Linear(before, after, bias=False), nn.BatchNorm1d(after)]


class VATT(Towers):
    """The towers, and the spaces in which pictures meet sound (fine) and words (coarse)."""

    def __init__(self, config: VATTConfig, inputs: Inputs, modalities: str, words: int):
        super().__init__(config, inputs, modalities, words)
        fine, coarse = config.spaces
        width = {modality: config.width(modality) for modality in modalities}
        self.fine, self.coarse = nn.ModuleDict(), nn.ModuleDict()
        if config.head == "joint":
            for modality in modalities:
                space = self.coarse if modality == "t" else self.fine
                space[modality] = nn.Sequential(*compressed(width[modality], fine))
        else:
            first = nn.Linear(width["v"], fine, bias=False)
            self.fine["v"] = nn.Sequential(first, nn.BatchNorm1d(fine), *compressed(fine, fine))
            if "a" in modalities:
                self.fine["a"] = nn.Linear(width["a"], fine)
            if "t" in modalities:
                self.coarse["v"] = nn.Sequential(*compressed(fine, coarse))
                self.coarse["t"] = nn.Linear(width["t"], coarse)
        self.fine.apply(init_mae)
        self.coarse.apply(init_mae)

    def coarser(self, fine_BD: Tensor) -> Tensor:
        """Pictures as words know them, of pictures as sound knows them."""
        return self.coarse["v"](fine_BD) if "v" in self.coarse else fine_BD
