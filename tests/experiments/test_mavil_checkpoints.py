"""Other people's files in MAViL: those of its authors, whose names `recorded/mavil.py` holds to their class, and
image MAEs."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from datamodules.types import Inputs
from experiments.mavil.checkpoints import to_official
from experiments.mavil.downstream import Retrieve, RetrieveOptions
from experiments.mavil.model import MAViLConfig
from tests.experiments.mavil_tiny import CLASSES, distill, finetune, pretrain, spec, tiny_config, tiny_inputs


def official(config: MAViLConfig | None = None, inputs: Inputs | None = None) -> dict[str, Tensor]:
    """Random weights in the authors' layout, with all that a file of theirs may have."""
    trunk = pretrain(config, inputs).trunk
    weights = to_official({f"trunk.{key}": value for key, value in trunk.state_dict().items()}, "av")
    for modality in ("a", "v", "av"):
        norm, head = nn.LayerNorm(32 * len(modality)), nn.Linear(32 * len(modality), CLASSES)
        weights |= {f"fc_norm_{modality}.{key}": value for key, value in norm.state_dict().items()}
        weights |= {f"head_{modality}.{key}": value for key, value in head.state_dict().items()}
    weights |= {key: torch.ones(3) for key in ("norm.weight", "norm_v.bias", "mask_token_v", "decoder_blocks.0.x")}
    positions = {"pos_embed": trunk.audio.positions[None], "pos_embed_v": trunk.video.positions[None]}
    return {key: torch.randn_like(value) for key, value in weights.items()} | positions


STARTS = {
    "pretrain": pretrain,
    "distill": distill,
    "finetune a": lambda: finetune("a"),
    "finetune v": lambda: finetune("v"),
    "finetune av": lambda: finetune("av"),
    "retrieve": lambda: Retrieve(spec(RetrieveOptions())),
}


@pytest.mark.parametrize("start", STARTS)
def test_an_official_file_fills_every_stage(start):
    """But for the decoders, of which no code was published, and the third fusion block, which fine-tuning adds."""
    weights, stage = official(), STARTS[start]()
    stage.load_parent(weights)
    of_teacher = (
        {f"trunk.{key}": value for key, value in stage.teacher.state_dict().items()} if start == "distill" else {}
    )
    ours = to_official(of_teacher or stage.state_dict(), stage.spec.modality)
    ours = {key: value for key, value in ours.items() if not key.startswith("blocks_av.2.")}
    assert ours and [key for key, value in ours.items() if not torch.equal(value, weights[key])] == []


@pytest.mark.parametrize("frames", [64, 256])
@pytest.mark.parametrize("audio_positions", ["2d", "2d_transposed"])
def test_tables_of_longer_and_shorter_clips_fit_and_one_that_differs_is_an_error_where_it_is_looked_at(
    frames, audio_positions
):
    """As ESC-50's clips of 5 s start from what AudioSet's of 10 s were pretrained with."""
    config = tiny_config(audio_positions=audio_positions)
    weights = official(config, tiny_inputs(frames, 8))
    for key, option, other in (("pos_embed", "audio_positions", "v"), ("pos_embed_v", "video_positions", "a")):
        stage = finetune("av", config)
        stage.load_parent(weights)
        wrong = weights | {key: weights[key].roll(1, 1)}
        with pytest.raises(ValueError, match=rf"{key}: differs .* model\.{option}"):
            stage.load_parent(wrong)
        finetune(other, config).load_parent(wrong)


# --- image MAEs ---------------------------------------------------------------------------------------------------


def image_mae(depth: int = 2, dim: int = 32) -> dict[str, Tensor]:
    """The whole one (facebookresearch/mae `mae_pretrain_vit_base_full.pth`), with a decoder of `dim` channels."""

    def vit(dim: int, depth: int) -> dict[str, Tensor]:
        return VisionTransformer(img_size=64, embed_dim=dim, depth=depth, num_heads=4, num_classes=0).state_dict()

    decoder = nn.ModuleDict({"embed": nn.Linear(32, dim), "pred": nn.Linear(dim, 768)}).state_dict()
    decoder |= {key: value for key, value in vit(dim, 1).items() if not key.startswith(("cls", "patch"))}
    weights = {**vit(32, depth), "mask_token": torch.zeros(1, 1, dim)}
    weights |= {f"decoder_{key}": value for key, value in decoder.items()}
    return {key: torch.randn_like(value) for key, value in weights.items()}


@pytest.mark.parametrize("whole", [True, False])
def test_an_image_mae_starts_the_video_encoder_every_fusion_block_and_the_video_decoder_it_has(whole):
    """Its kernel is repeated over the tubelet, not divided; the last layer, of one frame, stays new."""
    weights, stage = image_mae(), pretrain()
    if not whole:
        weights = {key: value for key, value in weights.items() if not key.startswith(("decoder", "mask"))}
    expected = pretrain().state_dict() | {
        "trunk.video.cls_token": weights["cls_token"].flatten(),
        "trunk.video.patch_embed.weight": torch.stack([weights["patch_embed.proj.weight"]] * 2, dim=2),
        "trunk.video.patch_embed.bias": weights["patch_embed.proj.bias"],
        "video_decoder.norm_in.weight": weights["norm.weight"],
        "video_decoder.norm_in.bias": weights["norm.bias"],
    }
    for key, value in weights.items():
        if key.startswith("blocks."):
            expected[f"trunk.video.{key}"] = value
        if key.startswith("blocks.1."):
            expected |= {f"trunk.fusion.blocks.{block}.{key.removeprefix('blocks.1.')}": value for block in (0, 1)}
        if key.startswith(("decoder_embed", "decoder_blocks", "decoder_norm")):
            expected[f"video_decoder.{key.removeprefix('decoder_')}"] = value
    if whole:
        expected["video_decoder.mask_token"] = weights["mask_token"].flatten()
    stage.load_parent(weights)
    ours = stage.state_dict()
    assert ours.keys() == expected.keys() and [key for key in ours if not torch.equal(ours[key], expected[key])] == []


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: image_mae(depth=3), r"trunk\.video\.blocks\.2\.norm1\.weight: unknown"),
        (lambda: image_mae(dim=64), r"video_decoder\.embed\.weight: shape \[64, 32\], not \[32, 32\]"),
        (lambda: image_mae() | {"rope.x": torch.ones(1), "decoder_x.y": torch.ones(1)}, "rope.x: (.|\n)*decoder_x.y: "),
    ],
)
def test_an_image_mae_that_does_not_fit_is_an_error_that_names_the_key(weights, message):
    with pytest.raises(ValueError, match=message):
        pretrain().load_parent(weights())
