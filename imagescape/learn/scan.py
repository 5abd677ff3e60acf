"""SCAN on frozen features: a row and its neighbours share a cluster, all clusters are in use.

Van Gansbeke et al. 2020, arXiv:2005.12320. Linear heads side by side; head and epoch are chosen by the loss, with an
even weight of the entropy, on rows set aside, without labels. Then, if asked, self-labelling: the kept head learns
from what its running mean is sure of.
"""

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Generator, Tensor

from imagescape.errors import InputError
from imagescape.learn.cluster_estimator import ClusterEstimator, ClusterRecipe, Stages, Validation
from imagescape.learn.cluster_heads import LinearHeads, SelfLabelled, Watched, readout
from imagescape.learn.cluster_losses import ScanLoss, SelfLabelLoss, scan_loss
from imagescape.learn.cluster_rows import NeighborRows, batch_for, epochs_for, kmeans_centroids, set_aside
from imagescape.learn.optim import Schedule
from imagescape.learn.pairs import GraphPairs
from imagescape.learn.train import Record
from imagescape.runtime import seed_for

_log = logging.getLogger(__name__)

_LARGEST_BATCH = 1024
_STEPS = 300


@dataclass(frozen=True, kw_only=True)
class ScanRecipe(ClusterRecipe):
    """Settings of SCAN on frozen features, beside those of every `ClusterRecipe`.

    Attributes:
        entropy_weight: How much an even spread over the clusters is worth, lambda.
        kmeans_heads: How many of the heads start from spherical k-means, each from a run of its own; None: all.
        selflabel: Whether the kept head then learns from what it is sure of.
        confidence: In self-labelling, rows teach whose probability is at least this; the surest rows teach anyway.
        selflabel_steps: Of the optimizer; None: as many as before it.
        teacher_momentum: In self-labelling, how much of the teacher stays at each step.
    """

    heads: int = 10
    neighbors: int = 20
    entropy_weight: float = 5.0
    kmeans_heads: int | None = None
    selflabel: bool = False
    confidence: float = 0.99
    selflabel_steps: int | None = None
    teacher_momentum: float = 0.99

    least: ClassVar[dict[str, int]] = {**ClusterRecipe.least, "kmeans_heads": 0, "selflabel_steps": 1}
    method: ClassVar[str] = "SCAN"

    def __post_init__(self) -> None:
        super().__post_init__()
        ScanLoss(self.entropy_weight)  # says what is wrong with them
        SelfLabelLoss(self.confidence)
        if not 0 <= self.teacher_momentum < 1:
            raise InputError(f"teacher_momentum must be at least 0 and below 1, got {self.teacher_momentum}")

    def schedule(self, rows: int) -> Schedule:
        batch = self.batch_size or batch_for(rows, _LARGEST_BATCH)
        return Schedule(
            epochs=epochs_for(self.steps or _STEPS, rows, batch),
            batch_size=batch,
            learning_rate=self.learning_rate or 5.0,
            warmup_epochs=1,
            optimizer="sgd",
            weight_decay=0.0,
        )

    def selflabel_schedule(self, rows: int) -> Schedule:
        batch = self.batch_size or batch_for(rows, _LARGEST_BATCH)
        return Schedule(
            epochs=epochs_for(self.selflabel_steps or self.steps or _STEPS, rows, batch),
            batch_size=batch,
            learning_rate=1e-3,
            warmup_epochs=1,
            optimizer="adam",
            weight_decay=0.0,
        )


class SCAN(ClusterEstimator):
    """Clusters of features by SCAN: `fit`, then `labels_`; `predict` says of new rows.

    Args:
        k: Clusters.
        random_state: The seed.
        settings: Any other field of `ScanRecipe`.

    Attributes after `fit`: see `ClusterEstimator`, and with self-labelling
        rolled_back_: Whether self-labelling made the clusters worse, so that those before it were kept.

    >>> SCAN(10, entropy_weight=2.0).recipe.heads
    10
    """

    recipe: ScanRecipe
    _recipe_type = ScanRecipe

    def _learn(
        self, rows: np.ndarray, graph: np.ndarray, fabric: Fabric, record: Record | None
    ) -> tuple[Watched, list[dict[str, Any]]]:
        recipe = self.recipe
        heads = self._heads(rows.shape[1], recipe.heads)
        from_kmeans = recipe.heads if recipe.kmeans_heads is None else min(recipe.kmeans_heads, recipe.heads)
        for head, centroids in enumerate(kmeans_centroids(rows, recipe.k, from_kmeans, recipe.seed)):
            heads.start_from(head, torch.from_numpy(centroids))
        everything = torch.from_numpy(rows).to(fabric.device)
        anchors, held_out = set_aside(len(rows), recipe.k, recipe.seed)
        judge = Validation.of(everything, graph, held_out, recipe.seed, evenly_weighed)
        stages = Stages(fabric, record, recipe.seed, judge)
        pairs = NeighborRows(everything, graph, fabric.device, anchors)
        loss = ScanLoss(recipe.entropy_weight)
        watched = stages.run(1, heads, recipe.heads, pairs, loss, recipe.schedule(len(anchors)))
        if recipe.selflabel:
            kept = readout(watched.best).only(int(watched.best_head)).requires_grad_(True)
            watched = stages.run(
                2,
                SelfLabelled(kept, recipe.teacher_momentum),
                1,
                PerturbedRows(everything, graph, fabric.device, anchors),
                SelfLabelLoss(recipe.confidence),
                recipe.selflabel_schedule(len(anchors)),
            )
            self.rolled_back_ = int(watched.best_look) == 0
            if self.rolled_back_:
                _log.warning("self-labelling made the clusters worse; those before it are kept")
        return watched, stages.history

    def _heads(self, in_features: int, heads: int) -> LinearHeads:
        generator = Generator().manual_seed(seed_for(self.recipe.seed, "heads"))
        return LinearHeads(in_features, self.recipe.k, heads, generator)


def evenly_weighed(logits: Float[Tensor, "m heads k"], first: Tensor, second: Tensor) -> Float[Tensor, " heads"]:
    """What heads are compared by: SCAN's loss with an entropy weight of 1."""
    return scan_loss(logits[first], logits[second], entropy_weight=1.0)


class PerturbedRows:
    """Rows as they are and perturbed: the weak and the strong view of frozen features.

    The strong view lies somewhere between the row and a neighbour, and half of its entries are gone.

    Args:
        rows: (n, d) float32.
        graph: (n, neighbors) neighbours of each row.
        device: Where batches are made.
        anchors: Which rows are drawn, (m,).
    """

    def __init__(self, rows: Tensor, graph: np.ndarray, device: torch.device, anchors: np.ndarray) -> None:
        self.device = device
        self._rows, self._anchors, self._pairs = rows.to(device), anchors, GraphPairs(graph, device)

    def __len__(self) -> int:
        return len(self._anchors)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        a, b = self._pairs.batch(self._anchors[index], generator)
        weak = self._rows[a]
        way = torch.rand(len(a), 1, generator=generator, device=self.device)
        kept = torch.rand(weak.shape, generator=generator, device=self.device) < 0.5
        return weak, 2 * kept * torch.lerp(weak, self._rows[b], way)
