"""Where on a finished map a row of features belongs: by its neighbours on a table, or by a network taught the table."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Metric, nearest
from imagescape.learn.pairs import GraphPairs
from imagescape.runtime import seed_for

_PLACED_BY = 5  # neighbours that a new row's place on a table is taken from
_ROWS_AT_ONCE = 2**14


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


class Table:
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
    def of(cls, arrays: dict[str, np.ndarray], metric: Metric) -> "Table":
        return cls(Components(arrays["mean"], arrays["axes"]), arrays["inputs"], arrays["coords"], metric)


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


class MLP(nn.Module):
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


class TaughtNetwork:
    """A map that is a network: components of the features -> places."""

    def __init__(self, components: Components, deviations: np.ndarray, spread: float, mlp: MLP) -> None:
        self.components, self.deviations, self.spread, self.mlp = components, deviations, spread, mlp

    @classmethod
    def fresh(
        cls, components: Components, inputs: np.ndarray, coords: np.ndarray, *, hidden: int, layers: int, seed: int
    ) -> "TaughtNetwork":
        """Untaught, with the scales of these inputs and places: components are brought nearer to each other in size."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "network"))
            mlp = MLP(components.axes.shape[1], hidden, layers, coords.shape[1])
        deviations = np.sqrt(np.maximum(inputs.std(0), 1e-6 * max(float(inputs.std()), 1e-12)))
        deviations *= np.sqrt(np.mean(np.square(inputs / deviations))) or 1  # all rows may be the same
        return cls(components, deviations, max(float(coords.std()), 1e-12), mlp)

    def scaled(self, inputs: np.ndarray) -> np.ndarray:
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
    def of(cls, arrays: dict[str, np.ndarray], *, hidden: int, layers: int, out_dim: int) -> "TaughtNetwork":
        components = Components(arrays["mean"], arrays["axes"])
        mlp = MLP(components.axes.shape[1], hidden, layers, out_dim)
        weights = {name.removeprefix("mlp."): torch.from_numpy(v) for name, v in arrays.items() if "mlp." in name}
        mlp.load_state_dict(weights)
        return cls(components, arrays["deviations"], float(arrays["spread"][0]), mlp)


class Lesson(nn.Module):
    """The network on rows of `Lessons`: what it says, and beside it what is so."""

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, rows: Float[Tensor, "n in_and_out"]) -> Float[Tensor, "n twice_out"]:
        width = rows.shape[1] - self.mlp.readout.out_features
        return torch.cat([self.mlp(rows[:, :width]), rows[:, width:]], dim=1)


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
