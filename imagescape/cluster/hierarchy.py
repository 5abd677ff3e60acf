"""Hierarchies of clusters: exact for up to 20,000 rows, and beyond of centroids that stand for many rows each."""

from collections.abc import Sequence
from typing import Any, Self, get_args

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster import hierarchy as scipy_hierarchy

from imagescape.cluster.centroids import Centroids
from imagescape.cluster.estimator import Assigned, Clusterer, Metric, check_count, check_metric, compact, prepared
from imagescape.cluster.partition import quantize
from imagescape.cluster.tree import Linkage, Tree, check_cuts, link_weighted
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import nearest

# Distances of all pairs, and scipy's copy of them, are 8 (n - 1) n bytes: 3.2 GB at this limit.
EXACT_ROWS = 20_000
LEAVES = 2_000  # centroids beyond it; their distances take 100 MB
_LEAVES_A_CUT = 4  # of the largest cut that is asked for, at least
_BLOCK_ROWS = 1_024


class Hierarchy(Clusterer):
    """Agglomerative clustering, to be cut at any number of clusters; all cuts are nested.

    Up to `exact_rows` rows, every row is a leaf and scipy links them (Müllner 2011, arXiv:1109.2378). Beyond, spherical
    or plain k-means first makes a few thousand small clusters, and their centroids are linked with the weight of their
    rows: that is exact for what lies above them, as far as the rows of a leaf lie at one place. Ward and centroid keep
    their meaning so; single and complete linkage then look at centroids in place of the nearest and farthest rows.

    Args:
        k: The cut that `labels_` are of; None: the first of `cuts`.
        cuts: Other numbers of clusters that are wanted.
        linkage: "single", "complete", "average", "centroid" or "ward" (Ward 1963).
        metric: "euclidean"; "cosine"; or "hamming" for packed hashes. Ward and centroid linkage have a meaning for
            Euclidean distances alone: for "cosine" they link rows of length 1, for "hamming" bits as 0 and 1.
        exact_rows: Rows up to which every row is a leaf: memory is 8 n² bytes, 3.2 GB at 20,000.
        leaves: Beyond, centroids; None: 2,000, and at least 4 for each cluster of the largest cut.
        random_state: The seed, of the k-means alone.

    Attributes after `fit`:
        labels_: (n,) int64 at the cut k, by falling size.
        probabilities_: Membership in one's own cluster by the distances to the clusters' centroids, see
            `Centroids.memberships`; (n,) float32 in (0, 1). Clusters that are not round have low ones.
        tree_: The merges.
        leaves_: The leaf of each row, (n,) int64.
        is_exact_: Whether every row is a leaf.
    """

    def __init__(
        self,
        *,
        k: int | None = None,
        cuts: Sequence[int] = (),
        linkage: Linkage = "ward",
        metric: Metric = "euclidean",
        exact_rows: int = EXACT_ROWS,
        leaves: int | None = None,
        random_state: int | None = None,
    ) -> None:
        if k is None and not len(cuts):
            raise InputError("a hierarchy needs k, the number of clusters to cut it at, or cuts")
        if linkage not in get_args(Linkage):
            raise InputError(f"linkage must be one of {', '.join(get_args(Linkage))}, got '{linkage}'")
        check_metric(metric)
        check_count("exact_rows", exact_rows, 0)
        if leaves is not None:
            check_count("leaves", leaves, 2)
        cuts = tuple(int(cut) for cut in cuts)
        self.k = cuts[0] if k is None else k
        check_count("k", self.k, 2)
        check_cuts(cuts, np.iinfo(np.int64).max)
        self._arguments = {
            "k": int(self.k),
            "cuts": list(cuts),
            "linkage": linkage,
            "metric": metric,
            "exact_rows": exact_rows,
            "leaves": leaves,
            "random_state": random_state,
        }
        self.cuts, self.linkage, self.metric = cuts, linkage, metric
        self.exact_rows, self.leaves, self.seed = exact_rows, leaves, int(random_state or 0)
        self._points: np.ndarray | None = None

    def fit(self, features: Float[np.ndarray, "n d"], y: object = None) -> Self:
        """Link `features`, (n, d) of any real dtype, packed uint8 for "hamming"; `y` is ignored.

        Raises:
            InputError: a cut has more clusters than there are leaves, all rows are equal, or as `prepared`.
            MissingExtraError: FAISS is not installed and there are more than `exact_rows` rows.
        """
        rows = prepared(features, self.metric)
        self.is_exact_ = len(rows) <= self.exact_rows
        if len(rows) < 2 or (rows == rows[0]).all():
            raise InputError(f"all {len(rows)} rows are equal: there is nothing to part")
        check_cuts((self.k, *(cut for cut in self.cuts if cut != self.k)), len(rows))
        if self.is_exact_:
            condensed = condensed_distances(rows, self._kind)
            self.tree_ = Tree.of_linkage(scipy_hierarchy.linkage(condensed, method=self.linkage))
            self.leaves_, self._points = np.arange(len(rows)), rows
        else:
            wanted = self.leaves or max(LEAVES, _LEAVES_A_CUT * max(self.k, *self.cuts, 0))
            self.leaves_, self._points = quantize(rows, wanted, is_spherical=self.metric == "cosine", seed=self.seed)
            check_cuts((self.k, *(cut for cut in self.cuts if cut != self.k)), len(self._points))
            sizes = np.bincount(self.leaves_)
            self.tree_ = link_weighted(square_distances(self._points, self._kind), sizes, self.linkage)
        self.labels_ = self.cut(self.k)
        self._centroids = Centroids.of(rows, self.labels_)
        self.probabilities_ = self._centroids.membership_of(rows, self.labels_)
        return self

    def cut(self, k: int) -> Int[np.ndarray, " n"]:
        """Labels of the rows it was fitted on when k clusters are left, (n,) int64; errors as `Tree.cut`."""
        self._check_fitted()
        return self.tree_.cut(k)[self.leaves_]

    def assign(self, features: Float[np.ndarray, "m d"]) -> Assigned:
        """New rows join the cluster of their nearest leaf; errors as `predict`."""
        rows = self._prepared_new(features)
        labels = self.tree_.cut(self.k)[self._nearest_leaf(rows)]
        return Assigned(labels, self._centroids.membership_of(rows, labels))

    @property
    def labellings_(self) -> dict[str, Int[np.ndarray, " n"]]:
        """Labels at each of `cuts`, by its number."""
        return {str(k): self.cut(k) for k in self.cuts}

    def predict_labellings(self, features: Float[np.ndarray, "m d"]) -> dict[str, Int[np.ndarray, " m"]]:
        """Clusters of new rows at each of `cuts`, nested as the cuts are; errors as `predict`."""
        leaves = self._nearest_leaf(self._prepared_new(features))
        return {str(k): self.tree_.cut(k)[leaves] for k in self.cuts}

    def predict_proba(self, features: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
        """Memberships of new rows in the clusters at the cut k, by the distances to their centroids."""
        return self._centroids.memberships(self._prepared_new(features))

    @property
    def _kind(self) -> Metric:
        """In what leaves are linked: Euclidean for the linkages that need it."""
        return "euclidean" if self.linkage in ("centroid", "ward") else self.metric

    def _prepared_new(self, features: np.ndarray) -> np.ndarray:
        self._check_fitted()
        assert self._points is not None
        return prepared(features, self.metric, width=self._points.shape[1])

    def _nearest_leaf(self, rows: np.ndarray) -> np.ndarray:
        assert self._points is not None
        return nearest(self._points, rows, 1).indices[:, 0]

    def _is_fitted(self) -> bool:
        return self._points is not None

    def _arrays(self) -> dict[str, np.ndarray]:
        assert self._points is not None
        return {
            "points": compact(self._points),
            "merges": self.tree_.merges,
            "heights": self.tree_.heights,
            "sizes": self.tree_.sizes,
            "centroids": self._centroids.vectors,
            "spread": np.array([self._centroids.spread], np.float64),
        }

    def _restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.tree_ = Tree(arrays["merges"], arrays["heights"], arrays["sizes"])
        self._centroids = Centroids(arrays["centroids"], float(arrays["spread"][0]))
        self._points = arrays["points"].astype(np.float32)


def condensed_distances(rows: Float[np.ndarray, "n d"], metric: Metric) -> Float[np.ndarray, " pairs"]:
    """Distances of all pairs i < j in scipy's order, float64, made a block of lines at a time.

    Args:
        rows: As `prepared` for `metric`, or for any with "euclidean".
    """
    n = len(rows)
    out = np.empty(n * (n - 1) // 2)
    at = 0
    for first, apart in _blocks(rows, metric):
        for line, i in zip(apart, range(first, first + len(apart)), strict=True):
            out[at : at + n - 1 - i] = line[i + 1 - first :]
            at += n - 1 - i
    return out


def square_distances(rows: Float[np.ndarray, "n d"], metric: Metric) -> Float[np.ndarray, "n n"]:
    """The symmetric matrix of distances, float64; arguments as `condensed_distances`."""
    out = np.empty((len(rows), len(rows)))
    for first, apart in _blocks(rows, metric):
        here = slice(first, first + len(apart))
        out[here, first:] = apart
        out[first:, here] = apart.T
    np.fill_diagonal(out, 0)
    return out


def _blocks(rows: np.ndarray, metric: Metric) -> Any:
    """For blocks of rows, the first and the distances to it and all rows after it."""
    exact = rows.astype(np.float64)
    exact -= exact.mean(axis=0)  # near the middle, large numbers do not cancel
    norms = np.square(exact).sum(axis=1)
    is_bits = metric == "hamming" and bool(np.isin(rows, (0, 1)).all())
    for first in range(0, len(rows), _BLOCK_ROWS):
        part = slice(first, first + _BLOCK_ROWS)
        apart = exact[part] @ exact[first:].T
        apart *= -2
        apart += norms[part, None]
        apart += norms[first:]
        np.maximum(apart, 0, out=apart)
        if metric == "euclidean":
            np.sqrt(apart, out=apart)
        elif metric == "cosine":
            apart /= 2
        elif is_bits:
            np.rint(apart, out=apart)  # whole numbers, whose ties are ties
        yield first, apart
