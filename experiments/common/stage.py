"""The base of every method's stages: what the harness gives a LightningModule and asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

import lightning as L
import numpy as np
from torch import Tensor, nn

from datamodules.parts import PartSpec
from datamodules.types import Batch, Inputs, Modality, Outputs, Similarity, TextInputs
from experiments.common.compat import trainer_of
from experiments.common.optim import OptimConfig, make_optimizer

if TYPE_CHECKING:
    import pandas as pd

Model = TypeVar("Model")
"""A method's dataclass of its network's hyperparameters."""
Options = TypeVar("Options")
"""A stage class's dataclass of its own options."""
_MEANINGS: dict[Any, str] = {Model: "model_config", Options: "options_config"}
"""`Stage._meanings`; in a class's own body its type variables cannot be named as values."""


@dataclass
class StageSpec(Generic[Model, Options]):
    """Everything a stage is built from; the harness makes it from the configuration and the data."""

    model: Model
    """The network's hyperparameters."""
    options: Options
    """The stage class's own options."""
    inputs: Inputs = field(default_factory=Inputs)
    modality: Modality = "av"
    num_classes: int = 0
    multilabel: bool = False
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: int = 1
    """Clips of one optimiser step, over all devices."""
    clips_per_video: int = 1
    """Training clips that are cut out of one narrated video; they follow each other in a batch."""
    steps_per_epoch: int = 1
    epochs: int = 1
    seed: int = 0
    """Seed of order and augmentation, and of what must be drawn alike on all ranks."""
    text: TextInputs | None = None
    """How the method reads text, also if this stage's clips have none."""
    class_text: list[list[int]] = field(default_factory=list)
    """Token ids of each class, if clips are compared with the names of classes."""
    features: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Modality -> (moments, length of a vector) of the features that are read instead of media."""
    parts: list[PartSpec] = field(default_factory=list)
    """Of a mixture: the datasets that the stage trains on, its own first; what is said above is of its own."""
    mixes_parts: bool = False
    """Whether a batch of a mixture has clips of all of them, and is not of one alone."""


class Stage(L.LightningModule, Generic[Model, Options]):
    """One stage of a method, `class Train(Stage[NetConfig, TrainOptions])`. Subclasses build the network and write
    `losses`, where the stage trains, and `predict_step`, where it is measured or extracts features."""

    model_config: ClassVar[type]
    """`Model`, against which the `model` of a configuration is checked."""
    options_config: ClassVar[type]
    """`Options`, likewise."""
    _meanings: ClassVar[dict[Any, str]] = _MEANINGS
    """Type variable of the class -> the attribute whose type it is."""
    some_parameters_idle: ClassVar[bool] = False
    """Whether a step may leave parameters without a gradient (DistributedDataParallel must know)."""
    compares_clips: ClassVar[bool] = False
    """Whether the loss compares the clips of a batch, so that it depends on how many are in one pass."""
    channels_last: ClassVar[bool] = False
    """Whether the harness lays out the weights of 2-D convolutions with the channels last; results change only by
    rounding."""
    mixes_features: ClassVar[bool] = False
    """Whether the stage mixes a batch's `partner` into extracted features, as `data.augment.mixup` requires."""
    frozen: ClassVar[bool] = False
    """Whether it learns nothing but a classifier of features, which stay as they are: what boards of frozen features,
    such as `esc50-linear`, ask for."""
    similarity: ClassVar[Similarity] = "cosine"
    """How retrieval compares two embeddings."""
    plateau: float = 1.0
    """Share of the learning rate that the validations so far have left; the harness sets it where `optim.schedule` is
    `plateau`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """What stands in a base's brackets is `model_config` and `options_config`, unless the class names them."""
        super().__init_subclass__(**kwargs)
        cls._meanings = {}
        for base in vars(cls).get("__orig_bases__", ()):
            origin = get_origin(base)
            if not (isinstance(origin, type) and issubclass(origin, Stage)):
                continue
            parameters = origin.__parameters__  # type: ignore[attr-defined]  # which typing's stubs leave out
            for parameter, argument in zip(parameters, get_args(base), strict=True):
                meaning = origin._meanings[parameter]
                if isinstance(argument, TypeVar):
                    cls._meanings[argument] = meaning
                elif meaning not in vars(cls):
                    setattr(cls, meaning, argument)

    def __init__(self, spec: StageSpec[Model, Options]):
        super().__init__()
        self.spec = spec

    @classmethod
    def model_of(cls, model: Model, options: Options) -> Any:
        """The part of the method's `model` that this stage is built from; changes to other parts do not affect it."""
        return model

    @classmethod
    def remarks(cls, model: Model, options: Options) -> dict[str, str]:
        """What boards say of a row beside its numbers, as value and name: {"as_the_text_of_pretraining": "titles"}."""
        return {}

    def blocks(self) -> list[nn.Module]:
        """The repeated parts of the network, which `trainer.checkpoint_activations` and `trainer.compile` work on."""
        from timm.models.vision_transformer import Block

        return [module for module in self.modules() if isinstance(module, Block)]

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """Loads the weights (the `state_dict`) of the stage named in `after`, or of `init`.

        Raises:
            ValueError: naming every key that should have matched and did not.
        """
        raise NotImplementedError(f"{type(self).__name__} starts from nothing; remove `after`")

    def load_imagenet(self) -> None:
        """Loads the ImageNet weights of the network's library (`init: imagenet`).

        Raises:
            ValueError: they are not available; the message names `init=FILE` as an alternative.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ImageNet weights; remove `init`")

    def load_teacher(self, teacher: StageSpec[Any, Any], weights: Mapping[str, Tensor]) -> None:
        """Builds the teacher's network, of the stage named in `teacher`; also called when a run is resumed.

        Args:
            teacher: what that stage was built from.
            weights: its `state_dict`.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from no teacher; remove `teacher`")

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The `loss` that is minimised, and terms to be logged beside it, by name."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.logged(self.losses(batch), batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """The outputs to measure, or `features` to write. Called without gradients, in evaluation mode, with every clip
        of a split once."""
        raise NotImplementedError

    def pseudo_labels(
        self, features_NTD: np.ndarray, clip_ids: pd.Series, splits: pd.Series, seed: int
    ) -> Mapping[str, Tensor | np.ndarray]:
        """Labels for the clips whose features the stage has extracted (`extract`), such as their clusters, for the
        stages that name it in `labels`. Called once, when all features are there, on the first process alone, in
        evaluation mode and on its device; the others wait, for half an hour at most.

        Args:
            features_NTD: [N, T, D] float32, what `predict_step` gave out as `features`, in the float16 that is stored;
                to be changed at will. It is the only copy: 8.2 GB for 2 million clips of 1,024 numbers (T * D), and
                what is made of it comes on top; k-means in blocks of clips needs no second one.
            clip_ids: [N] sorted, each once, whatever the number of processes. A clip that could not be read is not
                among them.
            splits: [N] of `extract`, that which each clip is of: what is found on the clips to train on can be used on
                those to validate on.
            seed: from 0 to 2**32 - 1, of all that is drawn; torch's generators are seeded with it, too. It differs
                from stage to stage and is the same where a run goes on.

        Returns:
            name -> [N] whole numbers from 0; a stream of kind `pseudo_label` names those that it reads, as `column`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} gives clips no labels; name another stage in `labels`, or write its pseudo_labels"
        )

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        # The harness measures with `Trainer.test`, as Lightning rebuilds batch samplers in `Trainer.predict`.
        return self.predict_step(batch, batch_idx)

    def logged(self, terms: dict[str, Tensor], batch: Batch) -> Tensor:
        """Returns the `loss` to minimise; logs all terms as `loss/...` on the steps that the curves show."""
        if self._step_is_logged():
            values = {f"loss/{name}": value.detach() for name, value in terms.items()}
            self.log_dict(values, batch_size=len(batch["label"]))
        return terms["loss"]

    def _step_is_logged(self) -> bool:
        """Whether the Trainer writes curves after this step: Lightning's bookkeeping costs more than a small step."""
        trainer = trainer_of(self)
        if trainer is None:
            return False
        done = trainer.global_step + 1
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning's connector sets it
        return done % every == 0 or done >= trainer.estimated_stepping_batches

    def layer_of(self, name: str) -> tuple[int, int]:
        """(layer, number of layers) of a parameter, for layer-wise learning rate decay.

        The rate of layer i of n is multiplied by `layer_decay ** (n - i)`.
        """
        return 1, 1

    def share_of_rate(self, name: str) -> float:
        """Factor of a parameter's learning rate, on top of layer-wise decay."""
        return 1.0

    def keeps_rate(self, name: str) -> bool:
        """Whether a parameter's learning rate is the same in all steps, whatever the schedule."""
        return False

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]  # Lightning's cannot be indexed
        return make_optimizer(self)


class FittedStage(Stage[Model, Options], ABC):
    """A stage whose weights are no result of steps: `fit` makes them of what the network, which stays as it is, gives
    for the training clips of all epochs. Subclasses return that as `features` in `predict_step`, beside what is
    measured."""

    frozen = True

    @abstractmethod
    def fit(self, features_ND: np.ndarray, label_NC: np.ndarray, seed: int) -> str:
        """Sets the weights. Called on the first process alone, whose weights the others then get.

        Args:
            features_ND: [N, D] float32, of each training clip as often as there are epochs, each time as a training
                would see it, with its augmentation; in an order that does not depend on the processes.
            label_NC: [N, C] float32, their labels.
            seed: for what is drawn.

        Returns:
            What is reported of it.
        """
