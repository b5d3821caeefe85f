"""The ideas without which it would not be UAVM; each test fails when its idea is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from bench.contract.cases import Case, made_up_batch, spec
from datamodules.loading.mixing import mix_in
from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig
from experiments.uavm.method import Extract, ExtractOptions, Retrieve, RetrieveOptions, Train, TrainExtractor, rolled
from experiments.uavm.model import prepare
from tests.experiments.every_stage import trained

CASE = Case("uavm", "train_vggsound")
SPEC, BATCH = spec(CASE.config, CASE.stage), made_up_batch(CASE)
KEYS = {"a": "audio_feat", "v": "video_feat"}
STEPS = SPEC.model.steps


def train(modality: str = "av", seed: int = 0, model: dict | None = None, **options) -> Train:
    torch.manual_seed(0)
    model = replace(SPEC.model, **(model or {}))
    return Train(replace(SPEC, modality=modality, seed=seed, model=model, options=replace(SPEC.options, **options)))


def without(batch, key):
    return {name: value for name, value in batch.items() if name != key}


# --- each step sees one modality ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "idle"), [(1.0, "v"), (0.0, "a")])
@pytest.mark.parametrize(
    ("fusion", "idle_parts"), [("unified", "specific.{}."), ("independent", ".{}."), ("cross_attention", "nothing")]
)
def test_a_step_trains_all_but_what_the_other_modality_has_alone(fusion, idle_parts, share, idle):
    stage = train(audio_share=share, model={"fusion": fusion})
    batch = BATCH if fusion == "cross_attention" else without(BATCH, KEYS[idle])  # the other is not even looked at
    stage.losses(batch)["loss"].backward()
    expected = {name for name, _ in stage.named_parameters() if idle_parts.format(idle) in name}
    assert {name for name, p in stage.named_parameters() if p.grad is None or not p.grad.any()} == expected
    assert Train.some_parameters_idle


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_coin_is_loaded_falls_alike_on_all_ranks_and_depends_on_seed_and_step_alone(share):
    here, there, other = (train(seed=seed, audio_share=share) for seed in (5, 5, 6))
    torch.manual_seed(1)
    sides = [here.modality_of_step(step) for step in range(600)]
    torch.manual_seed(2)
    assert [there.modality_of_step(step) for step in reversed(range(600))] == sides[::-1]
    assert sides.count("a") == pytest.approx(600 * share, abs=50)  # 4 standard deviations
    for others in ([other.modality_of_step(step) for step in range(600)], sides[1:]):  # nor is it by turns
        same = sum(mine == theirs for mine, theirs in zip(sides, others, strict=False))
        assert same == pytest.approx(600 * (share**2 + (1 - share) ** 2), abs=50)


@pytest.mark.filterwarnings("ignore")
def test_in_training_the_coin_is_thrown_once_a_step_of_the_optimiser():
    stage, seen = train(seed=3), []
    stage.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    trained(stage, [BATCH] * 24, accumulate_grad_batches=2)
    assert seen == [stage.modality_of_step(step) for step in range(12) for _ in range(2)] and set(seen) == {"a", "v"}


# --- a clip's modalities are mixed and rolled alike ---------------------------------------------------------------


def test_both_modalities_and_the_label_get_the_same_partner_share_and_shift():
    clips, steps = 12, 6
    own = torch.eye(clips * steps).view(clips, steps, -1)  # says of which clip and step it is; pictures do backwards
    loud = torch.linspace(1, 50, clips)[:, None, None] * own  # but mixed are vectors of length 1
    batch = {"key": torch.arange(clips) + 7, "audio_feat": loud, "video_feat": own.flip(2), "label": torch.eye(clips)}
    place, other, weight = torch.tensor([1, 4, 7, 9]), [3, 0, 11, 2], torch.tensor([0.3, 0.45, 0.55, 0.6])
    partner = {"place": place, "weight": weight, **{key: batch[key][other] for key in KEYS.values()}}
    label = mix_in(batch["label"], batch["label"][other], place, weight)
    stage = train(model={"steps": steps}, roll=15)
    audio, video = (stage.features({**batch, "partner": partner}, modality) for modality in ("a", "v"))
    assert torch.equal(audio, video.flip(2))
    mixed = audio.unflatten(2, (clips, steps))  # [B, T, clip, step]
    torch.testing.assert_close(mixed.sum(dim=(1, 3)) / steps, label)
    shifts = [{int(t - step) % steps for t, _, step in clip.nonzero()} for clip in mixed]
    assert all(len(shift) == 1 for shift in shifts) and len(set.union(*shifts)) > 2


def test_clips_are_rolled_in_a_circle_by_minus_15_to_14_steps():
    key, at_20 = torch.arange(6000), F.one_hot(torch.full((6000,), 20), 40)[..., None].float()
    shift = rolled(at_20, key, 15).argmax(dim=1).flatten() - 20
    counts = torch.bincount(shift + 15)
    assert len(counts) == 30 and (counts - 200).abs().max() < 75  # 5 standard deviations
    features = torch.randn(50, 40, 3)
    expected = [feature.roll(int(by), 0) for feature, by in zip(features, shift, strict=False)]
    assert torch.equal(rolled(features, key[:50], 15), torch.stack(expected))
    assert torch.equal(rolled(features, key[:50], 0), features)


def test_features_are_cut_or_padded_to_the_steps_and_every_step_gets_length_1():
    feature = 3 * torch.randn(3, 6, 20)
    longer, shorter = prepare(feature, 4), prepare(feature, 9)
    torch.testing.assert_close(longer, feature[:, :4] / feature[:, :4].norm(dim=2, keepdim=True))
    torch.testing.assert_close(shorter, F.pad(prepare(feature, 6), (0, 0, 0, 3)))


# --- what is measured ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["unified", "independent"])
def test_both_together_are_measured_by_the_mean_of_their_logits_of_features_as_they_are(fusion):
    logits = {}
    for modality, unseen in (("a", "video_feat"), ("v", "audio_feat"), ("av", "")):
        logits |= (
            train(modality, model={"fusion": fusion}, roll=15).eval().predict_step(without(BATCH, unseen), 0)["logits"]
        )
    net = train(model={"fusion": fusion}).eval().net
    expected = {m: net(prepare(BATCH[key], STEPS), m) for m, key in KEYS.items()}
    torch.testing.assert_close(logits, {**expected, "av": (expected["a"] + expected["v"]) / 2})


def test_clips_are_compared_by_the_time_mean_after_the_sixth_block():
    assert RetrieveOptions().layer == 6
    stage = Retrieve(replace(SPEC, options=RetrieveOptions(layer=3))).eval()
    expected = {m: stage.net.layers(prepare(BATCH[key], STEPS), m)[3].mean(dim=1) for m, key in KEYS.items()}
    torch.testing.assert_close(stage.predict_step(BATCH, 0), {"embedding": expected})


@pytest.mark.parametrize(("modality", "name"), [("a", "train_extractor_vggsound"), ("v", "train_extractor_vggsound_v")])
def test_what_is_extracted_is_what_the_trained_extractor_sees_before_its_classifier(modality, name):
    learned, batch = TrainExtractor(spec(CASE.config, name)).eval(), made_up_batch(CASE.of(name))
    writer = Extract(replace(learned.spec, options=ExtractOptions())).eval()
    writer.load_parent(learned.state_dict())
    assert not any(p.requires_grad for p in writer.parameters()) and not hasattr(writer.net, "head")
    feature_BTD = writer.predict_step(batch, 0)["features"]
    expected = learned.predict_step(batch, 0)["logits"][modality]
    torch.testing.assert_close(learned.net.head(feature_BTD.mean(dim=1)), expected)


@pytest.mark.parametrize(("size", "dim"), [("base", 1024), ("tiny_cpu", 64)])
def test_990_frames_of_sound_are_30_steps_and_1000_are_31(size, dim):
    with torch.device("meta"):
        net = AudioConvNeXt(ConvNeXtConfig(size), 5)
        shapes = [net.features(torch.empty(2, 1, frames, 128)).shape for frames in (990, 1000)]
    assert shapes == [(2, 30, dim), (2, 31, dim)]


# --- errors -------------------------------------------------------------------------------------------------------


def cross_attention() -> Train:
    return train(model={"fusion": "cross_attention"})


def extractor(modality: str = "a", **model) -> TrainExtractor:
    whole = spec(CASE.config, "train_extractor_vggsound")
    return TrainExtractor(replace(whole, modality=modality, model=replace(whole.model, **model)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: train(model={"feature_dim": 7}), "features of a have 96 numbers.*model.feature_dim"),
        (lambda: train().net(torch.ones(2, 1, 96), "a"), r"1 steps come in, but model\.steps has room for 15"),
        (lambda: train().net.representation(torch.ones(2, 15, 96), "a", 9), "layer 9: one modality has layers 0 to 3"),
        (lambda: cross_attention().net(BATCH["audio_feat"], "a"), "cross_attention has no logits of one.*`joint`"),
        (lambda: cross_attention().net.representation(BATCH["audio_feat"], "a", 2), "layers 0 to 1"),
        (lambda: train(model={"fusion": "cross_attention", "shared_depth": 0}), "model.shared_depth of at least 1"),
        (lambda: extractor("av"), "modality=av"),
        (lambda: extractor(feature_dim=7), "model.feature_dim=7, but the extractor gives 96"),
        (lambda: extractor(extractor=ConvNeXtConfig("tiny_cpu", strides=[4, 4])), "3 widths but 2 strides"),
    ],
)
def test_what_cannot_be_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
