"""What learned clusterings of frozen features share: rows in, heads trained by the loop, the best one kept."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from imagescape.cluster.estimator import by_size
from imagescape.errors import InputError, NotFitted
from imagescape.learn.cluster_heads import Heads, Judge, Watched, readout
from imagescape.learn.cluster_rows import UnitRows, batch_for, graph_of, in_use, start_from_kmeans
from imagescape.learn.encoder import load_weights, save_weights
from imagescape.learn.optim import Schedule, epochs_for
from imagescape.learn.pairs import Pairs
from imagescape.learn.parameters import Parameters, Settings
from imagescape.learn.placing import Components
from imagescape.learn.train import Loss, Record, fabric_of_one, fit, make_fabric, read_metrics
from imagescape.model_folder import read_recipe, reading_weights, write_model
from imagescape.runtime import Precision, seed_for

_log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 2**12
_LOOKS = 15  # times that the network is judged while it learns, about
_VALIDATION_NEIGHBORS = 8
_LARGEST_BATCH = 1024
STEPS = 300  # of the optimizer, where nothing is said; 1,000 did no better (docs/experiments.md)


@dataclass(frozen=True, kw_only=True)
class ClusterRecipe(Settings):
    """Settings that learned clusterings share.

    Attributes:
        k: Clusters.
        heads: Trained side by side; the one of the lowest unlabelled loss is kept.
        neighbors: Of each row, that it is to share a cluster with; never more than half of an even share of the rows.
        kmeans_heads: How many of the heads start from spherical k-means, each from a run of its own; None: as many as
            suit the method, all of them on features.
        steps: Of the optimizer; None: the method's own.
        batch_size: Rows a step, as many as there are at most; None: a power of two that leaves several steps an epoch,
            1,024 at most.
        learning_rate: At its highest; None: the method's own.
        seed: Settles every random choice.
        device, precision: Where and how; "auto" takes the best there is.
    """

    k: int
    heads: int
    neighbors: int
    kmeans_heads: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"

    # What `__post_init__` holds settings to: the least whole number, and the name that messages have for the method.
    least: ClassVar[dict[str, int]] = {
        "k": 2,
        "heads": 1,
        "neighbors": 1,
        "kmeans_heads": 0,
        "steps": 1,
        "batch_size": 2,
    }
    method: ClassVar[str] = "learned clusterings"

    def __post_init__(self) -> None:
        for name, least in self.least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")

    def schedule_of(self, rows: int, steps: int, **how: Any) -> Schedule:
        """A stage of so many steps at least; `how` as `Schedule` has it."""
        batch = min(rows, self.batch_size or batch_for(rows, _LARGEST_BATCH))
        return Schedule(epochs=epochs_for(steps, rows, batch), batch_size=batch, **how)

    @property
    def from_kmeans(self) -> int:
        """Heads that start from k-means."""
        return self.heads if self.kmeans_heads is None else min(self.kmeans_heads, self.heads)

    def neighbors_for(self, rows: int) -> int:
        """Few enough that most of them can be of the row's own cluster."""
        return max(1, min(self.neighbors, rows // (2 * self.k), rows - 1))


# Loss of each head from logits (m, heads, k) and the two sides of the pairs of rows, (p,) each.
Score = Callable[[Tensor, Tensor, Tensor], Float[Tensor, " heads"]]


@dataclass(frozen=True)
class Validation:
    """Pairs that stay the same, by which heads and epochs are compared.

    Attributes:
        rows: Every row that is in a pair, once, (m, d).
        first, second: Which of them the pairs are of, (p,) each.
        score: Loss of each head on the pairs.
    """

    rows: Tensor
    first: Tensor
    second: Tensor
    score: Score

    @classmethod
    def of(cls, rows: Tensor, graph: np.ndarray, chosen: np.ndarray, seed: int, score: Score) -> "Validation":
        """Pairs of the chosen rows with a few neighbours of each."""
        drawn = min(_VALIDATION_NEIGHBORS, graph.shape[1])
        shuffled = np.random.default_rng(seed_for(seed, "validation")).permuted(graph[chosen], axis=1)[:, :drawn]
        pairs = np.stack([np.repeat(chosen, drawn), shuffled.ravel()])
        needed, places = np.unique(pairs, return_inverse=True)
        first, second = torch.from_numpy(places.reshape(pairs.shape)).to(rows.device)
        return cls(rows[torch.from_numpy(needed).to(rows.device)], first, second, score)

    def __call__(self, live: nn.Module) -> tuple[Float[Tensor, " heads"], Int[Tensor, " heads"]]:
        """Of each head the loss and how many clusters are in use."""
        logits = logits_of(readout(live), self.rows)
        anchors = logits[self.first.unique()].argmax(-1)
        return self.score(logits, self.first, self.second), in_use(anchors, logits.shape[-1])


@torch.no_grad()
def logits_of(heads: Heads, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n heads k"]:
    return torch.cat([heads(part) for part in rows.split(_ROWS_AT_ONCE)])


@dataclass
class Stages:
    """Runs the stages of a recipe through the loop, each watched for its best state, in a run's folder where given.

    Attributes:
        fabric, record, seed: As `fit` takes them.
        history: The metrics of the stages that ran now.
    """

    fabric: Fabric
    record: Record | None
    seed: int
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Of all stages, those too that ran before the run was taken up again."""
        return self.history if self.record is None else read_metrics(self.record.metrics_path)

    def run(
        self, number: int, live: nn.Module, heads: int, judge: Judge, pairs: Pairs, loss: Loss, schedule: Schedule
    ) -> Watched:
        """Train `live`, or read it when this stage is done already; its best state is in what is returned."""
        every = max(1, schedule.epochs // _LOOKS)
        marks = [0, *range(every, schedule.epochs, every), schedule.epochs]
        watched = Watched(live, heads, len(marks), judge).to(self.fabric.device)
        finished = None if self.record is None else self.record.folder / f"stage-{number}.safetensors"
        if finished is not None and finished.exists():
            load_weights(watched, finished)
            return watched
        watched.look(0)

        def after_epoch(epoch: int, epochs: int) -> None:
            if epoch in marks:
                watched.look(marks.index(epoch))

        self.history += fit(
            watched,
            pairs,
            loss,
            schedule,
            fabric=self.fabric,
            seed=self.seed,
            stage=number,
            record=self.record,
            after_epoch=after_epoch,
        )
        if finished is not None:
            save_weights(watched, finished)
        return watched


class LearnedClusters(Parameters, ABC):
    """Clusters by heads that learn, of whatever it is.

    Attributes after `fit`:
        labels_: Cluster of each item, 0 … k - 1 by falling size, (n,) int64, in the order given.
        probabilities_: Of each cluster, (n, k) float32; rows sum to 1.
        loss_: Of each head on pairs that stay the same, without labels, when the best of them was kept; (heads,).
        head_: Which head was kept.
        alive_: Clusters in use.
        validation_: That loss at each look of the last stage, the first before it began; (looks, heads).
        history_: Metrics of the training, as `fit` of the loop gives them.
    """

    recipe: Any
    _recipe_type: ClassVar[type[ClusterRecipe]]

    def __init__(self, k: int, *, random_state: int | None = None, **settings: Any) -> None:
        self._arguments = {"k": k, "random_state": random_state, **settings}
        if random_state is not None:
            settings["seed"] = int(random_state)
        self.recipe = self._recipe_type.of(k=k, **settings)
        self._head: Any = None

    @abstractmethod
    def fit(
        self,
        items: Any,
        y: object = None,
        *,
        graph: Int[np.ndarray, "n neighbors"] | None = None,
        run_folder: str | Path | None = None,
        checkpoint_minutes: float = 5,
    ) -> Self:
        """Learn the clusters of the items.

        Args:
            items: See the method.
            y: Ignored; there for scikit-learn.
            graph: Rows of each item's neighbours, nearest first, where they are known already; else they are found,
                exactly.
            run_folder: Where metrics and checkpoints go; a run that was stopped there is taken up again and ends
                with the same clusters as if it had not been.
            checkpoint_minutes: How often the state is saved there.

        Raises:
            InputError: fewer items than clusters, all of them the same, values that are not finite, or a graph of
                other rows.
            Interrupted: Ctrl-C.
        """

    @abstractmethod
    def predict_proba(self, items: Any) -> Float[np.ndarray, "m k"]:
        """Probabilities of each cluster for new items, float32, in the order given.

        Raises:
            InputError: items of another kind than it was fitted on, or values that are not finite.
            NotFitted: before `fit`.
        """

    @abstractmethod
    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the model: `config.json`, with what is said `about` it in plain values, and `weights.safetensors`."""

    def fit_predict(self, items: Any, y: object = None, **options: Any) -> Int[np.ndarray, " n"]:
        """`fit`, then the clusters of the same items."""
        return self.fit(items, y, **options).labels_

    def predict(self, items: Any) -> Int[np.ndarray, " m"]:
        """Clusters of new items, int64, in the order given; errors as `predict_proba`."""
        return self.predict_proba(items).argmax(1)

    def _stages(self, fabric: Fabric, run_folder: str | Path | None, checkpoint_minutes: float) -> "Stages":
        record = None if run_folder is None else Record(Path(run_folder), checkpoint_minutes)
        return Stages(fabric, record, self.recipe.seed)

    def _keep(self, watched: Watched, stages: "Stages") -> None:
        """The best head, and what the training was like."""
        self._head = readout(watched.best).only(int(watched.best_head)).requires_grad_(False).eval()
        self.history_ = stages.metrics
        self.validation_ = watched.losses.cpu().numpy()
        self.head_, self.loss_ = int(watched.best_head), self.validation_[int(watched.best_look)]

    def _assign(self, probabilities: np.ndarray) -> None:
        """Clusters of the items, which are numbered by size from here on."""
        largest = by_size(probabilities.argmax(1))
        order = np.concatenate([largest, np.setdiff1d(np.arange(self.recipe.k), largest)])
        self._head.arrange(torch.from_numpy(order))
        self.probabilities_ = probabilities[:, order]
        self.labels_ = self.probabilities_.argmax(1)
        self.alive_ = int(in_use(torch.from_numpy(self.labels_)[:, None], self.recipe.k))
        if self.alive_ < self.recipe.k:
            _log.warning(
                "of the %d clusters asked for, %d have hardly any rows", self.recipe.k, self.recipe.k - self.alive_
            )


class ClusterEstimator(LearnedClusters):
    """Clusters of features: scikit-learn's `fit`, `predict`, `fit_predict`; attributes as `LearnedClusters`."""

    _unit: UnitRows | None = None

    def fit(
        self,
        features: Float[np.ndarray, "n d"],
        y: object = None,
        *,
        graph: Int[np.ndarray, "n neighbors"] | None = None,
        run_folder: str | Path | None = None,
        checkpoint_minutes: float = 5,
    ) -> Self:
        """Learn the clusters of `features`, (n, d) of any real dtype; the rest as `LearnedClusters.fit`."""
        recipe, features = self.recipe, np.asarray(features)
        unit = UnitRows.of(features, recipe.k)
        rows = unit.project(features)
        fabric = fabric_of_one(recipe.device, recipe.precision, "clusters of features are")
        graph = graph_of(rows, graph, recipe.neighbors_for(len(rows)), recipe.device)
        heads = self._heads(rows.shape[1], recipe.heads)
        start_from_kmeans(heads, rows, recipe.from_kmeans, recipe.seed)
        stages = self._stages(fabric, run_folder, checkpoint_minutes)
        watched = self._learn(stages, heads, torch.from_numpy(rows).to(fabric.device), graph)
        self._unit = unit
        self._keep(watched, stages)
        self._assign(self._probabilities(rows))
        return self

    @abstractmethod
    def _learn(self, stages: Stages, heads: Any, rows: Float[Tensor, "n d"], graph: np.ndarray) -> Watched:
        """Train the heads on unit rows; their best state."""

    def predict_proba(self, features: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Probabilities of each cluster for new rows (m, d); the rest as `LearnedClusters.predict_proba`."""
        return self._probabilities(self._fitted().project(np.asarray(features)))

    def _probabilities(self, rows: np.ndarray) -> Float[np.ndarray, "n k"]:
        device = next(self._head.parameters()).device
        parts = [logits_of(self._head, part.to(device)).softmax(-1)[:, 0].cpu() for part in _parts(rows)]
        return torch.cat([torch.empty(0, self.recipe.k), *parts]).numpy()

    def save(self, folder: str | Path, **about: Any) -> None:
        unit = self._fitted()
        tensors = {f"head.{name}": tensor.cpu().contiguous() for name, tensor in self._head.state_dict().items()}
        tensors["mean"], tensors["axes"] = map(torch.from_numpy, (unit.components.mean, unit.components.axes))
        write_model(folder, type(self).__name__, asdict(self.recipe), to_safetensors(tensors), about)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model, ready to `predict`.

        Raises:
            CheckpointError: not a model of this method, damaged, or of a newer imagescape.
        """
        model = cls(**read_recipe(folder, cls.__name__) | {"device": device})
        with reading_weights(folder) as path:
            tensors = load_file(path)
            model._unit = UnitRows(Components(tensors.pop("mean").numpy(), tensors.pop("axes").numpy()))
            model._head = model._heads(model._unit.width, 1)
            model._head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items()})
        model._head.requires_grad_(False).to(make_fabric(device).device)
        return model

    @abstractmethod
    def _heads(self, in_features: int, heads: int) -> Any:
        """Untrained `Heads` of this method, a module."""

    def _fitted(self) -> UnitRows:
        if self._unit is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self._unit


def _parts(rows: np.ndarray) -> tuple[Tensor, ...]:
    return torch.from_numpy(rows).split(_ROWS_AT_ONCE)
