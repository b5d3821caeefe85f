"""CMKD, UAVM and MBT at the paper's sizes: every stage of the configurations, and training steps of real networks.

Parameter counts, in millions, are those measured of the authors' code, without what it holds and never uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from omegaconf import OmegaConf

from bench import registry
from bench.config.compose import compose
from bench.config.schema import BenchConfig, StageConfig
from bench.plan import cost
from datamodules.types import Batch, Inputs
from experiments.common.stage import Stage, StageSpec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:You are trying to")]  # log without a Trainer
CLASSES = {"audioset": 527, "fsd50k": 200, "esc50": 50, "vggsound": 309}
SEVERAL_LABELS = ("audioset", "fsd50k")
RUNS = [
    (method, variant)
    for method in ("cmkd", "uavm", "mbt")
    for variant in ("", *OmegaConf.load(registry.method_folder(method) / "config.yaml").variants)
]


@cache
def composed(method: str, variant: str = "") -> BenchConfig:
    """The paper's preset. No data are looked for."""
    return compose(method, ["preset=paper", "data_root=none", *([f"variant={variant}"] if variant else [])])


@cache
def extracted(method: str, name: str) -> tuple[int, int]:
    """Shape of the features that a stage extracts; no variant changes it."""
    config = composed(method)
    return cost.features_shape(config.stages[name].objects.stage_class, spec_of(config, name))


def spec_of(config: BenchConfig, name: str) -> StageSpec:
    """What the harness makes of the stage, with the official number of classes."""
    stage = config.stages[name]
    features = {modality: extracted(config.method, other) for modality, other in stage.features.items()}
    read = set(stage.modality) - features.keys()
    audio, video = stage.data.inputs.audio, stage.data.inputs.video
    return StageSpec(
        model=config.model,
        options=stage.options,
        inputs=Inputs(audio if "a" in read else None, video if "v" in read else None),
        modality=stage.modality,
        num_classes=CLASSES[stage.dataset],
        multilabel=stage.dataset in SEVERAL_LABELS,
        optim=stage.optim,
        batch_size=stage.batch_size,
        features=features,
    )


def millions(config: BenchConfig, name: str) -> float:
    return cost.parameters(cost.build_on_meta(config.stages[name].objects.stage_class, spec_of(config, name))) / 1e6


def networks(config: BenchConfig) -> Iterator[tuple[str, StageConfig]]:
    """Every stage but ensembles, and one for all folds."""
    return ((name, s) for name, s in config.stages.items() if not s.ensemble and s.fold in (0, 1))


# --- every stage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "variant"), RUNS)
def test_every_stage_of_every_variant_composes_and_uses_stages_that_there_are(method, variant):
    config = composed(method, variant)
    assert config.variant == variant and config.preset == "paper"
    for name, stage in config.stages.items():
        used = [stage.after, stage.teacher, *stage.features.values(), *stage.ensemble]
        assert {other for other in used if other} <= config.stages.keys(), name
        if not stage.ensemble:
            assert issubclass(config.stages[name].objects.stage_class, Stage), name
        assert stage.train or stage.extract or stage.board, name


def test_cmkd_s_networks_have_the_authors_sizes_in_every_stage():
    """AST-Base 88.13 M of 1024 frames and 527 classes, of which 1.54 M never act; EfficientNet-B2 8.44 M; PSLA 13.64 M,
    9.96 M of 200 classes."""
    config = composed("cmkd")
    patches = {(1024, 10): 1212, (1000, 10): 1188, (512, 10): 600, (1024, 12): 850, (1024, 14): 657, (1024, 16): 512}
    seen = set()
    for name, stage in networks(config):
        classes, network = CLASSES[stage.dataset], stage.options.network
        seen.add(network)
        if network == "ast":
            stride = (stage.options.strides or [10])[0]
            missing = 1212 - patches[stage.data.inputs.audio.frames, stride]
            expected = 88.13 - 1.54 - (missing * 768 + (527 - classes) * 769) / 1e6
        elif network == "cnn":
            expected = 8.44 - (527 - classes) * 1409 / 1e6
        else:
            expected = {527: 13.64, 200: 9.96}[classes]
        assert millions(config, name) == pytest.approx(expected, abs=0.01), name
    assert seen == {"ast", "cnn", "psla"}


def unused_by_uavm(fusion: str, classes: int) -> float:
    """Millions that the authors' modules hold in vain: square projections, and the two specific towers' heads."""
    shared_towers = 2 if fusion == "independent" else 1
    return ((2 + shared_towers) * (1024**2 + 1024) + 2 * (2 * 1024 + 1025 * classes)) / 1e6


@pytest.mark.parametrize(
    ("fusion", "official"),
    [
        ("unified", {309: 117.54, 527: 118.21}),
        ("independent", {309: 156.72, 527: 157.62}),
        ("cross_attention", {309: 117.57, 527: 118.24}),
    ],
)
def test_uavm_s_networks_have_the_authors_sizes_in_every_stage(fusion, official):
    config = composed("uavm", "" if fusion == "unified" else fusion)
    chosen = {name: stage for name, stage in networks(config) if stage.module in ("Train", "Retrieve")}
    assert {stage.dataset for stage in chosen.values()} == {"vggsound", "audioset"}
    for name, stage in chosen.items():
        classes = CLASSES[stage.dataset]
        expected = official[classes] - unused_by_uavm(fusion, classes)
        assert millions(config, name) == pytest.approx(expected, abs=0.01), name


def test_uavm_s_extractors_have_the_authors_sizes_in_every_stage():
    """That of sound has 87.88 M of 309 classes, 2 * 1024 + 1025 * 309 of them in the classifier that extraction leaves
    out; that of pictures has two more channels in 128 kernels of 4 x 4."""
    config = composed("uavm")
    for name, stage in networks(config):
        if stage.module == "TrainExtractor":
            expected = 87.88 + (CLASSES[stage.dataset] - 309) * 1025 / 1e6
        elif stage.module == "Extract":
            expected = 87.88 - (2 * 1024 + 1025 * 309 - (stage.modality == "v") * 2 * 128 * 16) / 1e6
        else:
            continue
        assert millions(config, name) == pytest.approx(expected, abs=0.006), name


def test_uavm_extracts_30_steps_of_1024_numbers_and_one_more_of_audioset_s_sound():
    config = composed("uavm")
    for name, stage in config.stages.items():
        if stage.module == "Extract":
            steps = 31 if stage.dataset == "audioset" and stage.modality == "a" else 30
            assert extracted("uavm", name) == (steps, 1024), name


MBT_KERNEL = 2 * 16 * 16 * 768 / 1e6
"""Theirs has the log-mel in three channels."""


@pytest.mark.parametrize(
    ("variant", "official"),
    [("", 173.2), ("late", 173.2), ("early", 173.2), ("mid_cross", 173.2), ("released", 175.0)],
)
def test_mbt_s_networks_have_the_authors_sizes_in_every_stage(variant, official):
    """Of 527 classes: both streams 173.2 M, or 175.0 M as released; sound alone 86.4 M, and pictures alone the rest and
    what both share, norm and classifier. The bottleneck's 0.004 M are within what rounding leaves open."""
    config = composed("mbt", variant)
    for name, stage in networks(config):
        shared = (2 * 768 + 769 * 527) / 1e6
        expected = {"a": 86.4 - MBT_KERNEL, "v": official - 86.4 + shared, "av": official - MBT_KERNEL}
        expected = expected[stage.modality] - (527 - CLASSES[stage.dataset]) * 769 / 1e6
        assert millions(config, name) == pytest.approx(expected, abs=0.11), name


def test_mbt_with_one_encoder_for_both_has_half_as_many():
    """90.0 M with one encoder of the released configuration's inputs, which have 1568 places and a kernel more."""
    config = composed("mbt", "mid_full")
    expected = 90.0 - MBT_KERNEL - (1568 * 768 + 3 * 256 * 768 + 5 * 768) / 1e6
    assert millions(config, "train_audioset_av") == pytest.approx(expected, abs=0.06)


# --- a step at full size ------------------------------------------------------------------------------------------


def batch_of(spec: StageSpec, clips: int) -> Batch:
    """Random clips, each of its own class."""
    batch, generator = cost.fake_batch(spec, clips, "cpu"), torch.Generator().manual_seed(0)
    for key in ("audio", "video", "audio_feat", "video_feat"):
        if key in batch:
            batch[key] = torch.randn(batch[key].shape, generator=generator)
    batch["label"][torch.arange(clips), torch.arange(clips)] = 1.0
    return batch


def losses_of(stage: Stage, batch: Batch, steps: int, lr: float) -> list[float]:
    """Before and after each of so many steps of plain descent on one batch."""
    optimizer, losses = torch.optim.SGD(stage.parameters(), lr=lr), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = stage.training_step(batch, 0)
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in stage.parameters())
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(stage.training_step(batch, 0).item())
    return losses


def test_uavm_s_unified_network_learns_a_batch_of_30_steps_of_1024_numbers():
    config = composed("uavm")
    spec = spec_of(config, "train_vggsound")
    assert spec.features == {"a": (30, 1024), "v": (30, 1024)}
    torch.manual_seed(0)
    stage = config.stages["train_vggsound"].objects.stage_class(spec).eval()
    batch = batch_of(spec, 2)
    assert batch["audio_feat"].shape == (2, 30, 1024)
    losses = losses_of(stage, batch, 3, lr=1e-2)
    assert losses[-1] < 0.9 * losses[0]


def test_cmkd_distils_efficientnet_b2_into_ast_base():
    """Of 300 frames, not of 1000: 348 patches in the place of 1188."""
    config = compose("cmkd", ["preset=paper", "data_root=none", "data.inputs.audio.frames=300"])
    teacher, student = (spec_of(config, name) for name in ("train_cnn_audioset20k", "distill_ast_audioset20k"))
    torch.manual_seed(0)
    stage = config.stages["distill_ast_audioset20k"].objects.stage_class(student)
    stage.load_teacher(teacher, config.stages["train_cnn_audioset20k"].objects.stage_class(teacher).state_dict())
    batch = batch_of(student, 2)
    assert batch["audio"].shape == (2, 1, 300, 128)
    before = {key: value.clone() for key, value in stage.teacher.state_dict().items()}
    losses = losses_of(stage, batch, 1, lr=1e-2)
    assert losses[1] < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in stage.teacher.state_dict().items())


def test_mbt_b_learns_a_batch_of_both_modalities():
    """Of one frame, not of 8: 197 tokens in the place of 1569."""
    train = "stages.train_vggsound_av"
    changes = [f"{train}.data.inputs.video.frames=1", f"{train}.options.mixup_alpha=0.0"]
    config = compose("mbt", ["preset=paper", "data_root=none", *changes])
    spec = spec_of(config, "train_vggsound_av")
    torch.manual_seed(0)
    stage = config.stages["train_vggsound_av"].objects.stage_class(spec).eval()
    batch = batch_of(spec, 2)
    assert batch["audio"].shape == (2, 1, 800, 128) and batch["video"].shape == (2, 3, 1, 224, 224)
    losses = losses_of(stage, batch, 1, lr=1e-2)
    assert losses[0] == pytest.approx(math.log(309), abs=1e-3)  # the classifier starts at zero
    assert losses[1] < losses[0]
