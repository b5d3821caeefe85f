"""WaveNet multitask's stages: `Train`, a classifier that learns from sound without labels at the same time; `Pretrain`,
from that alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from datamodules.keyed import derived, uniform
from datamodules.types import Batch, Outputs
from experiments.common.batches import stream
from experiments.common.losses.classification import classification_loss
from experiments.common.stage import StageSpec
from experiments.common.stages.network import NetworkStage
from experiments.common.weights import load_strict
from experiments.wavenet_multitask.model import Head, WaveNet, WaveNetConfig, classifier
from experiments.wavenet_multitask.objective import (
    LOSSES,
    Task,
    coloured,
    denoise,
    levelled,
    next_step,
    noisy,
    pitched,
    upsample,
)

WAVE, NOISE = "wave", "noise"
"""Streams of kind `waveform`: the sound, and, where there is one, another clip's that is its noise."""


@dataclass
class TaskOptions:
    """Of what needs no labels."""

    weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LOSSES, 1.0))
    """Of the losses of `next_step`, `denoise` and `upsample`; a task that is not named, or of 0, is off."""
    snr: list[float] = field(default_factory=lambda: [10.0, 15.0])
    """Least and most decibels by which sound is louder than its noise."""
    factor: int = 4
    """The rate is divided by it, and wanted back."""
    rms: float = 0.1
    """Of each clip that the network hears."""


TaskSettings = TypeVar("TaskSettings", bound=TaskOptions)


class OnWaves(NetworkStage[WaveNetConfig, TaskSettings]):
    """What both stages have in common."""

    compares_clips = True  # by batch norm
    net: WaveNet

    def __init__(self, spec: StageSpec[WaveNetConfig, TaskSettings], main: nn.Module | None):
        """Builds the network, with a classifier or without.

        Raises:
            ValueError: there is no waveform, or a task is not known.
        """
        super().__init__(spec)
        if WAVE not in spec.inputs.streams:
            raise ValueError(f"data.inputs.streams has no {WAVE}, which is of kind waveform")
        weights = spec.options.weights
        if unknown := weights.keys() - LOSSES.keys():
            raise ValueError(f"options.weights: {', '.join(sorted(unknown))}: name some of {', '.join(LOSSES)}")
        self.tasks = [task for task in LOSSES if weights.get(task)]
        self.net = WaveNet(spec.model, self.tasks, main)

    @classmethod
    def remarks(cls, model: WaveNetConfig, options: TaskSettings) -> dict[str, str]:
        return {"as_tasks_without_labels": ", ".join(task for task in LOSSES if options.weights.get(task)) or "none"}

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """The trunk, and the heads of tasks without labels that both have; the classifier is new."""
        taken = {key: value for key, value in weights.items() if not key.startswith("main.")}
        load_strict(self.net, taken, new=("main", "tasks"), unused=("tasks",))

    def heard(self, batch: Batch, name: str = WAVE) -> tuple[Tensor, Tensor]:
        """([B, T] sound, as loud as any other, [B] its length)."""
        wave_BT, length_B = stream(batch, name), stream(batch, f"{name}_length")
        return levelled(wave_BT, length_B, self.spec.options.rms), length_B

    def noise(self, batch: Batch, samples: int, purpose: str) -> tuple[Tensor, Tensor]:
        """([B, samples] noise, [B] decibels by which it is less than the sound)."""
        key_B = derived(batch["key"], purpose)
        least, most = self.spec.options.snr
        snr_B = least + (most - least) * uniform(key_B, "signal to noise")
        if NOISE in self.spec.inputs.streams:
            return self.heard(batch, NOISE)[0], snr_B
        return coloured(key_B, samples), snr_B

    def places(self, batch: Batch) -> tuple[Tensor | slice, Tensor | slice]:
        """(where the clips of the stage's own dataset lie, where those of the others do); all of them, where it has no
        others. How many there are is known beforehand, so that nothing waits for the device."""
        if "part" not in batch:
            return slice(None), slice(None)
        parts = stream(batch, "part")
        sizes = [part.batch_size for part in self.spec.parts]
        own, rest = divmod(len(parts) * sizes[0], sum(sizes))
        if rest:
            raise ValueError(f"{sizes} clips of the datasets do not divide a batch of {len(parts)}: change the weights")
        order = parts.argsort(stable=True)
        return order[:own], order[own:]

    def task_losses(self, batch: Batch, wave_BT: Tensor, length_B: Tensor) -> dict[str, Tensor]:
        """Of each task that is on, which hears an input of its own in the same trunk."""
        _, of = self.places(batch)
        found = {}
        for task in self.tasks:
            question = self.question(task, batch, wave_BT, length_B, of)
            found[task] = LOSSES[task](self.net.tasks[task](self.net.trunk(question.seen_BT)), question)
        return found

    def question(self, task: str, batch: Batch, wave_BT: Tensor, length_B: Tensor, of: Tensor | slice) -> Task:
        """What a task asks of some of the clips."""
        if task == "denoise":
            noise_BT, snr_B = self.noise(batch, wave_BT.shape[1], "to be removed")
            return denoise(wave_BT[of], length_B[of], noise_BT[of], snr_B[of])
        if task == "upsample":
            return upsample(wave_BT[of], length_B[of], self.spec.options.factor)
        return next_step(wave_BT[of], length_B[of])

    def weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.spec.options.weights[task] * loss for task, loss in losses.items()]).sum()


class Pretrain(OnWaves[TaskOptions]):
    """The tasks without labels alone."""

    def __init__(self, spec: StageSpec[WaveNetConfig, TaskOptions]):
        super().__init__(spec, None)
        if not self.tasks:
            raise ValueError("options.weights: no task is on, so that there is nothing to learn")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = self.task_losses(batch, *self.heard(batch))
        return {"loss": self.weighted(terms), **terms}


@dataclass
class TrainOptions(TaskOptions):
    """Of the joint training."""

    head: Head = "tagging"
    """The classifier."""
    noise: float = 0.0
    """Share of labelled clips to which noise is added, by `snr`."""
    pitch: int = 0
    """Most semitones by which the pitch of labelled clips is changed."""
    label_smoothing: float = 0.0
    """Of the targets."""


class Train(OnWaves[TrainOptions]):
    """L = L_main + sum over tasks of w L_task, all of whose gradients reach one trunk in one step."""

    def __init__(self, spec: StageSpec[WaveNetConfig, TrainOptions]):
        super().__init__(spec, classifier(spec.model, spec.options.head, spec.num_classes))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        heard = self.heard(batch)
        terms, main = self.task_losses(batch, *heard), self.main_loss(batch, *heard)
        loss = main + self.weighted(terms) if terms else main
        return {"loss": loss, "main": main, **terms}

    def main_loss(self, batch: Batch, wave_BT: Tensor, length_B: Tensor) -> Tensor:
        """Of the labelled clips."""
        options = self.spec.options
        wave_BT = self.augmented(batch, wave_BT, length_B)
        of, _ = self.places(batch)
        logits_BC = self.net.classify(wave_BT[of], length_B[of])
        return classification_loss(logits_BC, batch["label"][of], self.spec.multilabel, options.label_smoothing)

    def augmented(self, batch: Batch, wave_BT: Tensor, length_B: Tensor) -> Tensor:
        """[B, T] what the classifier hears in training."""
        options, key_B = self.spec.options, batch["key"]
        if options.pitch:
            wave_BT = pitched(wave_BT, key_B, options.pitch)
        if options.noise:
            noise_BT, snr_B = self.noise(batch, wave_BT.shape[1], "augmentation")
            chosen_B = uniform(key_B, "noise is added") < options.noise
            wave_BT = torch.where(chosen_B[:, None], noisy(wave_BT, noise_BT, length_B, snr_B), wave_BT)
        return wave_BT

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: self.net.classify(*self.heard(batch))}}
