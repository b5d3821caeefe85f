"""MBT's Flax class, the surgery by which the authors start it from an image ViT, and the schedule of their released
configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.config.compose import compose
from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.mbt.checkpoints import load
from experiments.mbt.model import MBT, MBTConfig, mean_logits
from tests.experiments.golden import Recording, Released, Run, rates

RECORDED = Recording("mbt")
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
NETWORK, START = GOLDEN["network"], GOLDEN["start"]
TOLERANCE = 2e-5  # the exact GELU would differ by 1.7e-4, LayerNorms of eps 1e-5 by 4e-4
MODALITY = {"audio": "a", "video": "v", "drop_path_video": "v"}


# --- the network --------------------------------------------------------------------------------------------------


def released(run: str, depth: int = 4) -> dict[str, Tensor]:
    """A flattened Flax tree."""
    layout = NETWORK["layouts"][NETWORK["runs"][run]["layout"]]
    shapes = {key.format(i=i): shape for key, shape in layout.items() for i in range(depth)}
    return {key: 0.2 * drawn(key, *shape) + float(key.endswith("scale")) for key, shape in shapes.items()}


def config_of(run: str) -> MBTConfig:
    """Of a name such as `bottleneck_2_shared`: what is fused, from which layer on."""
    fusion, _, layer = run.removesuffix("_shared").partition("_")
    if fusion not in ("bottleneck", "cross", "full"):
        return MBTConfig(fusion_layer=2)
    return MBTConfig(fusion=fusion, fusion_layer=int(layer), share_encoder="shared" in run or fusion == "full")


def network(run: str, drop_path: float = 0.0, depth: int = 4) -> MBT:
    sizes = NETWORK["config"]
    size = {name: sizes[name] for name in ("dim", "heads", "tubelet", "bottlenecks")}
    config = replace(config_of(run), depth=depth, drop_path=drop_path, **size)
    (frames, mels), (pictures, side) = sizes["audio"], sizes["video"]
    inputs = Inputs(AudioInputs(frames=frames, mel_bins=mels), VideoInputs(frames=pictures, size=side))
    model = MBT(config, inputs, MODALITY.get(run, "av"), sizes["classes"])
    load(model, released(run, depth))
    return model


def batch() -> dict[str, Tensor]:
    return {"audio": 4 * drawn("audio", 2, 1, 96, 32), "video": 4 * drawn("video", 2, 3, 4, 64, 64)}


@torch.no_grad()
def tokens_and_logits(run: str, model: MBT) -> dict[str, Any]:
    """After the last layer, and of middle ones the bottleneck included."""
    blocks = {name: model.get_submodule(f"blocks.{name}") for name in NETWORK["runs"][run].get("blocks", ())}
    seen: dict[str, Tensor] = {}
    for name, block in blocks.items():
        block.register_forward_hook(lambda _, inputs, out, name=name: seen.update({name: out}))
    tokens = torch.cat(list(model.encode(batch()).values()), dim=1)  # theirs: audio, then video
    of_blocks = {name: {"length": out.shape[1], "rows": out[:, [0, 1, -5, -1], ::8]} for name, out in seen.items()}
    logits = model(batch())
    return {
        "tokens": {"length": tokens.shape[1], "channel_5_of_every_4th": tokens[:, ::4, 5]},
        **({"blocks": of_blocks} if blocks else {}),
        "logits": logits,
        "mean": mean_logits(logits),
    }


# --- its start from an image ViT ----------------------------------------------------------------------------------

VIT = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 197, 8),
    "patch_embed.proj.weight": (8, 3, 16, 16),
    "patch_embed.proj.bias": (8,),
    "norm.weight": (8,),
    "norm.bias": (8,),
    "head.weight": (3, 8),
}
INPUTS = Inputs(AudioInputs(frames=800), VideoInputs(frames=4))


def small(modality: str = "av", inputs: Inputs = INPUTS, **config: Any) -> MBT:
    sizes = {"dim": 8, "depth": 2, "heads": 2, "mlp_ratio": 2.0, "tubelet": 2, "fusion_layer": 1} | config
    return MBT(MBTConfig(**sizes), inputs, modality, num_classes=7)


def image_vit() -> dict[str, Tensor]:
    """The recorded run's ViT: its block i is all i + 1."""
    blocks = small("v").blocks["v"].state_dict()
    weights = {f"blocks.{key}": torch.full_like(value, int(key[0]) + 1) for key, value in blocks.items()}
    return weights | {key: drawn(key, *shape) for key, shape in VIT.items()}


def started(modality: str = "av", inputs: Inputs = INPUTS, **config: Any) -> MBT:
    model = small(modality, inputs, **config)
    load(model, image_vit())
    return model


def norms(model: MBT) -> dict[str, float]:
    """The one number of which the first norm of each block is made."""
    found = {}
    for key in START["both"]["blocks"]:
        index, suffix = re.fullmatch(r"Transformer/encoderblock_(\d)(_spectrogram)?/.+", key).groups()
        found[key] = model.blocks["a" if suffix else "v"][int(index)].norm1.weight.detach().unique().item()
    return found


def bottlenecks(count: int, _: None) -> Tensor:
    """The position of CLS, and the zoomed grid, which is all that there is without the extra one."""
    whole = started(bottlenecks=count).bottleneck
    assert torch.equal(whole[1:], started(bottlenecks=count, extra_bottleneck=False).bottleneck)
    return whole


def frames_of_kernel(model: MBT) -> Tensor:
    """Only the middle one is not zero."""
    return model.tokens["v"].patch_embed.weight.sum(dim=(0, 1, 3, 4))


def pictures_of(tubelet: int) -> MBT:
    return started("v", Inputs(None, VideoInputs(frames=2 * tubelet)), tubelet=tubelet)


ROWS = {name: START["both"][f"{name}_positions"]["rows"] for name in ("audio", "video")}
OF_BOTH: dict[str, Callable[[MBT], Any]] = {
    "cls": lambda model: model.tokens["v"].cls_token,
    "clsspectrogram": lambda model: model.tokens["a"].cls_token,
    "audio_positions/shape": lambda model: [1, *model.tokens["a"].positions.shape],
    "audio_positions/values": lambda model: model.tokens["a"].positions[ROWS["audio"]],
    "audio_positions/row_sums": lambda model: model.tokens["a"].positions.sum(dim=1),
    "video_positions/shape": lambda model: [1, *model.tokens["v"].positions.shape],
    "video_positions/values": lambda model: model.tokens["v"].positions[ROWS["video"]],
    "kernel_video/pixels": lambda model: model.tokens["v"].patch_embed.weight[..., 3, 5].permute(2, 1, 0),
    "norm": lambda model: model.norm.weight,
    "head_sum": lambda model: model.head.weight.abs().sum(),
    "blocks": norms,
}
START_RUNS = [
    *(Run(f"start/both/{at}", ours, started, tolerance=1e-5) for at, ours in OF_BOTH.items()),
    Run(
        "start/both/kernel_audio/pixel", lambda model: model.tokens["a"].patch_embed.weight[:, 0, 3, 5], started,
        expected=lambda of_three_channels: torch.tensor(of_three_channels).sum(0), tolerance=1e-5,
    ),
    *(
        Run(f"start/{at}", partial(bottlenecks, count), tolerance=1e-5)
        for count, at in ((4, "both/bottleneck"), (6, "bottleneck_6"), (16, "bottleneck_16"))
    ),
    Run("start/audio_only_cls", lambda model: model.tokens["a"].cls_token, partial(started, "a"), tolerance=1e-5),
    *(
        Run(f"start/{at}/sum_of_each_frame", frames_of_kernel, partial(pictures_of, tubelet))
        for tubelet, at in ((1, "video_tubelet_1"), (2, "both/kernel_video"), (3, "video_3_frames"))
    ),
    Run("start/video_tubelet_1/shape", OF_BOTH["video_positions/shape"], partial(started, tubelet=1)),
]  # fmt: skip


# --- its schedule -------------------------------------------------------------------------------------------------


STAGES = {name: stage for name, stage in compose("mbt", ["preset=paper"]).stages.items() if stage.train}

RUNS = [
    *(
        Run(
            f"network/runs/{run}", partial(tokens_and_logits, run), partial(network, run), tolerance=TOLERANCE
        )
        for run in NETWORK["runs"] if run != "drop_path_video"
    ),
    *START_RUNS,
    *(
        Run(f"schedules/rates/{steps}", partial(rates, stage, steps, every), name=name, tolerance=1e-7, relative=1e-5)
        for name, stage in STAGES.items() for steps, every in ((4, 1), (318, 53))  # theirs is computed in float32
    ),
]  # fmt: skip
ELSEWHERE = (
    "network/runs/drop_path_video",
    *(f"start/both/{name}/shape" for name in ("kernel_video", "kernel_audio")),
    *(f"start/both/{name}/rows" for name in ("audio_positions", "video_positions")),
)
"""Compared in `test_mbt.py`; of two kernels, the shape that theirs has; and which rows were written down."""
RELEASED = [
    Released(run, partial(network, run), partial(released, run), load, missing=("clsspectrogram", "tokens.a.cls_token"),
             strange=("pre_logits/kernel",), summed=("embedding_spectrogram/kernel",), parallel=False)
    for run in ("bottleneck_2", "full_2")
]  # fmt: skip
