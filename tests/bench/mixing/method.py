"""A method of somebody else that trains on several datasets and writes down what it reads."""

import json
import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from experiments.common.stage import Stage


@dataclass
class Net:
    width: int = 8


@dataclass
class Nothing:
    pass


def note(batch, rank, step):
    """A line for each batch: of each clip what it is, and of each stream whether it is there and what is in it."""
    if "MIXING_LOG" not in os.environ or batch["key"].is_meta:
        return
    values = {"step": step, "clip_id": batch["clip_id"]}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            flat = value.flatten(1).double().sum(1) if value.dim() > 1 else value
            values[key] = flat.tolist()
    values["mixed"] = (batch["label"] * (1 - batch["label"])).sum(1).tolist()
    values["part_name"] = batch.get("part_name", "")
    with open(f"{os.environ['MIXING_LOG']}.{rank}", "a") as log:
        log.write(json.dumps(values) + "\n")


class Mix(Stage[Net, Nothing]):
    some_parameters_idle = True

    def __init__(self, spec):
        super().__init__(spec)
        width = spec.model.width
        self.audio, self.video = nn.Linear(spec.inputs.audio.mel_bins, width), nn.Linear(3, width)
        self.heads = nn.ModuleDict({part.name: nn.Linear(width, part.num_classes) for part in spec.parts if part.label})

    def seen(self, batch):
        """[B, width]."""
        seen = self.audio(batch["audio"].mean((1, 2)))
        return seen + self.video(batch["video"].mean((2, 3, 4))) if "video" in batch else seen

    def losses(self, batch):
        note(batch, os.environ.get("LOCAL_RANK", 0), self.global_step)
        loss, seen = self.audio.weight.square().sum() * 1e-3, self.seen(batch)
        for place, part in enumerate(self.spec.parts):
            if part.label and batch.get("part_name", part.name) == part.name:
                each = F.binary_cross_entropy_with_logits(
                    self.heads[part.name](seen), batch[part.label], reduction="none"
                )
                mine = (batch["part"] == place).float()
                loss = loss + (each.mean(1) * mine).sum() / mine.sum().clamp(min=1)
        return {"loss": loss}

    def predict_step(self, batch, batch_idx):
        return {"logits": {"av": self.heads[self.spec.parts[0].name](self.seen(batch))}}
