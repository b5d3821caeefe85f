"""A small MAViL and random batches for the tests."""

from __future__ import annotations

from typing import Any

import torch

from datamodules.types import AudioInputs, Batch, Inputs, VideoInputs
from experiments.common.stage import StageSpec
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.method import Distill, DistillOptions, Pretrain, RawOptions
from experiments.mavil.model import MAViLConfig

CLASSES = 5


def tiny_config(**changes: Any) -> MAViLConfig:
    sizes = {"dim": 32, "depth": 2, "heads": 4, "decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 4}
    return MAViLConfig(**{**sizes, **changes})


def tiny_inputs(audio_frames: int = 128, video_frames: int = 4) -> Inputs:
    """8 x 8 = 64 audio patches, 2 x 4 x 4 = 32 video patches."""
    return Inputs(AudioInputs(frames=audio_frames), VideoInputs(frames=video_frames, size=64))


def random_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return {
        "clip_id": [f"clip {i}" for i in range(4)],
        "key": torch.arange(4) + 1,
        "audio": torch.randn(4, 1, 128, 128, generator=generator),
        "video": torch.randn(4, 3, 4, 64, 64, generator=generator),
        "label": torch.eye(4, CLASSES),
    }


def spec(options: Any, model: MAViLConfig | None = None, inputs: Inputs | None = None, **fields: Any) -> StageSpec:
    sizes = {"num_classes": CLASSES, "batch_size": 4, "steps_per_epoch": 10}
    return StageSpec(model or tiny_config(), options, inputs or tiny_inputs(), **sizes, **fields)


def pretrain(model: MAViLConfig | None = None, inputs: Inputs | None = None, **options: Any) -> Pretrain:
    torch.manual_seed(0)
    return Pretrain(spec(RawOptions(**options), model, inputs))


def distill(**options: Any) -> Distill:
    """A student whose teacher is a freshly initialised stage 1."""
    teacher = pretrain().state_dict()
    torch.manual_seed(1)
    stage = Distill(spec(DistillOptions(**options)))
    stage.load_parent(teacher)
    return stage


def finetune(modality: str, model: MAViLConfig | None = None, **options: Any) -> Finetune:
    torch.manual_seed(2)
    options.setdefault("drop_path", 0.0)
    return Finetune(spec(FinetuneOptions(**options), model, modality=modality, multilabel=True))
