"""Everything at Once's network: one transformer that any set of modalities goes through, alone or together.

No token says where it stands nor what it is of; a modality is known by its projections alone. What the official modules
hold but never use is left out: the transformer's last LayerNorm and a batch norm in front of DAVEnet.

Shape suffixes: B clips, F log-mel frames, M mel bins, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import init_weights_vit_timm
from torch import Tensor, nn

from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig
from experiments.common.networks.gated import GatedUnit
from experiments.common.networks.layers import LayerNorm, transformer


@dataclass
class EverythingAtOnceConfig:
    """The network; defaults are the paper's (official `configs/pretraining/everything_at_once_tva.yaml`)."""

    dim: int = 4096
    """Channels of tokens (official `embed_dim`)."""
    depth: int = 1
    """Blocks; with 0 no token sees another, and a fused embedding is the mean of its modalities' own."""
    heads: int = 64
    mlp_ratio: float = 1.0
    projection: int = 6144
    """Length of the embeddings (official `projection_dim`)."""
    audio: DAVEnetConfig = field(
        default_factory=lambda: DAVEnetConfig(widths=[128, 256, 512, 1024, 2048, 4096], blocks=[2, 2, 1, 1, 1, 1])
    )
    """The audio encoder; a token stands for 64 frames (official `load_DAVEnet(v2=True)`)."""
    video_dims: list[int] = field(default_factory=lambda: [2048, 2048])
    """Length of the vectors of each kind of features, in the order of `data.inputs.features.kinds`; one of 1024 for
    S3D, of 512 for CLIP."""
    word_dim: int = 300
    """Length of the word vectors, word2vec's."""


class Tokens(NamedTuple):
    """What one modality brings into the transformer."""

    x_BND: Tensor
    mask_BN: Tensor
    """bool, the tokens that count; at least one of each clip."""
    nonempty_B: Tensor
    """bool, the clips that have the modality; the others' one token is the masking token."""


class EverythingAtOnce(nn.Module):
    """Sound, visual features and words -> embeddings of any of them together, which are compared by cosine."""

    def __init__(self, config: EverythingAtOnceConfig):
        super().__init__()
        self.config = config
        self.audio_encoder = DAVEnet(config.audio)
        dims = {"a": self.audio_encoder.dim, "v": sum(config.video_dims), "t": config.word_dim}
        self.token_projection = nn.ModuleDict(
            {m: nn.Sequential(GatedUnit(dim, config.dim), LayerNorm(config.dim)) for m, dim in dims.items()}
        )
        self.masking_token = nn.Parameter(torch.empty(config.dim))
        self.blocks = transformer(config.dim, config.depth, config.heads, config.mlp_ratio)
        self.projection = nn.ModuleDict({m: GatedUnit(config.dim, config.projection) for m in dims})
        nn.init.trunc_normal_(self.masking_token, std=0.02)
        self.blocks.apply(init_weights_vit_timm)

    def tokens(self, inputs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tokens]:
        """What each modality brings into the transformer; computed once, it serves every call of `embed`.

        Args:
            inputs: modality -> (values, [B] how many of them are real; 0 = the clip does not have the modality):
                a: [B, F, M] log-mels, in frames;
                v: [B, N, sum(video_dims)] features, kinds side by side, in moments;
                t: [B, N, word_dim] word vectors, in words.
        """
        return {modality: self._tokens(modality, *values) for modality, values in inputs.items()}

    def embed(self, tokens: Mapping[str, Tokens], which: Iterable[str]) -> dict[str, Tensor]:
        """Each of `which` -> [B, projection] float32.

        Tokens of the modalities go through the blocks together and see each other; the embedding is the mean over
        modalities of the projection, at length 1, of the modality's mean token. One modality's thus has length 1, that
        of several is shorter the less they agree.

        Args:
            tokens: of every modality in `which`, by `tokens`.
            which: letters of the modalities that are seen together, e.g. `["t", "av"]`.
        """
        return {together: self._embed({modality: tokens[modality] for modality in together}) for together in which}

    def _tokens(self, modality: str, x_BND: Tensor, length_B: Tensor) -> Tokens:
        if modality == "a":
            x_BND, stride = self.audio_encoder(x_BND), self.audio_encoder.stride
            length_B = (length_B + stride - 1) // stride  # one real frame makes a token real
        elif modality == "v":
            kinds = x_BND.split(self.config.video_dims, dim=2)
            x_BND = torch.cat([F.normalize(kind_BND, dim=2) for kind_BND in kinds], dim=2)
        nonempty_B = length_B > 0
        x_BND = torch.where(nonempty_B[:, None, None], self.token_projection[modality](x_BND), self.masking_token)
        mask_BN = torch.arange(x_BND.shape[1], device=length_B.device) < length_B.clamp(min=1)[:, None]
        return Tokens(x_BND, mask_BN, nonempty_B)

    def _embed(self, tokens: dict[str, Tokens]) -> Tensor:
        x_BND = torch.cat([own.x_BND for own in tokens.values()], dim=1)
        mask_BN = torch.cat([own.mask_BN for own in tokens.values()], dim=1)
        for block in self.blocks:
            x_BND = block(x_BND, attn_mask=mask_BN[:, None, None])  # tokens that do not count are not looked at
        parts_BND = x_BND.split([own.mask_BN.shape[1] for own in tokens.values()], dim=1)
        embeddings = []
        for (modality, own), part_BND in zip(tokens.items(), parts_BND, strict=True):
            mean_BD = (part_BND * own.mask_BN[:, :, None]).sum(1) / own.mask_BN.sum(1, keepdim=True)
            embeddings.append(F.normalize(self.projection[modality](mean_BD).float(), dim=1))
        return torch.stack(embeddings).mean(0)
