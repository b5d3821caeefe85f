"""A small MAViL and random batches for the tests."""

from __future__ import annotations

from typing import Any

import torch

from datamodules.types import AudioInputs, Batch, Inputs, VideoInputs
from experiments.common.stage import Stage, StageSpec
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.method import Distill, DistillOptions, Pretrain, RawOptions
from experiments.mavil.model import MAViLConfig

CLASSES = 5


def tiny_config(**changes: Any) -> MAViLConfig:
    sizes = {"dim": 32, "depth": 2, "heads": 4, "decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 4}
    return MAViLConfig(**{**sizes, **changes})


def tiny_inputs() -> Inputs:
    """8 x 8 = 64 audio patches, 2 x 4 x 4 = 32 video patches."""
    return Inputs(AudioInputs(frames=128), VideoInputs(frames=4, size=64))


def random_batch(clips: int = 4, inputs: Inputs | None = None, seed: int = 0) -> Batch:
    inputs, generator = inputs or tiny_inputs(), torch.Generator().manual_seed(seed)
    audio, video = inputs.audio, inputs.video
    label = torch.zeros(clips, CLASSES)
    label[torch.arange(clips), torch.arange(clips) % CLASSES] = 1.0
    return {
        "clip_id": [f"clip {i}" for i in range(clips)],
        "key": torch.arange(clips) + 1000 * seed + 1,
        "audio": torch.randn(clips, 1, audio.frames, audio.mel_bins, generator=generator),
        "video": torch.randn(clips, 3, video.frames, video.size, video.size, generator=generator),
        "label": label,
    }


def spec(options: Any, model: MAViLConfig | None = None, inputs: Inputs | None = None, **fields: Any) -> StageSpec:
    return StageSpec(
        model=model or tiny_config(),
        options=options,
        inputs=inputs or tiny_inputs(),
        num_classes=CLASSES,
        batch_size=4,
        steps_per_epoch=10,
        **fields,
    )


def pretrain(model: MAViLConfig | None = None, inputs: Inputs | None = None, **options: Any) -> Pretrain:
    torch.manual_seed(0)
    return Pretrain(spec(RawOptions(**options), model, inputs))


def distill(model: MAViLConfig | None = None, inputs: Inputs | None = None, **options: Any) -> Distill:
    """A student whose teacher is a freshly initialised stage 1."""
    teacher = pretrain(model, inputs).state_dict()
    torch.manual_seed(1)
    stage = Distill(spec(DistillOptions(**options), model, inputs))
    stage.load_parent(teacher)
    return stage


def finetune(modality: str, model: MAViLConfig | None = None, multilabel: bool = True, **options: Any) -> Finetune:
    torch.manual_seed(2)
    options.setdefault("drop_path", 0.0)
    return Finetune(spec(FinetuneOptions(**options), model, modality=modality, multilabel=multilabel))


def objectives() -> dict[str, Stage]:
    """One stage for every objective that MAViL trains, such that each term weighs in every gradient."""
    stages = {
        "pretrain": pretrain(alpha=1.0, beta=1.0),
        "distill": distill(alpha=1.0, beta=1.0),
        "finetune a": finetune("a"),
        "finetune v": finetune("v", mask_v=0.5),
        "finetune av": finetune("av"),
        "finetune av, one label a clip": finetune("av", multilabel=False),
    }
    for stage in stages.values():
        if isinstance(stage, Finetune):  # its tiny first values hide the trunk's gradients
            torch.nn.init.normal_(stage.head.weight, std=0.5)
    return stages
