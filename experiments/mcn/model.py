"""MCN's network: AVLnet's three branches, and a decoder of each modality that gives back what its branch projected.

Official `model_kmeans_ICCV.py` `Net` without `withMLP`. What it holds but never uses is left out: a batch norm of 2
numbers in front of DAVEnet. The clusters are no part of the network (`clustering.py`).

Shape suffixes: B clips, F log-mel frames, M mel bins, T moments of the features, L words, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, cast

from torch import Tensor, nn

from experiments.common.networks.branches import AudioBranch, TextBranch, clip_vector
from experiments.common.networks.davenet import DAVEnetConfig
from experiments.common.networks.gated import GatedUnit

OneModality = Literal["a", "v", "t"]
Decoders = Iterable[tuple[OneModality, nn.Module]]
"""What `MCN.decoders` has; torch's dict of modules has any string for a key."""


@dataclass
class MCNConfig:
    """The network; defaults are those of the released command (official `README.md`)."""

    dim: int = 6144
    """Length of the embeddings (official `embd_dim`); 4096 in the paper's text."""
    audio: DAVEnetConfig = field(default_factory=DAVEnetConfig)
    """The audio encoder (official `model_davenet.py` `load_DAVEnet`)."""
    video_dims: list[int] = field(default_factory=lambda: [2048, 2048])
    """Length of the vectors of each kind of features, in the order of `data.inputs.features.kinds`: ResNet-152's and
    ResNeXt-101's (official `README.md`)."""
    word_dim: int = 300
    """Length of the word vectors, word2vec's (official `we_dim`)."""
    reconstruction: int = 1024
    """Channels between the two layers of each decoder (official `recon_size`); 0 = no decoders (`recon=0`)."""


class MCN(nn.Module):
    """Sound, visual features and words -> embeddings [B, dim] that are compared by their dot product.

    They are not normalised.
    """

    def __init__(self, config: MCNConfig):
        super().__init__()
        self.config = config
        self.audio_branch = AudioBranch(config.audio, config.dim)
        self.video_unit = GatedUnit(sum(config.video_dims), config.dim)
        self.text_branch = TextBranch(config.word_dim, config.dim)
        widths = {"a": self.audio_branch.davenet.dim, "v": sum(config.video_dims), "t": config.dim}
        self.decoders = nn.ModuleDict()
        if config.reconstruction:
            for modality, width in widths.items():
                self.decoders[modality] = _decoder(config.dim, config.reconstruction, width)

    def audio(self, audio_BFM: Tensor, length_B: Tensor) -> Tensor:
        """[B, dim] of log-mels whose first `length_B` frames are sound."""
        return self.audio_branch(audio_BFM, length_B)

    def video(self, features_BTD: Tensor, length_B: Tensor) -> Tensor:
        """[B, dim] of features, kinds side by side, whose first `length_B` moments are the clip's."""
        return self.video_unit(clip_vector(features_BTD, length_B, self.config.video_dims))

    def text(self, words_BLD: Tensor) -> Tensor:
        """[B, dim] of word vectors, padded with zeros."""
        return self.text_branch(words_BLD)

    def forward(
        self, audio_BFM: Tensor, length_B: Tensor, features_BTD: Tensor, video_length_B: Tensor, words_BLD: Tensor
    ) -> tuple[dict[OneModality, Tensor], dict[OneModality, Tensor]]:
        """What training needs of a batch.

        Returns:
            Modality -> [B, dim], the embeddings that `audio`, `video` and `text` give; modality -> [B], the squared
            error of its decoder, averaged over the numbers that it gives back. No errors without decoders.
        """
        target: dict[OneModality, Tensor] = {
            "a": self.audio_branch.mean(audio_BFM, length_B),
            "v": clip_vector(features_BTD, video_length_B, self.config.video_dims),
            "t": self.text_branch.pool(words_BLD),
        }
        embedding: dict[OneModality, Tensor] = {
            "a": self.audio_branch.projection(self.audio_branch.gated(target["a"])),
            "v": self.video_unit(target["v"]),
            "t": self.text_branch.gated(target["t"]),
        }
        # No gradient is stopped at the targets, as in the official code: they teach DAVEnet and the word layer, too.
        error = {
            modality: (decoder(embedding[modality]).float() - target[modality].float()).square().mean(1)
            for modality, decoder in cast(Decoders, self.decoders.items())
        }
        return embedding, error


def _decoder(width_in: int, hidden: int, width: int) -> nn.Sequential:
    """The last ReLU is there because no number to give back is negative."""
    return nn.Sequential(
        nn.Linear(width_in, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width), nn.ReLU(inplace=True)
    )
