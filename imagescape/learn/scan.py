"""SCAN on frozen features: a row and its neighbours share a cluster, all clusters are in use.

Van Gansbeke et al. 2020, arXiv:2005.12320. Linear heads side by side; head and epoch are chosen by the loss, with an
even weight of the entropy, on rows set aside, without labels. Then, if asked, self-labelling: the kept head learns
from what its running mean is sure of.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from imagescape.errors import InputError
from imagescape.learn.cluster_estimator import STEPS, ClusterEstimator, ClusterRecipe, Stages, Validation
from imagescape.learn.cluster_heads import Judge, LinearHeads, SelfLabelled, Watched, readout
from imagescape.learn.cluster_losses import ScanLoss, SelfLabelLoss, scan_loss
from imagescape.learn.cluster_rows import NeighborRows, set_aside
from imagescape.learn.optim import Schedule
from imagescape.learn.pairs import GraphPairs, Pairs
from imagescape.runtime import seed_for

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnyScanRecipe(ClusterRecipe):
    """Settings of SCAN, of features or of images, beside those of every `ClusterRecipe`.

    Attributes:
        entropy_weight: How much an even spread over the clusters is worth, lambda.
        selflabel: Whether the kept head then learns from what it is sure of.
        confidence: In self-labelling, items teach whose probability is at least this; the surest teach anyway.
        teacher_momentum: In self-labelling, how much of the teacher stays at each step.
    """

    heads: int = 10
    neighbors: int = 20
    entropy_weight: float = 5.0
    selflabel: bool = False
    confidence: float = 0.99
    teacher_momentum: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        ScanLoss(self.entropy_weight)  # says what is wrong with them
        SelfLabelLoss(self.confidence)
        if not 0 <= self.teacher_momentum < 1:
            raise InputError(f"teacher_momentum must be at least 0 and below 1, got {self.teacher_momentum}")


@dataclass(frozen=True, kw_only=True)
class ScanRecipe(AnyScanRecipe):
    """Settings of SCAN on frozen features, beside those of every `AnyScanRecipe`.

    Attributes:
        selflabel_steps: Of the optimizer, in self-labelling; None: as many as before it.
    """

    selflabel_steps: int | None = None

    least: ClassVar[dict[str, int]] = {**ClusterRecipe.least, "selflabel_steps": 1}
    method: ClassVar[str] = "SCAN"

    def schedule(self, rows: int) -> Schedule:
        how = {"learning_rate": self.learning_rate or 5.0, "warmup_epochs": 1, "optimizer": "sgd", "weight_decay": 0.0}
        return self.schedule_of(rows, self.steps or STEPS, **how)

    def selflabel_schedule(self, rows: int) -> Schedule:
        how = {"learning_rate": 1e-3, "warmup_epochs": 1, "optimizer": "adam", "weight_decay": 0.0}
        return self.schedule_of(rows, self.selflabel_steps or self.steps or STEPS, **how)


class SCAN(ClusterEstimator):
    """Clusters of features by SCAN: `fit`, then `labels_`; `predict` says of new rows.

    Args:
        k: Clusters.
        random_state: The seed.
        settings: Any other field of `ScanRecipe`.

    Attributes after `fit`: see `ClusterEstimator`, and with self-labelling
        rolled_back_: Whether self-labelling did not better the clusters, so that those before it were kept.

    >>> SCAN(10, entropy_weight=2.0).recipe.heads
    10
    """

    recipe: ScanRecipe
    _recipe_type = ScanRecipe

    def _learn(self, stages: Stages, heads: LinearHeads, rows: Float[Tensor, "n d"], graph: np.ndarray) -> Watched:
        recipe = self.recipe
        anchors, held_out = set_aside(len(rows), recipe.k, recipe.seed)
        watched, rolled_back = learn_scan(
            stages,
            recipe,
            heads,
            Validation.of(rows, graph, held_out, recipe.seed, evenly_weighed),
            (NeighborRows(rows, graph, rows.device, anchors), recipe.schedule(len(anchors))),
            lambda: (PerturbedRows(rows, graph, rows.device, anchors), recipe.selflabel_schedule(len(anchors))),
        )
        if recipe.selflabel:
            self.rolled_back_ = rolled_back
        return watched

    def _heads(self, in_features: int, heads: int) -> LinearHeads:
        generator = Generator().manual_seed(seed_for(self.recipe.seed, "heads"))
        return LinearHeads(in_features, self.recipe.k, heads, generator)


Stage = tuple[Pairs, Schedule]


def learn_scan(
    stages: Stages,
    recipe: AnyScanRecipe,
    network: nn.Module,
    judge: Judge,
    neighbors: Stage,
    views: Callable[[], Stage],
) -> tuple[Watched, bool]:
    """SCAN's two stages, the second if it is asked for.

    Args:
        stages: What runs them.
        recipe: Of features or of images.
        network: Items -> logits of `recipe.heads` heads, with `only`.
        judge: As `Watched` takes it.
        neighbors: Pairs of items and neighbours, and how they are learned from.
        views: Gives those of self-labelling: pairs of weak and strong views, likewise.

    Returns:
        The best state; and whether self-labelling did not better the clusters, so that those before it were
            kept.
    """
    pairs, schedule = neighbors
    watched = stages.run(1, network, recipe.heads, judge, pairs, ScanLoss(recipe.entropy_weight), schedule)
    if not recipe.selflabel:
        return watched, False
    kept = readout(watched.best).only(int(watched.best_head)).requires_grad_(True)
    taught = SelfLabelled(kept, recipe.teacher_momentum)
    pairs, schedule = views()
    watched = stages.run(2, taught, 1, judge, pairs, SelfLabelLoss(recipe.confidence), schedule)
    rolled_back = int(watched.best_look) == 0
    if rolled_back:
        _log.warning("self-labelling did not better the clusters; those before it are kept")
    return watched, rolled_back


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
