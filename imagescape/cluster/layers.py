"""Clusterings at several scales at once, by the libraries that find which scales there are: PLSCAN and EVoC."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from imagescape.cluster.density import DensityClusterer
from imagescape.cluster.estimator import Assigned, Metric, check_count, check_metric, numbered_by_size, prepared
from imagescape.errors import InputError, require
from imagescape.runtime import seed_for


class LayeredClusterer(DensityClusterer):
    """What the two have in common: layers from fine to coarse, one of which persists the longest.

    A new row is given to the cluster of its nearest row in one, however far that is.

    Attributes after `fit`:
        labels_: Of the layer that persists the longest, (n,) int64.
        layers_: Labels by number of clusters, fine to coarse; (n,) each. They need not be nested.
        probabilities_: How far within its cluster a row is; 0 for noise.
    """

    layers_: dict[int, np.ndarray]

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = []

    def fit(self, features: Float[np.ndarray, "n d"], y: object = None) -> Self:
        """Find the layers of `features`, (n, d) of any real dtype; `y` is ignored.

        Raises:
            InputError: fewer than 4 rows, or as `prepared`.
            MissingExtraError: the library is not installed.
        """
        rows = prepared(features, self.metric)
        if len(rows) < 4:
            raise InputError(f"layers of clusters need at least 4 rows, got {len(rows)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numba tells of its own affairs
            layers, probabilities, chosen = self._layers(rows)
        self.layers_ = {}
        for layer in layers:
            labels = numbered_by_size(np.asarray(layer, np.int64))
            self.layers_.setdefault(int(labels.max(initial=-1)) + 1, labels)
        labels = np.asarray(layers[chosen], np.int64)
        self.labels_ = numbered_by_size(labels)
        self.probabilities_ = np.where(labels < 0, 0, np.nan_to_num(probabilities)).astype(np.float32)
        self._give_noise(rows)
        self._names = [str(k) for k in self.layers_] if len(self.layers_) > 1 else []
        columns = np.column_stack([self.labels_, *(self.layers_.values() if self._names else ())])
        stand = (columns >= 0).any(axis=1)
        self._rows, self._row_labels = rows[stand], columns[stand]
        return self

    @property
    def labellings_(self) -> dict[str, Int[np.ndarray, " n"]]:
        """The layers where there are several, by their numbers of clusters."""
        return dict(zip(self._names, self.layers_.values(), strict=False))

    def _labelling_names(self) -> list[str]:
        return self._names

    @abstractmethod
    def _layers(self, rows: np.ndarray) -> tuple[Sequence[np.ndarray], np.ndarray, int]:
        """Labels of each layer, the strengths of the chosen one, and which that is."""

    def _judged(self, labels: np.ndarray, distances: np.ndarray, column: int) -> Assigned:
        return Assigned(labels, (labels >= 0).astype(np.float32))

    def _arrays(self) -> dict[str, np.ndarray]:
        return super()._arrays() | {"layers": np.array([int(name) for name in self._names], np.int64)}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        super()._restore(arrays)
        self._names = [str(k) for k in arrays["layers"].tolist()]


class PLSCAN(LayeredClusterer):
    """PLSCAN: HDBSCAN at the scales whose clusters persist (Bot et al. 2025, arXiv:2512.16558), by fast-hdbscan.

    Made for few dimensions, as HDBSCAN.

    Args:
        min_cluster_size: Rows that a cluster of the finest layer has at least.
        min_samples: As for `HDBSCAN`.
        metric: "euclidean", or "cosine" for rows of length 1.
        random_state: Ignored: nothing is random.
    """

    def __init__(
        self,
        *,
        min_cluster_size: int = 5,
        min_samples: int = 5,
        metric: Metric = "euclidean",
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        check_count("min_cluster_size", min_cluster_size, 2)
        check_count("min_samples", min_samples, 1)
        check_metric(metric, ("euclidean", "cosine"))
        self._library = require("fast_hdbscan", extra="hdbscan")
        self._arguments = {
            "min_cluster_size": min_cluster_size,
            "min_samples": min_samples,
            "metric": metric,
            "random_state": random_state,
        }
        self.min_cluster_size, self.min_samples, self.metric = min_cluster_size, min_samples, metric

    def _layers(self, rows: np.ndarray) -> tuple[Sequence[np.ndarray], np.ndarray, int]:
        found = self._library.PLSCAN(
            min_samples=self.min_samples, base_min_cluster_size=self.min_cluster_size, reproducible=True
        ).fit(rows)
        chosen = int(np.argmax(found.layer_persistence_scores_)) if len(found.cluster_layers_) > 1 else 0
        return found.cluster_layers_, found.membership_strengths_, chosen


class EVoC(LayeredClusterer):
    """EVoC: layers of clusters of many-dimensional features, by a graph of neighbours (McInnes 2024, package evoc).

    It takes rows by their direction alone. Results differ more from seed to seed than those of the other methods.

    Args:
        min_cluster_size: Rows that a cluster of the finest layer has at least.
        min_samples: Rows whose distance is taken as density.
        neighbors: Of each row, in the graph.
        metric: "cosine".
        random_state: The seed.
    """

    def __init__(
        self,
        *,
        min_cluster_size: int = 5,
        min_samples: int = 5,
        neighbors: int = 15,
        metric: Metric = "cosine",
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        check_count("min_cluster_size", min_cluster_size, 2)
        check_count("min_samples", min_samples, 1)
        check_count("neighbors", neighbors, 1)
        check_metric(metric, ("cosine",))
        self._library = require("evoc", extra="evoc")
        self._arguments: dict[str, Any] = {
            "min_cluster_size": min_cluster_size,
            "min_samples": min_samples,
            "neighbors": neighbors,
            "metric": metric,
            "random_state": random_state,
        }
        self.min_cluster_size, self.min_samples, self.neighbors = min_cluster_size, min_samples, neighbors
        self.metric, self.seed = metric, int(random_state or 0)

    def _layers(self, rows: np.ndarray) -> tuple[Sequence[np.ndarray], np.ndarray, int]:
        found = self._library.EVoC(
            base_min_cluster_size=self.min_cluster_size,
            min_samples=self.min_samples,
            n_neighbors=min(self.neighbors, len(rows) - 1),
            # As the library has it, but for features that have fewer dimensions.
            node_embedding_dim=min(max(self.neighbors // 4, 4), 15, *rows.shape),
            random_state=seed_for(self.seed, "evoc") % 2**31,
        )
        found.fit(rows)
        chosen = int(np.argmax(found.persistence_scores_)) if len(found.cluster_layers_) > 1 else 0
        return found.cluster_layers_, found.membership_strengths_, chosen
