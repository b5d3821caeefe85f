"""AVLnet's network: a trained audio encoder, and gated projections of frozen visual features and of words.

The authors' three models differ in their use of words (official `model.py` `Net`): AVLnet has none, AVLnet-Text-Tri
has a branch of its own for them, AVLnet-Text-Fused merges them with the sound. What the official modules hold but
never use is left out: a batch norm in front of DAVEnet, and in Fused the audio branch's gated unit.

Shape suffixes: B clips, F log-mel frames, M mel bins, T moments of the features, L words, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from experiments.common.networks.branches import AudioBranch, TextBranch, clip_vector
from experiments.common.networks.davenet import DAVEnetConfig
from experiments.common.networks.gated import ContextGating, GatedUnit, WordMaxPool


@dataclass
class AVLnetConfig:
    """The network; defaults are AVLnet's, trained on HowTo100M (official `training.md`)."""

    dim: int = 4096
    """Length of the embeddings (official `embd_dim`)."""
    tri_dim: int = 6144
    """The same in Tri."""
    audio: DAVEnetConfig = field(default_factory=DAVEnetConfig)
    """The audio encoder (official `model_davenet.py` `load_DAVEnet`)."""
    video_dims: list[int] = field(default_factory=lambda: [2048, 2048])
    """Length of the vectors of each kind of features, in the order of `data.inputs.features.kinds`: ResNet-152's and
    ResNeXt-101's (official `README.md`)."""
    word_dim: int = 300
    """Length of the word vectors, word2vec's (official `we_dim`)."""


Text = Literal["none", "tri", "fused"]
"""Words have no part, are embedded by themselves, or together with the sound (official `tri_modal`,
`tri_modal_fuse`)."""


class FusedBranch(nn.Module):
    """Sound and words -> one embedding: each at half its length, a linear layer of each, their sum, context gating."""

    def __init__(self, audio: DAVEnetConfig, word_dim: int, dim: int):
        super().__init__()
        self.audio = AudioBranch(audio, dim // 2)
        self.audio.gated = nn.Identity()  # the sum is gated instead (official `Net.forward`)
        self.pool = WordMaxPool(word_dim, dim // 2)
        self.fc_audio = nn.Linear(dim // 2, dim)
        self.fc_text = nn.Linear(dim // 2, dim)
        self.gate = ContextGating(dim)

    def forward(self, audio_BFM: Tensor, length_B: Tensor, words_BLD: Tensor) -> Tensor:
        return self.gate(self.fc_audio(self.audio(audio_BFM, length_B)) + self.fc_text(self.pool(words_BLD)))


class AVLnet(nn.Module):
    """Sound, visual features and words -> embeddings [B, dim] that are compared by their dot product.

    They are not normalised. Which of `audio`, `text` and `audio_text` there are depends on the part of words.
    """

    def __init__(self, config: AVLnetConfig, words: Text = "none"):
        super().__init__()
        self.config, self.words = config, words
        dim = config.tri_dim if words == "tri" else config.dim
        self.video_unit = GatedUnit(sum(config.video_dims), dim)
        if words == "fused":
            self.fused_branch = FusedBranch(config.audio, config.word_dim, dim)
        else:
            self.audio_branch = AudioBranch(config.audio, dim)
        if words == "tri":
            self.text_branch = TextBranch(config.word_dim, dim)

    def audio(self, audio_BFM: Tensor, length_B: Tensor) -> Tensor:
        """[B, dim] of log-mels whose first `length_B` frames are sound; not of Fused."""
        return self.audio_branch(audio_BFM, length_B)

    def video(self, features_BTD: Tensor, length_B: Tensor) -> Tensor:
        """[B, dim] of features, kinds side by side, whose first `length_B` moments are the clip's."""
        return self.video_unit(clip_vector(features_BTD, length_B, self.config.video_dims))

    def text(self, words_BLD: Tensor) -> Tensor:
        """[B, dim] of word vectors, padded with zeros; of Tri only."""
        return self.text_branch(words_BLD)

    def audio_text(self, audio_BFM: Tensor, length_B: Tensor, words_BLD: Tensor) -> Tensor:
        """[B, dim] of sound and words together; of Fused only."""
        return self.fused_branch(audio_BFM, length_B, words_BLD)
