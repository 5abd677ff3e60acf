"""Multi-head self-distillation: clusters of frozen features, the default when their number is known.

Many heads side by side learn from their own running means that a row and its neighbours share a cluster (TEMI:
Adaloglou et al. 2023, arXiv:2303.17896). The published settings assume 50,000 images. Here steps are counted and not
epochs, the running means follow the length of the run, and heads start from spherical k-means, so that few and easy
rows are not lost to it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Generator, Tensor

from imagescape.errors import InputError
from imagescape.learn.cluster_estimator import STEPS, ClusterEstimator, ClusterRecipe, Stages, Validation
from imagescape.learn.cluster_heads import Distilled, ResidualHeads, Watched
from imagescape.learn.cluster_losses import TemiLoss, shared_information
from imagescape.learn.cluster_rows import NeighborRows, sample_of
from imagescape.learn.optim import Schedule
from imagescape.runtime import seed_for

# The paper's teacher keeps .996 a step over 4,900 steps: it remembers about a twentieth of the run.
_TEACHER_MEMORY = 0.05
# The paper's marginals keep .9 a step of 1,024 rows: they remember about ten thousand.
_MARGINAL_ROWS = 10_240


@dataclass(frozen=True, kw_only=True)
class MultiHeadRecipe(ClusterRecipe):
    """Settings of multi-head self-distillation, beside those of every `ClusterRecipe`.

    Attributes:
        hidden: Width of the middle of a network that each head has beside its prototypes; 0: none.
        temperature: Of the logits of students and teachers.
        beta: See `temi_loss`.
        teacher_momentum: How much of the teacher stays at each step; None: it remembers a twentieth of the run.
    """

    heads: int = 16
    neighbors: int = 50
    hidden: int = 0
    temperature: float = 0.1
    beta: float = 0.6
    teacher_momentum: float | None = None

    least: ClassVar[dict[str, int]] = {**ClusterRecipe.least, "hidden": 0}
    method: ClassVar[str] = "multi-head clusterings"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta <= 1:
            raise InputError(f"beta must be above 0 and at most 1, got {self.beta}")
        if not self.temperature > 0:
            raise InputError(f"temperature must be above 0, got {self.temperature}")
        if self.teacher_momentum is not None and not 0 <= self.teacher_momentum < 1:
            raise InputError(f"teacher_momentum must be at least 0 and below 1, got {self.teacher_momentum}")

    def schedule(self, rows: int) -> Schedule:
        rate = self.learning_rate or 1e-2
        how = {"learning_rate": rate, "warmup_epochs": 1, "optimizer": "adamw", "weight_decay": 1e-4}
        return self.schedule_of(rows, self.steps or STEPS, **how)


class MultiHead(ClusterEstimator):
    """Clusters of features by multi-head self-distillation: `fit`, then `labels_`; `predict` says of new rows.

    Args:
        k: Clusters.
        random_state: The seed.
        settings: Any other field of `MultiHeadRecipe`.

    Attributes after `fit`: see `ClusterEstimator`.

    >>> MultiHead(10, heads=4).recipe.neighbors
    50
    """

    recipe: MultiHeadRecipe
    _recipe_type = MultiHeadRecipe

    def _learn(self, stages: Stages, heads: ResidualHeads, rows: Float[Tensor, "n d"], graph: np.ndarray) -> Watched:
        recipe, schedule = self.recipe, self.recipe.schedule(len(rows))
        steps = schedule.epochs * (len(rows) // schedule.batch_size)
        momentum = recipe.teacher_momentum
        live = Distilled(heads, max(0.0, 1 - 1 / (_TEACHER_MEMORY * steps)) if momentum is None else momentum)
        kept = max(0.0, 1 - schedule.batch_size / _MARGINAL_ROWS)
        loss = TemiLoss(recipe.heads, recipe.k, beta=recipe.beta, momentum=kept)
        judge = Validation.of(rows, graph, sample_of(len(rows), recipe.seed), recipe.seed, _untold)
        pairs = NeighborRows(rows, graph, rows.device)
        return stages.run(1, live, recipe.heads, judge, pairs, loss, schedule)

    def _heads(self, in_features: int, heads: int) -> ResidualHeads:
        recipe = self.recipe
        generator = Generator().manual_seed(seed_for(recipe.seed, "heads"))
        return ResidualHeads(
            in_features, recipe.k, heads, hidden=recipe.hidden, temperature=recipe.temperature, generator=generator
        )


def _untold(logits: Float[Tensor, "m heads k"], first: Tensor, second: Tensor) -> Float[Tensor, " heads"]:
    """What heads are compared by: the shared information of clusters, as a loss."""
    clusters = logits.argmax(-1)
    return -shared_information(clusters[first], clusters[second], logits.shape[-1])
