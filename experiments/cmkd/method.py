"""CMKD's stages: `Train`, a classifier of sound alone, and `Distill`, which also learns from another's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from torch import Tensor, nn

from datamodules.types import Batch, Outputs
from experiments.cmkd.checkpoints import imagenet, load
from experiments.cmkd.model import (
    AST,
    CNN,
    PSLA,
    ASTConfig,
    AttentionHead,
    CMKDConfig,
    CNNConfig,
    ConvNet,
    Network,
    PSLAConfig,
    build,
)
from experiments.common.networks.layers import start_at_prior
from experiments.common.stage import StageSpec
from experiments.common.stages.classifier import Classifier
from experiments.common.stages.distilled import DistilledClassifier
from experiments.common.weights import without_prefix

FAMILY = {"ast": "transformer", "cnn": "CNN", "psla": "CNN"}


@dataclass
class TrainOptions:
    """Of a classifier's training."""

    network: Network = "ast"
    """`ast`, `cnn` (CMKD's, mean pooling) or `psla` (with attention); their sizes are in `model`."""
    label_smoothing: float = 0.1
    """Of the ground truth."""
    prior: float = 0.5
    """Probability of a class before training, see `start_at_prior`; attention pooling has no bias for it."""
    strides: list[int] = field(default_factory=list)
    """AST: from patch to patch in mel bins and in frames, of this stage's network alone; none = as `model.ast` says.
    Members of AST's ensemble differ in it."""


Trained = TypeVar("Trained", bound=TrainOptions)


class SoundClassifier(Classifier[CMKDConfig, Trained]):
    """Log-mel -> classes."""

    channels_last = True
    net: AST | CNN | PSLA

    def __init__(self, spec: StageSpec[CMKDConfig, Trained]):
        super().__init__(spec)
        if spec.modality != "a":
            raise ValueError(f"modality={spec.modality}: CMKD's networks look at a")
        self.net = network(spec)
        head = self.net.head[-1] if isinstance(self.net, AST) else self.net.head
        if isinstance(head, nn.Linear):
            start_at_prior(head, spec.options.prior)

    @classmethod
    def model_of(cls, model: CMKDConfig, options: Trained) -> ASTConfig | CNNConfig | PSLAConfig:
        return getattr(model, options.network)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' AST or PSLA, a picture network's weights, or our own; the head is new for other classes."""
        load(self.net, weights)

    def imagenet(self) -> Mapping[str, Tensor]:
        return imagenet(self.net)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """PSLA's numbers as they are: its authors clamp them in the loss alone (`traintest.py`)."""
        if isinstance(self.net, ConvNet) and isinstance(self.net.head, AttentionHead):
            return {"probabilities": {"a": self.net.probabilities(batch["audio"])}}
        return super().predict_step(batch, batch_idx)


class Train(SoundClassifier[TrainOptions]):
    """A network by itself."""


@dataclass
class DistillOptions(TrainOptions):
    """Of a student's training; defaults are the paper's."""

    ground_truth: float = 0.5
    """Weight of the ground truth, lambda; the teacher's is the rest."""
    temperature: float = 1.0
    """tau, by which the teacher's logits are divided, and the student's are not."""
    same_family: bool = False
    """Allows a teacher of the student's own family, the paper's control, which helps little."""


class Distill(DistilledClassifier[CMKDConfig, DistillOptions], SoundClassifier[DistillOptions]):
    """The student sees what its frozen teacher sees, and learns from the labels and from the teacher's answers."""

    def load_teacher(self, teacher: StageSpec[CMKDConfig, TrainOptions], weights: Mapping[str, Tensor]) -> None:
        """Takes the network of a `Train` or `Distill` stage of the same classes.

        Raises:
            ValueError: for a teacher of the student's family, unless `same_family`, or one that saw other inputs.
        """
        theirs, ours = teacher.options.network, self.spec.options.network
        if FAMILY[theirs] == FAMILY[ours] and not self.spec.options.same_family:
            raise ValueError(
                f"teacher {theirs} and student {ours} are both of the family {FAMILY[ours]}; CMKD is distillation "
                f"across families, and its control without is options.same_family=true"
            )
        self.check_teacher(teacher)
        net = network(teacher)
        net.load_state_dict(without_prefix(weights, "net."))
        self.take_teacher(net)


def network(spec: StageSpec[CMKDConfig, Trained]) -> AST | CNN | PSLA:
    """The network that a stage trains.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    model, strides = spec.model, spec.options.strides
    if strides and (len(strides) != 2 or min(strides) < 1 or spec.options.network != "ast"):
        raise ValueError(f"options.strides={strides}: give AST's stride in mel bins and that in frames, e.g. [12, 12]")
    if strides:
        model = replace(model, ast=replace(model.ast, stride=strides[0], time_stride=strides[1]))
    assert spec.inputs.audio is not None
    return build(spec.options.network, model, spec.inputs.audio, spec.num_classes)
