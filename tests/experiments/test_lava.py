"""What is LAVA's own: the centroid as a fourth view, encoders that share nothing, text that may be missing, and that
boards say which text was read. Numbers of its development code are compared in `recorded/lava.py`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.types import Batch, Inputs, TextInputs, VideoInputs
from experiments.common.stage import StageSpec
from experiments.common.stages.linear import LinearOptions
from experiments.lava.method import Linear, NoOptions, Pretrain, PretrainOptions, Retrieve
from experiments.lava.model import LAVA, LAVAConfig, SpectrogramConfig
from experiments.lava.objective import terms

CLIPS, DIM, WORDS = 6, 16, 5
TEXT = TextInputs(length=WORDS)
INPUTS = Inputs(None, VideoInputs(frames=4, size=16))
SMALL = SpectrogramConfig(fft=80, mel_bins=10, frames=16, patch=4)
PAIRS, CENTROIDS = ["av", "at", "vt"], ["a_centroid", "v_centroid", "t_centroid"]


def stage(kind: Any = Pretrain, modality: str = "avt", text: TextInputs | None = TEXT, **changes: Any) -> Any:
    options = {key: changes.pop(key) for key in vars(PretrainOptions()) if key in changes}
    model = {
        "text": "captions",
        "dim": DIM,
        "depth": 1,
        "heads": 2,
        "vocabulary": 100,
        "video_patch": [2, 8],
        **changes,
    }
    torch.manual_seed(0)
    made_of = PretrainOptions(**options) if kind is Pretrain else NoOptions()
    return kind(StageSpec(LAVAConfig(spectrogram=SMALL, **model), made_of, INPUTS, modality, text=text))


def batch(seed: int = 0, words: list[int] | None = None) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    length = torch.full((CLIPS,), WORDS) if words is None else torch.tensor(words)
    sound = {"waveform": torch.randn(CLIPS, 600, generator=draw), "waveform_length": torch.full((CLIPS,), 600)}
    text = torch.randint(1, 60, (CLIPS, WORDS), generator=draw) * (torch.arange(WORDS) < length[:, None])
    video = torch.randn(CLIPS, 3, 4, 16, 16, generator=draw)
    return {"key": torch.arange(CLIPS), "video": video, "text": text, "text_length": length} | sound  # type: ignore


def codes(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {m: torch.randn(CLIPS, DIM, generator=draw).requires_grad_() for m in "avt"}


def net(**changes: Any) -> LAVA:
    return stage(**changes).net


def contrast(x_BD: Tensor, y_BD: Tensor, scale: float) -> Tensor:
    """As the card has it, in float64."""
    score_BB = scale * x_BD.double() @ y_BD.double().T
    return -(score_BB.log_softmax(1).diag().mean() + score_BB.log_softmax(0).diag().mean()) / 2


def identity(made: LAVA) -> LAVA:
    """Whose projections change nothing."""
    for layer in made.projections["shared"].values():
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return made


def test_the_loss_is_three_pairs_and_three_modalities_against_their_centroid():
    made, code = identity(net()), codes()
    unit = {m: F.normalize(x, dim=1) for m, x in code.items()}
    centroid = F.normalize(sum(unit.values()) / 3, dim=1)
    found = terms(made, code, torch.ones(CLIPS, dtype=torch.bool))
    assert set(found) == {*PAIRS, *CENTROIDS, "loss"}
    for pair in PAIRS:
        torch.testing.assert_close(found[pair].double(), contrast(unit[pair[0]], unit[pair[1]], 14.285))
    for m in "avt":
        torch.testing.assert_close(found[f"{m}_centroid"].double(), contrast(unit[m], centroid, 14.285))
    torch.testing.assert_close(found["loss"], sum(value for name, value in found.items() if name != "loss"))


def test_where_all_modalities_agree_so_does_the_centroid():
    code = dict.fromkeys("avt", codes()["a"])
    found = terms(identity(net()), code, torch.ones(CLIPS, dtype=torch.bool))
    for name in (*PAIRS, *CENTROIDS):
        torch.testing.assert_close(found[name], found["av"])


def test_the_centroid_and_the_pairs_can_be_left_out():
    assert set(terms(net(use_centroid=False), codes(), None)) == {*PAIRS, "loss"}
    assert set(terms(net(pairwise=[]), codes(), None)) == {*CENTROIDS, "loss"}
    with pytest.raises(ValueError, match=r"model\.use_centroid, or name pairs"):
        net(pairwise=[], use_centroid=False)


def test_how_long_a_vector_is_does_not_count():
    code = codes()
    longer = code | {"v": 10 * code["v"]}
    torch.testing.assert_close(terms(net(), longer, None)["loss"], terms(net(), code, None)["loss"])


@pytest.mark.parametrize("detached", [False, True])
def test_a_gradient_goes_through_the_centroid_unless_it_is_detached(detached: bool):
    code = codes()
    terms(net(), code, None, detach_centroid=detached)["a_centroid"].backward()
    assert code["a"].grad.any() and (code["v"].grad is None or not code["v"].grad.any()) == detached


def test_the_scale_learns_and_an_untrained_batch_is_at_chance():
    """With a scale near 0; at 14.285 random cosines are not alike."""
    made = stage()
    made.losses(batch())["loss"].backward()
    assert made.net.scale.item() == pytest.approx(14.285) and made.net.scale.grad.abs() > 0.01
    flat = net(scale=1e-3)
    for name, value in terms(flat, codes(), None).items():
        assert value.item() == pytest.approx((6 if name == "loss" else 1) * math.log(CLIPS), rel=1e-3)


def test_encoders_share_nothing():
    made, one, other = net().eval(), batch(), batch(1)
    assert len({id(p) for p in made.parameters()}) == len(list(made.parameters()))
    for changed, key in (("a", "waveform"), ("v", "video"), ("t", "text")):
        mixed = {**one, key: other[key]}
        same = {m: torch.equal(made.encode(one, m), made.encode(mixed, m)) for m in "avt"}
        assert same == {m: m != changed for m in "avt"}


def test_layers_draw_their_own_weights_which_nothing_gives_them():
    made = stage(depth=2)
    first, second = made.net.encoders["v"].layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    with pytest.raises(NotImplementedError, match="no ImageNet weights"):
        made.load_imagenet()


def test_the_token_that_is_read_stands_last_and_norms_after_layers_as_wide_as_the_rest():
    encoder, seen = net().encoders["t"], []
    encoder.layers[0].register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    code_BD = encoder.read(batch()["text"])
    ((given_BLD, made_BLD),) = seen
    torch.testing.assert_close(given_BLD[:, -1], (encoder.token + encoder.positions[-1]).expand(CLIPS, -1))
    torch.testing.assert_close(code_BD, encoder.fc(made_BLD[:, -1]))
    layer = encoder.layers[0]
    assert not layer.norm_first and layer.linear1.weight.shape == (DIM, DIM) and encoder.positions.min() >= 0
    torch.testing.assert_close(made_BLD.mean(2), torch.zeros(CLIPS, WORDS + 1), atol=1e-5, rtol=0)  # a norm is the last


@pytest.mark.parametrize("mask", ["zero", "drop"])
def test_without_any_words_the_text_encoder_learns_nothing(mask: str):
    made = stage(text_mask=mask)
    losses = made.losses(batch(words=[0] * CLIPS))
    losses["loss"].backward()
    assert losses["loss"].isfinite() and not any(p.grad.any() for p in made.net.encoders["t"].parameters())
    assert (losses["vt"] == 0) == (mask == "drop") and losses["av"] > 0


def test_clips_without_words_are_compared_as_others_or_left_out():
    """`zero`: by the bias of the projection. `drop`: as if they were not there, and their centroid is of two."""
    has_text_B, code = torch.arange(CLIPS) < 4, codes()
    made, few = net(), {m: x[:4] for m, x in code.items()}
    dropped = terms(made, code, has_text_B, "drop")
    for name in ("at", "vt"):
        torch.testing.assert_close(dropped[name], terms(made, few, has_text_B[:4])[name])
    bias = F.normalize(made.projections["shared"]["t"].bias, dim=0)
    unit = {m: made.project(F.normalize(x, dim=1), m, "shared") for m, x in code.items()}
    unit["t"] = torch.where(has_text_B[:, None], unit["t"], bias)
    zeroed = terms(made, code, has_text_B, "zero")
    torch.testing.assert_close(zeroed["vt"].double(), contrast(unit["v"], unit["t"], 14.285))
    two = F.normalize(unit["a"] + unit["v"] + unit["t"] * has_text_B[:, None], dim=1)
    torch.testing.assert_close(dropped["a_centroid"].double(), contrast(unit["a"], two, 14.285))


def test_retrieval_compares_by_the_pair_s_projection_or_the_centroid_s():
    for changes, name in (({}, "shared"), ({"share_projection": False}, "vt"),
                          ({"share_projection": False, "pairwise": []}, "centroid")):  # fmt: skip
        pretrained, retrieve = stage(**changes).eval(), stage(Retrieve, "vt", **changes).eval()
        retrieve.load_parent(pretrained.state_dict())
        found = retrieve.predict_step(batch(), 0)["embedding"]
        for m in "vt":
            unit_BD = F.normalize(pretrained.net.encode(batch(), m), dim=1)
            torch.testing.assert_close(found[m], F.normalize(pretrained.net.projections[name][m](unit_BD), dim=1))


def test_a_linear_layer_judges_the_encoder_before_its_projection():
    pretrained = stage().eval()
    for modality in ("a", "v"):
        probe = Linear(replace(pretrained.spec, options=LinearOptions(), modality=modality, num_classes=3, text=None))
        probe.load_parent(pretrained.state_dict())
        torch.testing.assert_close(probe.embed(batch()), pretrained.net.encode(batch(), modality))
        assert set(probe.net.encoders) == {modality} and not any(p.requires_grad for p in probe.net.parameters())


def test_boards_say_which_text_was_read_and_it_must_be_so():
    for text in ("titles", "captions", "none"):
        said = {"as_the_text_of_pretraining": text}
        assert Retrieve.remarks(LAVAConfig(text=text), NoOptions()) == said
        assert Linear.remarks(LAVAConfig(text=text), LinearOptions()).items() >= said.items()
    with pytest.raises(ValueError, match=r"model\.text=titles, which boards show, but the stage reads captions"):
        Pretrain(StageSpec(LAVAConfig(text="titles"), PretrainOptions(), INPUTS, "avt", text=TEXT))
    with pytest.raises(ValueError, match="but the stage reads none"):
        stage(modality="av")


def test_a_vocabulary_that_is_too_small_is_named():
    with pytest.raises(ValueError, match=r"set model\.vocabulary=\d+"):
        net(vocabulary=10)
