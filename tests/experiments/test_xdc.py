"""The ideas without which it would not be XDC; each test fails when its idea is broken."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score as shared
from torch import Tensor

from bench.config.compose import compose
from bench.contract.cases import CLASSES, CLIPS, CPU, Case, built, composed, made_up_batch, spec
from datamodules.streams.pseudo_label import PseudoLabelInputs, PseudoLabelStream, write_pseudo_labels
from experiments.common.networks.resnet import ResNetConfig
from experiments.common.networks.video_resnet import VideoResNetConfig
from experiments.common.stage import StageSpec
from experiments.xdc import method
from tests.bench.stages import arguments
from tests.conftest import REPOSITORY

FORMS = ("xdc", "sdc", "mdc", "cdc")
LEARNS = {"xdc": {"v_a", "a_v"}, "sdc": {"v_v", "a_a"}, "mdc": {"v_v", "v_a", "a_v", "a_a"}, "cdc": {"v_v", "a_a"}}
"""Form -> {encoder_whose clusters}."""
N, D, K = 80, 12, 4


def stage_spec(stage: str, form: str = "xdc", **model) -> StageSpec:
    found = spec(composed("xdc"), stage)
    return replace(found, model=replace(found.model, form=form, **model))


def train(form: str = "xdc") -> method.Train:
    torch.manual_seed(0)
    return method.Train(stage_spec("train_1", form))


def clips() -> dict[str, Tensor]:
    return made_up_batch(Case("xdc", "train_1"))


def pseudo_labels(features: np.ndarray, form: str = "xdc", splits: list[str] | None = None) -> dict[str, np.ndarray]:
    options = method.ClusterOptions(found_in=["unbalanced"])
    stage = method.Cluster(replace(stage_spec("label_0", form, clusters=K), options=options))
    clip_ids, of = pd.Series([f"c{number:03}" for number in range(N)]), pd.Series(splits or ["unbalanced"] * N)
    return stage.pseudo_labels(features.copy(), clip_ids, of, 0)


def heard_in_four_classes() -> tuple[np.ndarray, np.ndarray]:
    """([N, 2, D] features, pictures and sound; [N] the sound's class). Pictures are noise."""
    rng, class_N = np.random.default_rng(0), np.arange(N) % K
    heard = 10 * np.eye(K, D)[class_N] + 0.1 * rng.normal(size=(N, D))
    return np.stack([rng.normal(size=(N, D)), heard], 1).astype(np.float32), class_N


# --- what is learnt from ------------------------------------------------------------------------------------------


def test_what_pictures_learn_are_the_clusters_of_sound_and_the_reverse():
    features, class_N = heard_in_four_classes()
    label = pseudo_labels(features)
    assert shared(label["a"], class_N) == pytest.approx(1) and shared(label["v"], class_N) < 0.3
    shuffled = features.copy()
    shuffled[:, 0] = features[::-1, 0]
    again = pseudo_labels(shuffled)
    assert (again["a"] == label["a"]).all() and (again["v"] != label["v"]).any()
    batch, stage = clips(), train()
    terms = stage.losses(batch)
    moved = (stage.spec.model.clusters - 1) - batch["clusters_v"]
    others = stage.losses({**batch, "clusters_v": moved})
    assert others["v_a"] == terms["v_a"] and others["a_v"] != terms["a_v"]


def test_clustered_are_the_features_of_pictures_and_of_sound_in_evaluation_mode():
    stage, batch = method.Cluster(stage_spec("label_0")).eval(), clips()
    features_B2D = stage.predict_step(batch, 0)["features"]
    assert torch.equal(features_B2D[:, 0], stage.net.see(batch["video"]))
    assert torch.equal(features_B2D[:, 1], stage.net.hear(batch["audio"]))
    alone = stage.predict_step({key: value[:1] for key, value in batch.items()}, 0)["features"]
    torch.testing.assert_close(alone, features_B2D[:1])


@pytest.mark.parametrize("form", FORMS)
def test_an_encoder_learns_what_its_form_says_and_no_gradient_goes_to_the_other(form: str):
    stage, batch = train(form), clips()
    terms = stage.losses(batch)
    assert terms.keys() == {"loss", *LEARNS[form]}
    torch.testing.assert_close(terms["loss"], sum(terms[name] for name in LEARNS[form]))
    features = {"v": stage.net.see(batch["video"]), "a": stage.net.hear(batch["audio"])}
    for name in LEARNS[form]:
        encoder, of = name.split("_")
        logits = stage.heads[encoder][of](features[encoder])
        chosen = logits.log_softmax(1)[torch.arange(CLIPS), batch[f"clusters_{of}"]]
        torch.testing.assert_close(terms[name], -chosen.mean())
        reached = torch.autograd.grad(terms[name], list(stage.parameters()), retain_graph=True, allow_unused=True)
        names = [each for each, _ in stage.named_parameters()]
        parts = {tuple(each.split(".")[1:2]) for each, of_it in zip(names, reached, strict=True) if of_it is not None}
        assert parts == {(encoder,)}


def test_together_both_features_make_one_set_of_clusters():
    features, class_N = heard_in_four_classes()
    features[:, 0] += 10 * np.eye(2, D)[class_N % 2]
    label = pseudo_labels(features, "cdc")
    assert (label["v"] == label["a"]).all() and shared(label["v"], class_N) == pytest.approx(1)
    assert shared(pseudo_labels(features[:, ::-1], "sdc")["v"], class_N) == pytest.approx(1)


def test_clips_to_validate_on_move_no_cluster():
    features, class_N = heard_in_four_classes()
    splits = ["unbalanced"] * 60 + ["balanced"] * 20
    label = pseudo_labels(features, splits=splits)
    features[60:, 1] += 100 * np.eye(1, D, D - 1)[0]
    assert (pseudo_labels(features, splits=splits)["a"][:60] == label["a"][:60]).all()
    assert shared(label["a"], class_N) == pytest.approx(1)


def named_right(folder: Path, of: Sequence[int]) -> float:
    """Share of new clips of which pictures tell the cluster of their sound, learnt from labels of the clips `of`."""
    features, class_N = heard_in_four_classes()
    ids, file = np.array([f"c{number:03}" for number in range(N)]), folder / "labels.parquet"
    label = pseudo_labels(features)
    write_pseudo_labels(file, pd.Series(ids[of]), label)
    stream = PseudoLabelStream("clusters_a", PseudoLabelInputs(column="a", classes=K))
    read = stream.labelled(pd.DataFrame({"clip_id": ids[::-1]}), file)["clusters_a_label"].to_numpy()[::-1].copy()
    torch.manual_seed(0)
    size = {"widths": [4, 4, 4, 8], "blocks": [1, 1, 1, 1]}
    stage = method.Train(stage_spec("train_1", video=VideoResNetConfig(stem=4, **size), audio=ResNetConfig(**size)))
    batch = {"video": torch.randn(N, 3, 2, 16, 16), "audio": torch.randn(N, 1, 16, 8)}
    batch["video"] += 3 * torch.eye(K, 3)[class_N, :, None, None, None]
    batch |= {"clusters_a": torch.from_numpy(read), "clusters_v": torch.from_numpy(label["v"]).long()}
    optimiser = torch.optim.SGD(stage.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        optimiser.zero_grad()
        stage.losses({key: value[: N // 2] for key, value in batch.items()})["loss"].backward()
        optimiser.step()
    logits = stage.eval().heads["v"]["a"](stage.net.see(batch["video"][N // 2 :]))
    return float((logits.argmax(1).numpy() == label["a"][N // 2 :]).mean())


def test_labels_are_of_the_clip_itself_and_those_of_other_clips_teach_nothing(tmp_path: Path):
    assert named_right(tmp_path, range(N)) > 0.9
    assert named_right(tmp_path, np.random.default_rng(0).permutation(N)) < 0.5


# --- rounds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_rounds_begin_with_random_encoders_and_each_goes_on_where_the_one_before_ended(preset: str):
    stages = compose("xdc", [f"preset={preset}"]).stages
    rounds = [name for name in stages if name.startswith("train_")]
    assert len(rounds) == {"paper": 4, "tiny": 3}[preset]
    assert stages["label_0"].init == "random" and stages["label_0"].after is None
    for number, name in enumerate(rounds, 1):
        label = f"label_{number - 1}"
        assert stages[name].labels == {"clusters_v": label, "clusters_a": label}
        assert stages[name].after == (rounds[number - 2] if number > 1 else "label_0")
        assert number == 1 or stages[label].after == rounds[number - 2]
        assert set(stages[label].extract) == {*stages[name].train, stages[name].validation.split} - {None}
        streams = stages[name].data.inputs.streams
        assert {key: each["column"] for key, each in streams.items()} == {"clusters_v": "v", "clusters_a": "a"}


def test_classifiers_are_new_in_each_round_and_encoders_are_kept():
    before, after = train(), method.Train(stage_spec("train_2"))
    with torch.no_grad():
        for head in before.heads.parameters():
            head.add_(1)
    fresh = {name: value.clone() for name, value in after.heads.state_dict().items()}
    after.load_parent(before.state_dict())
    assert all(torch.equal(after.net.state_dict()[name], value) for name, value in before.net.state_dict().items())
    assert all(torch.equal(after.heads.state_dict()[name], value) for name, value in fresh.items())
    terms = after.losses(clips())
    assert all(abs(terms[name] - math.log(after.spec.model.clusters)) < 0.1 for name in LEARNS["xdc"])


@pytest.mark.slow
def test_clusters_found_on_two_ranks_are_those_found_on_one(sample_root: Path, tmp_path: Path):
    found = []
    for devices in (1, 2):
        settings = ["stage=label_0", "stages.label_0.dataset=audioset", "model.clusters=8"]
        settings += [f"trainer.devices={devices}", "trainer.accelerator=cpu"]
        settings += [f"stages.train_*.data.inputs.streams.clusters_{of}.classes=8" for of in "va"]
        run = arguments(sample_root, tmp_path / str(devices), "xdc", *settings)
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "bench", "run", *run], check=True, env=environment)
        (file,) = (tmp_path / str(devices) / "runs" / "xdc").glob("label_0-*/labels.parquet")
        found.append(pd.read_parquet(file))
    assert len(found[0]) > 40 and found[0]["v"].nunique() == found[0]["a"].nunique() == 8
    pd.testing.assert_frame_equal(*found)


# --- what judges them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "modality"), [("SVM", "a"), ("SVM", "v"), ("Linear", "v"), ("Finetune", "v")])
def test_what_is_judged_is_one_encoder_of_the_last_round(kind: str, modality: str):
    pretrained, batch, stage_class = built(Case("xdc", "train_3"), CPU).eval(), clips(), getattr(method, kind)
    options = stage_class.options_config()
    judge = stage_class(
        replace(stage_spec("svm_esc50_fold1"), modality=modality, options=options, num_classes=CLASSES)
    ).eval()
    judge.load_parent(pretrained.state_dict())
    features = pretrained.features(batch)[modality]
    assert torch.equal(judge.features(batch)[modality], features) and list(judge.net) == [modality]
    assert judge.predict_step(batch, 0)["logits"][modality].shape == (CLIPS, CLASSES)
    with pytest.raises(ValueError, match="modality=av: one encoder is judged, v or a"):
        stage_class(replace(judge.spec, modality="av"))


def test_a_fine_tuning_starts_from_the_authors_file():
    stage = method.Finetune(replace(stage_spec("finetune_ucf101_fold1"), num_classes=CLASSES))
    released = {name: value + 1 for name, value in stage.net["v"].state_dict().items()}
    stage.load_parent(released)
    assert all(torch.equal(value, released[name]) for name, value in stage.net["v"].state_dict().items())


def test_another_number_of_clusters_than_that_of_the_labels_is_an_error():
    with pytest.raises(ValueError, match=r"model\.clusters=31, but data\.inputs\.streams\.clusters_v\.classes=32"):
        method.Train(stage_spec("train_1", clusters=31))


def test_features_of_two_lengths_are_an_error():
    found = stage_spec("label_0")
    narrow = replace(found.model, audio=replace(found.model.audio, widths=[16, 32, 64, 96]))
    with pytest.raises(ValueError, match=r"model\.video\.widths end in 128, model\.audio\.widths in 96"):
        method.Cluster(replace(found, model=narrow))
