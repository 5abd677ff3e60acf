"""Maps of given features: near stays near, and new rows land on the same map, in seconds and without a GPU.

The positives are neighbours in feature space instead of two views of an image; the loss is that of t-SimCNE, InfoNCE by
the Cauchy kernel (Damrich et al. 2023, arXiv:2206.01816; parametric: van der Maaten 2009, Sainburg et al. 2021,
arXiv:2009.12981). A table of coordinates learns the map, as it costs next to nothing to move; then, if asked, a network
learns to say from the features alone where on it a row belongs.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors
from torch import Tensor, nn

from imagescape.errors import InputError, NotFitted
from imagescape.evaluate.neighbors import Metric, nearest_among, nearest_others
from imagescape.learn.encoder import load_weights, save_weights
from imagescape.learn.heads import principal_axes
from imagescape.learn.neighbor_loss import NeighborNCE
from imagescape.learn.optim import Schedule, epochs_for
from imagescape.learn.pairs import GraphPairs
from imagescape.learn.parameters import Parameters, Settings
from imagescape.learn.placing import Components, Lesson, Lessons, Table, TaughtNetwork, mean_distance
from imagescape.learn.train import Record, fabric_of_one, fit, read_metrics
from imagescape.model_folder import read_recipe, reading_weights, write_model
from imagescape.runtime import Precision, seed_for, threads

# The network sees this many principal components at most, and neighbours are looked for in them.
COMPONENTS = 128
# Found in the components, to be ranked in the features.
_CANDIDATES_PER_NEIGHBOR = 2
_FEWEST_STEPS = 1000


class FeatureMap(Protocol):
    """A map of rows of features, ours or a library's.

    Attributes:
        coords_: Of the rows it was fitted on, (n, out_dim) float32, in their order.
    """

    coords_: np.ndarray

    def fit(self, features: np.ndarray) -> Self: ...

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Places of new rows on the same map, (m, out_dim) float32."""


@dataclass(frozen=True, kw_only=True)
class NeighborRecipe(Settings):
    """Settings of a neighbour map.

    Attributes:
        out_dim: Dimensions of the map.
        neighbors: Of each row, in the graph of positives; all others where there are fewer.
        metric: What near means among features: "euclidean" or "cosine".
        network: "table": the coordinates themselves; new rows are put among those that are nearest to them. "mlp": a
            network that is taught the table and is then the map; it needs no stored rows, and is less exact.
        epochs: Passes of the table over the rows; None: 550, and no fewer than 1,000 steps.
        network_epochs: Passes of the network over the rows; None: 20, and no fewer than 1,000 steps.
        negatives: Points that each point is told from in a step.
        start_width: Of the kernel at the start; it narrows to 1.
        hidden, layers: Width and number of the network's hidden layers.
        seed: Settles every random choice.
        device, precision: Where and how; "auto" takes the best there is.
    """

    out_dim: int = 2
    neighbors: int = 10
    metric: Metric = "euclidean"
    network: Literal["table", "mlp"] = "table"
    epochs: int | None = None
    network_epochs: int | None = None
    negatives: int = 512
    start_width: float = 10.0
    hidden: int = 512
    layers: int = 3
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"

    method: ClassVar[str] = "neighbour maps"

    def __post_init__(self) -> None:
        for name in ("out_dim", "neighbors", "epochs", "network_epochs", "negatives", "hidden", "layers"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
        if not self.start_width > 0:
            raise InputError(f"start_width must be above 0, got {self.start_width}")
        for name, known in (("network", ("mlp", "table")), ("metric", ("euclidean", "cosine"))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got '{getattr(self, name)}'")

    def table_schedule(self, rows: int) -> Schedule:
        batch = _batch(rows, 8192)
        return Schedule(
            epochs=self.epochs or max(550, epochs_for(_FEWEST_STEPS, rows, batch)),
            batch_size=batch,
            learning_rate=0.5,
            warmup_epochs=1,
            optimizer="adam",
            weight_decay=0.0,
        )

    def network_schedule(self, rows: int) -> Schedule:
        batch = _batch(rows, 256)
        return Schedule(
            epochs=self.network_epochs or max(20, epochs_for(_FEWEST_STEPS, rows, batch)),
            batch_size=batch,
            learning_rate=0.003,
            warmup_epochs=1,
            optimizer="adamw",
            weight_decay=1e-4,
        )


class NeighborMap(Parameters):
    """A map of features: `fit`, then `transform` puts any row of such features on it.

    Args:
        random_state: The seed.
        settings: Any field of `NeighborRecipe`.

    Attributes after `fit`:
        coords_: (n, out_dim) float32, in the order given; what `transform` says of the same rows where the map is a
            network.
        history_: Metrics of the training; stage 1 is the table, stage 2 the network.

    >>> NeighborMap(out_dim=3).recipe.neighbors
    10
    """

    def __init__(self, *, random_state: int | None = None, **settings: Any) -> None:
        self._arguments = {"random_state": random_state, **settings}
        self.recipe = NeighborRecipe.of(**settings)
        if random_state is not None:
            self.recipe = replace(self.recipe, seed=int(random_state))
        self._placing: TaughtNetwork | Table | None = None

    def fit(
        self,
        features: Float[np.ndarray, "n d"],
        y: object = None,
        *,
        graph: Int[np.ndarray, "n k"] | None = None,
        run_folder: str | Path | None = None,
        checkpoint_minutes: float = 5,
    ) -> Self:
        """Learn the map of `features`.

        Args:
            features: Any real dtype; rows are items.
            y: Ignored; there for scikit-learn.
            graph: Rows of each row's neighbours, where they are known already; else they are found: of twice as many
                that are nearest in the principal components, those that are nearest in the features.
            run_folder: Where metrics and checkpoints go; a run that was stopped there is taken up again.
            checkpoint_minutes: How often the state is saved there.

        Raises:
            InputError: fewer than 4 rows, values that are not finite, or a graph of other rows.
            Interrupted: Ctrl-C.
        """
        recipe, features = self.recipe, np.asarray(features)
        if features.ndim != 2 or len(features) < 4:
            raise InputError(f"a map needs a matrix of at least 4 rows of features, got shape {features.shape}")
        if graph is not None and (len(graph) != len(features) or graph.min() < 0 or graph.max() >= len(features)):
            raise InputError(f"a graph must name rows of these {len(features)} features, one line a row")
        fabric = fabric_of_one(recipe.device, recipe.precision, "a map of features is")
        components = Components.of(features, COMPONENTS)
        inputs = components.project(features)
        if graph is None:
            graph = _graph(features, inputs, recipe)
        record = None if run_folder is None else Record(Path(run_folder), checkpoint_minutes)
        table = _Coordinates(_start(inputs, recipe))
        pairs = GraphPairs(graph, fabric.device)
        loss = NeighborNCE(recipe.negatives, recipe.start_width)
        schedule = recipe.table_schedule(len(features))
        finished = None if record is None else record.folder / "stage-1.safetensors"
        history: list[dict[str, Any]] = []
        if finished is not None and finished.exists():
            load_weights(table, finished)
        else:
            with threads(1):
                history = fit(table, pairs, loss, schedule, fabric=fabric, seed=recipe.seed, stage=1, record=record)
            if finished is not None:
                save_weights(table, finished)
        coords = table.coords.detach().cpu().numpy()
        mean, axes = principal_axes(coords)
        coords = ((coords - mean) @ axes).astype(np.float32)
        if recipe.network == "table":
            self._placing, self.coords_ = Table(components, inputs, coords, recipe.metric), coords
        else:
            network = TaughtNetwork.fresh(
                components, inputs, coords, hidden=recipe.hidden, layers=recipe.layers, seed=recipe.seed
            )
            lessons = Lessons(network.scaled(inputs), network.standardised(coords), graph, fabric.device)
            schedule = recipe.network_schedule(len(features))
            history += fit(
                Lesson(network.mlp),
                lessons,
                mean_distance,
                schedule,
                fabric=fabric,
                seed=recipe.seed,
                stage=2,
                record=record,
            )
            self._placing, self.coords_ = network, network.place(inputs)
        self.history_ = history if record is None else read_metrics(record.metrics_path)
        return self

    def transform(self, features: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m out_dim"]:
        """Where new rows belong on the map, in the order given.

        Raises:
            InputError: another number of features than it was fitted on, or values that are not finite.
        """
        placing = self._fitted()
        return placing.place(placing.components.project(np.asarray(features)))

    def fit_transform(self, features: np.ndarray, y: object = None, **options: Any) -> np.ndarray:
        """`fit`, then the map of the same rows."""
        return self.fit(features, y, **options).coords_

    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the model: `config.json`, with what is said `about` it in plain values, and `weights.safetensors`."""
        placing = self._fitted()
        arrays = {name: np.ascontiguousarray(array) for name, array in placing.arrays().items()}
        write_model(folder, type(self).__name__, asdict(self.recipe), to_safetensors(arrays), about)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model, ready to `transform`.

        Raises:
            CheckpointError: not a model of this method, damaged, or of a newer imagescape.
        """
        model = cls(**read_recipe(folder, cls.__name__) | {"device": device})
        with reading_weights(folder) as path:
            model._placing = model._placing_of(load_file(path))
        return model

    def _placing_of(self, arrays: dict[str, np.ndarray]) -> "TaughtNetwork | Table":
        recipe = self.recipe
        if recipe.network == "table":
            return Table.of(arrays, recipe.metric)
        return TaughtNetwork.of(arrays, hidden=recipe.hidden, layers=recipe.layers, out_dim=recipe.out_dim)

    def _fitted(self) -> "TaughtNetwork | Table":
        if self._placing is None:
            raise NotFitted("this NeighborMap has learned nothing yet: call fit, or load a saved one")
        return self._placing


class _Coordinates(nn.Module):
    """A table of coordinates: rows -> places."""

    def __init__(self, start: np.ndarray) -> None:
        super().__init__()
        self.coords = nn.Parameter(torch.from_numpy(start))

    def forward(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return self.coords.index_select(0, rows)


def _graph(features: np.ndarray, inputs: np.ndarray, recipe: NeighborRecipe) -> np.ndarray:
    k, metric, device = min(recipe.neighbors, len(features) - 1), recipe.metric, recipe.device
    if features.shape[1] <= inputs.shape[1]:  # all there is in them
        return nearest_others(inputs, k, metric=metric, device=device).indices
    count = min(_CANDIDATES_PER_NEIGHBOR * k, len(features) - 1)
    candidates = nearest_others(inputs, count, metric=metric, device=device).indices
    return nearest_among(features, candidates, k, metric=metric, device=device).indices


def _start(inputs: np.ndarray, recipe: NeighborRecipe) -> np.ndarray:
    """The first principal components, of deviation 1 in the widest; a little noise parts what is the same."""
    rng = np.random.default_rng(seed_for(recipe.seed, "start"))
    start = rng.normal(0, 1e-3, (len(inputs), recipe.out_dim))
    width = min(recipe.out_dim, inputs.shape[1])
    start[:, :width] += inputs[:, :width] / max(float(inputs[:, 0].std()), 1e-12)
    return start.astype(np.float32)


def _batch(rows: int, most: int) -> int:
    """A power of two that leaves several steps an epoch, `most` at most."""
    return max(2, min(most, 2 ** max(1, (rows // 4).bit_length() - 1)))
