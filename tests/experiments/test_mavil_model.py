from __future__ import annotations

import pytest
import torch

from datamodules.types import AudioInputs, Inputs, VideoInputs
from experiments.common.networks.patches import patchify
from experiments.common.stage import StageSpec
from experiments.mavil.downstream import Finetune, FinetuneOptions
from experiments.mavil.method import Distill, DistillOptions, Pretrain, RawOptions
from experiments.mavil.model import AudioEncoder, MAViLConfig, Trunk, VideoEncoder
from tests.experiments.mavil_tiny import finetune, pretrain, random_batch, tiny_config


def millions(module, positions=()):
    """Parameters, and the fixed position tables that the recorded figures count in, in millions."""
    return (sum(p.numel() for p in module.parameters()) + sum(t.numel() for t in positions)) / 1e6


@pytest.fixture
def meta():
    with torch.device("meta"):
        yield


def test_parameter_counts_of_the_paper_are_those_of_the_authors_class(meta):
    trunk = Trunk(MAViLConfig(), Inputs())
    assert millions(trunk.audio.blocks) == pytest.approx(85.05, abs=0.01)
    assert millions(trunk.video.blocks) == pytest.approx(85.05, abs=0.01)
    assert millions(trunk.audio.patch_embed) == pytest.approx(0.197, abs=0.001)
    assert millions(trunk.video.patch_embed) == pytest.approx(1.180, abs=0.001)
    assert [round(millions(block), 2) for block in trunk.fusion.blocks] == [7.09, 7.09]
    tables = (trunk.audio.positions, trunk.video.positions)
    assert millions(trunk, tables) == pytest.approx(186.66, abs=0.005)

    spec = StageSpec(MAViLConfig(), FinetuneOptions(), num_classes=527, multilabel=True)
    assert millions(Finetune(spec), tables) == pytest.approx(194.56, abs=0.005)


def test_paper_stages_build_with_the_paper_s_shapes(meta):
    stage = Pretrain(StageSpec(MAViLConfig(), RawOptions()))
    assert (stage.trunk.audio.length, stage.trunk.video.length) == (512, 784)
    assert (stage.audio_decoder.predict.out_features, stage.video_decoder.predict.out_features) == (256, 1536)
    student = Distill(StageSpec(MAViLConfig(), DistillOptions()))
    assert student.audio_decoder.predict.out_features == student.video_decoder.predict.out_features == 768


@pytest.mark.parametrize(
    ("frames", "clip_frames", "size", "patches"),
    [(512, 8, 96, (256, 144)), (128, 2, 32, (64, 4)), (48, 6, 112, (24, 147)), (1024, 16, 16, (512, 8))],
)
def test_other_input_sizes_train(frames, clip_frames, size, patches):
    inputs = Inputs(AudioInputs(frames=frames), VideoInputs(frames=clip_frames, size=size))
    stage = pretrain(tiny_config(depth=1, fusion_depth=1), inputs)
    assert (stage.trunk.audio.length, stage.trunk.video.length) == patches
    assert stage.losses(random_batch(2, inputs))["loss"].isfinite()


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (Inputs(AudioInputs(frames=100)), "audio.frames"),
        (Inputs(AudioInputs(mel_bins=40)), "audio.mel_bins"),
        (Inputs(video=VideoInputs(frames=3)), "video.frames"),
        (Inputs(video=VideoInputs(size=100)), "video.size"),
        (Inputs(video=None), "data.inputs.video is null"),
    ],
)
def test_inputs_that_do_not_divide_into_patches_are_named(inputs, name):
    with pytest.raises(ValueError, match=name):
        Trunk(tiny_config(), inputs)


def test_channels_that_the_position_tables_cannot_divide_are_an_error():
    with pytest.raises(ValueError, match="multiple of 16"):
        Trunk(tiny_config(dim=40), Inputs())


def test_unknown_modality_is_an_error():
    with pytest.raises(ValueError, match="avt"):
        finetune("avt")


def test_patchify_has_the_order_of_the_tokens():
    audio, video = torch.randn(2, 1, 64, 32), torch.randn(2, 3, 4, 48, 32)
    patches = patchify(audio, (16, 16))
    assert patches.shape == (2, 8, 256)
    assert torch.equal(patches[1, 5].view(16, 16), audio[1, 0, 32:48, 16:32])  # patch 5 = row 2, column 1
    patches = patchify(video, (2, 16, 16))
    assert patches.shape == (2, 12, 1536)
    expected = video[0, :, 2:4, 16:32, 16:32].movedim(0, -1)  # patch 9 = time 1, row 1, column 1
    assert torch.equal(patches[0, 9].view(2, 16, 16, 3), expected)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_token_i_is_embedded_from_patch_i_alone(modality):
    if modality == "audio":
        encoder, x, patch = AudioEncoder(tiny_config(), AudioInputs(frames=64)), torch.randn(1, 1, 64, 128), (16, 16)
    else:
        video = VideoInputs(frames=4, size=48)
        encoder, x, patch = VideoEncoder(tiny_config(), video), torch.randn(1, 3, 4, 48, 48), (2, 16, 16)
    x.requires_grad_()
    for token in (0, 7, encoder.length - 1):
        (gradient,) = torch.autograd.grad(encoder.embed(x)[0, token].sum(), x)
        touched = patchify(gradient, patch)[0].abs().sum(1) > 0
        assert touched.nonzero().flatten().tolist() == [token]


def test_encoder_output_follows_the_order_of_the_visible_places():
    encoder = AudioEncoder(tiny_config(), AudioInputs(frames=64)).eval()
    patches = encoder.embed(torch.randn(1, 1, 64, 128))
    keep = torch.tensor([[3, 9, 17]])
    forward, backward = encoder.encode(patches, keep), encoder.encode(patches, keep.flip(1))
    assert torch.allclose(forward[:, 1:], backward[:, 1:].flip(1), atol=1e-5)
    assert torch.allclose(forward[:, 0], backward[:, 0], atol=1e-5)


def test_decoder_puts_visible_tokens_back_in_their_places():
    """Without blocks a prediction depends on its own place alone: on the token there, or on the mask token."""
    stage = pretrain(tiny_config(decoder_depth=0))
    decoder, tokens = stage.audio_decoder, torch.randn(1, 4, 32)
    keep = torch.tensor([[40, 2, 9]])
    before = decoder(tokens, keep)
    tokens[0, 2] += 1.0
    changed = (decoder(tokens, keep) != before).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [2]
    shuffled = decoder(tokens[:, [0, 3, 1, 2]], keep[:, [2, 0, 1]])
    assert torch.allclose(shuffled, decoder(tokens, keep), atol=1e-6)


def test_tiled_positions_tell_no_time_and_transposed_ones_differ():
    tiled = VideoEncoder(tiny_config(video_positions="tiled"), VideoInputs(frames=4, size=64)).positions
    assert torch.equal(tiled[1:17], tiled[17:])
    plain = AudioEncoder(tiny_config(), AudioInputs()).positions
    transposed = AudioEncoder(tiny_config(audio_positions="2d_transposed"), AudioInputs()).positions
    assert plain.shape == transposed.shape and not torch.allclose(plain, transposed)
    assert torch.equal(plain[1 + 8], transposed[1 + 64])  # (row 1, column 0) of 64 x 8 and of 8 x 64
