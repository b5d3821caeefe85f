"""LAVA's development code: encoders, log-mels and the six terms, with shared projections and with separate ones."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.types import Batch, Inputs, TextInputs, VideoInputs
from experiments.common.stage import StageSpec
from experiments.lava.checkpoints import OFFICIAL
from experiments.lava.method import Pretrain, PretrainOptions
from experiments.lava.model import LAVAConfig, LogMel, SpectrogramConfig
from tests.experiments.golden import Recording, Released, Run

RECORDED = Recording("lava", kernels=12.0)
GOLDEN, drawn = RECORDED.values, RECORDED.drawn
SHAPES = {"head": (224, 28, [1.0, 0.0]), "separate": (128, 16, [1.0, 0.0, 1.0, 1.0])}
"""Form -> (pixels, pixels of a patch, which clips have words)."""


class AsItIs(nn.Module):
    """In the place of `LogMel`: log-mels are given."""

    def forward(self, mel_BMF: Tensor, length_B: Tensor) -> Tensor:
        return mel_BMF


@cache
def released(form: str) -> dict[str, Tensor]:
    keys = GOLDEN[form]["keys"]
    return RECORDED.weights(keys) | {"temperature": 14.285 + 4 * drawn("temperature", 1)}


def in_file(form: str, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in released(form).items()}


def fresh(form: str, **options: Any) -> Pretrain:
    size, patch, _ = SHAPES[form]
    model = LAVAConfig(**GOLDEN["config"], video_patch=[4, patch], share_projection=form == "head")
    inputs = Inputs(None, VideoInputs(frames=16, size=size))
    text = TextInputs(tokenizer="bpe", length=128, reads="titles")
    made = Pretrain(StageSpec(model, PretrainOptions(noise=0.0, **options), inputs, "avt", text=text))
    made.net.encoders["a"].log_mel = AsItIs()
    return made


def stage(form: str) -> Pretrain:
    made = fresh(form)
    made.load_parent(released(form))
    return made.train()


def batch(form: str) -> Batch:
    size, _, has_text = SHAPES[form]
    clips = len(has_text)
    text = ((drawn("text", clips, 128) + 0.5) * 48000).long()
    text[:, 100:] = 0
    video_B3THW = 4 * drawn(f"video {size}", clips, 16, size, size, 3).permute(0, 4, 1, 2, 3)
    audio = {"waveform": 4 * drawn("audio", clips, 80, 512), "waveform_length": torch.full((clips,), 512)}
    own = {"key": torch.arange(clips), "video": video_B3THW, "text": text, "text_length": torch.tensor(has_text) * 100}
    return own | audio  # type: ignore[return-value]


def computed(form: str, made: Pretrain) -> dict[str, Any]:
    """The terms, some numbers of the gradients and the statistics of a batch norm, or what the encoders give."""
    clips = batch(form)
    codes = {m: made.net.encode(clips, m) for m in "avt"} if form == "head" else {}
    losses = made.losses(clips)
    losses["loss"].backward()
    gradient = {name: value.grad for name, value in made.net.named_parameters()}
    found = {}
    for theirs in GOLDEN[form]["gradients"]:
        (ours,) = OFFICIAL.renamed({theirs: torch.zeros(1)})
        whole = gradient[ours]
        if theirs.endswith("pos_embedding"):
            found[theirs] = whole[::40, ::8]
        else:
            found[theirs] = whole[::8, ::8] if whole.ndim == 2 and len(whole) > 1 else whole
    numbers = {"losses": {name: losses[name] for name in GOLDEN[form]["losses"]}, "gradients": found}
    if form == "head":
        return numbers | {"codes": codes}
    return numbers | {"running_mean": made.net.projections["av"]["v"][1].running_mean}


def log_mels(_: None) -> Tensor:
    """A clip that is shorter than 512 frames, with silence within; of its last frames theirs reflect the sound."""
    sound = torch.zeros(1, 442080)
    sound[0, :40000] = drawn("sound", 40000)
    sound[0, 9000:14000] = 0
    return LogMel(SpectrogramConfig())(sound, torch.tensor([40000]))[0, ::16, 225:285:3]


RUNS = [
    *(
        Run(form, partial(computed, form), partial(stage, form), tolerance=1e-5, relative=1e-4,
            deep="encoders.v.layers.1.linear2.weight")
        for form in SHAPES
    ),
    Run("log_mel/values", log_mels, tolerance=1e-3),
]  # fmt: skip
RELEASED = [
    Released(
        form, partial(stage, form), partial(in_file, form, prefix),
        unused=tuple(f"{prefix}{part}" for part in (*(f"{m}_encoder.encoder_layer." for m in "avt"), "i_")),
        missing=(f"{prefix}t_encoder.fc.0.bias", "encoders.t.fc.0.bias"),
        strange=("a_encoder.cls_token", "x_proj.weight", "encoders.a.token"),
    )
    for form, prefix in (("head", "encoder."), ("separate", ""))
]  # fmt: skip
"""Out of Lightning, and the class's own."""
