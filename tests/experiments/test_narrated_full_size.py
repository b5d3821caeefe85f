"""AVLnet, MCN and Everything at Once at the paper's sizes: every stage of the configurations, and one training step.

Parameter counts are those measured of the authors' code, without what it holds and never uses.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from bench import registry
from bench.config.compose import compose
from bench.config.schema import BenchConfig
from bench.plan import cost
from experiments.common.stage import StageSpec
from experiments.common.stages.narrated import NarratedStage
from tests.experiments.narrated_tiny import word2vec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:You are trying to")]  # log without a Trainer
METHODS = ("avlnet", "mcn", "everything_at_once")
PUBLISHED = {
    ("avlnet", "AVLnet"): (84_531_202, 84_531_200),
    ("avlnet", "Tri"): (193_353_730, 193_353_728),
    ("avlnet", "TriSum"): (193_353_730, 193_353_728),
    ("avlnet", "Fused"): (116_615_170 - 2_099_200, 114_515_968),
    **{("mcn", module): (223_776_770, 223_776_768) for module in ("Train", "Localise")},
    **{("everything_at_once", module): (689_371_138, 689_362_944) for module in ("Train", "LateFusion", "Localise")},
}
"""(method, module) -> the authors' parameters (without Fused's idle unit of sound) and ours."""
RUNS = [
    (method, variant)
    for method in METHODS
    for variant in ("", *OmegaConf.load(registry.method_folder(method) / "config.yaml").get("variants", {}))
]


@pytest.fixture(scope="module", autouse=True)
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of word vectors as long as GoogleNews'."""
    return Path(str(word2vec(tmp_path_factory.mktemp("words"), dim=300).file))


@cache
def composed(method: str, words: Path, variant: str = "") -> BenchConfig:
    """The paper's preset. No data are looked for."""
    chosen = [f"variant={variant}"] if variant else []
    return compose(method, ["preset=paper", "data_root=none", f"data.inputs.text.file={words}", *chosen])


def spec_of(config: BenchConfig, name: str) -> StageSpec:
    """What the harness makes of the stage, with three classes where it compares clips with their names."""
    stage = config.stages[name]
    return StageSpec(
        model=config.model,
        options=stage.options,
        inputs=stage.data.inputs,
        modality=stage.modality,
        optim=stage.optim,
        batch_size=stage.batch_size,
        clips_per_video=stage.data.narration.per_video,
        text=stage.data.inputs.text,
        class_text=[[1, 2], [3], [4, 1]] if stage.module == "Localise" else [],
    )


@pytest.mark.parametrize(("method", "variant"), RUNS)
def test_every_stage_of_every_variant_composes_and_uses_stages_that_there_are(method, variant, words):
    config = composed(method, words, variant)
    for name, stage in config.stages.items():
        assert stage.after is None or stage.after in config.stages, name
        assert issubclass(config.stages[name].objects.stage_class, NarratedStage), name
        assert stage.train or stage.board, name
        assert stage.batch_size % stage.data.narration.per_video == 0, name


@pytest.mark.parametrize("method", METHODS)
def test_every_module_has_the_parameters_of_the_authors_class_but_for_those_never_used(method, words):
    config = composed(method, words)
    names = {stage.module: name for name, stage in config.stages.items()}
    assert {(method, module) for module in names} == {known for known in PUBLISHED if known[0] == method}
    for module, name in names.items():
        published, ours = PUBLISHED[method, module]
        found = cost.parameters(cost.build_on_meta(config.stages[name].objects.stage_class, spec_of(config, name)))
        assert found == ours == pytest.approx(published, rel=0.01), module


@pytest.mark.parametrize("method", METHODS)
def test_whatever_is_measured_can_be_measured_with_words_of_word2vec(method, words):
    config = composed(method, words)
    for name in {(stage.module, stage.modality): name for name, stage in config.stages.items()}.values():
        assert cost.inference_flops(config.stages[name].objects.stage_class, spec_of(config, name)) > 1e8, name


def test_a_step_of_avlnet_at_full_width_lowers_the_loss_of_its_batch(words):
    """Of 0.6 s of sound, not of 10."""
    torch.manual_seed(0)
    config = composed("avlnet", words)
    spec = spec_of(config, "pretrain")
    stage = config.stages["pretrain"].objects.stage_class(spec)
    clips, frames, moments = 4, 64, 2
    batch = cost.fake_batch(spec, clips, "cpu")
    batch["audio"], batch["audio_length"] = -40 + 20 * torch.randn(clips, 1, frames, 40), torch.full((clips,), frames)
    batch["video_feat"] = torch.rand(clips, moments, 4096)
    batch["video_feat_length"] = torch.full((clips,), moments)
    optimizer, losses = torch.optim.SGD(stage.parameters(), lr=1e-2), []
    for _ in range(2):
        optimizer.zero_grad()
        loss = stage.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
