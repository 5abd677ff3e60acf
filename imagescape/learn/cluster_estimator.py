"""What learned clusterings of frozen features share: rows in, heads trained by the loop, the best one kept."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from imagescape.errors import CheckpointError, InputError
from imagescape.learn.cluster_heads import Heads, Watched, readout
from imagescape.learn.cluster_rows import UnitRows, graph_of, in_use
from imagescape.learn.encoder import FORMAT_VERSION, load_weights, read_config, replace_folder, save_weights
from imagescape.learn.estimator import NotFitted
from imagescape.learn.optim import Schedule
from imagescape.learn.pairs import Pairs
from imagescape.learn.parameters import Parameters
from imagescape.learn.placing import Components
from imagescape.learn.train import Loss, Record, fit, make_fabric, read_metrics
from imagescape.runtime import Precision, seed_for

_log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 2**12
_LOOKS = 15  # times that the network is judged while it learns, about
_VALIDATION_NEIGHBORS = 8


@dataclass(frozen=True, kw_only=True)
class ClusterRecipe:
    """Settings that learned clusterings share.

    Attributes:
        k: Clusters.
        heads: Trained side by side; the one of the lowest unlabelled loss is kept.
        neighbors: Of each row, that it is to share a cluster with; never more than half of an even share of the rows.
        steps: Of the optimizer; None: as the rows need it.
        batch_size: Rows a step; None: a power of two that leaves several steps an epoch, 1,024 at most.
        learning_rate: At its highest; None: the method's own.
        seed: Settles every random choice.
        device, precision: Where and how; "auto" takes the best there is.
    """

    k: int
    heads: int
    neighbors: int
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"

    # What `__post_init__` holds settings to: the least whole number, and the name that messages have for the method.
    least: ClassVar[dict[str, int]] = {"k": 2, "heads": 1, "neighbors": 1, "steps": 1, "batch_size": 2}
    method: ClassVar[str] = "learned clusterings"

    def __post_init__(self) -> None:
        for name, least in self.least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")

    @classmethod
    def of(cls, **settings: Any) -> Self:
        """The recipe of these settings; InputError when one is unknown."""
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise InputError(f"there is no setting '{unknown[0]}' of {cls.method}; there are {', '.join(known)}")
        return cls(**settings)

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
        judge: As `Watched` takes it.
        history: The metrics so far.
    """

    fabric: Fabric
    record: Record | None
    seed: int
    judge: Callable[[nn.Module], tuple[Tensor, Tensor]]
    history: list[dict[str, Any]] = field(default_factory=list)

    def run(self, number: int, live: nn.Module, heads: int, pairs: Pairs, loss: Loss, schedule: Schedule) -> Watched:
        """Train `live`, or read it when this stage is done already; its best state is in what is returned."""
        every = max(1, schedule.epochs // _LOOKS)
        marks = [0, *range(every, schedule.epochs, every), schedule.epochs]
        watched = Watched(live, heads, len(marks), self.judge).to(self.fabric.device)
        finished = None if self.record is None else self.record.folder / f"stage-{number}.safetensors"
        if finished is not None and finished.exists():
            load_weights(watched, finished)
            return watched
        watched.look(0)

        def after_epoch(epoch: int) -> None:
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


class LearnedClusters(Parameters):
    """Clusters by heads that learn, of whatever it is.

    Attributes after `fit`:
        labels_: Cluster of each item, 0 … k - 1, (n,) int64, in the order given.
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

    def fit_predict(self, items: Any, y: object = None, **options: Any) -> Int[np.ndarray, " n"]:
        """`fit`, then the clusters of the same items."""
        labels: np.ndarray = cast(Any, self).fit(items, y, **options).labels_
        return labels

    def predict(self, items: Any) -> Int[np.ndarray, " m"]:
        """Clusters of new items, int64, in the order given; errors as `predict_proba`."""
        return self.predict_proba(items).argmax(1)

    def predict_proba(self, items: Any) -> Float[np.ndarray, "m k"]:
        raise NotImplementedError

    def _keep(self, watched: Watched, history: list[dict[str, Any]], record: Record | None) -> None:
        """The best head, and what the training was like."""
        self._head = readout(watched.best).only(int(watched.best_head)).requires_grad_(False).eval()
        self.history_ = history if record is None else read_metrics(record.metrics_path)
        self.validation_ = watched.losses.cpu().numpy()
        self.head_, self.loss_ = int(watched.best_head), self.validation_[int(watched.best_look)]

    def _assign(self, probabilities: np.ndarray) -> None:
        self.probabilities_, self.labels_ = probabilities, probabilities.argmax(1)
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
        """Learn the clusters of `features`.

        Args:
            features: Any real dtype; rows are items.
            y: Ignored; there for scikit-learn.
            graph: Rows of each row's neighbours, nearest first, where they are known already; else they are found,
                exactly.
            run_folder: Where metrics and checkpoints go; a run that was stopped there is taken up again and ends
                with the same clusters as if it had not been.
            checkpoint_minutes: How often the state is saved there.

        Raises:
            InputError: fewer rows than clusters, all rows the same, values that are not finite, or a graph of other
                rows.
            Interrupted: Ctrl-C.
        """
        recipe, features = self.recipe, np.asarray(features)
        unit = UnitRows.of(features, recipe.k)
        rows = unit.project(features)
        fabric = make_fabric(recipe.device, recipe.precision)
        if fabric.world_size > 1:
            raise InputError("clusters of features are learned by one process; start it without torchrun")
        graph = graph_of(rows, graph, recipe.neighbors_for(len(rows)), recipe.device)
        record = None if run_folder is None else Record(Path(run_folder), checkpoint_minutes)
        watched, history = self._learn(rows, graph, fabric, record)
        self._unit = unit
        self._keep(watched, history, record)
        self._assign(self._probabilities(rows))
        return self

    def _learn(
        self, rows: np.ndarray, graph: np.ndarray, fabric: Fabric, record: Record | None
    ) -> tuple[Watched, list[dict[str, Any]]]:
        """Train the heads on unit rows; their best state, and the metrics."""
        raise NotImplementedError

    def predict_proba(self, features: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Probabilities of each cluster for new rows, float32, in the order given.

        Raises:
            InputError: another number of features than it was fitted on, or values that are not finite.
        """
        return self._probabilities(self._fitted().project(np.asarray(features)))

    def _probabilities(self, rows: np.ndarray) -> Float[np.ndarray, "n k"]:
        device = next(self._head.parameters()).device
        parts = [logits_of(self._head, part.to(device)).softmax(-1)[:, 0].cpu() for part in _parts(rows)]
        return torch.cat([torch.empty(0, self.recipe.k), *parts]).numpy()

    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the model: `config.json`, with what is said `about` it in plain values, and `weights.safetensors`."""
        unit = self._fitted()
        recipe = {"method": type(self).__name__, **asdict(self.recipe)}
        config = {"format_version": FORMAT_VERSION, "recipe": recipe, **about}
        tensors = {f"head.{name}": tensor.cpu().contiguous() for name, tensor in self._head.state_dict().items()}
        tensors["mean"], tensors["axes"] = map(torch.from_numpy, (unit.components.mean, unit.components.axes))

        def write(part: Path) -> None:
            (part / "config.json").write_text(json.dumps(config, indent=2))
            (part / "weights.safetensors").write_bytes(to_safetensors(tensors))

        replace_folder(Path(folder), write)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model, ready to `predict`.

        Raises:
            CheckpointError: not a model of this method, damaged, or of a newer imagescape.
        """
        folder, saved = Path(folder), dict(read_config(folder)["recipe"])
        if (method := saved.pop("method", "bare encoder")) != cls.__name__:
            raise CheckpointError(f"{folder} is a {method}, not a {cls.__name__}")
        model = cls(**saved | {"device": device})
        path = folder / "weights.safetensors"
        try:
            tensors = load_file(path)
            model._unit = UnitRows(Components(tensors.pop("mean").numpy(), tensors.pop("axes").numpy()))
            model._head = model._heads(model._unit.width, 1)
            model._head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in tensors.items()})
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        model._head.requires_grad_(False).to(make_fabric(device).device)
        return model

    def _heads(self, in_features: int, heads: int) -> nn.Module:
        """Untrained heads of this method."""
        raise NotImplementedError

    def _fitted(self) -> UnitRows:
        if self._unit is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self._unit


def _parts(rows: np.ndarray) -> tuple[Tensor, ...]:
    return torch.from_numpy(rows).split(_ROWS_AT_ONCE)
