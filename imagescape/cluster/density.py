"""DBSCAN and HDBSCAN: clusters are where rows lie close, of any shape and number, and the rest is noise."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from imagescape.cluster.estimator import (
    NOISE,
    Assigned,
    Clusterer,
    Metric,
    by_size,
    check_count,
    check_metric,
    compact,
    numbered_by_size,
    prepared,
)
from imagescape.cluster.hierarchy import square_distances
from imagescape.errors import InputError, require
from imagescape.evaluate.neighbors import Corpus, nearest, nearest_others

# Up to here scikit-learn, which compares all pairs; beyond fast-hdbscan, by a tree. Of many dimensions scikit-learn is
# given the matrix of distances, which is many times faster, and 2 GB with its copies at its limit.
SKLEARN_ROWS, SKLEARN_ROWS_DENSE = 20_000, 10_000
_TREE_DIMENSIONS = 3
_PAIRS_AT_ONCE = 2**24
_LARGEST_BLOCK, _SMALLEST_BLOCK = 4_096, 16
# Trees serve up to so many dimensions; beyond, fast-hdbscan wants a graph of neighbours.
_MANY_DIMENSIONS = 30
_GRAPH_NEIGHBORS = 3  # of that graph, for each of min_samples


class DensityClusterer(Clusterer):
    """What DBSCAN and HDBSCAN share: clusters with noise between them, and new rows by the rows that are near.

    Attributes after `fit`, beside those of `Clusterer`:
        nearest_: `labels_` with noise given to the cluster of its nearest row in one, (n,) int64; all -1 where there is
            no cluster.
    """

    metric: Metric
    nearest_: np.ndarray

    def __init__(self) -> None:
        # The rows that stand for clusters, (m, d), and the cluster of each in `labels_` and each of the other
        # labellings, (m, 1 + others); -1 where a row stands for none.
        self._rows: np.ndarray | None = None
        self._row_labels = np.empty((0, 1), np.int64)

    @abstractmethod
    def _judged(self, labels: np.ndarray, distances: np.ndarray, column: int) -> Assigned:
        """What new rows are, given the cluster and the distance (of prepared rows) of the nearest that stands for one.

        `column` says of which labelling.
        """

    def assign(self, features: Float[np.ndarray, "m d"]) -> Assigned:
        """New rows join the cluster of the nearest row that stands for one, or are noise where that is too far."""
        return self._judged(*self._nearest_labels(features, 0), 0)

    def predict_labellings(self, features: Float[np.ndarray, "m d"]) -> dict[str, Int[np.ndarray, " m"]]:
        """Clusters of new rows in each of `labellings_`, as `assign`; errors as `predict`."""
        return {
            name: self._judged(*self._nearest_labels(features, column), column).labels
            for column, name in enumerate(self._labelling_names(), 1)
        }

    def predict_nearest(self, features: Float[np.ndarray, "m d"]) -> Int[np.ndarray, " m"]:
        """The cluster of the nearest row that stands for one, however far; -1 only where there is no cluster."""
        return self._nearest_labels(features, 0)[0]

    def _labelling_names(self) -> list[str]:
        return []

    def _nearest_labels(self, features: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels, and distances: -1 at inf where there is no cluster."""
        self._check_fitted()
        assert self._rows is not None
        rows = prepared(features, self.metric, width=self._rows.shape[1])
        stand = np.flatnonzero(self._row_labels[:, column] >= 0)
        if not len(stand):
            return np.full(len(rows), NOISE), np.full(len(rows), np.inf, np.float32)
        found = nearest(self._rows[stand], rows, 1)
        return self._row_labels[stand[found.indices[:, 0]], column], found.distances[:, 0]

    def _give_noise(self, rows: np.ndarray) -> None:
        """Set `nearest_`."""
        self.nearest_, noise = self.labels_.copy(), self.labels_ < 0
        own = np.flatnonzero(~noise)
        if len(own) and noise.any():
            self.nearest_[noise] = self.labels_[own[nearest(rows[own], rows[noise], 1).indices[:, 0]]]

    def _is_fitted(self) -> bool:
        return self._rows is not None

    def _arrays(self) -> dict[str, np.ndarray]:
        assert self._rows is not None
        return {"rows": compact(self._rows), "row_labels": self._row_labels}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        self._rows, self._row_labels = arrays["rows"].astype(np.float32), arrays["row_labels"]


class DBSCAN(DensityClusterer):
    """DBSCAN for one or several eps from one search (Ester et al. 1996).

    A row with `min_samples` rows within eps, itself among them, is a core row; core rows within eps of each other are
    one cluster. A row that is none belongs to the nearest core row within eps, and is noise if there is none. No order
    of the rows changes that. Memory grows with the rows and not with the pairs within eps.

    Args:
        eps: Radius, above 0, in units of the metric: 1 - cosine for "cosine", bits that differ for "hamming". Several
            give several clusterings; `labels_` are those of the first.
        min_samples: Rows within eps, itself among them, that make a row a core row; at least 1.
        metric: "euclidean", "cosine" or "hamming" (packed hashes).
        random_state: Ignored: nothing is random.

    Attributes after `fit`:
        labels_: (n,) int64 at the first eps.
        probabilities_: 1 for core rows, the share of `min_samples` that is within eps for others, 0 for noise.
        by_eps_: Labels (n,) by eps.
        core_distances_: The least eps at which a row is a core row, (n,) float32; inf where there are too few rows.
            Their quantiles help to choose eps.
    """

    def __init__(
        self,
        *,
        eps: float | Sequence[float],
        min_samples: int = 5,
        metric: Metric = "euclidean",
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        radii = np.atleast_1d(np.asarray(eps, np.float64)).tolist()
        if not radii or not all(0 < one < np.inf for one in radii) or len(set(radii)) < len(radii):
            raise InputError(f"eps must be above 0, and each named once, got {eps}")
        if len({eps_name(one) for one in radii}) < len(radii):
            raise InputError(f"eps must differ in their first six digits, got {eps}")
        check_count("min_samples", min_samples, 1)
        check_metric(metric)
        self._arguments = {
            "eps": radii,
            "min_samples": int(min_samples),
            "metric": metric,
            "random_state": random_state,
        }
        self.eps, self.min_samples, self.metric = radii, int(min_samples), metric

    def fit(self, features: Float[np.ndarray, "n d"], y: object = None) -> Self:
        """Find the clusters of `features`, (n, d) of any real dtype (packed uint8 for "hamming"); `y` is ignored.

        Raises:
            InputError: as `prepared`.
        """
        rows = prepared(features, self.metric)
        reach = [self._prepared_radius(eps) for eps in self.eps]
        core_distances = _core_distances(rows, self.min_samples)
        self.core_distances_ = self._in_metric(core_distances)
        search = _Radius(rows, max(reach))
        found = [_Growing(core_distances <= radius, radius) for radius in reach]
        counts = np.zeros(len(rows), np.int64)  # rows within the first eps
        for which, near, apart in search.pairs():
            counts += np.bincount(which[apart <= reach[0]], minlength=len(rows))
            for one in found:
                one.grow(which, near, apart)
        self.by_eps_ = {eps: one.labels() for eps, one in zip(self.eps, found, strict=True)}
        self.labels_, is_core = self.by_eps_[self.eps[0]], found[0].is_core
        share = np.minimum(1, counts / self.min_samples)
        self.probabilities_ = np.where(self.labels_ < 0, 0, np.where(is_core, 1, share)).astype(np.float32)
        self._give_noise(rows)
        stand = np.logical_or.reduce([one.is_core for one in found])
        self._rows = rows[stand]
        columns = [
            np.where(one.is_core, labels, NOISE) for one, labels in zip(found, self.by_eps_.values(), strict=True)
        ]
        self._row_labels = np.column_stack([columns[0], *(columns if len(self.eps) > 1 else ())])[stand]
        return self

    @property
    def labellings_(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Labels at each eps where there are several, by names such as "eps0_25"."""
        return dict(zip(self._labelling_names(), self.by_eps_.values(), strict=False))

    def _labelling_names(self) -> list[str]:
        return [eps_name(eps) for eps in self.eps] if len(self.eps) > 1 else []

    def _judged(self, labels: np.ndarray, distances: np.ndarray, column: int) -> Assigned:
        inside = distances <= self._prepared_radius(self.eps[max(0, column - 1)])
        return Assigned(np.where(inside, labels, NOISE), inside.astype(np.float32))

    def _prepared_radius(self, eps: float) -> float:
        """eps as a Euclidean distance of prepared rows, with room for the rounding of float32."""
        squares = {"euclidean": eps**2, "cosine": 2 * eps, "hamming": eps}[self.metric]
        return float(np.sqrt(squares)) * (1 + 1e-6)

    def _in_metric(self, distances: np.ndarray) -> np.ndarray:
        if self.metric == "euclidean":
            return distances
        squares = np.square(distances)
        return squares / 2 if self.metric == "cosine" else np.rint(squares)


def eps_name(eps: float) -> str:
    """A name of letters, digits, _ and - for an eps.

    >>> eps_name(0.25)
    'eps0_25'
    """
    return f"eps{eps:g}".replace(".", "_").replace("+", "")


class _Growing:
    """The clusters of one eps while pairs of rows come in."""

    def __init__(self, is_core: np.ndarray, radius: float) -> None:
        self.is_core, self.radius = is_core, radius
        n = len(is_core)
        self._component = np.arange(n)
        self._owner, self._apart = np.full(n, NOISE), np.full(n, np.inf, np.float32)

    def grow(self, which: np.ndarray, near: np.ndarray, apart: np.ndarray) -> None:
        """Take up pairs; all those of a row come together."""
        useful = (apart <= self.radius) & self.is_core[near]
        useful &= ~self.is_core[which] | (self._component[which] != self._component[near])
        which, near, apart = which[useful], near[useful], apart[useful]
        both = self.is_core[which]
        if both.any():
            n = len(self.is_core)
            links = coo_array((np.ones(both.sum(), bool), self._component[np.stack([which[both], near[both]])]), (n, n))
            self._component = connected_components(links, directed=False)[1][self._component]
        edge, core, apart = which[~both], near[~both], apart[~both]
        order = np.lexsort((core, apart, edge))
        rows, first = np.unique(edge[order], return_index=True)
        self._owner[rows], self._apart[rows] = core[order][first], apart[order][first]

    def labels(self) -> np.ndarray:
        own = np.where(self.is_core, np.arange(len(self.is_core)), self._owner)
        return numbered_by_size(np.where(own < 0, NOISE, self._component[own]))


class _Radius:
    """All pairs of rows within a radius, a block of rows at a time, each row with itself among them.

    Blocks are small where a row has many neighbours, so that memory stays the same.
    """

    def __init__(self, rows: np.ndarray, radius: float) -> None:
        self._rows, self._radius = rows, radius
        self._tree = cKDTree(rows) if rows.shape[1] <= _TREE_DIMENSIONS else None
        self._corpus = None if self._tree is not None else Corpus(rows, "euclidean")

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        start, size = 0, _SMALLEST_BLOCK
        while start < len(self._rows):
            block = self._rows[start : start + size]
            which, near, apart = self._within(block)
            yield which + start, near, apart
            start += len(block)
            size = min(2 * size, max(_SMALLEST_BLOCK, _PAIRS_AT_ONCE * len(block) // max(1, len(which))))
            size = min(size, _LARGEST_BLOCK)

    def _within(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._corpus is not None:
            return self._corpus.within(block, self._radius)
        found = cKDTree(block).sparse_distance_matrix(self._tree, self._radius, output_type="ndarray")
        return found["i"], found["j"], found["v"].astype(np.float32)


def _core_distances(rows: np.ndarray, min_samples: int) -> np.ndarray:
    """Distance to the min_samples-th nearest row, itself being the first; (n,) float32."""
    if min_samples > len(rows):
        return np.full(len(rows), np.inf, np.float32)
    if min_samples == 1:
        return np.zeros(len(rows), np.float32)
    return nearest_others(rows, min_samples - 1).distances[:, -1]


class HDBSCAN(DensityClusterer):
    """HDBSCAN: the clusters that persist longest while the density that is asked for rises (Campello et al. 2013).

    Up to 20,000 rows, 10,000 of more than 30 dimensions, by scikit-learn; beyond by fast-hdbscan (BSD-2;
    `pip install 'imagescape[hdbscan]'`), whose first run in an installation takes a while to compile. There, of more
    than 30 dimensions, the tree is that of a graph of nearest neighbours, and so nearly exact. Made for few dimensions:
    in hundreds of them nearly all is noise or one cluster; cluster a map, or principal components.

    Args:
        min_cluster_size: Rows that a cluster has at least; None: half the square root of the rows, and 5 at least.
        min_samples: Rows, itself among them, whose distance is taken as (inverse) density: more make more noise. None:
            as `min_cluster_size`, and 15 at most.
        metric: "euclidean"; "cosine", for rows of length 1; or "hamming", for the root of the bits that differ.
        random_state: Ignored: nothing is random.

    Attributes after `fit`:
        labels_: (n,) int64.
        probabilities_: How far within its cluster a row is, relative to the densest place; 0 for noise.
    """

    def __init__(
        self,
        *,
        min_cluster_size: int | None = None,
        min_samples: int | None = None,
        metric: Metric = "euclidean",
        random_state: int | None = None,
    ) -> None:
        super().__init__()
        if min_cluster_size is not None:
            check_count("min_cluster_size", min_cluster_size, 2)
        if min_samples is not None:
            check_count("min_samples", min_samples, 1)
        check_metric(metric)
        self._arguments = {
            "min_cluster_size": min_cluster_size,
            "min_samples": min_samples,
            "metric": metric,
            "random_state": random_state,
        }
        self.min_cluster_size, self.min_samples, self.metric = min_cluster_size, min_samples, metric
        self._reach = np.empty(0, np.float32)

    def fit(self, features: Float[np.ndarray, "n d"], y: object = None) -> Self:
        """Find the clusters of `features`, (n, d) of any real dtype (packed uint8 for "hamming"); `y` is ignored.

        Raises:
            InputError: fewer rows than `min_cluster_size`, or as `prepared`.
            MissingExtraError: more rows than scikit-learn is given, and fast-hdbscan is not installed.
        """
        rows = prepared(features, self.metric)
        size, samples = usual_sizes(len(rows), self.min_cluster_size, self.min_samples)
        most = SKLEARN_ROWS_DENSE if rows.shape[1] > _MANY_DIMENSIONS else SKLEARN_ROWS
        by = _by_sklearn if len(rows) <= most else _by_fast_hdbscan
        labels, probabilities = by(rows, size, samples)
        labels = np.asarray(labels, np.int64)
        self.labels_ = numbered_by_size(labels)
        self.probabilities_ = np.where(labels < 0, 0, np.nan_to_num(probabilities)).astype(np.float32)
        self._give_noise(rows)
        own = labels >= 0
        self._rows, self._row_labels = rows[own], self.labels_[own, None]
        self._reach = _reach(self._rows, self.labels_[own])
        return self

    def _judged(self, labels: np.ndarray, distances: np.ndarray, column: int) -> Assigned:
        """A new row is noise where it is farther from its cluster than any row of it is from the next."""
        reach = np.append(self._reach, 0)[labels]  # the last entry is that of -1
        inside = distances <= reach
        sure = np.where(inside, 1 - 0.5 * distances / np.maximum(reach, np.finfo(np.float32).tiny), 0)
        return Assigned(np.where(inside, labels, NOISE), sure.astype(np.float32))

    def _arrays(self) -> dict[str, np.ndarray]:
        return super()._arrays() | {"reach": self._reach}

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        super()._restore(arrays)
        self._reach = arrays["reach"]


def usual_sizes(rows: int, min_cluster_size: int | None, min_samples: int | None) -> tuple[int, int]:
    """What `HDBSCAN` takes for `min_cluster_size` and `min_samples` where they are not said.

    Raises:
        InputError: there are fewer rows than either.
    """
    size = max(5, round(np.sqrt(rows) / 2)) if min_cluster_size is None else min_cluster_size
    samples = min(size, 15) if min_samples is None else min_samples
    if max(size, samples) > rows:
        raise InputError(f"clusters of at least {size} rows, by {samples} samples, need as many rows; there are {rows}")
    return size, samples


def _by_sklearn(rows: np.ndarray, size: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.cluster import HDBSCAN as Library

    settings: dict[str, Any] = {"min_cluster_size": size, "min_samples": samples}
    if rows.shape[1] > _MANY_DIMENSIONS:
        found = Library(metric="precomputed", copy=False, **settings).fit(square_distances(rows, "euclidean"))
    else:
        found = Library(copy=True, **settings).fit(rows)
    return found.labels_, found.probabilities_


def _by_fast_hdbscan(rows: np.ndarray, size: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    library = require("fast_hdbscan", extra="hdbscan")
    given: Any = rows
    # scikit-learn counts a row among its own samples, fast-hdbscan does not.
    settings: dict[str, Any] = {"min_cluster_size": size, "min_samples": max(1, samples - 1), "reproducible": True}
    if rows.shape[1] > _MANY_DIMENSIONS:
        k = min(max(_GRAPH_NEIGHBORS * samples, 15), len(rows) - 1)
        found = nearest_others(rows, k)
        ends = np.arange(0, len(rows) * k + 1, k)
        given = csr_array((found.distances.ravel(), found.indices.ravel(), ends), (len(rows), len(rows)))
        settings["metric"] = "precomputed"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba tells of its own affairs
        found = library.HDBSCAN(**settings).fit(given)
    return found.labels_, found.probabilities_


def _reach(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each cluster, the largest distance of one of its rows to the next of them; (k,) float32."""
    reach = np.zeros(len(by_size(labels)), np.float32)
    for label in range(len(reach)):
        mine = rows[labels == label]
        if len(mine) > 1:
            reach[label] = nearest_others(mine, 1).distances.max()
    return reach
