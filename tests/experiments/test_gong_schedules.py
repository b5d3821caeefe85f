"""The rates of CMKD's and UAVM's recipes against those of the authors' own training loops, at every step.

`tests/golden/schedules_gong.json` holds what the official `train()` of AST, PSLA and UAVM set, recorded from a run.
"""

from __future__ import annotations

from functools import cache

import pytest

from bench.config.compose import compose
from bench.config.schema import BenchConfig, StageConfig
from tests.experiments import golden

GOLDEN = golden.recorded("schedules_gong")["repositories"]
UAVM_AUDIOSET, UAVM_VGGSOUND = "uavm egs/audioset/run_", "uavm egs/vggsound/run_"
OFF = ", balanced, lr_adapt=False"
SCRIPTS = {
    ("uavm", "", "train_extractor_vggsound"): UAVM_VGGSOUND + "feat_extractor.sh",
    ("uavm", "", "train_extractor_audioset2m"): UAVM_AUDIOSET + "feat_extractor.sh, full",
    ("uavm", "", "train_extractor_audioset20k"): UAVM_AUDIOSET + "feat_extractor.sh" + OFF,
    ("uavm", "", "train_vggsound"): UAVM_VGGSOUND + "uavm.sh",
    ("uavm", "", "train_audioset2m"): UAVM_AUDIOSET + "uavm.sh, full",
    ("uavm", "", "train_audioset20k"): UAVM_AUDIOSET + "uavm.sh" + OFF,
    ("uavm", "cross_attention_audioset20k", "train_audioset20k"): UAVM_AUDIOSET + "fullatt_trans.sh" + OFF,
    ("cmkd", "", "cnn_audioset20k"): "psla egs/audioset/run.sh, balanced",
    ("cmkd", "", "cnn_audioset2m"): "psla egs/audioset/run.sh, full",
    ("cmkd", "", "cnn_fsd50k"): "psla egs/fsd50k/run.sh",
    ("cmkd", "", "psla_audioset20k"): "psla egs/audioset/run.sh, balanced",
    ("cmkd", "", "psla_audioset2m"): "psla egs/audioset/run.sh, full",
    ("cmkd", "", "psla_fsd50k"): "psla egs/fsd50k/run.sh",
    ("cmkd", "uavm_recipe", "cnn_audioset20k"): UAVM_AUDIOSET + "feat_extractor.sh" + OFF,
    ("cmkd", "uavm_recipe", "cnn_audioset2m"): UAVM_AUDIOSET + "feat_extractor.sh, full",
    ("cmkd", "", "ast_audioset20k"): "ast egs/audioset/run.sh, balanced",
    ("cmkd", "", "ast_audioset2m"): "ast egs/audioset/run.sh, full",
    ("cmkd", "", "ast_esc50"): "ast egs/esc50/run_esc.sh, audiosetpretrain=True",
    ("cmkd", "", "cnn_esc50"): "ast egs/esc50/run_esc.sh, audiosetpretrain=False",
    ("cmkd", "esc50_from_imagenet", "ast_esc50"): "ast egs/esc50/run_esc.sh, audiosetpretrain=False",
}
"""(method, variant, stage) -> whose rates it has. A stage of CMKD stands for the training of it and of its student."""
NO_SOURCE = {
    "train_ast_fsd50k": "its rate is a third party's; steps of PSLA's CNN",
    "distill_ast_fsd50k": "the same",
}


@cache
def composed(method: str, variant: str) -> BenchConfig:
    return compose(method, ["preset=paper", "data_root=none", *([f"variant={variant}"] if variant else [])])


def stages(method: str, variant: str, name: str) -> list[str]:
    """The stages of the configuration for which a name of `SCRIPTS` stands, of a cross-validation the first fold."""
    config = composed(method, variant).stages
    return [
        each
        for prefix in ("", "train_", "distill_")
        for fold in ("", "_fold1")
        if (each := f"{prefix}{name}{fold}") in config
    ]


@pytest.mark.parametrize(("method", "variant", "name"), SCRIPTS)
def test_each_step_has_the_rate_of_the_authors_loop(method, variant, name):
    found = stages(method, variant, name)
    assert found
    for stage in found:
        check_rates(composed(method, variant).stages[stage], stage, SCRIPTS[method, variant, name])


def check_rates(stage: StageConfig, name: str, script: str) -> None:
    repository, _, of = script.partition(" ")
    of_script = GOLDEN[repository]["scripts"][of]
    theirs = [rate for rate, steps in of_script["rates"] for _ in range(steps)]
    epochs = len(theirs) / of_script["steps_per_epoch"]
    assert stage.epochs >= epochs and (stage.epochs == epochs or name.endswith("cnn_fsd50k"))  # a third party's epochs
    ours = golden.rates(stage, of_script["steps_per_epoch"])
    assert ours[: len(theirs)] == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("method", ["cmkd", "uavm"])
def test_no_schedule_of_the_papers_settings_goes_unchecked(method):
    training = {
        name.removesuffix("_fold1") for name, s in composed(method, "").stages.items() if s.train and s.fold < 2
    }
    named = [stages(*key) for key in SCRIPTS if key[0] == method]
    checked = {stage.removesuffix("_fold1") for found in named for stage in found}
    assert training - checked == (NO_SOURCE.keys() if method == "cmkd" else set())
