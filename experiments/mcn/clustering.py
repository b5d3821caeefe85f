"""MCN's joint clusters: k-means over the means of each clip's embeddings, and its centroids as contrastive targets.

Official `train_tri_kmeans.py` (`update_queue`, `cluster_contrast`, `TrainOneBatch` with `fastC=1`) and the package
fast_pytorch_kmeans, which it uses.

Shape suffixes: B clips of this process, G clips of all, M clips of the memory, N vectors that are clustered,
K centroids, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from datamodules import keyed
from datamodules.precision import no_autocast
from experiments.common.losses.contrastive import gather_mask, gather_rows, mean_of_valid, own_rows, world_size


class JointClusters:
    """A memory of past clips and the centroids found in it; all processes hold the same.

    It is no module, so that neither the memory (1 GB at the paper's size) nor the centroids are part of a stage's
    weights: `state` and `load_state` are for the checkpoint that a training goes on from.

    Args:
        clusters: K.
        dim: D.
        queue_batches: the memory holds the first half of each video's clips of this many batches, newest first; it is
            clustered only once it is full, and until then the current batch alone.
        refit_every: steps between two runs of k-means; in between, clips go to the centroids as they are.
        seed: of the first centroids, which are clips drawn anew in each epoch.
    """

    def __init__(self, clusters: int, dim: int, queue_batches: int, refit_every: int, seed: int):
        self.clusters, self.queue_batches, self.refit_every, self.seed = clusters, queue_batches, refit_every, seed
        self.centroid_KD = torch.empty(0, dim)
        # Clips that do not take part stand after those that do, so that no step waits to know how many there are.
        self._row_MD, self._filled_M = torch.empty(0, dim), torch.empty(0, dtype=torch.bool)

    @property
    def memory_MD(self) -> Tensor:
        """The clips that are remembered, newest first. Asking for it waits for the device."""
        return self._row_MD[self._filled_M]

    @torch.no_grad()
    def update(
        self, fused_BD: Tensor, clips_per_video: int, step: int, epoch: int, valid_B: Tensor | None = None
    ) -> Tensor:
        """[B] each clip's cluster, after centroids that are due have been fitted; then the clips are remembered.

        Under DDP the result is that of one process with the whole batch, the ranks' clips in order of rank.

        Args:
            fused_BD: each clip's mean over its modalities, without a gradient from here on; equally many on all ranks.
            clips_per_video: clips of one video follow each other; the number of clips is a multiple.
            step: in the epoch, from 0; at 0 the centroids of the epoch before are forgotten.
            epoch: with the seed it says which clips are the first centroids.
            valid_B: [B] bool, the clips that take part; the others are neither clustered nor remembered, and their
                cluster means nothing. None = all.

        Raises:
            ValueError: for fewer clips than clusters.
        """
        if valid_B is None:
            valid_B = torch.ones(len(fused_BD), dtype=torch.bool, device=fused_BD.device)
        with no_autocast(fused_BD.device):
            fused_GD = gather_rows(fused_BD.float())
            valid_G = gather_mask(valid_B)
            self._row_MD, self._filled_M = self._row_MD.to(fused_GD), self._filled_M.to(fused_GD.device)
            self.centroid_KD = self.centroid_KD.to(fused_GD)
            kept = (clips_per_video + 1) // 2
            room = self.queue_batches * len(fused_GD) // clips_per_video * kept
            if step == 0 or len(self.centroid_KD) == 0 or step % self.refit_every == 0:
                label_G = self._refit(fused_GD, valid_G, room, step, epoch)
            else:
                label_G = nearest(fused_GD, self.centroid_KD)
            self._remember(fused_GD, valid_G, clips_per_video, kept, room)
        return label_G[own_rows(len(fused_BD), fused_BD.device)]

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on; no later step writes into these tensors."""
        return {"memory": self.memory_MD, "centroids": self.centroid_KD}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave."""
        self._row_MD, self.centroid_KD = state["memory"], state["centroids"]
        self._filled_M = torch.ones(len(self._row_MD), dtype=torch.bool, device=self._row_MD.device)

    def _remember(self, fused_GD: Tensor, valid_G: Tensor, clips_per_video: int, kept: int, room: int) -> None:
        """Puts the first `kept` clips of each video before those that are remembered, at most `room` in all."""
        first = slice(0, kept)
        new_GD, new_G = (x.unflatten(0, (-1, clips_per_video))[:, first].flatten(0, 1) for x in (fused_GD, valid_G))
        row_MD, filled_M = torch.cat((new_GD, self._row_MD)), torch.cat((new_G, self._filled_M))
        order_M = (~filled_M).byte().argsort(stable=True)[:room]
        self._row_MD, self._filled_M = row_MD[order_M], filled_M[order_M]

    def _refit(self, fused_GD: Tensor, valid_G: Tensor, room: int, step: int, epoch: int) -> Tensor:
        """[G] clusters of the batch after a run of k-means, of which the host reads the number of clips and when it
        ends: no other step waits for the device. Running it to its last iteration instead would take longer."""
        memory_MD, batch_GD = self.memory_MD, fused_GD[valid_G]
        clustered_ND = torch.cat((memory_MD, batch_GD)) if len(memory_MD) >= room else batch_GD
        if step == 0 or len(self.centroid_KD) == 0:
            self.centroid_KD = self._drawn(clustered_ND, epoch)
        self.centroid_KD, label_N = kmeans(clustered_ND, self.centroid_KD)
        if world_size() > 1:  # Sums on two devices may differ in the last bit, which the next runs would make larger.
            dist.broadcast(self.centroid_KD, 0)
        label_G = torch.zeros_like(valid_G, dtype=torch.long)
        label_G[valid_G] = label_N[len(clustered_ND) - len(batch_GD) :]
        return label_G

    def _drawn(self, clustered_ND: Tensor, epoch: int) -> Tensor:
        """[K, D] different clips as the first centroids, the same on every rank.

        The official package draws with replacement, and a clip that is drawn twice leaves a cluster empty.
        """
        if len(clustered_ND) < self.clusters:
            raise ValueError(
                f"{len(clustered_ND)} clips cannot make {self.clusters} clusters; "
                "ask for fewer clusters or take more clips in a batch"
            )
        key = torch.tensor([keyed.stable_hash(self.seed, epoch)])
        order_N = keyed.uniform(key, "first centroids", len(clustered_ND))[0].argsort(stable=True)
        return clustered_ND[order_N[: self.clusters].to(clustered_ND.device)]


def nearest(x_ND: Tensor, centroid_KD: Tensor) -> Tensor:
    """[N] which centroid has the largest cosine with each vector; the vector's own length does not matter to that."""
    return (x_ND @ F.normalize(centroid_KD, dim=1).T).argmax(1)


def kmeans(x_ND: Tensor, centroid_KD: Tensor, iterations: int = 100, tolerance: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Vectors go to the centroid of the largest cosine, centroids to the mean of their vectors at full length.

    As in fast_pytorch_kmeans (`mode="cosine"`) a cluster that no vector chose becomes the zero vector.

    Args:
        x_ND: vectors.
        centroid_KD: where the centroids begin.
        iterations: at most.
        tolerance: it ends when the squares of all centroids' moves sum to no more.

    Returns:
        [K, D] centroids, and [N] what each vector chose in the last iteration, before the centroids' last move.
    """
    for _ in range(iterations):
        label_N = nearest(x_ND, centroid_KD)
        member_KN = F.one_hot(label_N, len(centroid_KD)).T.to(x_ND)
        before_KD, centroid_KD = centroid_KD, member_KN @ x_ND / member_KN.sum(1, keepdim=True).clamp(min=1)
        if (centroid_KD - before_KD).square().sum() <= tolerance:
            break
    return centroid_KD, label_N


def cluster_contrast(
    x_BD: Tensor, centroid_KD: Tensor, label_B: Tensor, margin: float, valid_B: Tensor | None = None
) -> Tensor:
    """Each x must find the centroid of its clip's cluster among all, though that one's score is lowered by a margin.

        CE(x C^T - margin * onehot(label), label),   neither normalised nor divided

    Under DDP the loss of one process with the whole batch is the mean of the ranks' losses.

    Args:
        x_BD: embeddings of one modality, which alone get a gradient.
        centroid_KD: K centroids.
        label_B: each clip's cluster, the same for all of its modalities.
        margin: delta.
        valid_B: [B] bool, the clips that take part; the loss is that of the batch without the others, and 0 where
            there is none. None = all.
    """
    with no_autocast(x_BD.device):
        score_BK = x_BD.float() @ centroid_KD.T - margin * F.one_hot(label_B, len(centroid_KD))
        loss_B = F.cross_entropy(score_BK, label_B, reduction="none")
    return loss_B.mean() if valid_B is None else mean_of_valid(loss_B, valid_B)
