"""Small stages of AVLnet, MCN and Everything at Once, and random batches, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.sample.narration import VOCABULARY
from datamodules.types import AudioInputs, Batch, FeatureInputs, Inputs, TextInputs
from experiments.avlnet import method as avlnet
from experiments.avlnet.model import AVLnetConfig
from experiments.common.networks.davenet import DAVEnetConfig
from experiments.common.optim import OptimConfig
from experiments.common.stage import StageSpec
from experiments.common.stages.narrated import LENGTHS, NarratedStage
from experiments.everything_at_once import method as everything
from experiments.everything_at_once.model import EverythingAtOnceConfig
from experiments.everything_at_once.objective import PairWeights
from experiments.mcn import method as mcn
from experiments.mcn.model import MCNConfig

CLIPS, FRAMES, MELS, MOMENTS, VIDEO_DIMS, WORDS, WORD_DIM, DIM = 8, 64, 40, 5, [12, 8], 6, 10, 24
WITHOUT = {1: "t", 2: "a", 3: "t", 6: "v"}
"""Clip of a batch -> what it lacks; the first half has one whole clip, the second three."""
WHOLE = [0, 4, 5, 7]
VALUES = {"a": "audio", "v": "video_feat", "t": "text"}
"""Modality -> key of its values in a batch."""

TEXT = TextInputs(tokenizer="words", length=WORDS)
INPUTS = Inputs(AudioInputs(frames=FRAMES, mel_bins=MELS), None, TEXT, FeatureInputs(dims=VIDEO_DIMS, frames=MOMENTS))
DAVENET = DAVEnetConfig(MELS, 16, [16, 20], [1, 1])
SIZES: dict[str, Any] = {"audio": DAVENET, "video_dims": VIDEO_DIMS, "word_dim": WORD_DIM}
AVLNET = AVLnetConfig(dim=DIM, tri_dim=DIM, **SIZES)
MCN = MCNConfig(dim=DIM, reconstruction=8, **SIZES)
EVERYTHING = EverythingAtOnceConfig(dim=32, heads=4, projection=DIM, **SIZES)
ALL_ALIKE = PairWeights(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def batch_of(clips: int = CLIPS, seed: int = 0, complete: bool = False) -> Batch:
    """Clips of different lengths, of which some lack a modality unless all are to be complete; zero after the end."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(clips, 1, FRAMES, MELS, generator=generator)
    audio += 2 * torch.randn(clips, 1, 1, MELS, generator=generator)  # each clip has a timbre
    batch = Batch(
        clip_id=[f"clip {i}" for i in range(clips)],
        key=torch.arange(clips) + 1000 * seed + 1,
        label=torch.zeros(clips, 0),
        audio=audio,
        audio_length=torch.randint(8, FRAMES + 1, (clips,), generator=generator),
        video_feat=torch.randn(clips, MOMENTS, sum(VIDEO_DIMS), generator=generator),
        video_feat_length=torch.randint(1, MOMENTS + 1, (clips,), generator=generator),
        text=torch.randint(1, len(VOCABULARY) + 1, (clips, WORDS), generator=generator),
        text_length=torch.randint(2, WORDS + 1, (clips,), generator=generator),
    )
    for clip, modality in ({} if complete else WITHOUT).items():
        batch[LENGTHS[modality]][clip] = 0
    batch["audio"] *= slots(batch, "a")[:, None, :, None]
    batch["video_feat"] *= slots(batch, "v")[:, :, None]
    batch["text"] *= slots(batch, "t")
    return batch


def slots(batch: Batch, modality: str) -> Tensor:
    """[B, T] bool, the frames, moments or words that are the clip's."""
    steps = batch[VALUES[modality]].shape[2 if modality == "a" else 1]
    return torch.arange(steps) < batch[LENGTHS[modality]][:, None]


def chosen(batch: Batch, clips: list[int] | slice) -> Batch:
    """Some of the clips."""
    picked = clips if isinstance(clips, slice) else torch.tensor(clips)
    return Batch(**{key: value[picked] for key, value in batch.items() if isinstance(value, Tensor)})


def with_noise(batch: Batch, modality: str) -> Batch:
    """The same with something in the place of what clips without this modality lack."""
    values, lacking = batch[VALUES[modality]].clone(), batch[LENGTHS[modality]] == 0
    noise = torch.randint_like(values, 1, 9) if modality == "t" else 5 * torch.randn_like(values)
    values[lacking] = noise[lacking]
    return Batch(**{**batch, VALUES[modality]: values})


def spec(model: Any, options: Any, **fields: Any) -> StageSpec:
    optim = OptimConfig(algorithm="adam", lr=1e-3, weight_decay=0.0)
    fields = {"inputs": INPUTS, "modality": "avt", "text": TEXT, "batch_size": CLIPS, "optim": optim, **fields}
    return StageSpec(model=model, options=options, **fields)


def made(stage_class: type[NarratedStage], stage_spec: StageSpec) -> NarratedStage:
    """With random biases, and batch norms that know the statistics of a batch, so that clips differ in evaluation."""
    torch.manual_seed(1)
    stage = stage_class(stage_spec)
    for parameter in stage.net.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, which is one
    with torch.no_grad():
        stage.predict_step(batch_of(seed=9, complete=True), 0)
    for norm in norms:
        norm.momentum = 0.1
    return stage


def avlnet_stage(
    name: str = "AVLnet", text: TextInputs | None = TEXT, mode: str = "train", **fields: Any
) -> avlnet.AVLnet:
    return made(getattr(avlnet, name), spec(AVLNET, avlnet.Options(mode=mode), text=text, **fields))


def mcn_stage(name: str = "Train", model: MCNConfig = MCN, clips_per_video: int = 2, **fields: Any) -> mcn.Train:
    """3 clusters of 2 batches' clips, found anew every 2 steps, unless it is said otherwise."""
    options = {key: fields.pop(key) for key in vars(mcn.TrainOptions()) if key in fields}
    small = {"clusters": 3, "queue_batches": 2, "refit_every": 2, **options}
    return made(getattr(mcn, name), spec(model, mcn.TrainOptions(**small), clips_per_video=clips_per_video, **fields))


def everything_stage(
    name: str = "Train", model: EverythingAtOnceConfig = EVERYTHING, tau: float = 0.2,
    weights: PairWeights = ALL_ALIKE, mode: str = "train", **fields: Any,
) -> everything.Train:  # fmt: skip
    """Every pair counts alike unless it is said otherwise."""
    return made(getattr(everything, name), spec(model, everything.TrainOptions(tau, weights, mode=mode), **fields))


def tiny(name: str, **changes: Any) -> NarratedStage:
    """Of a name like `avlnet Tri`; changes are of its specification and, of MCN, its options."""
    makers = {"avlnet": avlnet_stage, "mcn": mcn_stage, "everything_at_once": everything_stage}
    method, stage = name.split()
    return makers[method](stage, **changes)


WORD2VEC = ("pan", "egg", "whisk", "Oil")


def word2vec(folder: Path, dim: int = WORD_DIM) -> TextInputs:
    """Vectors in a file of word2vec's text format: that of word i is i, i + 1, ..."""
    words = {word: " ".join(str(float(i + j)) for j in range(dim)) for i, word in enumerate(WORD2VEC, 1)}
    lines = [f"{len(words)} {dim}", *(f"{word} {vector}" for word, vector in words.items())]
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n")
    return TextInputs(tokenizer="word2vec", file=str(folder / "vectors.txt"), length=WORDS)
