"""MMV's network: a tower of each modality, and heads to the spaces in which two modalities are compared.

Official `mmv/models/mm_embeddings.py` `AudioTextVideoEmbedding`, without its heads between sound and text, which no
graph trains and FAC does not use.

Shape suffixes: B clips, N texts, F log-mel frames, M mel bins, L words, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from experiments.common.networks.gated import WordMaxPool
from experiments.common.networks.resnet_v2 import ResNetV2, ResNetV2Config, TSMResNetV2, initialise
from experiments.common.networks.s3d import S3D, S3DConfig


@dataclass
class MMVConfig:
    """Defaults are those of the released TSM-ResNet-50 (official `config.py`)."""

    graph: Literal["fac", "disjoint", "shared"] = "fac"
    """Pictures reach the space of text through that of sound (fine and coarse), by a head of their own, or there is one
    space of all three."""
    backbone: Literal["tsm", "s3d"] = "tsm"
    """The tower of pictures."""
    tsm: ResNetV2Config = field(default_factory=ResNetV2Config)
    s3d: S3DConfig = field(default_factory=S3DConfig)
    audio: ResNetV2Config = field(default_factory=ResNetV2Config)
    fine: int = 512
    """Length of embeddings in which pictures and sound are compared, and of what is within their heads."""
    coarse: int = 256
    """Length of those in which pictures and text are, where they are not the same."""
    sentence: int = 2048
    """Channels of a text before its head."""
    word_dim: int = 300
    """Length of the word vectors, word2vec's."""


class Towers(nn.Module):
    """Those of these modalities, each from its input to one vector a clip: `v`, `a`, `t`."""

    def __init__(self, config: MMVConfig, modalities: str):
        super().__init__()
        if "v" in modalities:
            self.video = TSMResNetV2(config.tsm) if config.backbone == "tsm" else S3D(config.s3d)
        if "a" in modalities:
            self.audio = ResNetV2(config.audio, 1)
        if "t" in modalities:
            self.text = WordMaxPool(config.word_dim, config.sentence)


def widths(config: MMVConfig) -> dict[str, int]:
    """Modality -> length of what its tower gives."""
    video = config.tsm.widths[-1] if config.backbone == "tsm" else 1024 // config.s3d.narrower
    return {"v": video, "a": config.audio.widths[-1], "t": config.sentence}


def mlp(before: int, after: int) -> nn.Sequential:
    """Two layers, each with batch norm (official `mlp@512`)."""
    last = nn.Linear(after, after, bias=False)
    return nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), last, nn.BatchNorm1d(after))


class MMV(Towers):
    """Towers of these modalities, and their heads."""

    def __init__(self, config: MMVConfig, modalities: str):
        super().__init__(config, modalities)
        fine, width = config.fine, widths(config)
        coarse = fine if config.graph == "shared" else config.coarse
        self.graph = config.graph
        if "v" in modalities:
            self.video_fine = mlp(width["v"], fine)
        if "a" in modalities:
            self.audio_fine = nn.Linear(width["a"], fine)
        if "t" in modalities:
            self.text_coarse = nn.Linear(width["t"], coarse)
        if "t" in modalities and config.graph == "fac":
            self.coarse = nn.Sequential(nn.ReLU(), nn.Linear(fine, coarse), nn.BatchNorm1d(coarse))
        if {"v", "t"} <= set(modalities) and config.graph == "disjoint":
            self.video_coarse = mlp(width["v"], coarse)
        initialise(self)

    def see(self, video_B3THW: Tensor) -> tuple[Tensor, Tensor]:
        """([B, fine], [B, coarse]) of pictures: to be compared with sound, and with text. Without text both are one."""
        seen_BD = self.video(video_B3THW)
        fine_BD = self.video_fine(seen_BD)
        if self.graph == "disjoint" and hasattr(self, "video_coarse"):
            return fine_BD, self.video_coarse(seen_BD)
        return fine_BD, self._from_fine(fine_BD)

    def hear(self, audio_B1FM: Tensor) -> Tensor:
        """[B, fine] of log-mels."""
        return self.audio_fine(self.audio(audio_B1FM))

    def hear_as_text(self, audio_B1FM: Tensor) -> Tensor:
        """[B, coarse] of log-mels, by the head of the pictures (FAC): nothing was trained for it. Only in evaluation,
        as in training it would change what that head's batch norm remembers.

        Raises:
            ValueError: the graph has no way from the space of sound to that of text.
        """
        if self.graph == "disjoint":
            raise ValueError("model.graph=disjoint has no way from sound to text; fac and shared have")
        return self._from_fine(self.hear(audio_B1FM))

    def read(self, words_NLD: Tensor) -> Tensor:
        """[N, coarse] of texts; padding takes part in the maximum over words."""
        return self.text_coarse(self.text(words_NLD))

    def _from_fine(self, fine_BD: Tensor) -> Tensor:
        return self.coarse(fine_BD) if hasattr(self, "coarse") else fine_BD
