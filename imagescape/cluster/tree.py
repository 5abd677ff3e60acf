"""A hierarchy as a tree of merges, cut wherever one asks, and the linkage of leaves that stand for many rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from imagescape.cluster.estimator import check_count, numbered_by_size
from imagescape.errors import InputError

Linkage = Literal["single", "complete", "average", "centroid", "ward"]


@dataclass(frozen=True, slots=True)
class Tree:
    """Which clusters were merged, in order, until one was left.

    Attributes:
        merges: The two that were merged at each step, (m - 1, 2) int64: leaves are 0 … m - 1, and step t makes m + t.
        heights: The distance between the two in the measure of the linkage, (m - 1,) float64. It may fall from one
            step to the next for the centroid linkage alone.
        sizes: Rows of each leaf, (m,) int64.
    """

    merges: np.ndarray
    heights: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        """Leaves."""
        return len(self.sizes)

    def nodes(self, k: int) -> Int[np.ndarray, " m"]:
        """The node that each leaf is in when k are left, (m,) int64 in [0, 2 m - 1).

        The first m - k merges are made. So any two cuts are nested, and there are exactly k clusters, also where
        heights are equal or fall.

        Raises:
            InputError: k is no whole number between 1 and the leaves.
        """
        check_count("k", k, 1)
        m = len(self)
        if k > m:
            raise InputError(f"k must be at most the {m} leaves of the hierarchy, got {k}")
        node = np.arange(m + len(self.merges))
        for step in range(m - k - 1, -1, -1):
            node[self.merges[step]] = node[m + step]
        return node[:m]

    def cut(self, k: int) -> Int[np.ndarray, " m"]:
        """The cluster of each leaf when k are left, (m,) int64, 0 being the one with the most rows; as `nodes`."""
        return numbered_by_size(self.nodes(k), self.sizes)

    def top(self, k: int) -> "Tree":
        """The tree above a cut: its leaves are the k clusters of `cut(k)`, by their numbers."""
        nodes, labels = self.nodes(k), self.cut(k)
        m = len(self)
        name = np.full(m + len(self.merges), -1, np.int64)
        name[nodes] = labels
        name[2 * m - k :] = k + np.arange(k - 1)
        sizes = np.bincount(labels, weights=self.sizes, minlength=k).astype(np.int64)
        return Tree(name[self.merges[m - k :]], self.heights[m - k :], sizes)

    def as_linkage(self) -> Float[np.ndarray, "steps 4"]:
        """The matrix that scipy.cluster.hierarchy takes: two nodes, height, and rows below."""
        rows = np.concatenate([self.sizes, np.zeros(len(self.merges), np.int64)])
        for step, pair in enumerate(self.merges):
            rows[len(self) + step] = rows[pair].sum()
        return np.column_stack([self.merges, self.heights, rows[len(self) :]]).astype(np.float64)

    @classmethod
    def of_linkage(cls, linkage: Float[np.ndarray, "steps 4"]) -> "Tree":
        """Of scipy's matrix, each leaf being one row."""
        return cls(linkage[:, :2].astype(np.int64), linkage[:, 2].copy(), np.ones(len(linkage) + 1, np.int64))


def link_weighted(distances: Float[np.ndarray, "m m"], sizes: Int[np.ndarray, " m"], linkage: Linkage) -> Tree:
    """Merge leaves that stand for several rows each, as if each were all its rows at one place.

    scipy knows leaves of one row alone. The two nearest are merged and the distances to the others brought up to date
    (Lance and Williams 1967, doi:10.1093/comjnl/9.4.373); the nearest other of each is remembered, so that a step looks
    at few lines of the matrix (Anderberg 1973; Müllner 2011, arXiv:1109.2378).

    Args:
        distances: Between leaves, symmetric; Euclidean for "centroid" and "ward". Memory is two more of it.
        sizes: Rows of each leaf, at least 1.
        linkage: "single", "complete", "average", "centroid" or "ward".
    """
    m = len(sizes)
    apart = distances.astype(np.float64)
    weight = sizes.astype(np.float64)
    squared = linkage in ("centroid", "ward")
    if squared:
        np.square(apart, out=apart)
    if linkage == "ward":  # twice the growth of the sum of squares, as scipy measures it
        apart *= 2 * np.multiply.outer(weight, weight) / np.add.outer(weight, weight)
    np.fill_diagonal(apart, np.inf)
    node, alive = np.arange(m), np.ones(m, bool)
    near = apart.argmin(axis=1)
    least = apart[np.arange(m), near]
    merges, heights = np.empty((m - 1, 2), np.int64), np.empty(m - 1)
    for step in range(m - 1):
        i = int(least.argmin())
        j = int(near[i])
        merges[step] = sorted((node[i], node[j]))
        heights[step] = apart[i, j]
        others = alive.copy()
        others[[i, j]] = False
        merged = np.full(m, np.inf)
        merged[others] = _merged(linkage, apart, weight, i, j, others)
        apart[i], apart[:, i] = merged, merged
        apart[j], apart[:, j] = np.inf, np.inf
        alive[j], least[j], node[i] = False, np.inf, m + step
        weight[i] += weight[j]
        near[i], least[i] = merged.argmin(), merged.min()
        # Those whose nearest is gone or moved look again; those that the merged one came nearer to know it.
        stale = np.flatnonzero(others & ((near == i) | (near == j)))
        if len(stale):
            near[stale] = apart[stale].argmin(axis=1)
            least[stale] = apart[stale, near[stale]]
        nearer = others & (merged < least)
        near[nearer], least[nearer] = i, merged[nearer]
    return Tree(merges, np.sqrt(np.maximum(heights, 0)) if squared else heights, sizes.astype(np.int64))


def _merged(linkage: Linkage, apart: np.ndarray, weight: np.ndarray, i: int, j: int, others: np.ndarray) -> np.ndarray:
    """Distances from the union of i and j to the others."""
    to_i, to_j, own = apart[i, others], apart[j, others], apart[i, j]
    if linkage == "single":
        return np.minimum(to_i, to_j)
    if linkage == "complete":
        return np.maximum(to_i, to_j)
    total = weight[i] + weight[j]
    if linkage == "ward":
        third = weight[others]
        return ((weight[i] + third) * to_i + (weight[j] + third) * to_j - third * own) / (total + third)
    mean = (weight[i] * to_i + weight[j] * to_j) / total
    return mean if linkage == "average" else mean - weight[i] * weight[j] * own / total**2


def check_cuts(cuts: Sequence[int], most: int) -> None:
    """Refuse numbers of clusters that a hierarchy of `most` leaves does not have, and one that is named twice."""
    for k in cuts:
        check_count("a cut", k, 2)
        if k > most:
            raise InputError(f"a cut must be at most the {most} leaves of the hierarchy, got {k}")
    if len(set(cuts)) < len(cuts):
        raise InputError(f"each cut must be named once, got {', '.join(map(str, cuts))}")
