"""AVE-Net's stages: `Correspond`, which learns, and what judges it: `Retrieve`, `Localise`, `SVM`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.avenet.checkpoints import load
from experiments.avenet.model import NETS, AVENetConfig, Correspondence
from experiments.common.batches import stream
from experiments.common.stage import Options, StageSpec
from experiments.common.stages.frozen import FrozenNetwork
from experiments.common.stages.network import NetworkStage
from experiments.common.stages.svm import LinearSVM, SVMOptions

SOUND, OTHER = "sound", "other_sound"
"""Streams of kind `spectrogram`: what is heard with the picture, and what is heard in another video."""
STILL = "still"
"""Stream of kind `image`, of datasets that have a picture instead of a video."""
PLACES = {"a": (4, 3), "v": (2, 2)}
"""Rows and columns to which the last layer is pooled by its maximum for a linear classifier: of sound as L3-Net's
[memory: arXiv 1705.08168 4.2], of pictures a choice of ours."""


@dataclass
class NoOptions:
    """The stage has no numbers of its own."""


def make_net(spec: StageSpec[AVENetConfig, Any]) -> Correspondence:
    """The network for one picture and the sound around it.

    Raises:
        ValueError: the inputs are others.
    """
    video = spec.inputs.video
    if "v" in spec.modality and (video is None or video.frames != 1):
        raise ValueError(f"data.inputs.video={video}: the network looks at one picture, set its frames to 1")
    if "i" in spec.modality and STILL not in spec.inputs.streams:
        raise ValueError(f"data.inputs.streams has no {STILL}, which is of kind image")
    if "a" in spec.modality and SOUND not in spec.inputs.streams:
        raise ValueError(f"data.inputs.streams has no {SOUND}, which is of kind spectrogram")
    return NETS[spec.model.fusion](spec.model)


class OnPairs(NetworkStage[AVENetConfig, Options]):
    """A stage with the network, its own or the reproduction's."""

    channels_last = True
    net: Correspondence

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def image(self, batch: Batch) -> Tensor:
        """[B, 3, H, W] the only frame of a clip's video, or the still that it has instead."""
        return batch["video"][:, :, 0] if "v" in self.spec.modality else stream(batch, STILL)

    def see(self, batch: Batch) -> Tensor:
        return self.net.see(self.image(batch))

    def hear(self, batch: Batch) -> Tensor:
        return self.net.hear(stream(batch, SOUND))


class Correspond(OnPairs[NoOptions]):
    """Each picture with its own sound, which belongs to it, and with that of another video, which does not."""

    def __init__(self, spec: StageSpec[AVENetConfig, NoOptions]):
        super().__init__(spec)
        self.net = make_net(spec)

    def odds(self, batch: Batch) -> Tensor:
        """[B, 2] log-odds of both."""
        seen = self.see(batch)
        # In one pass, so that batch norm does not give away which of them are the pictures' own.
        heard = self.net.hear(torch.cat([stream(batch, SOUND), stream(batch, OTHER)]))
        return torch.stack([self.net.odds(seen, each_BD) for each_BD in heard.chunk(2)], 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        odds_B2 = self.odds(batch)
        together_B2 = odds_B2.new_tensor([1.0, 0.0]).expand_as(odds_B2)
        accuracy = ((odds_B2 > 0) == (together_B2 > 0)).float().mean()
        return {"loss": F.binary_cross_entropy_with_logits(odds_B2, together_B2), "accuracy": accuracy}

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"correspondence": {self.spec.modality: self.odds(batch)}}


class Retrieve(Correspond):
    """No training: pictures and sounds are compared by their embeddings."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        embed = {"a": self.hear, "v": self.see}
        return {"embedding": {modality: embed[modality](batch) for modality in self.spec.modality}}


class Localise(Correspond):
    """No training: the cells of a picture, each by how well it goes with the sound."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"map": {self.spec.modality: self.net.cells(self.image(batch), self.hear(batch))}}


class Features(OnPairs[Options], FrozenNetwork[AVENetConfig, Options]):
    """What one of the two networks makes of a clip before its head, in a few places, divided by its length."""

    def __init__(self, spec: StageSpec[AVENetConfig, Options]):
        places = PLACES.get(spec.modality)
        if places is None:
            raise ValueError(f"modality={spec.modality}: features are of a or of v")
        super().__init__(spec, make_net(spec), spec.model.widths[-1] * places[0] * places[1])

    def embed(self, batch: Batch) -> Tensor:
        heard = self.spec.modality == "a"
        cells = self.net.sound(stream(batch, SOUND)) if heard else self.net.image(self.image(batch))
        return F.normalize(F.adaptive_max_pool2d(cells, PLACES[self.spec.modality]).flatten(1), dim=1)


class SVM(Features[SVMOptions], LinearSVM[AVENetConfig]):
    """A linear SVM on features."""
