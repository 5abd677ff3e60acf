"""Which rows belong to which cluster, whatever the labels are called, and where the clusters lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.contingency import NOISE, as_clusters

_BLOCK_NUMBERS = 2**22  # numbers of a block of rows held as float64: 32 MiB


@dataclass(frozen=True, slots=True)
class Members:
    """The rows of each cluster. Labels need not begin at 0 nor be without gaps; rows labelled -1 are in none.

    Attributes:
        clusters: The labels, (k,) int64, ascending.
        rows: Rows that are in a cluster, (m,) int64: cluster by cluster, ascending within each.
        starts: Where each cluster begins in `rows`, and the end of the last, (k + 1,) int64.
        noise: Rows that are in none.
    """

    clusters: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    noise: int

    @classmethod
    def of(cls, labels: np.ndarray, *, allow_none: bool = False) -> Self:
        """Sort rows by their labels, (n,) integers, -1 for noise.

        Args:
            labels: The labels.
            allow_none: Whether every row may be noise; there are then no clusters.

        Raises:
            InputError: labels that are no integers or below -1, or every row is noise and that is not allowed.
        """
        labels = as_clusters(labels)
        order = np.argsort(labels, kind="stable")
        noise = int((labels == NOISE).sum())
        rows = order[noise:].astype(np.int64)
        if not len(rows) and not allow_none:
            raise InputError(f"a clustering needs at least one cluster, and all of its {len(labels)} rows are noise")
        clusters, starts = np.unique(labels[rows], return_index=True)
        return cls(clusters.astype(np.int64), rows, np.append(starts, len(rows)).astype(np.int64), noise)

    def __len__(self) -> int:
        return len(self.clusters)

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each cluster, (k,) int64."""
        return np.diff(self.starts)

    @property
    def positions(self) -> np.ndarray:
        """Position in `clusters` of the cluster of each of `rows`, (m,) int64, ascending."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def __getitem__(self, position: int) -> np.ndarray:
        """Rows of the cluster at `position` in `clusters`, ascending."""
        return self.rows[self.starts[position] : self.starts[position + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Rows of each cluster, by label."""
        return (self[position] for position in range(len(self)))

    def centroids(self, features: np.ndarray) -> np.ndarray:
        """Mean of each cluster's features (n, d): (k, d) float64.

        Raises:
            InputError: not one row of features a label, or a row of a cluster is not finite.
        """
        self._check(features)
        sums = np.zeros((len(self), features.shape[1]))
        for here, block, positions in self._blocks(features):
            if not np.isfinite(block).all():
                bad = self.rows[here][~np.isfinite(block).all(axis=1)][0]
                raise InputError(f"features must be finite, row {bad} is not; leave such rows out, or label them -1")
            firsts = np.flatnonzero(np.diff(positions, prepend=-1))
            sums[positions[firsts]] += np.add.reduceat(block, firsts)
        return sums / self.sizes[:, None]

    def radii(self, features: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """Euclidean distance of each of `rows` to the centroid (k, d) of its cluster, (m,) float64."""
        radii = np.empty(len(self.rows))
        for here, block, positions in self._blocks(features):
            radii[here] = np.linalg.norm(block - centroids[positions], axis=1)
        return radii

    def _check(self, features: np.ndarray) -> None:
        if features.ndim != 2 or len(features) != len(self.rows) + self.noise:
            raise InputError(
                f"features must be a matrix with a row a label, got shape {features.shape} "
                f"for {len(self.rows) + self.noise} labels"
            )

    def _blocks(self, features: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Slices of `rows`, their features as float64, and their clusters."""
        step, positions = max(1, _BLOCK_NUMBERS // max(1, features.shape[1])), self.positions
        for start in range(0, len(self.rows), step):
            here = slice(start, start + step)
            yield here, np.asarray(features[self.rows[here]], np.float64), positions[here]
