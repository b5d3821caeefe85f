"""A linear SVM on what a frozen network makes of clips, as self-supervised methods are judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from datamodules.types import Batch, Outputs
from experiments.common.stage import FittedStage, Model, StageSpec
from experiments.common.stages.frozen import JUDGE, FrozenNetwork

PROTOCOL_C = 1e-4
"""C where nobody has chosen it: papers take the best one on the test split, most often this (CrissCross)."""


@dataclass
class SVMOptions:
    """Of scikit-learn's `LinearSVC`."""

    c: float = PROTOCOL_C
    """C, the inverse weight of regularisation; a row with another one than the protocol's says so."""
    iterations: int = 1000
    """At most so many (`max_iter`)."""
    tolerance: float = 1e-4
    """At which it stops (`tol`)."""
    standardise: bool = False
    """Each feature is brought to mean 0 and deviation 1 over the training clips (MMV `eval_ucf101.py`)."""


class LinearSVM(FrozenNetwork[Model, SVMOptions], FittedStage[Model, SVMOptions]):
    """One-versus-rest, with the squared hinge loss. Subclasses build the network, load what it starts from, and write
    `embed`; the decision values of a clip's windows are averaged."""

    def __init__(self, spec: StageSpec[Model, SVMOptions], net: nn.Module, width: int):
        """Builds the SVM beside the network, see `FrozenNetwork`.

        Raises:
            ValueError: clips have several labels.
        """
        super().__init__(spec, net, width)
        if spec.multilabel:
            raise ValueError("a linear SVM is for clips of one class; judge tags by a linear layer")
        self.svm = nn.Linear(width, spec.num_classes).requires_grad_(False)

    @classmethod
    def remarks(cls, model: Model, options: SVMOptions) -> dict[str, str]:
        marked = "" if options.c == PROTOCOL_C else f" (the protocol has {PROTOCOL_C:g})"
        return super().remarks(model, options) | {JUDGE: f"linear SVM of C = {options.c:g}{marked}"}

    def fit(self, features_ND: np.ndarray, label_NC: np.ndarray, seed: int) -> str:
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        options, class_N = self.spec.options, label_NC.argmax(1)
        svm = LinearSVC(
            C=options.c, tol=options.tolerance, max_iter=options.iterations, dual="auto", random_state=seed % 2**32
        )
        scaler = StandardScaler().fit(features_ND) if options.standardise else None
        svm.fit(features_ND if scaler is None else scaler.transform(features_ND), class_N)
        weight_CD, bias_C = decision(svm.coef_, svm.intercept_, svm.classes_, self.spec.num_classes)
        if scaler is not None:  # the same values of features as they are
            weight_CD = weight_CD / scaler.scale_
            bias_C = bias_C - weight_CD @ scaler.mean_
        self.svm.weight.copy_(torch.from_numpy(weight_CD))
        self.svm.bias.copy_(torch.from_numpy(bias_C))
        within = "" if np.max(svm.n_iter_) < options.iterations else f", stopped after {options.iterations} iterations"
        return f"a linear SVM of {len(features_ND)} windows, C = {options.c:g}{within}"

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        features_BD = self.embed(batch)
        return {"logits": {self.spec.modality: self.svm(features_BD)}, "features": features_BD[:, None]}


def decision(
    coef: np.ndarray, intercept: np.ndarray, present: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """([C, D] weights, [C] biases) of all classes; one of which there was no clip is decided for last.

    Args:
        coef, intercept: of scikit-learn; of two classes it has the second one's alone.
        present: the classes that there were.
        classes: C.
    """
    if len(present) == 2:
        coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
    weight_CD, bias_C = np.zeros((classes, coef.shape[1])), np.full(classes, -1e4)
    weight_CD[present], bias_C[present] = coef, intercept
    return weight_CD, bias_C
