"""What a network costs before it has run: parameters, and FLOPs of one clip."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from datamodules.types import Batch, Inputs
from experiments.common.stage import Stage, StageSpec


def parameters(module: torch.nn.Module) -> int:
    """Trainable and fixed parameters that the stage's result consists of."""
    return sum(p.numel() for p in module.parameters())


def fake_batch(inputs: Inputs, num_classes: int, clips: int, device: torch.device | str) -> Batch:
    """A batch of zeros as the inputs shape it."""
    batch = Batch(
        clip_id=[str(i) for i in range(clips)],
        key=torch.arange(clips, device=device),
        label=torch.zeros(clips, num_classes, device=device),
    )
    if (audio := inputs.audio) is not None:
        batch["audio"] = torch.zeros(clips, 1, audio.frames, audio.mel_bins, device=device)
    if (video := inputs.video) is not None:
        batch["video"] = torch.zeros(clips, 3, video.frames, video.size, video.size, device=device)
    return batch


def build_on_meta(stage_class: type[Stage], spec: StageSpec) -> Stage:
    """The stage's network without memory for its weights."""
    with torch.device("meta"):
        return stage_class(spec).to("meta")


def inference_flops(stage_class: type[Stage], spec: StageSpec) -> int:
    """FLOPs (two a multiply-add) to measure one clip; 0 for a stage that measures nothing."""
    module = build_on_meta(stage_class, spec).eval()
    batch = fake_batch(spec.inputs, spec.num_classes, 1, "meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            module.predict_step(batch, 0)
        except NotImplementedError:
            return 0
    return counter.get_total_flops()
