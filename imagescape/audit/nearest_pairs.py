"""Pairs as a search finds them, of which no row keeps more than its nearest few.

Ten thousand frames of a black video are fifty million pairs. A pair that is among the `limit` nearest of neither of
its rows is forgotten, so that memory is bounded by rows x limit. To forget at random would tear such a clump into
pieces, and so would keeping only the nearest. So the clump also gets *hubs*: of the crowded rows, the one with the
most near ones keeps them all; those are covered, and of the others again.
"""

import threading
from collections.abc import Callable

import numpy as np

NEAREST = 100
"""Near ones that a row keeps, unless something else is asked for."""

_HELD = 2**22  # pairs that may wait before those to forget are sought, at least
_HUBS_AT_ONCE = 32

Found = tuple[np.ndarray, np.ndarray, np.ndarray]


class NearestPairs:
    """Takes pairs in from several threads; what is kept does not depend on their order.

    Args:
        rows: Rows there are.
        limit: Near ones that a row keeps, at least 1.
    """

    def __init__(self, rows: int, limit: int) -> None:
        self.counts = np.zeros(rows, np.int64)  # near ones that were found, kept or not
        self._limit = limit
        self._bar = np.full(rows, np.inf, np.float32)  # distance of the limit-th nearest, once there are so many
        self._parts: list[Found] = []
        self._held, self._held_after = 0, 0
        self._lock = threading.Lock()

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take in pairs that were not given before: rows (p,), rows (p,), distances (p,)."""
        if not len(first):
            return
        distance = distance.astype(np.float32, copy=False)
        with self._lock:
            np.add.at(self.counts, first, 1)
            np.add.at(self.counts, second, 1)
            wanted = (distance <= self._bar[first]) | (distance <= self._bar[second])
            self._parts.append((first[wanted], second[wanted], distance[wanted]))
            self._held += len(self._parts[-1][0])
            if self._held > max(_HELD, 2 * self._held_after):
                self._forget()

    @property
    def crowded(self) -> np.ndarray:
        """Rows that have more near ones than they keep, ascending int64."""
        return np.flatnonzero(self.counts > self._limit)

    def kept(self) -> Found:
        """The pairs that are kept, in no order, each once."""
        self._forget()
        return self._parts[0]

    def hubs(self, near: Callable[[np.ndarray], Found]) -> Found:
        """All pairs of rows that between them are near every crowded row.

        Args:
            near: All pairs of these rows (h,) within the radius: the place of each in those given, the other row (not
                itself), and the distance; by place.
        """
        bare = np.zeros(len(self.counts), bool)
        bare[self.crowded] = True
        order = self.crowded[np.argsort(-self.counts[self.crowded], kind="stable")]
        parts: list[Found] = []
        while len(order := order[bare[order]]):
            rows = order[:_HUBS_AT_ONCE]
            place, other, distance = near(rows)
            starts = np.searchsorted(place, np.arange(len(rows) + 1))
            for i, row in enumerate(rows):
                if bare[row]:
                    here = slice(starts[i], starts[i + 1])
                    bare[row] = bare[other[here]] = False
                    parts.append((np.full(starts[i + 1] - starts[i], row), other[here], distance[here]))
        return _joined(parts)

    def _forget(self) -> None:
        first, second, distance = _joined(self._parts)
        crowded = self.counts > self._limit
        keep = ~(crowded[first] & crowded[second])
        rows, others = np.concatenate([first, second]), np.concatenate([second, first])
        pair = np.tile(np.arange(len(first)), 2)
        own = crowded[rows]  # the others keep all their pairs
        rows, others, pair = rows[own], others[own], pair[own]
        # By row and distance as one number: the bits of floats that are not negative are ordered as they are.
        order = np.lexsort((others, rows << 32 | distance[pair].view(np.uint32).astype(np.int64)))
        rows, pair = rows[order], pair[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        keep[pair[rank < self._limit]] = True
        last = rank == self._limit - 1
        self._bar[rows[last]] = distance[pair[last]]
        self._parts = [(first[keep], second[keep], distance[keep])]
        self._held = self._held_after = int(keep.sum())


def _joined(parts: list[Found]) -> Found:
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    first, second, distance = (np.concatenate(side) for side in zip(*parts, strict=True))
    return first, second, distance
