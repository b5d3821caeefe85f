"""MAViL against the authors' class, by numbers recorded from it (`tests/golden/mavil_av_superb.json`).

The weights and inputs of that run can be drawn again here: each is a function of its name in their layout.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import keyed
from datamodules.types import Inputs
from experiments.common.networks.masking import random_places_2d
from experiments.common.networks.positions import sincos_2d, sincos_3d, with_cls
from experiments.common.stage import StageSpec
from experiments.mavil.checkpoints import to_official
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.model import MAViLConfig

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "mavil_av_superb.json").read_text())
TOLERANCE = 1e-4


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [-0.5, 0.5) that depend on the name alone."""
    key = torch.tensor([keyed.stable_hash("mavil parity", name)])
    return keyed.uniform(key, "value", math.prod(shape)).view(shape) - 0.5


def finetuned(modality: str) -> Finetune:
    """Our model with the recorded run's weights, loaded as a checkpoint in the authors' layout."""
    config = GOLDEN["config"]
    stage = Finetune(
        StageSpec(
            model=MAViLConfig(dim=config["dim"], depth=config["depth"], heads=config["heads"]),
            options=FinetuneOptions(ft_fusion_depth=config["fusion"], drop_path=0.0, mask_v=0.8),
            inputs=Inputs(),
            modality=modality,
            num_classes=config["classes"],
            multilabel=True,
        )
    )
    official = {
        key: 0.2 * drawn(key, tuple(value.shape)) + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
        for key, value in to_official(stage.state_dict(), modality).items()
    }
    official["pos_embed"] = with_cls(sincos_2d(config["dim"], 64, 8))[None]
    official["pos_embed_v"] = with_cls(sincos_3d(config["dim"], 4, 14, 14))[None]
    official.setdefault("blocks_v.0.norm1.weight", torch.ones(config["dim"]))  # the audio-only model has none to name
    stage.load_parent(official)
    return stage


def batch() -> dict[str, Tensor]:
    return {
        "key": torch.tensor([11, 12]),
        "audio": 4 * drawn("audio", (2, 1, 1024, 128)),
        "video": 4 * drawn("video", (2, 3, 8, 224, 224)),
    }


def close(ours: Tensor, golden: list[list[float]]) -> None:
    assert (ours - torch.tensor(golden)).abs().max() < TOLERANCE


@torch.no_grad()
def test_fused_features_and_logits_are_those_of_the_authors_class():
    stage = finetuned("av").eval()
    pooled = torch.cat([tokens[:, 1:].mean(1) for tokens in stage.tokens(batch())], dim=1)
    close(stage.norm(pooled)[:, ::24], GOLDEN["features_av"])
    close(stage.logits(batch())[:, ::66], GOLDEN["logits_av"])


@torch.no_grad()
def test_masked_features_and_logits_are_those_of_the_authors_class():
    stage = finetuned("av").train()  # without DropPath, training only adds the masks
    lengths = []
    for encoder in (stage.trunk.audio, stage.trunk.video):
        encoder.blocks.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    close(stage.logits(batch())[:, ::66], GOLDEN["masked"]["logits_av"])
    assert lengths == GOLDEN["masked"]["lengths"] == [307, 157]


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v"])
def test_unimodal_logits_are_those_of_the_authors_class(modality):
    close(finetuned(modality).eval().logits(batch())[:, ::66], GOLDEN[f"logits_{modality}"])


def test_position_table_of_the_video_is_that_of_the_authors_code():
    table = with_cls(sincos_3d(768, 4, 14, 14))
    golden = GOLDEN["sincos_3d"]
    assert table.shape == (785, 768)
    close(table[golden["rows"]][:, golden["channels"]], golden["values"])


def test_masking_in_time_and_mel_keeps_51_rows_and_6_columns():
    places = random_places_2d(torch.arange(3), "audio mask", (64, 8), (0.2, 0.2))
    for clip in places:
        rows, columns = clip // 8, clip % 8
        assert len(clip.unique()) == 306 and len(rows.unique()) == 51 and len(columns.unique()) == 6
