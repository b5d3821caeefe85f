"""What no code was published of, written out as the paper has it: MAViL's objectives; and what else is its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from datamodules.base import Features
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.samplers import EVALUATION, ClipRef
from datamodules.manifest.build import build_manifest
from datamodules.manifest.checks import Checks
from datamodules.types import AudioInputs, Batch, Inputs, VideoInputs
from datamodules.vggsound import VGGSound
from experiments.common.stages.svm import SVMOptions
from experiments.mavil.downstream import SVM, Retrieve, RetrieveOptions
from experiments.mavil.method import Distill, DistillOptions
from experiments.mavil.model import Decoder, Trunk, audio_positions, video_positions
from tests.experiments.mavil_tiny import distill, finetune, pretrain, random_batch, spec, tiny_config
from tests.experiments.recorded import mavil as recorded

REAL, CLIPS = Path(__file__).parents[3] / "shared" / "data" / "VGGSound", recorded.GOLDEN["real_clips"]["clips"]

# --- stage 1 ------------------------------------------------------------------------------------------------------


def patches(batch, normalised: bool) -> list[Tensor]:
    """[B, L, P] of sound and of pictures, in the order of the encoders' tokens (`recorded/mavil.py`)."""
    video = batch["video"].unflatten(4, (-1, 16)).unflatten(3, (-1, 16)).unflatten(2, (-1, 2))
    video = video.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)  # of [B, 3, t, 2, h, 16, w, 16]
    raw = [F.unfold(batch["audio"], 16, stride=16).mT, video]
    return [(x - x.mean(2, True)) / (x.var(2, keepdim=True) + 1e-6).sqrt() for x in raw] if normalised else raw


def decoded(decoder: Decoder, tokens: Tensor, keep: Tensor) -> Tensor:
    """A ViT over the visible tokens in their places and mask tokens in all others."""
    tokens = decoder.embed(decoder.norm_in(tokens))
    whole = decoder.mask_token.repeat(len(tokens), len(decoder.positions), 1)
    for clip, places in enumerate(keep):
        whole[clip, [0, *(1 + places)]] = tokens[clip]
    return decoder.predict(decoder.norm(decoder.blocks(whole + decoder.positions)))[:, 1:]


def contrast(x: Tensor, y: Tensor) -> Tensor:
    """InfoNCE in both directions, of temperature 0.1."""
    similarity, own = F.cosine_similarity(x[:, None], y, dim=2) / 0.1, torch.arange(len(x))
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"use_inter": False}, {"use_intra": False, "norm_pix": False}], ids=str)
def test_the_objective_is_the_papers(changes):
    """Masked patches are predicted from fused tokens; what is contrasted is from before the fusion, and without CLS."""
    stage, batch = pretrain(alpha=0.3, beta=0.07, **changes), random_batch()
    batch["audio"][0, :, :16, :16] = 3.0  # silence has nothing to be divided by
    masks = [stage.masking(batch, view) for view in (1, 2)]
    views = [
        (stage.trunk.audio(batch["audio"], audio.keep_BK), stage.trunk.video(batch["video"], video.keep_BK))
        for audio, video in masks
    ]
    (a, v), (a2, v2) = ([tokens[:, 1:].mean(1) for tokens in view] for view in views)
    terms = {"inter": contrast(a, v), "intra": (contrast(a, a2) + contrast(v, v2)) / 2}
    terms = {name: value for name, value in terms.items() if changes.get(f"use_{name}", True)}

    fused, targets = stage.trunk.fusion(*views[0]), patches(batch, changes.get("norm_pix", True))
    for i, name in enumerate(("audio", "video")):
        prediction = decoded(stage.get_submodule(f"{name}_decoder"), fused[i], masks[0][i].keep_BK)
        terms[name] = (prediction - targets[i])[masks[0][i].masked_BL].square().mean()
    weights = {"audio": 1.0, "video": 1.0, "inter": 0.3, "intra": 0.07}
    terms["loss"] = sum(weights[name] * value for name, value in terms.items())
    torch.testing.assert_close(stage.losses(batch), terms, rtol=1e-5, atol=1e-5)


def test_a_fifth_of_the_patches_is_seen_and_masks_of_views_modalities_clips_and_epochs_differ():
    stage, batch = pretrain(), random_batch()
    batches = batch, {**batch, "key": batch["key"] + 77}
    masks = [stage.masking(each, view) for each in batches for view in (1, 2)]
    audio, video = (torch.cat([mask[i].masked_BL for mask in masks]) for i in (0, 1))
    assert (~audio).sum(1).tolist() == [12] * 16 and (~video).sum(1).tolist() == [6] * 16
    assert len(audio.unique(dim=0)) == len(video.unique(dim=0)) == 16
    assert not (audio[:, :32] == video).all(1).any()


@pytest.mark.parametrize("depth", [0, 2])
def test_gradients_cross_the_modalities_only_through_fusion_blocks(depth):
    stage = pretrain(tiny_config(fusion_depth=depth))
    terms = stage.losses(random_batch())
    for term, other in (("audio", stage.trunk.video), ("video", stage.trunk.audio)):
        gradients = torch.autograd.grad(terms[term], list(other.parameters()), retain_graph=True, allow_unused=True)
        assert {g is not None and g.any().item() for g in gradients} == {depth > 0}


# --- stage 2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [pretrain, distill])
@pytest.mark.parametrize(
    ("target", "norm_target", "student_init"),
    [("fused_teacher", True, "random"), ("fused_teacher", False, "teacher"), ("uni_teacher", True, "random")],
)
def test_targets_are_tokens_of_the_complete_pair_by_the_stage_before(before, target, norm_target, student_init):
    teacher, batch = before(), random_batch()
    nn.init.normal_(teacher.trunk.audio.cls_token)
    stage = Distill(spec(DistillOptions(target=target, norm_target=norm_target, student_init=student_init)))
    with pytest.raises(RuntimeError, match="needs a teacher"):
        stage.targets(batch)
    stage.load_parent(teacher.state_dict())
    tokens = teacher.trunk.audio(batch["audio"]), teacher.trunk.video(batch["video"])
    tokens = teacher.trunk.fusion(*tokens) if target == "fused_teacher" else tokens
    for ours, theirs in zip(stage.targets(batch), tokens, strict=True):
        scale = (theirs.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        expected = (theirs - theirs.mean(2, keepdim=True)) / scale if norm_target else theirs
        torch.testing.assert_close(ours, expected[:, 1:].detach())
    copied = torch.equal(stage.trunk.audio.cls_token, teacher.trunk.audio.cls_token)
    assert copied == (student_init == "teacher")


# --- fine-tuning and retrieval ------------------------------------------------------------------------------------


def test_fine_tuning_starts_with_a_head_of_almost_zero_and_drops_paths_of_sound_alone():
    stage = finetune("av", tiny_config(depth=3), drop_path=0.1)
    assert stage.head.weight.std().item() == pytest.approx(2e-5, rel=0.15) and not stage.head.bias.any()
    rates = {name[:20]: module.drop_prob for name, module in stage.named_modules() if isinstance(module, DropPath)}
    assert rates == pytest.approx({"trunk.audio.blocks.1": 0.05, "trunk.audio.blocks.2": 0.1})


def test_fusion_blocks_learn_as_fast_as_the_head_where_asked():
    stage = finetune("av", layer_decay_fusion="top")
    assert {stage.layer_of(name) for name, _ in stage.named_parameters() if "fusion" in name} == {(3, 3)}


def test_retrieval_compares_the_mean_tokens_of_the_unimodal_encoders():
    parent, batch, stage = finetune("av"), random_batch(), Retrieve(spec(RetrieveOptions()))
    nn.init.normal_(parent.trunk.video.cls_token)
    stage.load_parent(parent.state_dict())
    embedding = stage.predict_step(batch, 0)["embedding"]
    torch.testing.assert_close(embedding["a"], parent.trunk.audio(batch["audio"])[:, 1:].mean(1))
    torch.testing.assert_close(embedding["v"], parent.trunk.video(batch["video"])[:, 1:].mean(1))


@pytest.mark.parametrize("modality", ["a", "v", "av"])
@pytest.mark.parametrize("parent", [pretrain, partial(finetune, "av")], ids=["pretrained", "fine-tuned"])
def test_an_svm_is_given_the_mean_tokens_of_the_encoders_it_starts_from(parent, modality: str):
    before, batch = parent(), random_batch()
    stage = SVM(spec(SVMOptions(), modality=modality)).train()
    stage.load_parent(before.state_dict())
    encoders = {"a": before.trunk.audio, "v": before.trunk.video}
    key = {"a": "audio", "v": "video"}
    with torch.no_grad():
        expected = torch.cat([encoders[each].eval()(batch[key[each]])[:, 1:].mean(1) for each in modality], dim=1)
        torch.testing.assert_close(stage.embed(batch), expected)
    without = {name: value for name, value in before.state_dict().items() if not name.endswith("blocks.0.norm1.bias")}
    with pytest.raises(ValueError, match="blocks.0.norm1.bias: missing"):
        stage.load_parent(without)


# --- settings -----------------------------------------------------------------------------------------------------


def test_tiled_positions_tell_no_time_and_transposed_ones_are_of_a_grid_of_mel_by_time():
    tiled = video_positions(tiny_config(video_positions="tiled"), 32, (2, 4, 4))
    assert torch.equal(tiled[1:17], tiled[17:]) and len(tiled[1:17].unique(dim=0)) == 16
    transposed = audio_positions(tiny_config(audio_positions="2d_transposed"), 32, (64, 8))
    assert torch.equal(transposed, audio_positions(tiny_config(), 32, (8, 64)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trunk(tiny_config(), Inputs(AudioInputs(frames=100))), "audio.frames must be a multiple"),
        (lambda: Trunk(tiny_config(), Inputs(AudioInputs(mel_bins=40))), "audio.mel_bins must be a multiple"),
        (lambda: Trunk(tiny_config(), Inputs(video=VideoInputs(frames=3))), "video.frames must be a multiple"),
        (lambda: Trunk(tiny_config(), Inputs(video=VideoInputs(size=100))), "video.size must be a multiple"),
        (lambda: Trunk(tiny_config(), Inputs(video=None)), "data.inputs.video is null"),
        (lambda: Trunk(tiny_config(dim=40), Inputs()), "multiple of 16"),
        (lambda: finetune("avt"), "a, v or av, not avt"),
        (lambda: finetune("a", label_smoothing=0.1), "label_smoothing is for classification"),
    ],
)
def test_what_has_no_meaning_is_an_error_that_names_it(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- real files and recipes ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """The nine clips as `evaluate_vggsound_av` reads them."""
    if not REAL.is_dir():
        pytest.skip("the real clips of VGGSound are not here")
    data = recorded.paper()["evaluate_vggsound_av"].data
    manifest = build_manifest(VGGSound(REAL), ("test",), data.inputs, Checks(tmp_path_factory.mktemp("checks")))
    assert set(manifest.table["clip_id"]) == set(CLIPS)
    clips = ClipDataset(manifest, data, seed=0)
    raw = collate([clips[ClipRef(index, EVALUATION)] for index in range(len(clips))])
    return Features(data.inputs, data.augment)(raw, train=False)


@torch.no_grad()
@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_logits_of_real_files_are_those_of_the_authors_class_but_for_the_picture_scaler(real_batch, modality):
    """Theirs is torchvision's bilinear `Resize` with antialiasing, ours swscale's bicubic, and the README says what
    that does to logits; the golden numbers have both."""
    ours = recorded.stage(modality).logits(real_batch)[:, ::31]

    def largest_difference(kind: str) -> float:
        theirs = torch.tensor([CLIPS[clip][kind] for clip in real_batch["clip_id"]])
        return (ours - theirs).abs().max().item()

    assert largest_difference("a" if modality == "a" else f"{modality}_swscale") < 1e-4
    assert modality == "a" or 0.063 < largest_difference(modality) < 0.07


def test_stages_with_the_same_script_have_the_same_schedule():
    """What `recorded/mavil.py` compares holds for every stage that trains the network, but for VGGSound's, whose recipe
    is unknown."""
    known = [
        (stage.optim, stage.batch_size, stage.epochs)
        for stage in map(recorded.paper().get, recorded.SCHEDULES["rates"])
    ]
    trained = {name: each for name, each in recorded.paper().items() if each.train and "vggsound" not in name}
    others = [stage for stage in trained.values() if not stage.objects.stage_class.frozen]
    assert all((stage.optim, stage.batch_size, stage.epochs) in known for stage in others)


@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_audioset_2m_is_drawn_as_argparse_reads_the_published_flags(modality):
    """`--replacement False` of `type=bool` (AudioMAE `submit_ft_mask_bal.sh`, `main_finetune_as.py`)."""
    loader = recorded.paper()[f"finetune_audioset2m_{modality}"].data.loader
    assert (loader.weighted_draws, loader.weighted_replacement) == (200_000, bool("False"))
