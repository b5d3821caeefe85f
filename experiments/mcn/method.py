"""MCN's stages: `Train`, which also measures retrieval, `Localise` and `Recognise`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.common.losses.contrastive import masked_margin_softmax, mean_of_valid
from experiments.common.stage import StageSpec
from experiments.common.stages.by_name import ByName
from experiments.common.stages.narrated import BranchedStage, NarratedOptions
from experiments.mcn.checkpoints import load
from experiments.mcn.clustering import JointClusters, cluster_contrast
from experiments.mcn.model import MCN, MCNConfig

PAIRS = ("at", "av", "tv")


@dataclass
class TrainOptions(NarratedOptions):
    """Defaults are those of the released command (official `train_tri_kmeans.py`)."""

    margin: float = 0.001
    """By which the score of what is right is lowered, in pairs and in clusters (official `loss.py`)."""
    cluster_weight: float = 1.0
    """Of the clusters' loss; 0 = no clusters."""
    reconstruction_weight: float = 50.0
    """Of the decoders' mean squared errors; in the code only."""
    clusters: int = 256
    """K."""
    queue_batches: int = 20
    """Batches of which half of the clips are remembered."""
    refit_every: int = 20
    """Steps between two runs of k-means."""


class Train(BranchedStage[MCNConfig, TrainOptions]):
    """L = L_MMS + L_Cluster + L_Recon (paper eq. 1)."""

    net: MCN

    def __init__(self, spec: StageSpec[MCNConfig, TrainOptions]):
        super().__init__(spec)
        options = spec.options
        self.net = MCN(spec.model)
        self.joint = JointClusters(
            options.clusters, spec.model.dim, options.queue_batches, options.refit_every, spec.seed
        )

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        load(self.net, weights)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        epoch, step = divmod(self.global_step, self.spec.steps_per_epoch)
        return self.losses_at(batch, step, epoch)

    def losses_at(self, batch: Batch, step: int, epoch: int) -> dict[str, Tensor]:
        """Each term and `loss`.

        Args:
            batch: clips of one video follow each other.
            step: in the epoch, from 0.
            epoch: from 0.
        """
        options = self.spec.options
        x, error = self.net(
            batch["audio"][:, 0],
            batch["audio_length"],
            batch["video_feat"],
            batch["video_feat_length"],
            self.word_vectors(batch),
        )
        terms = {
            f"mms_{pair}": masked_margin_softmax(x[pair[0]], x[pair[1]], options.margin, self.present(batch, pair))
            for pair in PAIRS
        }
        if options.cluster_weight:
            terms["cluster"] = options.cluster_weight * self.clustering(batch, x, step, epoch)
        for modality, error_B in error.items():
            own_B = self.present(batch, modality)
            terms[f"reconstruction_{modality}"] = options.reconstruction_weight * mean_of_valid(error_B, own_B)
        return {**terms, "loss": cast(Tensor, sum(terms.values()))}  # 0 only of no terms

    def clustering(self, batch: Batch, x: Mapping[Any, Tensor], step: int, epoch: int) -> Tensor:
        """Each modality finds its clip's joint centroid; a third of their sum (the paper's eq. 7 is the sum)."""
        options, whole_B = self.spec.options, self.present(batch, "avt")
        fused_BD = torch.stack(list(x.values())).mean(0).detach()  # eq. 4
        label_B = self.joint.update(fused_BD, self.spec.clips_per_video, step, epoch, whole_B)
        centroid_KD = self.joint.centroid_KD
        each = [cluster_contrast(x_BD, centroid_KD, label_B, options.margin, whole_B) for x_BD in x.values()]
        return torch.stack(each).mean()

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.spec.options.cluster_weight and self.trainer.accumulate_grad_batches > 1:
            raise ValueError("clusters are found in whole batches: trainer.device_batch must be 0")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["joint"] = self.joint.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.joint.load_state(checkpoint["joint"])

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """A clip is found by its sound and pictures, whose embeddings are added."""
        x = {modality: self.embed(batch, modality) for modality in self.spec.modality}
        if "a" in x and "v" in x:
            x["av"] = x["a"].float() + x["v"].float()
        return {"embedding": x}


class Localise(ByName[MCNConfig, TrainOptions], Train):
    """No training: each second's sound and pictures against the names of the steps."""

    def embed_clips(self, batch: Batch) -> Tensor:
        return torch.stack([self.embed(batch, modality) for modality in self.spec.modality]).sum(0)

    def embed_names(self) -> Tensor:
        return self.net.text(self.class_words()[0])


class Recognise(Localise):
    """No training: pictures against the names of the classes."""

    def embed_clips(self, batch: Batch) -> Tensor:
        """Features are averaged over time (official `gen_loader.py`), where everything else takes the largest."""
        features_BTD, length_B = batch["video_feat"], batch["video_feat_length"]
        own_BT = torch.arange(features_BTD.shape[1], device=self.device) < length_B[:, None]
        mean_BD = (features_BTD * own_BT[:, :, None]).sum(1) / length_B[:, None]
        return self.net.video(mean_BD[:, None], torch.ones_like(length_B))
