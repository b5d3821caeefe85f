"""MAViL's network: an audio ViT, a video ViT, a fusion encoder over both, and decoders for pretraining.

Shape suffixes: B clips, L patches of a clip, K visible patches, S = 1 + K tokens with CLS first, D channels.
Sizes in comments are those of the paper: audio 1024 x 128, video 8 x 224 x 224, patches 16 x 16 and 2 x 16 x 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.types import AudioInputs, Inputs, Modality, VideoInputs
from experiments.common.networks.layers import LayerNorm, init_mae, transformer
from experiments.common.networks.masking import gather_tokens, scatter_tokens
from experiments.common.networks.patches import audio_grid, looked_at, video_grid
from experiments.common.networks.positions import sincos_2d, sincos_3d, with_cls


@dataclass
class MAViLConfig:
    """The size of the network; defaults are the paper's ViT-B."""

    dim: int = 768
    """Channels of both encoders and the fusion encoder; a multiple of 16."""
    depth: int = 12
    """Blocks of each uni-modal encoder."""
    heads: int = 12
    mlp_ratio: float = 4.0
    fusion_depth: int = 2
    """Fusion blocks of the pretrained model; 0 makes two separate masked autoencoders."""
    decoder_dim: int = 512
    """Channels of the decoders; a multiple of 16."""
    decoder_depth: int = 8
    decoder_heads: int = 16
    patch: int = 16
    """Side of a patch, in frames and mel bins, or in pixels."""
    tubelet: int = 2
    """Video frames of a patch."""
    audio_positions: Literal["2d", "2d_transposed"] = "2d"
    """`2d_transposed` is AudioMAE's table, made for a mel x time grid although tokens run time x mel."""
    video_positions: Literal["3d", "tiled"] = "3d"
    """`tiled` repeats the picture's 2-D table in time, as when starting from an image MAE."""


# --- positions --------------------------------------------------------------------------------------------------


def audio_positions(config: MAViLConfig, dim: int, grid: tuple[int, ...]) -> Tensor:
    """[1 + L, dim] float32, CLS row 0."""
    rows, columns = grid if config.audio_positions == "2d" else grid[::-1]
    return with_cls(sincos_2d(dim, rows, columns))


def video_positions(config: MAViLConfig, dim: int, grid: tuple[int, ...]) -> Tensor:
    """[1 + L, dim] float32, CLS row 0."""
    times, rows, columns = grid
    if config.video_positions == "3d":
        return with_cls(sincos_3d(dim, times, rows, columns))
    return with_cls(sincos_2d(dim, rows, columns).repeat(times, 1))


# --- encoders -------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """A ViT of one modality that can be shown only some of the patches."""

    positions: Tensor

    def __init__(
        self,
        config: MAViLConfig,
        patch_embed: nn.Module,
        grid: tuple[int, ...],
        positions: Callable[[MAViLConfig, int, tuple[int, ...]], Tensor],
        drop_path: float,
    ):
        """`grid`: patches in time, and then along the other axes; `positions` makes the table of a grid."""
        super().__init__()
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.empty(config.dim))
        self.grid = grid
        self._positions_of = partial(positions, config, config.dim)
        self.register_buffer("positions", self._positions_of(grid), persistent=False)
        self.blocks = transformer(config.dim, config.depth, config.heads, config.mlp_ratio, drop_path)
        self.apply(init_mae)
        nn.init.normal_(self.cls_token, std=0.02)

    @property
    def length(self) -> int:
        """L, the patches of a clip: 512 of audio, 784 of video."""
        return len(self.positions) - 1

    def positions_of(self, length: int) -> Tensor:
        """[1 + length, D]: the table of a clip of so many patches, which may last longer or shorter than this one's.

        Raises:
            ValueError: they are no whole rows of the grid.
        """
        row = math.prod(self.grid[1:])
        if length % row:
            raise ValueError(f"{length} patches are no rows of {row}, as {self.grid} has")
        return self._positions_of((length // row, *self.grid[1:]))

    def embed(self, x: Tensor) -> Tensor:
        """[B, C, *size] -> [B, L, D]: each patch by itself, and where it is."""
        patches_BLD = self.patch_embed(x).flatten(2).transpose(1, 2)
        return patches_BLD + self.positions[1:]

    def encode(self, patches_BLD: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """The visible ones of the embedded patches (all, without `keep_BK`) -> [B, S, D], CLS first."""
        visible_BKD = patches_BLD if keep_BK is None else gather_tokens(patches_BLD, keep_BK)
        cls_B1D = (self.cls_token + self.positions[0]).expand(len(visible_BKD), 1, -1)
        return self.blocks(torch.cat([cls_B1D, visible_BKD], dim=1))

    def forward(self, x: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """[B, C, *size] -> [B, S, D] of the patches at `keep_BK`, or of all."""
        return self.encode(self.embed(x), keep_BK)


class AudioEncoder(Encoder):
    """[B, 1, frames, mels] -> [B, S, D]."""

    grid: tuple[int, int]

    def __init__(self, config: MAViLConfig, audio: AudioInputs, drop_path: float = 0.0):
        grid = audio_grid(audio, config.patch)
        embed = nn.Conv2d(1, config.dim, config.patch, config.patch)
        super().__init__(config, embed, grid, audio_positions, drop_path)


class VideoEncoder(Encoder):
    """[B, 3, T, H, W] -> [B, S, D]."""

    def __init__(self, config: MAViLConfig, video: VideoInputs, drop_path: float = 0.0):
        grid = video_grid(video, config.patch, config.tubelet)
        patch = (config.tubelet, config.patch, config.patch)
        embed = nn.Conv3d(3, config.dim, patch, patch)
        super().__init__(config, embed, grid, video_positions, drop_path)


class FusionEncoder(nn.Module):
    """Joint self-attention over [CLS_a, audio, CLS_v, video]; the only place where the modalities meet."""

    def __init__(self, config: MAViLConfig, depth: int):
        super().__init__()
        self.blocks = transformer(config.dim, depth, config.heads, config.mlp_ratio)
        self.apply(init_mae)

    def forward(self, audio_BSD: Tensor, video_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Uni-modal tokens -> the same tokens in the context of both modalities; shapes stay."""
        joint_BSD = self.blocks(torch.cat([audio_BSD, video_BSD], dim=1))
        return joint_BSD.split([audio_BSD.shape[1], video_BSD.shape[1]], dim=1)


class Trunk(nn.Module):
    """The encoders of `modality`: `audio`, `video`, and with both also `fusion`. What is not asked for is not built."""

    def __init__(
        self,
        config: MAViLConfig,
        inputs: Inputs,
        modality: Modality = "av",
        fusion_depth: int | None = None,
        audio_drop_path: float = 0.0,
    ):
        """`fusion_depth` other than the pretrained model's is for fine-tuning."""
        super().__init__()
        if config.dim % 16 or config.decoder_dim % 16:
            raise ValueError("model.dim and model.decoder_dim must be a multiple of 16, for the position tables")
        if modality not in ("a", "v", "av"):
            raise ValueError(f"MAViL looks at a, v or av, not {modality}")
        if "a" in modality:
            self.audio = AudioEncoder(config, looked_at(inputs.audio, "audio"), audio_drop_path)
        if "v" in modality:
            self.video = VideoEncoder(config, looked_at(inputs.video, "video"))
        if modality == "av":
            self.fusion = FusionEncoder(config, config.fusion_depth if fusion_depth is None else fusion_depth)

    def forward(self, audio: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """The complete, unmasked pair -> its fused tokens, [B, 1 + 512, D] and [B, 1 + 784, D]."""
        return self.fusion(self.audio(audio), self.video(video))


def pool(tokens_BSD: Tensor) -> Tensor:
    """[B, S, D] -> [B, D]: the mean of the tokens without CLS."""
    return tokens_BSD[:, 1:].mean(dim=1)


# --- decoders -------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """Predicts something of every patch of one modality from its visible, fused tokens (MAE's decoder)."""

    positions: Tensor

    def __init__(self, config: MAViLConfig, positions_SD: Tensor, out_dim: int):
        """`positions_SD`: [1 + L, decoder_dim]; `out_dim`: 256 or 1536 for raw patches, 768 for features."""
        super().__init__()
        dim = config.decoder_dim
        self.norm_in = LayerNorm(config.dim)
        self.embed = nn.Linear(config.dim, dim)
        self.mask_token = nn.Parameter(torch.empty(dim))
        self.register_buffer("positions", positions_SD, persistent=False)
        self.blocks = transformer(dim, config.decoder_depth, config.decoder_heads, config.mlp_ratio)
        self.norm = LayerNorm(dim)
        self.predict = nn.Linear(dim, out_dim)
        self.apply(init_mae)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens_BSD: Tensor, keep_BK: Tensor) -> Tensor:
        """[B, 1 + K, D] fused tokens, whose patches are at `keep_BK` -> [B, L, out_dim]."""
        tokens_BSD = self.embed(self.norm_in(tokens_BSD))
        cls_B1D, visible_BKD = tokens_BSD.split([1, keep_BK.shape[1]], dim=1)
        patches_BLD = scatter_tokens(visible_BKD, keep_BK, self.mask_token, len(self.positions) - 1)
        tokens_BSD = torch.cat([cls_B1D, patches_BLD], dim=1) + self.positions
        return self.predict(self.norm(self.blocks(tokens_BSD)))[:, 1:]


def audio_decoder(config: MAViLConfig, audio: AudioInputs, out_dim: int) -> Decoder:
    """The audio decoder: [B, 1 + K, D] -> [B, 512, out_dim]."""
    return Decoder(config, audio_positions(config, config.decoder_dim, audio_grid(audio, config.patch)), out_dim)


def video_decoder(config: MAViLConfig, video: VideoInputs, out_dim: int) -> Decoder:
    """The video decoder: [B, 1 + K, D] -> [B, 784, out_dim]."""
    return Decoder(
        config, video_positions(config, config.decoder_dim, video_grid(video, config.patch, config.tubelet)), out_dim
    )
