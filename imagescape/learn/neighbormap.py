"""Maps of given features: near stays near, and new rows land on the same map, in seconds and without a GPU.

The positives are neighbours in feature space instead of two views of an image; the loss is that of t-SimCNE, InfoNCE by
the Cauchy kernel (Damrich et al. 2023, arXiv:2206.01816; parametric: van der Maaten 2009, Sainburg et al. 2021,
arXiv:2009.12981). A table of coordinates learns the map, as it costs next to nothing to move; then, if asked, a network
learns to say from the features alone where on it a row belongs.
"""

import itertools
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors
from torch import Generator, Tensor, nn

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.neighbors import Metric, nearest, nearest_others
from imagescape.learn.encoder import FORMAT_VERSION, read_config, replace_folder
from imagescape.learn.estimator import NotFitted
from imagescape.learn.heads import principal_axes
from imagescape.learn.neighbor_loss import NeighborNCE
from imagescape.learn.optim import Schedule
from imagescape.learn.train import Record, fit, make_fabric
from imagescape.runtime import Precision, seed_for

# The network sees this many principal components at most, and the graph is made in them: the rest is mostly noise.
COMPONENTS = 128
_FEWEST_STEPS = 1000
_PLACED_BY = 5  # neighbours that a new row's place on a table is taken from
_ROWS_AT_ONCE = 2**14


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
class NeighborRecipe:
    """Settings of a neighbour map.

    Attributes:
        out_dim: Dimensions of the map.
        neighbors: Of each row, in the graph of positives; all others where there are fewer.
        metric: What near means among features: "euclidean" or "cosine".
        network: "table": the coordinates themselves; new rows are put among those that are nearest to them. "mlp": a
            network that is taught the table and is then the map; it needs no stored rows, and is less exact.
        epochs: Passes of the table over the rows; None: 500, and no fewer than 1,000 steps.
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
    negatives: int = 256
    start_width: float = 10.0
    hidden: int = 512
    layers: int = 3
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"

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

    @classmethod
    def of(cls, **settings: Any) -> "NeighborRecipe":
        """The recipe of these settings; InputError when one is unknown."""
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in settings if name not in known]:
            raise InputError(f"there is no setting '{unknown[0]}' of neighbour maps; there are {', '.join(known)}")
        return cls(**settings)

    def table_schedule(self, rows: int) -> Schedule:
        batch = _batch(rows, 2048)
        return Schedule(
            epochs=self.epochs or max(500, _epochs_for(_FEWEST_STEPS, rows, batch)),
            batch_size=batch,
            learning_rate=0.5,
            warmup_epochs=1,
            optimizer="adam",
            weight_decay=0.0,
        )

    def network_schedule(self, rows: int) -> Schedule:
        batch = _batch(rows, 256)
        return Schedule(
            epochs=self.network_epochs or max(20, _epochs_for(_FEWEST_STEPS, rows, batch)),
            batch_size=batch,
            learning_rate=0.003,
            warmup_epochs=1,
            optimizer="adamw",
            weight_decay=1e-4,
        )


class NeighborMap:
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
        self._placing: _Network | _Table | None = None

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
            graph: Rows of each row's neighbours, where they are known already; else they are found, exactly.
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
        fabric = make_fabric(recipe.device, recipe.precision)
        if fabric.world_size > 1:
            raise InputError("a map of features is learned by one process; start it without torchrun")
        components = Components.of(features, COMPONENTS)
        inputs = components.project(features)
        if graph is None:
            k = min(recipe.neighbors, len(features) - 1)
            graph = nearest_others(inputs, k, metric=recipe.metric, device=recipe.device).indices
        record = None if run_folder is None else Record(Path(run_folder), checkpoint_minutes)
        table = _Coordinates(_start(inputs, recipe))
        pairs = GraphPairs(graph, fabric.device)
        loss = NeighborNCE(recipe.negatives, recipe.start_width)
        schedule = recipe.table_schedule(len(features))
        history = fit(table, pairs, loss, schedule, fabric=fabric, seed=recipe.seed, stage=1, record=record)
        coords = table.coords.detach().cpu().numpy()
        mean, axes = principal_axes(coords)
        coords = ((coords - mean) @ axes).astype(np.float32)
        if recipe.network == "table":
            self._placing, self.coords_ = _Table(components, inputs, coords, recipe.metric), coords
        else:
            network = _Network.fresh(components, coords, recipe)
            lessons = Lessons(network.scaled(inputs), network.standardised(coords), graph, fabric.device)
            schedule = recipe.network_schedule(len(features))
            history += fit(
                _Taught(network.mlp),
                lessons,
                mean_distance,
                schedule,
                fabric=fabric,
                seed=recipe.seed,
                stage=2,
                record=record,
            )
            self._placing, self.coords_ = network, network.place(inputs)
        self.history_ = history
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
        config = {"format_version": FORMAT_VERSION, "recipe": {"method": "NeighborMap", **asdict(self.recipe)}, **about}
        arrays = {name: np.ascontiguousarray(array) for name, array in placing.arrays().items()}

        def write(part: Path) -> None:
            (part / "config.json").write_text(json.dumps(config, indent=2))
            (part / "weights.safetensors").write_bytes(to_safetensors(arrays))

        replace_folder(Path(folder), write)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model, ready to `transform`.

        Raises:
            CheckpointError: not a model of this method, damaged, or of a newer imagescape.
        """
        folder, saved = Path(folder), read_config(folder)["recipe"]
        if saved.get("method") != cls.__name__:
            raise CheckpointError(f"{folder} is a {saved.get('method', 'bare encoder')}, not a {cls.__name__}")
        model = cls(**{name: value for name, value in saved.items() if name != "method"} | {"device": device})
        try:
            arrays = load_file(folder / "weights.safetensors")
            kind = _Table if model.recipe.network == "table" else _Network
            model._placing = kind.of(arrays, model.recipe)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{folder / 'weights.safetensors'} cannot be read: {error}") from error
        return model

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with, by name (scikit-learn)."""
        return dict(self._arguments)

    def set_params(self, **values: Any) -> Self:
        """Change arguments for the next `fit` (scikit-learn)."""
        changed = type(self)(**(self._arguments | values))
        self.recipe, self._arguments = changed.recipe, changed._arguments
        return self

    def _fitted(self) -> "_Network | _Table":
        if self._placing is None:
            raise NotFitted("this NeighborMap has learned nothing yet: call fit, or load a saved one")
        return self._placing


class GraphPairs:
    """Items and their neighbours, by row: the pairs of a table.

    Args:
        graph: (n, k) rows of each row's neighbours.
        device: Where batches go.
    """

    def __init__(self, graph: Int[np.ndarray, "n k"], device: torch.device) -> None:
        self.device = device
        self._graph = torch.from_numpy(np.ascontiguousarray(graph, np.int64)).to(device)

    def __len__(self) -> int:
        return len(self._graph)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(index).to(self.device)
        which = torch.randint(self._graph.shape[1], (len(rows),), generator=generator, device=self.device)
        return rows, self._graph[rows, which]


class Lessons:
    """Inputs and where they belong, in one row, of items and of their neighbours: what a network is taught by.

    Args:
        inputs: (n, d) float32.
        targets: (n, out_dim) float32.
        graph: (n, k) rows of each row's neighbours.
        device: Where batches go.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, graph: np.ndarray, device: torch.device) -> None:
        self.device = device
        self._rows = torch.from_numpy(np.concatenate([inputs, targets], axis=1)).to(device)
        self._pairs = GraphPairs(graph, device)

    def __len__(self) -> int:
        return len(self._pairs)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        a, b = self._pairs.batch(index, generator)
        return self._rows[a], self._rows[b]


def mean_distance(a: Float[Tensor, "n e"], b: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """Mean distance between what was said (the first half of each row) and what is so (the second).

    Not its square: a row between two places belongs to one of them, and their middle is the worst answer.
    """
    said, so = torch.cat([a, b]).chunk(2, dim=1)
    return ((said - so).square().sum(1) + 1e-6).sqrt().mean()


class _Coordinates(nn.Module):
    """A table of coordinates: rows -> places."""

    def __init__(self, start: np.ndarray) -> None:
        super().__init__()
        self.coords = nn.Parameter(torch.from_numpy(start))

    def forward(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return self.coords[rows]


class _MLP(nn.Module):
    def __init__(self, in_features: int, hidden: int, layers: int, out_dim: int) -> None:
        super().__init__()
        widths = [in_features, *[hidden] * layers]
        parts = [nn.Sequential(nn.Linear(*pair), nn.ReLU()) for pair in itertools.pairwise(widths)]
        self.hidden = nn.Sequential(*parts)
        self.readout = nn.Linear(hidden, out_dim)

    def forward(self, inputs: Float[Tensor, "n d"]) -> Float[Tensor, "n out_dim"]:
        hidden = self.hidden(inputs)
        with torch.autocast(inputs.device.type, enabled=False):  # a map is finer than bfloat16
            places: Tensor = self.readout(hidden.float())
        return places


class _Taught(nn.Module):
    """The network on rows of `Lessons`: what it says, and beside it what is so."""

    def __init__(self, mlp: _MLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, rows: Float[Tensor, "n in_and_out"]) -> Float[Tensor, "n twice_out"]:
        width = rows.shape[1] - self.mlp.readout.out_features
        return torch.cat([self.mlp(rows[:, :width]), rows[:, width:]], dim=1)


@dataclass(frozen=True)
class Components:
    """Principal components of the features: what distances and networks are taken in.

    Attributes:
        mean: (d,) of the features.
        axes: (d, c), orthonormal, by falling variance.
    """

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, most: int) -> "Components":
        """At most `most` of them, from all rows, a block at a time."""
        d, total = features.shape[1], len(features)
        mean, products = np.zeros(d), np.zeros((d, d))
        for start in range(0, total, _ROWS_AT_ONCE):
            mean += features[start : start + _ROWS_AT_ONCE].sum(0, dtype=np.float64) / total
        if not np.isfinite(mean).all():
            raise InputError("features must be finite; leave out the rows that are not")
        for start in range(0, total, _ROWS_AT_ONCE):
            rows = (features[start : start + _ROWS_AT_ONCE] - mean).astype(np.float32)
            products += rows.T @ rows
        _, axes = np.linalg.eigh(products)
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes[:, ::-1][:, :most], np.float32))

    def project(self, features: np.ndarray) -> Float[np.ndarray, "n c"]:
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(f"the map is of {len(self.mean)} features a row, got shape {features.shape}")
        out = np.empty((len(features), self.axes.shape[1]), np.float32)
        for start in range(0, len(features), _ROWS_AT_ONCE):
            here = slice(start, start + _ROWS_AT_ONCE)
            out[here] = (features[here].astype(np.float32) - self.mean) @ self.axes
        if not np.isfinite(out).all():
            raise InputError("features must be finite; leave out the rows that are not")
        return out


class _Network:
    """A map that is a network: components of the features -> places."""

    def __init__(self, components: Components, deviations: np.ndarray, spread: float, mlp: _MLP) -> None:
        self.components, self.deviations, self.spread, self.mlp = components, deviations, spread, mlp

    @classmethod
    def fresh(cls, components: Components, coords: np.ndarray, recipe: NeighborRecipe) -> "_Network":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(recipe.seed, "network"))
            mlp = _MLP(components.axes.shape[1], recipe.hidden, recipe.layers, coords.shape[1])
        return cls(components, np.ones(components.axes.shape[1], np.float32), max(float(coords.std()), 1e-12), mlp)

    def scaled(self, inputs: np.ndarray) -> np.ndarray:
        """Components brought nearer to each other in size; fixed by the first inputs it is given."""
        if (self.deviations == 1).all():
            self.deviations = np.sqrt(np.maximum(inputs.std(0), 1e-6 * max(float(inputs.std()), 1e-12)))
            self.deviations *= np.sqrt(np.mean(np.square(inputs / self.deviations)))
        return inputs / self.deviations

    def standardised(self, coords: np.ndarray) -> np.ndarray:
        return (coords / self.spread).astype(np.float32)

    @torch.inference_mode()
    def place(self, inputs: np.ndarray) -> np.ndarray:
        device = next(self.mlp.parameters()).device
        rows = torch.from_numpy(self.scaled(inputs)).split(_ROWS_AT_ONCE)
        places = [self.mlp(part.to(device)).cpu() for part in rows] or [torch.empty(0, self.mlp.readout.out_features)]
        return torch.cat(places).numpy() * self.spread

    def arrays(self) -> dict[str, np.ndarray]:
        weights = {f"mlp.{name}": tensor.cpu().numpy() for name, tensor in self.mlp.state_dict().items()}
        own = {"mean": self.components.mean, "axes": self.components.axes, "deviations": self.deviations}
        return {**own, "spread": np.array([self.spread], np.float32), **weights}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], recipe: NeighborRecipe) -> "_Network":
        components = Components(arrays["mean"], arrays["axes"])
        mlp = _MLP(components.axes.shape[1], recipe.hidden, recipe.layers, recipe.out_dim)
        weights = {name.removeprefix("mlp."): torch.from_numpy(v) for name, v in arrays.items() if "mlp." in name}
        mlp.load_state_dict(weights)
        return cls(components, arrays["deviations"], float(arrays["spread"][0]), mlp)


class _Table:
    """A map that is a table: new rows are put among the rows of it that are nearest to them in feature space."""

    def __init__(self, components: Components, inputs: np.ndarray, coords: np.ndarray, metric: Metric) -> None:
        self.components, self.inputs, self.coords, self.metric = components, inputs, coords, metric

    def place(self, inputs: np.ndarray) -> np.ndarray:
        found = nearest(self.inputs, inputs, min(_PLACED_BY, len(self.inputs)), metric=self.metric)
        return geometric_median(self.coords[found.indices], 1 / np.maximum(found.distances, 1e-12))

    def arrays(self) -> dict[str, np.ndarray]:
        own = {"mean": self.components.mean, "axes": self.components.axes}
        return {**own, "inputs": self.inputs, "coords": self.coords}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], recipe: NeighborRecipe) -> "_Table":
        return cls(Components(arrays["mean"], arrays["axes"]), arrays["inputs"], arrays["coords"], recipe.metric)


def geometric_median(
    points: Float[np.ndarray, "m k d"], weights: Float[np.ndarray, "m k"], *, steps: int = 20
) -> Float[np.ndarray, "m d"]:
    """The place with the least weighted sum of distances to the k points of each row.

    Unlike their mean it does not fall between two groups of points, where nothing is (Weiszfeld 1937).
    """
    weights = weights / weights.sum(1, keepdims=True)
    place = np.einsum("mkd,mk->md", points, weights)
    for _ in range(steps):
        apart = np.linalg.norm(points - place[:, None], axis=2)
        pull = weights / np.maximum(apart, 1e-6)
        place = np.einsum("mkd,mk->md", points, pull / pull.sum(1, keepdims=True))
    return place.astype(np.float32)


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


def _epochs_for(steps: int, rows: int, batch: int) -> int:
    return math.ceil(steps / (rows // batch))
