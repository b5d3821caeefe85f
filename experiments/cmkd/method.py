"""CMKD's stages: `Train`, a classifier of sound alone, and `Distill`, which also learns from another's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.types import Batch, Outputs
from experiments.cmkd.checkpoints import imagenet, load
from experiments.cmkd.model import ASTConfig, AttentionHead, CMKDConfig, CNNConfig, Network, PSLAConfig, build
from experiments.common.losses.classification import classification_loss
from experiments.common.networks.layers import start_at_prior
from experiments.common.stage import Stage, StageSpec
from experiments.common.teacher import Taught
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
    """Probability of a class before training, see `start_at_prior`; PSLA's head has no bias for it."""
    strides: list[int] = field(default_factory=list)
    """AST: from patch to patch in mel bins and in frames, of this stage's network alone; none = as `model.ast` says.
    Members of AST's ensemble differ in it."""


class Train(Stage):
    """Log-mel -> classes."""

    model_config = CMKDConfig
    options_config = TrainOptions
    channels_last = True

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        if spec.modality != "a":
            raise ValueError(f"modality={spec.modality}: CMKD's networks look at a")
        self.net = network(spec)
        if spec.options.network != "psla":
            head = self.net.head[-1] if spec.options.network == "ast" else self.net.head
            start_at_prior(head, spec.options.prior)

    @classmethod
    def model_of(cls, model: CMKDConfig, options: TrainOptions) -> ASTConfig | CNNConfig | PSLAConfig:
        return getattr(model, options.network)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From the authors' AST or PSLA, a picture network's weights, or our own; the head is new for other classes."""
        load(self.net, without_prefix(weights, "net."))

    def load_imagenet(self) -> None:
        load(self.net, imagenet(self.net))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.ground_truth_loss(self.net(batch["audio"]), batch)}

    def ground_truth_loss(self, logits_BC: Tensor, batch: Batch) -> Tensor:
        """Binary cross-entropy where a clip has several labels, else cross-entropy; labels are mixed and smoothed."""
        return classification_loss(logits_BC, batch["label"], self.spec.multilabel, self.spec.options.label_smoothing)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.logged(self.losses(batch), batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """PSLA's numbers as they are: its authors clamp them in the loss alone (`traintest.py`)."""
        if isinstance(self.net.head, AttentionHead):
            return {"probabilities": {"a": self.net.probabilities(batch["audio"])}}
        return {"logits": {"a": self.net(batch["audio"])}}


@dataclass
class DistillOptions(TrainOptions):
    """Of a student's training; defaults are the paper's."""

    ground_truth: float = 0.5
    """Weight of the ground truth, lambda; the teacher's is the rest."""
    temperature: float = 1.0
    """tau, by which the teacher's logits are divided, and the student's are not."""
    same_family: bool = False
    """Allows a teacher of the student's own family, the paper's control, which helps little."""


class Distill(Taught, Train):
    """The student sees what its frozen teacher sees, and learns from the labels and from the teacher's answers."""

    options_config = DistillOptions

    def load_teacher(self, teacher: StageSpec, weights: Mapping[str, Tensor]) -> None:
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
        if teacher.inputs.audio != self.spec.inputs.audio or teacher.num_classes != self.spec.num_classes:
            raise ValueError(
                f"the teacher was trained on {teacher.inputs.audio} and {teacher.num_classes} classes, "
                f"the student is on {self.spec.inputs.audio} and {self.spec.num_classes}"
            )
        net = network(teacher)
        net.load_state_dict(without_prefix(weights, "net."))
        self.take_teacher(net)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """lambda * L_g(Z_s, y) + (1 - lambda) * L_d(Z_s, Z_t / tau), both from one augmented batch."""
        options = self.spec.options
        student_BC = self.net(batch["audio"])
        with torch.no_grad():
            teacher_BC = self.teacher(batch["audio"])
        ground_truth = self.ground_truth_loss(student_BC, batch)
        distillation = distillation_loss(student_BC, teacher_BC / options.temperature, self.spec.multilabel)
        loss = options.ground_truth * ground_truth + (1 - options.ground_truth) * distillation
        return {"loss": loss, "ground_truth": ground_truth, "distillation": distillation}


def distillation_loss(student_BC: Tensor, teacher_BC: Tensor, multilabel: bool) -> Tensor:
    """KL(teacher || student) of the classes' probabilities, from logits, in float32.

    Averaged over clips; with several labels a clip, each class is a distribution of its own (Bernoulli) and the mean is
    over clips and classes, as in binary cross-entropy, whose gradient it has.
    """
    student_BC, teacher_BC = student_BC.float(), teacher_BC.float()
    if not multilabel:
        teacher_log_BC = teacher_BC.log_softmax(dim=1)
        return F.kl_div(student_BC.log_softmax(dim=1), teacher_log_BC, log_target=True, reduction="batchmean")
    student_2BC, teacher_2BC = (torch.stack([F.logsigmoid(z), F.logsigmoid(-z)]) for z in (student_BC, teacher_BC))
    return F.kl_div(student_2BC, teacher_2BC, log_target=True, reduction="sum") / student_BC.numel()


def network(spec: StageSpec) -> nn.Module:
    """The network that a stage trains.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    model, strides = spec.model, spec.options.strides
    if strides and (len(strides) != 2 or min(strides) < 1 or spec.options.network != "ast"):
        raise ValueError(f"options.strides={strides}: give AST's stride in mel bins and that in frames, e.g. [12, 12]")
    if strides:
        model = replace(model, ast=replace(model.ast, stride=strides[0], time_stride=strides[1]))
    return build(spec.options.network, model, spec.inputs.audio, spec.num_classes)
