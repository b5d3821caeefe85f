"""What judges a frozen network: a linear layer, against scikit-learn's logistic regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.distributed as dist
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from bench.contract.processes import on_two_ranks
from datamodules.types import Batch
from experiments.common.optim import OptimConfig
from experiments.common.stage import StageSpec
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.linear import LinearOptions, LinearProbe
from experiments.common.stages.svm import LinearSVM, SVMOptions
from tests.experiments.every_stage import trained

CLIPS, WIDTH, CLASSES = 60, 4, 3


@dataclass
class Nothing:
    """The network has no settings."""


class Features(FrozenNetwork[Nothing, LinearOptions]):
    """Of a network that would change by itself in training."""

    def __init__(self, spec: StageSpec[Nothing, LinearOptions]):
        super().__init__(spec, nn.Sequential(nn.Linear(6, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5)), WIDTH)

    def embed(self, batch: Batch) -> Tensor:
        return self.net(batch["audio"])


class Probe(Features, LinearProbe[Nothing]):
    """Judges them."""


def probe(multilabel: bool = False, **options) -> Probe:
    torch.manual_seed(0)
    optim = OptimConfig(algorithm="sgd", lr=0.1, weight_decay=0.1)
    spec = StageSpec(Nothing(), LinearOptions(**options), num_classes=CLASSES, multilabel=multilabel, optim=optim)
    return Probe(spec)


def clips(multilabel: bool = False) -> Batch:
    draw = torch.Generator().manual_seed(1)
    audio = 3 * torch.randn(CLIPS, 6, generator=draw)
    noisy = audio[:, :CLASSES] + 3 * torch.randn(CLIPS, CLASSES, generator=draw)
    label = (noisy > 0).float() if multilabel else torch.eye(CLASSES)[noisy.argmax(1)]
    return {"audio": audio, "label": label, "key": torch.arange(CLIPS)}


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("l2_norm", [False, True])
def test_its_loss_is_least_where_scikit_learn_finds_the_best_weights(multilabel: bool, l2_norm: bool):
    """There its gradient is that of the penalty alone, which is scikit-learn's and not in our loss."""
    stage, batch, c = probe(multilabel, l2_norm=l2_norm).train(), clips(multilabel), 1.0
    features = stage.net(batch["audio"]).numpy().astype(np.float64)
    if l2_norm:
        features /= np.linalg.norm(features, axis=1, keepdims=True)
    label = batch["label"].numpy()
    targets = label.T if multilabel else [label.argmax(1)]
    theirs = [LogisticRegression(C=c, tol=1e-9, max_iter=10_000).fit(features, target) for target in targets]
    linear = stage.head[-1]
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(np.concatenate([each.coef_ for each in theirs])))
        linear.bias.copy_(torch.from_numpy(np.concatenate([each.intercept_ for each in theirs])))
    stage.losses(batch)["loss"].backward()
    terms = CLIPS * (CLASSES if multilabel else 1)
    torch.testing.assert_close(linear.weight.grad, -linear.weight.detach() / (c * terms), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(linear.bias.grad, torch.zeros(CLASSES), rtol=0, atol=1e-6)


def test_training_changes_the_layer_and_nothing_of_the_network():
    stage = probe(batch_norm=True, dropout=0.1)
    before = {name: value.clone() for name, value in stage.state_dict().items()}
    trained(stage.train(), [clips()] * 3)
    after = stage.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    of_norm = {"running_mean", "running_var", "num_batches_tracked"}
    assert changed == {"head.2.weight", "head.2.bias"} | {f"head.0.{name}" for name in of_norm}


def test_batch_norm_takes_the_scale_of_features_away():
    stage, batch = probe(batch_norm=True).train(), clips()
    at_first = stage.logits(batch)
    stage.net = nn.Sequential(stage.net, nn.Linear(WIDTH, WIDTH)).requires_grad_(False).eval()
    stage.net[1].weight.copy_(100 * torch.eye(WIDTH))
    torch.testing.assert_close(stage.logits(batch), at_first, rtol=1e-3, atol=1e-3)


def step(own: slice) -> dict[str, Tensor]:
    """The mean loss, its gradients, and the running values of the batch norm, of some of the clips."""
    stage = probe(batch_norm=True).train()
    loss = stage.losses({name: values[own] for name, values in clips().items()})["loss"]
    loss.backward()
    means = {"loss": loss.detach()} | {name: p.grad for name, p in stage.head.named_parameters()}
    if dist.is_initialized():
        for value in means.values():
            dist.all_reduce(value)
            value /= dist.get_world_size()
    return means | dict(stage.head.named_buffers())


def half(rank: int) -> dict[str, Tensor]:
    return step(slice(rank * CLIPS // 2, (rank + 1) * CLIPS // 2))


def test_two_processes_that_share_a_batch_take_the_step_of_one(tmp_path):
    whole, parts = step(slice(None)), on_two_ranks(half, tmp_path)
    assert whole.keys() == parts.keys() and len(whole) == 6
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_what_is_measured_is_the_layer_s_answer_without_dropout():
    stage, batch = probe(dropout=0.9, init_std=0.01).eval(), clips()
    linear = stage.head[-1]
    assert linear.weight.std() < 0.02 and not linear.bias.any()
    expected = stage.net(batch["audio"]) @ linear.weight.T
    torch.testing.assert_close(stage.predict_step(batch, 0)["logits"]["av"], expected)


class FittedProbe(LinearSVM[Nothing]):
    """An SVM on what it is given."""

    def __init__(self, spec: StageSpec[Nothing, SVMOptions]):
        super().__init__(spec, nn.Identity(), WIDTH)


def test_an_svm_on_standardised_features_decides_as_scikit_learn_s_pipeline():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(CLIPS, WIDTH)) * [1, 10, 100, 0.1] + [0, 5, -30, 2]
    label = np.eye(CLASSES)[features[:, :CLASSES].argmax(1)]
    stage = FittedProbe(StageSpec(Nothing(), SVMOptions(0.1, standardise=True), num_classes=CLASSES)).eval()
    stage.fit(features.astype(np.float32), label.astype(np.float32), seed=0)
    pipeline = make_pipeline(StandardScaler(), LinearSVC(C=0.1, random_state=0)).fit(features, label.argmax(1))
    found = stage.svm(torch.from_numpy(features).float())
    np.testing.assert_allclose(found.numpy(), pipeline.decision_function(features), rtol=1e-3, atol=1e-3)
