"""Mix-up: who is mixed with whom, and how, on real media and against the loaders' own order of steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from scipy import stats

from datamodules import keyed
from datamodules.base import Features
from datamodules.features.extracted import ExtractedFeatures, FeatureWriter
from datamodules.loading.clips import ClipDataset
from datamodules.loading.loader import collate
from datamodules.loading.mixing import mixup, partner_of
from datamodules.loading.samplers import EVALUATION, ClipRef, TrainSampler
from datamodules.manifest.build import Manifest, build_manifest
from datamodules.manifest.checks import Checks
from datamodules.types import AudioInputs, AugmentConfig, DataConfig, Inputs, RawBatch, VideoInputs
from datamodules.vggsound import VGGSound

INPUTS = Inputs(AudioInputs(frames=128), VideoInputs(frames=2, fps=2.0, size=32, train_size=32))
TRANSFORMS = Features(INPUTS, AugmentConfig()).transforms


@pytest.fixture(scope="module")
def manifest(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("mixing")
    shutil.copytree(sample_root / "VGGSound", root / "VGGSound")
    return build_manifest(VGGSound(root / "VGGSound"), ["test"], INPUTS, Checks(root / "checks"))


def dataset(manifest: Manifest, mixup: float = 1.0, **fields) -> ClipDataset:
    config = DataConfig(inputs=fields.pop("inputs", INPUTS), augment=AugmentConfig(mixup=mixup))
    return ClipDataset(manifest, config, seed=0, **fields)


# --- with whom ----------------------------------------------------------------------------------------------------


def test_partners_are_as_likely_one_clip_as_another_on_class_balanced_draws_too():
    """Of 50 clips the sampler draws the first as often as all others together; the partners are all alike."""
    weights = np.r_[49.0, np.ones(49)]
    sampler = TrainSampler(50, 5, 40, seed=0, weights=weights, draws=2000, replacement=True)
    refs = [ref for batch in sampler for ref in batch]
    assert sum(ref.index == 0 for ref in refs) > len(refs) / 3
    keys = [keyed.stable_hash("clip", 0, ref.epoch, ref.index, ref.view) for ref in refs]
    partners = [partner_of(key, ref.epoch, 50, 1.0).index for key, ref in zip(keys, refs, strict=True)]
    assert stats.chisquare(np.bincount(partners, minlength=50)).pvalue > 1e-3
    assert (
        stats.chisquare(np.bincount([p for p, ref in zip(partners, refs, strict=True) if not ref.index])).pvalue > 1e-3
    )


def test_a_share_of_the_clips_has_a_partner_with_randomness_of_its_own():
    found = [partner_of(key, 3, 1000, 0.3) for key in range(4000)]
    partners = [partner for partner in found if partner is not None]
    assert stats.binomtest(len(partners), 4000, 0.3).pvalue > 1e-3
    assert {partner.epoch for partner in partners} == {3} and len({partner.key for partner in partners}) == len(
        partners
    )
    assert not any(partner_of(key, 3, 1000, 0.0) for key in range(100))


def test_the_partner_is_of_all_training_clips_and_does_not_depend_on_the_batch(manifest):
    """One clip a batch, as on many devices, and all of them in one."""
    clips = dataset(manifest)
    together = collate([clips[ClipRef(i, 0)] for i in range(8)])
    assert together["partner_place"].tolist() == list(range(8))
    outside = set(together["partner"]["clip_id"]) - set(together["clip_id"])
    assert outside, "partners are drawn from the batch alone"
    for place in range(8):
        alone = collate([clips[ClipRef(place, 0)]])
        assert alone["partner"]["clip_id"] == [together["partner"]["clip_id"][place]]
        assert torch.equal(mixup(alone, TRANSFORMS)["video"][0], mixup(together, TRANSFORMS)["video"][place])
    other_epoch = collate([clips[ClipRef(i, 1)] for i in range(8)])
    assert other_epoch["partner"]["clip_id"] != together["partner"]["clip_id"]


def test_nothing_is_mixed_in_evaluation(manifest):
    assert "partner" not in dataset(manifest)[ClipRef(0, EVALUATION)][0]


def test_a_partner_that_vanishes_is_replaced(manifest, tmp_path):
    clips = dataset(manifest)
    partner = clips[ClipRef(0, 0)][0]["partner"]["clip_id"]
    table = manifest.table.copy()
    row = int(np.flatnonzero(table["clip_id"] == partner)[0])
    table.loc[row, ["audio_path", "video_path"]] = str(tmp_path / "gone.mp4")
    without = dataset(Manifest(table, manifest.classes, manifest.multilabel, len(table)))
    after = table["clip_id"][(row + 1) % len(table)]
    assert without[ClipRef(0, 0)][0]["partner"]["clip_id"] == after


# --- how ----------------------------------------------------------------------------------------------------------


def batch_of_pairs(lengths: list[tuple[int, int]]) -> RawBatch:
    """Clips and partners of so many samples, in this order of places: the last clip's partner comes first."""
    generator = torch.Generator().manual_seed(3)

    def part(samples: list[int], first: int) -> RawBatch:
        sound = [0.1 * torch.randn(n, generator=generator) + 0.3 for n in samples]
        return RawBatch(
            clip_id=[f"clip{first + i}" for i in range(len(samples))],
            key=torch.arange(first, first + len(samples)),
            audio=torch.nn.utils.rnn.pad_sequence(sound, batch_first=True),
            audio_length=torch.tensor(samples),
            video=torch.randint(0, 256, (len(samples), 2, 8, 8, 3), dtype=torch.uint8, generator=generator),
            label=torch.eye(2 * len(lengths))[first : first + len(samples)],
        )

    raw = part([own for own, _ in lengths], 0)
    raw["partner"] = part([other for _, other in lengths][::-1], len(lengths))
    raw["partner_place"] = torch.arange(len(lengths)).flip(0)
    return raw


PAIRS = [(16000, 16000), (16000, 24000), (24000, 9000), (10000, 30000)]


@pytest.mark.parametrize(("own", "other"), PAIRS)
def test_a_pair_is_as_long_as_its_first_clip_and_its_log_mel_the_loaders(own, other):
    """AST's `_wav2fbank`: both lose their means, the second is cut or padded to the first, their mix loses its mean."""
    raw = batch_of_pairs([(own, other)])
    inputs = Inputs(AudioInputs(frames=256, mean=0.0, std=1.0, scale=1.0), None)
    share = mixup(raw, TRANSFORMS)["label"][0, 0]
    first, second = raw["audio"], raw["partner"]["audio"]
    first, second = first - first.mean(), second - second.mean()
    fitting = torch.zeros_like(first)
    fitting[:, : min(own, other)] = second[:, :own]
    mix = share * first + (1 - share) * fitting
    options = {"htk_compat": True, "window_type": "hanning", "num_mel_bins": 128, "dither": 0.0, "frame_shift": 10}
    official = torchaudio.compliance.kaldi.fbank(mix - mix.mean(), sample_frequency=16000, **options)
    batch = Features(inputs, AugmentConfig(mixup=1.0))(raw, train=True)
    assert batch["audio_length"].tolist() == [len(official)]
    torch.testing.assert_close(batch["audio"][0, 0, : len(official)], official, rtol=0, atol=2e-3)
    assert not batch["audio"][0, 0, len(official) :].any()


def test_sound_pictures_and_labels_are_mixed_with_the_same_lambda_and_others_stay():
    raw = batch_of_pairs(PAIRS)
    raw["partner"] = {name: value[1:] for name, value in raw["partner"].items()}
    raw["partner_place"] = raw["partner_place"][1:]  # the last clip has no partner
    out = mixup(raw, TRANSFORMS)
    for name in ("audio", "video", "label"):
        assert torch.equal(out[name][3], raw[name][3])
    for place, row in zip(raw["partner_place"].tolist(), range(3), strict=True):
        weight = out["label"][place].max(), out["label"][place].sum()
        share = out["label"][place, place]
        assert weight[1] == pytest.approx(1.0) and 0 < share < 1
        pictures = share * raw["video"][place].float() + (1 - share) * raw["partner"]["video"][row].float()
        assert (out["video"][place].float() - pictures).abs().max() <= 0.501
    assert out["video"].dtype == torch.uint8 and torch.equal(out["audio_length"], raw["audio_length"])
    assert "partner" not in out and "partner_place" not in out


def test_lambda_is_of_beta_10_10():
    raw = {"key": torch.arange(1500), "label": torch.zeros(1500, 1)}
    raw |= {"partner": {"label": torch.ones(1500, 1)}, "partner_place": torch.arange(1500)}
    assert stats.kstest(mixup(raw, {})["label"][:, 0].numpy(), stats.beta(10, 10).cdf).pvalue > 1e-3


def test_a_partner_is_rolled_and_amplified_by_itself_and_nothing_of_the_batch_is_changed():
    raw = batch_of_pairs([(16000, 16000)])
    before = raw["audio"].clone(), raw["partner"]["audio"].clone()
    features = Features(Inputs(AudioInputs(frames=128), None), AugmentConfig(roll_gain=True, mixup=1.0))
    first, again = (features(raw, train=True)["audio"] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(raw["audio"], before[0]) and torch.equal(raw["partner"]["audio"], before[1])
    raw["partner"]["key"] += 1
    assert not torch.equal(features(raw, train=True)["audio"], first)


def test_extracted_features_of_the_partner_are_handed_to_the_method_with_its_weight(manifest, tmp_path):
    ids = manifest.table["clip_id"]
    with FeatureWriter(tmp_path) as writer:
        writer.add(list(ids), torch.arange(len(ids), dtype=torch.float32)[:, None, None].expand(-1, 3, 2))
    inputs = Inputs(None, None)
    clips = dataset(manifest, 0.5, inputs=inputs, extracted={"a": ExtractedFeatures(tmp_path, ids)})
    raw = collate([clips[ClipRef(i, 0)] for i in range(20)])
    batch = Features(inputs, AugmentConfig(mixup=0.5))(raw, train=True)
    partner = batch["partner"]
    assert 0 < len(partner["place"]) < 20 and partner["audio_feat"].shape == (len(partner["place"]), 3, 2)
    assert torch.equal(batch["audio_feat"][:, 0, 0], torch.arange(20.0))
    for place, weight, feature in zip(partner["place"], partner["weight"], partner["audio_feat"], strict=True):
        theirs = int(manifest.table["labels"][int(feature[0, 0])][0])
        own = int(manifest.table["labels"][int(place)][0])
        assert batch["label"][place, theirs] == pytest.approx(1.0 if theirs == own else float(weight), abs=1e-6)
