"""Points that stand for clusters: to which of them rows belong, and how sure that is."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from imagescape.cluster.members import Members

_ENTRIES = 2**22  # of the (rows, centroids) matrix held at once: 16 MiB of float32


@dataclass(frozen=True, slots=True)
class Centroids:
    """Centroids of clusters.

    Attributes:
        vectors: (k, d) float32.
        spread: Mean squared distance of the rows of the clusters to the centroid of their own.
    """

    vectors: np.ndarray
    spread: float

    @classmethod
    def of(cls, rows: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> "Centroids":
        """The means of the rows of clusters 0 … k - 1, none of them empty; rows labelled -1 belong to none."""
        members = Members.of(labels)
        vectors = members.centroids(rows)
        return cls(vectors.astype(np.float32), float(np.square(members.radii(rows, vectors)).mean()))

    def nearest(self, rows: Float[np.ndarray, "n d"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The nearest centroid of each row, the first of equally near ones; and the squared distance to it."""
        labels, squares = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
        for here, apart in self._squares(rows):
            labels[here] = apart.argmin(axis=1)
            squares[here] = np.take_along_axis(apart, labels[here, None], 1)[:, 0]
        return labels, squares

    def memberships(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """How much of each row belongs to each cluster: float32, summing to 1 along a row.

        The softmax of -squared distance / (2 `spread`): a mixture of equally large, equally round clusters in which a
        row at the usual distance from its own centroid counts as one standard deviation away. It orders rows by how
        clearly they belong; it is not calibrated.
        """
        out = np.empty((len(rows), len(self.vectors)), np.float32)
        for here, apart in self._squares(rows):
            out[here] = self._softmax(apart)
        return out

    def membership_of(self, rows: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Of `memberships`, the entry of each row's own cluster; 0 for noise."""
        out = np.zeros(len(rows), np.float32)
        for here, apart in self._squares(rows):
            own = labels[here]
            out[here] = np.where(own < 0, 0, np.take_along_axis(self._softmax(apart), own.clip(0)[:, None], 1)[:, 0])
        return out

    def _softmax(self, squares: np.ndarray) -> np.ndarray:
        lead = squares.min(axis=1, keepdims=True) - squares
        with np.errstate(over="ignore"):  # a spread of 0: all of a row belongs to its nearest
            weights = np.exp(lead / max(2 * self.spread, np.finfo(np.float32).tiny))
        return weights / weights.sum(axis=1, keepdims=True)

    def _squares(self, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Squared distances to all centroids, a block of rows at a time."""
        middle = self.vectors.mean(axis=0)  # taken from there, large numbers do not cancel
        moved = self.vectors - middle
        norms = np.square(moved).sum(axis=1)
        step = max(1, _ENTRIES // len(moved))
        for start in range(0, len(rows), step):
            here = slice(start, min(start + step, len(rows)))
            part = rows[here] - middle
            apart = norms - 2 * (part @ moved.T)
            apart += np.square(part).sum(axis=1, keepdims=True)
            yield here, np.maximum(apart, 0, out=apart)
