from __future__ import annotations

import pytest
import torch

from experiments.uavm.extractor import AudioConvNeXt, ConvNeXtConfig, VideoConvNeXt
from experiments.uavm.model import UAVM, UAVMConfig, prepare

CLASSES = 309


def tiny(fusion="unified", **changes):
    """A small network with its positions and biases moved from where they start."""
    sizes = {"dim": 32, "shared_dim": 24, "specific_depth": 2, "shared_depth": 2, "steps": 6, "feature_dim": 20}
    model = UAVM(UAVMConfig(fusion=fusion, **{**sizes, **changes}), 5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def features(seed, dim=20):
    return torch.randn(3, 6, dim, generator=torch.Generator().manual_seed(seed))


AUDIO, VIDEO, OTHER = features(1), features(2), features(3)


# --- one modality at a time ---------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["unified", "independent"])
def test_logits_of_sound_are_bitwise_the_same_whatever_becomes_of_the_picture_s_layers(fusion):
    model = tiny(fusion)
    sound, picture = model(AUDIO, "a"), model(VIDEO, "v")
    for parameter in model.specific["v"].parameters():
        parameter.add_(1.0)
    assert not torch.equal(model(VIDEO, "v"), picture)
    assert torch.equal(model(AUDIO, "a"), sound)


@pytest.mark.parametrize(("modality", "other"), [("a", "v"), ("v", "a")])
def test_a_step_of_one_modality_trains_its_own_layers_and_the_shared_ones(modality, other):
    model = tiny()
    model(AUDIO, modality).square().sum().backward()
    assert all(parameter.grad is None for parameter in model.specific[other].parameters())
    for part in (model.specific[modality], model.shared, model.head):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())


def test_a_step_of_one_modality_leaves_the_other_of_the_independent_model_alone():
    model = tiny("independent")
    model(AUDIO, "a").square().sum().backward()
    for part in (model.specific, model.shared, model.head):
        assert all(parameter.grad is None for parameter in part["v"].parameters())
        assert all(parameter.grad.abs().sum() > 0 for parameter in part["a"].parameters())


# --- the same last layers, or not ---------------------------------------------------------------------------------


def trained_by(model, modality):
    """The very parameters that a step of `modality` trains, but for its specific layers."""
    model.zero_grad(set_to_none=True)
    model(AUDIO, modality).sum().backward()
    return {id(p) for part in (model.shared, model.head) for p in part.parameters() if p.grad is not None}


def test_both_modalities_train_the_very_same_last_layers_and_classifier():
    model = tiny()
    both = {id(parameter) for part in (model.shared, model.head) for parameter in part.parameters()}
    assert trained_by(model, "a") == trained_by(model, "v") == both


@pytest.mark.parametrize(("fusion", "shared_depth"), [("independent", 2), ("independent", 0), ("unified", 0)])
def test_modality_independent_models_share_nothing(fusion, shared_depth):
    model = tiny(fusion, shared_depth=shared_depth)
    a, v = trained_by(model, "a"), trained_by(model, "v")
    assert a and v and not a & v


@torch.no_grad()
def test_equal_features_give_equal_logits_once_the_projections_are_tied():
    unified, independent = tiny(specific_depth=0), tiny("independent", specific_depth=0)
    for model in (unified, independent):
        assert not torch.equal(model(AUDIO, "a"), model(AUDIO, "v"))
        model.specific["v"].load_state_dict(model.specific["a"].state_dict())
    assert torch.equal(unified(AUDIO, "a"), unified(AUDIO, "v"))
    assert not torch.equal(independent(AUDIO, "a"), independent(AUDIO, "v"))


# --- both modalities ----------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["unified", "independent"])
def test_both_modalities_together_are_the_mean_of_their_logits(fusion):
    model = tiny(fusion)
    torch.testing.assert_close(model.joint(AUDIO, VIDEO), torch.stack([model(AUDIO, "a"), model(VIDEO, "v")]).mean(0))


@torch.no_grad()
def test_in_cross_modality_attention_every_token_sees_the_other_modality():
    model, seen = tiny("cross_attention"), []
    model.shared["av"].blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    for video in (VIDEO, OTHER):
        model.joint(AUDIO, video)
    assert seen[0].shape == (3, 12, 24)
    assert ((seen[0] - seen[1]).abs().amax(dim=2) > 1e-4).all()  # the sound's tokens too, which come first


def test_cross_modality_attention_has_nothing_to_say_of_one_modality():
    model = tiny("cross_attention")
    with pytest.raises(ValueError, match="joint"):
        model(AUDIO, "a")
    assert model.representation(AUDIO, "a", 2).shape == (3, 32)
    with pytest.raises(ValueError, match="layers 0 to 2"):
        model.representation(AUDIO, "a", 3)
    with pytest.raises(ValueError, match="shared_depth"):
        tiny("cross_attention", shared_depth=0)


# --- layers -------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    ("specific_depth", "shared_depth", "widths"),
    [(2, 2, [32, 32, 32, 24, 24]), (0, 4, [24] * 5), (4, 0, [32] * 5), (0, 0, [32])],
)
def test_every_layer_can_be_read_and_the_one_after_the_last_is_the_logits(specific_depth, shared_depth, widths):
    model = tiny(specific_depth=specific_depth, shared_depth=shared_depth)
    for modality in ("a", "v"):
        read = [model.representation(AUDIO, modality, layer) for layer in range(model.depth + 1)]
        assert [x.shape for x in read] == [(3, width) for width in widths]
        logits = model(AUDIO, modality)
        assert torch.equal(model.representation(AUDIO, modality, model.depth + 1), logits)
        owner = "av" if shared_depth else modality
        torch.testing.assert_close(model.head[owner](read[-1]), logits)
    for layer in (-1, model.depth + 2):
        with pytest.raises(ValueError, match=f"layer {layer}"):
            model.representation(AUDIO, "a", layer)


def test_features_are_cut_or_padded_to_the_steps_and_every_step_gets_length_1():
    feature = 3 * features(5)
    longer, shorter = prepare(feature, 4), prepare(feature, 9)
    torch.testing.assert_close(longer, feature[:, :4] / feature[:, :4].norm(dim=2, keepdim=True))
    torch.testing.assert_close(shorter[:, :6].norm(dim=2), torch.ones(3, 6))
    assert shorter.shape == (3, 9, 20) and (shorter[:, 6:] == 0).all()


def test_another_number_of_steps_than_the_network_s_is_an_error():
    with pytest.raises(ValueError, match=r"1 steps come in, but model\.steps has room for 6"):
        tiny()(AUDIO[:, :1], "a")  # would otherwise be broadcast


# --- sizes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def meta():
    with torch.device("meta"):
        yield


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def dead(config, classes):
    """What the official modules hold and never use: square `in_proj`, and a head on each specific tower."""
    unused = 0
    if config.specific_depth:
        unused += 2 * (2 * config.dim + config.dim * classes + classes)
        unused += 2 * (config.dim**2 + config.dim) * (config.feature_dim == config.dim)
    if config.shared_depth:
        towers = 2 if config.fusion == "independent" else 1
        unused += towers * (config.dim**2 + config.dim) * (config.dim == config.shared_dim)
    return unused


@pytest.mark.parametrize(
    ("changes", "classes", "official"),
    [
        ({}, 309, 117.54),
        ({"specific_depth": 0, "shared_depth": 6}, 309, 79.06),
        ({"specific_depth": 6, "shared_depth": 0}, 309, 154.56),
        ({"fusion": "independent"}, 309, 156.72),
        ({"fusion": "cross_attention"}, 309, 117.57),
        ({"shared_dim": 16}, 309, 78.40),
        ({"shared_dim": 128}, 309, 79.13),
        ({}, 527, 118.21),
        ({"specific_depth": 6, "shared_depth": 0}, 527, 155.45),
        ({"fusion": "independent"}, 527, 157.62),
        ({"fusion": "cross_attention"}, 527, 118.24),
    ],
)
def test_parameters_are_those_of_the_authors_classes_but_for_the_unused(meta, changes, classes, official):
    config = UAVMConfig(**changes)
    assert (count(UAVM(config, classes)) + dead(config, classes)) / 1e6 == pytest.approx(official, abs=0.005)


def test_the_unified_model_has_113_76_million_parameters_that_are_used(meta):
    assert count(UAVM(UAVMConfig(), CLASSES)) / 1e6 == pytest.approx(113.76, abs=0.005)


@pytest.mark.parametrize("widths", [{}, {"feature_dim": 32, "shared_dim": 32}])
@pytest.mark.parametrize(
    ("fusion", "depths"),
    [
        *((fusion, {}) for fusion in ("unified", "independent", "cross_attention")),
        *((fusion, {"specific_depth": 0}) for fusion in ("unified", "independent", "cross_attention")),
        *((fusion, {"shared_depth": 0}) for fusion in ("unified", "independent")),
    ],
)
def test_a_gradient_reaches_every_parameter(fusion, widths, depths):
    model = tiny(fusion, **widths, **depths)
    dim = model.config.feature_dim
    model.joint(features(1, dim), features(2, dim)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


# --- extractors ---------------------------------------------------------------------------------------------------


def test_the_sound_s_extractor_has_the_size_of_the_authors_class(meta):
    assert count(AudioConvNeXt(ConvNeXtConfig(), CLASSES)) / 1e6 == pytest.approx(87.88, abs=0.005)


@pytest.mark.parametrize(("size", "dim"), [("tiny", 768), ("small", 768), ("base", 1024), ("large", 1536)])
@pytest.mark.parametrize(("frames", "steps"), [(990, 30), (1000, 31)])
def test_990_frames_of_sound_are_30_steps_and_1000_are_31(meta, size, dim, frames, steps):
    extractor = AudioConvNeXt(ConvNeXtConfig(size), CLASSES)
    assert extractor.features(torch.empty(2, 1, frames, 128)).shape == (2, steps, dim)
    assert extractor(torch.empty(2, 1, frames, 128)).shape == (2, CLASSES)


@pytest.mark.parametrize(("frames", "steps"), [(990, 30), (1000, 31)])
def test_the_cpu_s_extractor_of_sound_counts_steps_alike(meta, frames, steps):
    extractor = AudioConvNeXt(ConvNeXtConfig("tiny_cpu"), 5)
    assert extractor.features(torch.empty(2, 1, frames, 128)).shape == (2, steps, 64)


@pytest.mark.parametrize("size", ["tiny", "tiny_cpu"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (224, 398)])
def test_a_frame_of_any_shape_is_a_step(meta, size, height, width):
    extractor = VideoConvNeXt(ConvNeXtConfig(size), 5)
    assert extractor.features(torch.empty(2, 3, 7, height, width)).shape == (2, 7, extractor.dim)
    assert extractor(torch.empty(2, 3, 7, height, width)).shape == (2, 5)


@torch.no_grad()
def test_a_step_of_sound_covers_its_own_time_and_all_mel_bins():
    torch.manual_seed(0)
    extractor = AudioConvNeXt(ConvNeXtConfig("tiny_cpu"), 5).eval()
    audio = torch.randn(1, 1, 320, 64)
    before = extractor.features(audio)
    audio[:, :, 256:288] += 1.0
    changed = (extractor.features(audio) - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed[8] and not changed[:7].any()  # a step sees a little of its neighbours, too
    audio = torch.randn(1, 1, 320, 64)
    before = extractor.features(audio)
    audio[:, :, :, -32:] += 1.0
    assert ((extractor.features(audio) - before).abs().amax(dim=(0, 2)) > 1e-6).all()


@torch.no_grad()
@pytest.mark.parametrize("size", ["tiny", "tiny_cpu"])
def test_frames_are_looked_at_one_by_one(size):
    torch.manual_seed(0)
    extractor = VideoConvNeXt(ConvNeXtConfig(size), 5).eval()
    video = torch.randn(2, 3, 3, 64, 96)
    together = extractor.features(video)
    for frame in range(3):
        torch.testing.assert_close(extractor.features(video[:, :, frame : frame + 1])[:, 0], together[:, frame])


@pytest.mark.parametrize("extractor_class", [AudioConvNeXt, VideoConvNeXt])
def test_the_classifier_trains_the_whole_extractor(extractor_class):
    torch.manual_seed(0)
    extractor = extractor_class(ConvNeXtConfig("tiny_cpu", widths=[8, 12], strides=[4, 2]), 5)
    x = torch.randn(4, 1, 80, 32) if extractor_class is AudioConvNeXt else torch.randn(4, 3, 2, 32, 32)
    assert extractor.features(x).shape == (4, 10 if extractor_class is AudioConvNeXt else 2, 12)
    extractor(x).square().sum().backward()
    assert all(parameter.grad.any() for parameter in extractor.parameters())


def test_as_many_strides_as_widths_are_needed():
    with pytest.raises(ValueError, match="3 widths but 2 strides"):
        AudioConvNeXt(ConvNeXtConfig("tiny_cpu", strides=[4, 4]), 5)
