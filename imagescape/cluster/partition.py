"""k-means, plain and spherical: every row to the nearest of k centroids."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from imagescape.cluster.centroids import Centroids
from imagescape.cluster.estimator import Assigned, Clusterer, Metric, by_size, check_count, check_metric, prepared
from imagescape.errors import InputError, require
from imagescape.runtime import seed_for

_TRIAL_ITERATIONS = 8  # of a restart, before the best one is gone on with
# Relative to the objective, which for cosines is their sum: near the number of rows from the start.
_SMALLEST_GAIN = {"euclidean": 1e-5, "cosine": 1e-7}


class KMeans(Clusterer):
    """k-means with restarts, on FAISS (Lloyd 1982; k-means++: Arthur and Vassilvitskii 2007).

    Of all restarts the one with the least inertia after a few iterations is gone on with to its end. No cluster is ever
    empty: one that loses its rows takes the row that is farthest from its centroid.

    Args:
        k: Clusters, at least 2 and at most the number of different rows.
        metric: "euclidean"; "cosine", which is spherical k-means, with rows and centroids of length 1 (Dhillon and
            Modha 2001); or "hamming", Euclidean k-means of the bits of packed hashes.
        restarts: Starts from other centroids, at least 1.
        iterations: Of Lloyd's algorithm at most; it ends earlier when the inertia hardly falls.
        rows_per_cluster: Learn from a sample of so many rows a cluster, then assign all; None: from all rows.
        random_state: The seed.

    Attributes after `fit`:
        labels_: (n,) int64, by falling size.
        probabilities_: Membership in one's own cluster, see `Centroids.memberships`; (n,) float32 in (0, 1].
        centroids_: (k, d) float32, of length 1 for "cosine"; (k, bits) for "hamming".
        inertia_: Sum of squared distances of rows to their centroids; of 1 - cosine for "cosine".
    """

    def __init__(
        self,
        *,
        k: int,
        metric: Metric = "euclidean",
        restarts: int = 10,
        iterations: int = 100,
        rows_per_cluster: int | None = None,
        random_state: int | None = None,
    ) -> None:
        check_count("k", k, 2)
        check_metric(metric)
        check_count("restarts", restarts, 1)
        check_count("iterations", iterations, 1)
        if rows_per_cluster is not None:
            check_count("rows_per_cluster", rows_per_cluster, 1)
        self._arguments = {
            "k": int(k),
            "metric": metric,
            "restarts": int(restarts),
            "iterations": int(iterations),
            "rows_per_cluster": rows_per_cluster,
            "random_state": random_state,
        }
        self.k, self.metric, self.restarts, self.iterations = int(k), metric, int(restarts), int(iterations)
        self.rows_per_cluster, self.seed = rows_per_cluster, int(random_state or 0)
        self._centroids: Centroids | None = None

    @property
    def centroids_(self) -> np.ndarray:
        self._check_fitted()
        assert self._centroids is not None
        return self._centroids.vectors

    def fit(self, features: Float[np.ndarray, "n d"], y: object = None) -> Self:
        """Find k centroids of `features`, (n, d) of any real dtype (packed uint8 for "hamming"); `y` is ignored.

        Raises:
            InputError: k exceeds the rows or the different rows, or as `prepared`.
            MissingExtraError: FAISS is not installed.
        """
        faiss = require("faiss", extra="faiss")
        rows = prepared(features, self.metric)
        if self.k > len(rows):
            raise InputError(f"k must be at most the {len(rows)} rows there are, got {self.k}")
        middle = np.zeros(rows.shape[1], np.float32) if self._is_spherical else rows.mean(axis=0)
        moved = rows - middle  # FAISS multiplies: large numbers would cancel
        sample = _sample(moved, self.k, self.rows_per_cluster, self.seed)
        vectors = self._best_start(faiss, sample)
        self.labels_, squares, vectors = self._filled(moved, vectors)
        self.inertia_ = float(squares.sum(dtype=np.float64)) / (2 if self._is_spherical else 1)
        order = by_size(self.labels_)
        place = np.empty(self.k, np.int64)
        place[order] = np.arange(self.k)
        self.labels_ = place[self.labels_]
        spread = self.inertia_ * (2 if self._is_spherical else 1) / len(rows)
        self._centroids = Centroids(vectors[order] + middle, spread)
        self.probabilities_ = self._centroids.membership_of(rows, self.labels_)
        return self

    def assign(self, features: Float[np.ndarray, "m d"]) -> Assigned:
        """The nearest centroid of each row, and the membership in its cluster; errors as `predict`."""
        self._check_fitted()
        assert self._centroids is not None
        rows = prepared(features, self.metric, width=self.centroids_.shape[1])
        labels, _ = self._centroids.nearest(rows)
        return Assigned(labels, self._centroids.membership_of(rows, labels))

    def predict_proba(self, features: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Memberships of each row in each cluster, see `Centroids.memberships`; errors as `predict`."""
        self._check_fitted()
        assert self._centroids is not None
        return self._centroids.memberships(prepared(features, self.metric, width=self.centroids_.shape[1]))

    def _best_start(self, faiss: ModuleType, rows: np.ndarray) -> np.ndarray:
        """Centroids (k, d) of the restart that is ahead after a few iterations, at its end."""
        best, least = None, np.inf
        for restart in range(self.restarts if self.restarts > 1 else 0):
            start = _Lloyd(faiss, self.k, seed_for(self.seed, "k-means", restart), is_spherical=self._is_spherical)
            vectors, objective = start.run(rows, min(_TRIAL_ITERATIONS, self.iterations))
            if objective < least:
                best, least = vectors, objective
        last = _Lloyd(faiss, self.k, seed_for(self.seed, "k-means", 0), is_spherical=self._is_spherical)
        return last.run(rows, self.iterations, best)[0]

    @property
    def _is_spherical(self) -> bool:
        return self.metric == "cosine"

    def _filled(self, rows: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels and squared distances of the rows, and centroids none of which is without a row."""
        for _ in range(self.k + 1):
            labels, squares = Centroids(vectors, 0.0).nearest(rows)
            empty = np.flatnonzero(np.bincount(labels, minlength=self.k) == 0)
            if not len(empty):
                return labels, squares, vectors
            vectors = vectors.copy()
            vectors[empty] = rows[np.argsort(-squares, kind="stable")[: len(empty)]]  # some of them may be twins
        different = len(np.unique(rows, axis=0))
        if different == 1:
            raise InputError(f"all {len(rows)} rows are equal: there is nothing to part into {self.k} clusters")
        raise InputError(f"k must be at most the number of rows that can be told apart, got {self.k} for {different}")

    def _is_fitted(self) -> bool:
        return self._centroids is not None

    def _arrays(self) -> dict[str, np.ndarray]:
        assert self._centroids is not None
        return {"centroids": self._centroids.vectors, "spread": np.array([self._centroids.spread], np.float64)}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._centroids = Centroids(arrays["centroids"], float(arrays["spread"][0]))


def quantize(
    rows: Float[np.ndarray, "n d"],
    k: int,
    *,
    is_spherical: bool = False,
    iterations: int = 5,
    rows_per_cluster: int = 64,
    seed: int = 0,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "m d"]]:
    """Many small clusters, quickly: one start, few iterations, learned from a sample.

    Args:
        rows: As `prepared`.
        k: Clusters at most; those that have no rows are left out.
        is_spherical: Whether centroids have length 1.
        iterations, rows_per_cluster, seed: As for `KMeans`.

    Returns:
        The cluster of each row, (n,) int64 below m, and the m <= k centroids, float32.

    Raises:
        MissingExtraError: FAISS is not installed.
    """
    faiss = require("faiss", extra="faiss")
    middle = np.zeros(rows.shape[1], np.float32) if is_spherical else rows.mean(axis=0)
    moved, k = rows - middle, min(k, len(rows))
    sample = _sample(moved, k, rows_per_cluster, seed)
    vectors, _ = _Lloyd(faiss, k, seed_for(seed, "quantize"), is_spherical=is_spherical).run(sample, iterations)
    used, labels = np.unique(Centroids(vectors, 0.0).nearest(moved)[0], return_inverse=True)
    return labels.astype(np.int64), vectors[used] + middle


def _sample(rows: np.ndarray, k: int, rows_per_cluster: int | None, seed: int) -> np.ndarray:
    if rows_per_cluster is None or rows_per_cluster * k >= len(rows):
        return rows
    generator = np.random.default_rng(seed_for(seed, "k-means sample"))
    return rows[np.sort(generator.choice(len(rows), rows_per_cluster * k, replace=False))]


@dataclass(frozen=True)
class _Lloyd:
    """Lloyd's iterations by FAISS, from k-means++."""

    faiss: ModuleType
    k: int
    seed: int
    is_spherical: bool = field(kw_only=True)

    def run(self, rows: np.ndarray, iterations: int, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
        """Centroids (k, d), from those of `start` where given; and the objective, of which less is better."""
        settings: dict[str, Any] = {
            "niter": iterations,
            "spherical": self.is_spherical,
            "seed": self.seed & 0x7FFFFFFF,
            "min_points_per_centroid": 1,  # FAISS would print a warning
            "max_points_per_centroid": len(rows),  # and would learn from a sample of its own
            "init_method": self.faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            "early_stop_threshold": _SMALLEST_GAIN["cosine" if self.is_spherical else "euclidean"],
        }
        means = self.faiss.Kmeans(rows.shape[1], self.k, **settings)
        means.train(rows, init_centroids=start)
        objective = float(means.obj[-1]) if len(means.obj) else 0.0  # as many rows as clusters: nothing to do
        return np.array(means.centroids, np.float32), -objective if self.is_spherical else objective
