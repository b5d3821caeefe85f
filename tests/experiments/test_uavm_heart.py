"""The ideas without which it would not be UAVM; each test fails when its idea is broken."""

from __future__ import annotations

import pytest
import torch

from datamodules.loading.mixing import mix_in
from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.losses.classification import classification_loss
from experiments.uavm import method
from experiments.uavm.extractor import ConvNeXtConfig
from experiments.uavm.method import Extract, ExtractOptions, Retrieve, RetrieveOptions, Train, TrainExtractor
from experiments.uavm.model import UAVMConfig, prepare
from tests.experiments.supervised_tiny import (
    CLASSES,
    FEATURES,
    STEPS,
    falling,
    spec,
    trained,
    uavm_batch,
    uavm_spec,
    uavm_train,
)

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to")  # log without a Trainer


def without(batch, *keys):
    return {key: value for key, value in batch.items() if key not in keys}


def moved(stage) -> dict[str, bool]:
    """Parameter -> whether it got a gradient."""
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in stage.net.named_parameters()}


# --- each step sees one modality ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "seen", "idle"), [(1.0, "a", "v"), (0.0, "v", "a")])
def test_a_step_trains_the_layers_of_its_modality_and_the_shared_ones(share, seen, idle):
    stage = uavm_train(audio_share=share)
    other = {"a": "audio_feat", "v": "video_feat"}[idle]
    stage.training_step(without(uavm_batch(), other), 0).backward()  # the other is not even looked at
    assert all(p.grad is None for p in stage.net.specific[idle].parameters())
    gradients = moved(stage)
    assert all(got != name.startswith(f"specific.{idle}.") for name, got in gradients.items())
    for part in (f"specific.{seen}.", "shared.av.", "head.av."):
        assert any(name.startswith(part) for name in gradients)


@pytest.mark.parametrize(("share", "idle"), [(1.0, "v"), (0.0, "a")])
def test_a_step_of_the_independent_model_trains_nothing_of_the_other_modality(share, idle):
    stage = uavm_train(audio_share=share, model={"fusion": "independent"})
    stage.training_step(uavm_batch(), 0).backward()
    assert all(got != (f".{idle}." in f".{name}") for name, got in moved(stage).items())


def test_idle_parameters_are_declared():
    assert Train.some_parameters_idle and not TrainExtractor.some_parameters_idle


def test_the_coin_falls_alike_on_all_ranks_and_depends_on_seed_and_step():
    here, there, other = (uavm_train(seed=seed) for seed in (5, 5, 6))
    torch.manual_seed(1)
    sides = [here.modality_of_step(step) for step in range(2000)]
    torch.manual_seed(2)
    assert [there.modality_of_step(step) for step in reversed(range(2000))][::-1] == sides
    differ = sum(other.modality_of_step(step) != side for step, side in enumerate(sides))
    assert set(sides) == {"a", "v"}
    assert sides.count("a") == pytest.approx(1000, abs=100)  # 4.5 standard deviations
    assert differ == pytest.approx(1000, abs=100)
    same_as_before = sum(first == second for first, second in zip(sides, sides[1:], strict=False))
    assert same_as_before == pytest.approx(1000, abs=100)  # and not by turns


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_coin_can_be_loaded(share):
    stage = uavm_train(audio_share=share)
    heads = sum(stage.modality_of_step(step) == "a" for step in range(2000))
    assert heads == pytest.approx(2000 * share, abs=0 if share in (0, 1) else 80)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parts", [1, 2])
def test_in_training_the_coin_is_thrown_once_a_step_of_the_optimiser(parts):
    stage, seen = uavm_train(seed=3), []
    stage.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    trained(stage, [uavm_batch(seed=i) for i in range(12 * parts)], accumulate_grad_batches=parts)
    expected = [stage.modality_of_step(step) for step in range(12) for _ in range(parts)]
    assert set(expected) == {"a", "v"} and seen == expected


# --- a clip's modalities are mixed and rolled alike ---------------------------------------------------------------

CLIPS = 12


def telling(clips=CLIPS, steps=STEPS):
    """Features that say of which clip and step they are; those of video the other way round. Labels say the clip."""
    audio = torch.eye(clips * steps).view(clips, steps, -1)
    batch = {"clip_id": [""] * clips, "key": torch.arange(clips) + 7}
    return {**batch, "audio_feat": audio, "video_feat": audio.flip(2), "label": torch.eye(clips)}


def who_and_when(feature_BTD, clips=CLIPS):
    """[B, clip, T, T]: how much of which step of which clip is at which step."""
    return feature_BTD.unflatten(2, (clips, -1)).movedim(2, 1)


def with_partners(batch, place, other, weight):
    """The batch with other clips of it as partners, as the suite hands them over: labels are mixed already."""
    partner = {"place": torch.tensor(place), "weight": torch.tensor(weight)}
    partner |= {name: batch[name][other] for name in ("audio_feat", "video_feat")}
    label = mix_in(batch["label"], batch["label"][other], partner["place"], partner["weight"])
    return {**batch, "label": label, "partner": partner}


def test_both_modalities_and_the_label_get_the_same_partner_share_and_shift(monkeypatch):
    stage = uavm_train(dim=CLIPS * STEPS, roll=15).train()
    batch = with_partners(telling(), place=[1, 4, 7, 9], other=[3, 0, 11, 2], weight=[0.3, 0.45, 0.55, 0.6])
    audio, video = stage.features(batch, "a"), stage.features(batch, "v")
    assert torch.equal(audio, video.flip(2))

    weight_BC = who_and_when(audio).sum(dim=(2, 3)) / STEPS
    labels = []
    monkeypatch.setattr(stage, "label_loss", lambda z, y: labels.append(y) or z.sum())
    for share in (0.0, 1.0):
        monkeypatch.setattr(stage.spec.options, "audio_share", share)
        stage.training_step(batch, 0)
    assert torch.equal(labels[0], labels[1]) and torch.allclose(labels[0], weight_BC, atol=1e-6)
    assert weight_BC[4, 0] == pytest.approx(0.45) and weight_BC[4, 4] == pytest.approx(0.55)
    assert (weight_BC > 0).sum(dim=1).tolist() == [1, 2, 1, 1, 2, 1, 1, 2, 1, 2, 1, 1]

    # A clip and its partner are rolled together, each clip by a shift of its own.
    shifts = []
    for clip in range(CLIPS):
        ahead = {int((place - source) % STEPS) for _, place, source in who_and_when(audio)[clip].nonzero().tolist()}
        assert len(ahead) == 1
        shifts += ahead
    assert len(set(shifts)) > 2


def test_clips_are_rolled_by_minus_15_to_14_steps():
    steps, key = 40, torch.arange(6000)
    start = torch.zeros(len(key), steps, 1)
    start[:, 20] = 1.0
    shift = method.rolled(start, key, 15).argmax(dim=1).flatten() - 20
    counts = torch.bincount(shift + 15)
    assert shift.min() == -15 and shift.max() == 14 and len(counts) == 30
    assert (counts - 200).abs().max() < 75  # 5 standard deviations


def test_a_roll_is_a_circle():
    feature, key = torch.randn(50, STEPS, 3), torch.arange(50)
    position = torch.arange(STEPS).float().expand(50, STEPS)[..., None]
    shift = (-method.rolled(position, key, 15)[:, 0, 0]).long()
    for clip, rolled in enumerate(method.rolled(feature, key, 15)):
        assert torch.equal(rolled, feature[clip].roll(int(shift[clip]), 0))


@pytest.mark.parametrize(("training", "roll"), [(False, 15), (True, 0)])
def test_features_are_as_they_are_when_measured_or_without_augmentation(training, roll):
    stage, batch = uavm_train(roll=roll).train(training), uavm_batch()
    for modality, key in (("a", "audio_feat"), ("v", "video_feat")):
        assert torch.equal(stage.features(batch, modality), prepare(batch[key], STEPS))


def test_features_have_length_1_before_they_are_mixed():
    batch = uavm_batch(8)
    loud = {**batch, "audio_feat": batch["audio_feat"] * torch.linspace(1, 50, 8)[:, None, None]}
    stage = uavm_train().train()
    loud, batch = (with_partners(clips, [0, 1, 2], [5, 6, 7], [0.5, 0.4, 0.6]) for clips in (loud, batch))
    feature = stage.features(loud, "a")
    assert torch.allclose(feature, stage.features(batch, "a"), atol=1e-6)
    assert (feature.norm(dim=2) < 0.999).any()  # not so after it


# --- both together ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["unified", "independent"])
def test_both_together_are_measured_by_the_mean_of_their_logits(fusion):
    batch = uavm_batch()
    stages = {m: uavm_train(m, model={"fusion": fusion}).eval() for m in ("a", "v", "av")}
    logits = {}
    for modality, stage in stages.items():
        stage.load_parent(stages["av"].state_dict())
        unseen = {"a": ["video_feat"], "v": ["audio_feat"], "av": []}[modality]
        outputs = stage.predict_step(without(batch, *unseen), 0)["logits"]
        assert outputs.keys() == {modality}
        logits |= outputs
    assert not torch.allclose(logits["a"], logits["v"], atol=1e-2)
    assert torch.allclose(logits["av"], (logits["a"] + logits["v"]) / 2, atol=1e-6)


def test_cross_modality_attention_sees_and_trains_both_in_every_step():
    for share in (0.0, 1.0):  # there is no coin
        stage, batch = uavm_train(audio_share=share, model={"fusion": "cross_attention"}), uavm_batch()
        loss = stage.training_step(batch, 0)
        loss.backward()
        assert all(moved(stage).values())
        for key in ("audio_feat", "video_feat"):
            other = stage.training_step({**batch, key: batch[key].flip(0)}, 0)
            assert abs(other.item() - loss.item()) > 1e-4
    logits = stage.eval().predict_step(batch, 0)["logits"]
    assert logits.keys() == {"av"}
    assert torch.equal(logits["av"], stage.net.joint(stage.features(batch, "a"), stage.features(batch, "v")))


@pytest.mark.parametrize("wrong", ["a", "v"])
def test_features_of_another_length_than_the_network_s_are_told(wrong):
    features = {"a": (STEPS, FEATURES), "v": (STEPS, FEATURES)} | {wrong: (STEPS, FEATURES + 1)}
    with pytest.raises(ValueError, match=f"features of {wrong} have {FEATURES + 1} numbers.*model.feature_dim"):
        Train(uavm_spec(method.TrainOptions(), features=features))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("fusion", ["unified", "independent", "cross_attention"])
def test_every_variant_learns(fusion, multilabel):
    stage = uavm_train(multilabel=multilabel, model={"fusion": fusion}, audio_share=1.0, label_smoothing=0.0)
    first, last = falling(stage, uavm_batch(8, multilabel=multilabel), 30)
    assert last < 0.5 * first


# --- extraction ---------------------------------------------------------------------------------------------------


def extractor(options, modality, stage_class):
    small = ConvNeXtConfig(size="tiny_cpu", widths=[8, 12, 16])
    inputs = Inputs(AudioInputs(frames=96, mel_bins=32), VideoInputs(frames=3, size=32))
    torch.manual_seed(0)
    return stage_class(spec(UAVMConfig(extractor=small, feature_dim=16), options, inputs, modality, False))


@pytest.mark.parametrize(("modality", "shape"), [("a", (2, 1, 96, 32)), ("v", (2, 3, 3, 32, 32))])
def test_what_is_extracted_is_what_the_trained_extractor_sees_before_its_classifier(modality, shape):
    key = {"a": "audio", "v": "video"}[modality]
    batch = {"clip_id": ["", ""], "key": torch.arange(2), key: torch.randn(shape), "label": torch.eye(2, CLASSES)}
    learned = extractor(method.TrainExtractorOptions(), modality, TrainExtractor)
    first, last = falling(learned, batch, 20)
    assert last < 0.8 * first

    writer = extractor(ExtractOptions(), modality, Extract)
    writer.load_parent(learned.state_dict())
    assert not any(p.requires_grad for p in writer.parameters()) and not hasattr(writer.net, "head")
    feature_BTD = writer.eval().predict_step(batch, 0)["features"]
    assert feature_BTD.shape == (2, 3, 16)
    logits = learned.eval().predict_step(batch, 0)["logits"][modality]
    assert torch.allclose(learned.net.head(feature_BTD.mean(dim=1)), logits, atol=1e-5)


# --- alignment comes from sharing alone ---------------------------------------------------------------------------


def retriever(layer=6, **model):
    torch.manual_seed(3)
    return Retrieve(uavm_spec(RetrieveOptions(layer=layer), model=model)).eval()


def test_clips_are_compared_by_the_time_mean_after_the_sixth_block():
    stage, batch, after = retriever(specific_depth=3, shared_depth=3), uavm_batch(), []
    stage.net.shared["av"].blocks[-1].register_forward_hook(lambda *call: after.append(call[2]))
    embedding = stage.predict_step(batch, 0)["embedding"]
    assert embedding.keys() == {"a", "v"} and len(after) == 2
    for found, hidden_BTD in zip((embedding["a"], embedding["v"]), after, strict=True):
        assert torch.equal(found, hidden_BTD.mean(dim=1))
    assert RetrieveOptions().layer == 6


def test_clips_can_be_compared_after_other_layers_and_by_their_logits():
    logits = retriever(layer=3)
    net, batch = logits.net, uavm_batch()
    specific = net.specific["v"](logits.features(batch, "v"))
    assert torch.equal(retriever(layer=1).predict_step(batch, 0)["embedding"]["v"], specific[1].mean(dim=1))
    assert torch.equal(logits.predict_step(batch, 0)["embedding"]["v"], net(logits.features(batch, "v"), "v"))
    with pytest.raises(ValueError, match="layer 9"):
        retriever(layer=9).predict_step(batch, 0)


KINDS, OF_A_KIND = 20, 5


def pairs(seed: int):
    """Clips whose sound and picture tell their class, each in its own way, and nothing else of each other."""
    prototypes = torch.randn(2, KINDS, 1, FEATURES, generator=torch.Generator().manual_seed(99))
    kind = torch.arange(KINDS).repeat_interleave(OF_A_KIND)
    noise = torch.randn(2, len(kind), STEPS, FEATURES, generator=torch.Generator().manual_seed(seed))
    audio, video = prototypes[:, kind] + 0.7 * noise
    label = torch.nn.functional.one_hot(kind).float()
    return {
        "clip_id": [""] * len(kind), "key": torch.arange(len(kind)), "audio_feat": audio, "video_feat": video,
        "label": label,
    }  # fmt: skip


def recall_at_5(stage: Train) -> float:
    """Sound -> its own clip's picture, by cosine after the last block, of clips that were not trained on."""
    fusion = stage.spec.model.fusion
    measured = Retrieve(uavm_spec(RetrieveOptions(layer=2), model={"fusion": fusion}, num_classes=KINDS)).eval()
    measured.load_parent(stage.state_dict())
    with torch.no_grad():
        embedding = measured.predict_step(pairs(-1), 0)["embedding"]
    audio, video = (torch.nn.functional.normalize(embedding[m], dim=1) for m in "av")
    best = (audio @ video.T).topk(5).indices
    return (best == torch.arange(len(audio))[:, None]).any(dim=1).float().mean().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_any_loss_that_aligns_them_shared_layers_find_the_picture_of_a_sound(seed):
    """Clips of a class cannot be told apart, so that a wholly aligned model finds about all and chance is 5 in 100."""
    found = {}
    for fusion in ("unified", "independent"):
        torch.manual_seed(seed)
        options = method.TrainOptions(roll=0)
        stage = Train(uavm_spec(options, model={"fusion": fusion}, num_classes=KINDS, seed=seed))
        optimizer = torch.optim.Adam(stage.parameters(), 3e-3)
        for step in range(100):
            batch = pairs(step)
            modality = stage.modality_of_step(step)
            loss = classification_loss(stage.logits(batch, modality), batch["label"], False)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[fusion] = recall_at_5(stage)
    assert found["unified"] > 0.6 and found["independent"] < 0.3
