"""Small stages of CMKD, UAVM and MBT, and random batches, for the tests."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

from datamodules.types import AudioInputs, Batch, Inputs, VideoInputs
from experiments.cmkd import method as cmkd
from experiments.cmkd.model import ASTConfig, CMKDConfig, CNNConfig
from experiments.common.optim import OptimConfig
from experiments.common.stage import Stage, StageSpec
from experiments.mbt import method as mbt
from experiments.mbt.model import MBTConfig
from experiments.uavm import method as uavm
from experiments.uavm.model import UAVMConfig

CLASSES = 5
OPTIM = OptimConfig(algorithm="adam", lr=1e-3, weight_decay=0.0)


def labels(clips: int, multilabel: bool, generator: torch.Generator) -> torch.Tensor:
    """[B, C]: one class a clip, or about two."""
    label = torch.zeros(clips, CLASSES)
    label[torch.arange(clips), torch.arange(clips) % CLASSES] = 1.0
    return label.maximum((torch.rand(clips, CLASSES, generator=generator) < 0.3).float()) if multilabel else label


def named(clips: int, seed: int) -> Batch:
    """Ids and keys."""
    return {"clip_id": [f"clip {i}" for i in range(clips)], "key": torch.arange(clips) + 1000 * seed + 1}


def spec(model: Any, options: Any, inputs: Inputs, modality: str, multilabel: bool, **fields: Any) -> StageSpec:
    fields = {"num_classes": CLASSES, "batch_size": 4, "steps_per_epoch": 10, "optim": OPTIM, **fields}
    return StageSpec(model=model, options=options, inputs=inputs, modality=modality, multilabel=multilabel, **fields)


def trained(stage: Stage, batches: list[Batch], **trainer: Any) -> L.Trainer:
    """Trains in a Trainer, one step a batch unless it accumulates."""
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    fitter = L.Trainer(**{**settings, **quiet, **trainer})
    fitter.fit(stage, DataLoader(batches, batch_size=None))
    return fitter


def falling(stage: Stage, batch: Batch, steps: int, lr: float = 3e-3) -> tuple[float, float]:
    """The loss of a batch before and after so many steps on it alone."""
    optimizer, losses = torch.optim.Adam(stage.parameters(), lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = stage.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


# --- CMKD -----------------------------------------------------------------------------------------------------

CMKD_INPUTS = Inputs(AudioInputs(frames=100, mel_bins=64), None)
CMKD_MODEL = CMKDConfig(
    ast=ASTConfig(dim=32, depth=2, heads=4), cnn=CNNConfig(backbone="small", widths=[8, 16, 24, 32])
)


def cmkd_batch(clips: int = 4, seed: int = 0, multilabel: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(clips, 1, 100, 64, generator=generator)
    audio += 2 * torch.randn(clips, 1, 1, 64, generator=generator)  # each clip has a timbre
    return {**named(clips, seed), "audio": audio, "label": labels(clips, multilabel, generator)}


def cmkd_train(network: str, multilabel: bool = True, smoothing: float = 0.1, **fields: Any) -> cmkd.Train:
    """Its batch norm has the statistics of a batch, not those it starts with, so that clips get different answers."""
    torch.manual_seed(1)
    options = cmkd.TrainOptions(network, smoothing)
    stage = cmkd.Train(spec(CMKD_MODEL, options, fields.pop("inputs", CMKD_INPUTS), "a", multilabel, **fields))
    large(stage)
    norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, which is one
    if norms:
        stage.net(cmkd_batch(8, seed=9)["audio"])
    for norm in norms:
        norm.momentum = 0.1
    return stage


def cmkd_distill(student: str = "ast", teacher: str = "cnn", multilabel: bool = True, **options: Any) -> cmkd.Distill:
    """A student of its own random weights, with a random teacher."""
    torch.manual_seed(2)
    chosen = cmkd.DistillOptions(network=student, **options)
    stage = cmkd.Distill(spec(CMKD_MODEL, chosen, CMKD_INPUTS, "a", multilabel))
    large(stage)
    theirs = cmkd_train(teacher, multilabel)
    stage.load_teacher(theirs.spec, theirs.state_dict())
    return stage


# --- UAVM -----------------------------------------------------------------------------------------------------

STEPS, FEATURES = 6, 20
UAVM_MODEL = {"dim": 32, "shared_dim": 24, "specific_depth": 1, "shared_depth": 1}


def uavm_batch(clips: int = 4, seed: int = 0, multilabel: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    audio, video = torch.randn(2, clips, STEPS, FEATURES, generator=generator)
    label = labels(clips, multilabel, generator)
    return {**named(clips, seed), "audio_feat": audio, "video_feat": video, "label": label}


def uavm_spec(
    options: Any, modality: str = "av", multilabel: bool = False, steps: int = STEPS, dim: int = FEATURES,
    model: dict[str, Any] | None = None, **fields: Any,
) -> StageSpec:  # fmt: skip
    config = UAVMConfig(**{**UAVM_MODEL, "steps": steps, "feature_dim": dim, **(model or {})})
    features = fields.pop("features", dict.fromkeys(modality, (steps, dim)))
    return spec(config, options, Inputs(None, None), modality, multilabel, features=features, **fields)


def uavm_train(modality: str = "av", multilabel: bool = False, seed: int = 0, **options: Any) -> uavm.Train:
    """Without roll unless it is asked for. `model`, `steps` and `dim` are the network's."""
    torch.manual_seed(3)
    sizes = {key: options.pop(key) for key in ("model", "steps", "dim") if key in options}
    chosen = uavm.TrainOptions(**{"roll": 0, **options})
    return uavm.Train(uavm_spec(chosen, modality, multilabel, seed=seed, **sizes))


# --- MBT ------------------------------------------------------------------------------------------------------

MBT_INPUTS = Inputs(AudioInputs(frames=64, mel_bins=32), VideoInputs(frames=2, size=32))
MBT_MODEL = MBTConfig(dim=32, depth=3, heads=4, fusion_layer=1, drop_path=0.0)


def mbt_batch(clips: int = 4, seed: int = 0, multilabel: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(clips, 1, 64, 32, generator=generator)
    video = torch.randn(clips, 3, 2, 32, 32, generator=generator)
    audio += 2 * torch.randn(clips, 1, 1, 32, generator=generator)  # each clip has a timbre
    video += 2 * torch.randn(clips, 3, 1, 1, 1, generator=generator)  # and a colour
    return {**named(clips, seed), "audio": audio, "video": video, "label": labels(clips, multilabel, generator)}


def mbt_train(modality: str = "av", multilabel: bool = True, **options: Any) -> mbt.Train:
    torch.manual_seed(4)
    stage = mbt.Train(spec(MBT_MODEL, mbt.TrainOptions(**options), MBT_INPUTS, modality, multilabel))
    nn.init.normal_(stage.net.head.weight, std=0.5)  # it starts at zero, which hides the trunk's gradients
    for tokens in stage.net.tokens.values():
        nn.init.normal_(tokens.cls_token)  # at zero as well, and so alike in both streams
    return stage


def large(stage: cmkd.Train) -> None:
    """Larger weights of the classifier, for the same reason."""
    head = stage.net.head
    nn.init.normal_((head[-1] if isinstance(head, nn.Sequential) else head).weight, std=0.5)
