"""AVE-Net's stages: `Correspond`, which learns, and `Retrieve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.avenet.checkpoints import load
from experiments.avenet.model import NETS, AVENetConfig, Correspondence
from experiments.common.stage import StageSpec
from experiments.common.stages.network import NetworkStage

SOUND, OTHER = "sound", "other_sound"
"""Streams of kind `spectrogram`: what is heard with the picture, and what is heard in another video."""


@dataclass
class NoOptions:
    """The stages have no numbers of their own."""


class OnPairs(NetworkStage[AVENetConfig, NoOptions]):
    """The network on one picture and the sound around it."""

    channels_last = True
    net: Correspondence

    def __init__(self, spec: StageSpec[AVENetConfig, NoOptions]):
        super().__init__(spec)
        video = spec.inputs.video
        if "v" in spec.modality and (video is None or video.frames != 1):
            raise ValueError(f"data.inputs.video={video}: the network looks at one picture, set its frames to 1")
        if "a" in spec.modality and SOUND not in spec.inputs.streams:
            raise ValueError(f"data.inputs.streams has no {SOUND}, which is of kind spectrogram")
        self.net = NETS[spec.model.fusion](spec.model)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def see(self, batch: Batch) -> Tensor:
        """Of the clips' one picture, what the network compares."""
        return self.net.see(batch["video"][:, :, 0])


class Correspond(OnPairs):
    """Each picture with its own sound, which belongs to it, and with that of another video, which does not."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        seen = self.see(batch)
        # In one pass, so that batch norm cannot tell which of them are the pictures' own.
        heard = self.net.hear(torch.cat([batch[SOUND], batch[OTHER]])).chunk(2)  # type: ignore[literal-required]
        own_B, other_B = (self.net.odds(seen, each_BD) for each_BD in heard)
        odds = torch.cat([own_B, other_B])
        together = torch.cat([torch.ones_like(own_B), torch.zeros_like(other_B)])
        accuracy = ((odds > 0) == (together > 0)).float().mean()
        return {"loss": F.binary_cross_entropy_with_logits(odds, together), "accuracy": accuracy}


class Retrieve(OnPairs):
    """No training: pictures and sounds are compared by their embeddings."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        embedding = {}
        if "a" in self.spec.modality:
            embedding["a"] = self.net.hear(batch[SOUND])  # type: ignore[literal-required]
        if "v" in self.spec.modality:
            embedding["v"] = self.see(batch)
        return {"embedding": embedding}
