"""Pairs as a search finds them, of which no row keeps more than its nearest few.

Ten thousand frames of a black video are fifty million pairs. A pair that is among the `limit` nearest of neither of
its rows is forgotten, so that memory is bounded by rows x limit. To forget at random would tear such a clump into
pieces, and so would keeping only the nearest. So the clump also gets *hubs*: of the crowded rows, the one with the
most near ones keeps them all; those are covered, and of the others again.
"""

import threading
from collections.abc import Callable

import numpy as np

NEAREST = 50
"""Near ones that a row keeps, unless something else is asked for."""

_HELD = 2**22  # pairs that may wait before those to forget are sought, at least …
_GROWTH = 1.5  # … and so many times what was kept the last time
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
        self._bar = np.full(rows, np.iinfo(np.uint64).max, np.uint64)  # the limit-th nearest, once there are so many
        self._parts: list[Found] = []
        self._held, self._held_after = 0, 0
        self._lock = threading.Lock()

    def add(self, first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> None:
        """Take in pairs that were not given before: rows (p,), rows (p,), distances (p,)."""
        if not len(first):
            return
        bits = distance.astype(np.float32, copy=False).view(np.uint32)
        with self._lock:
            np.add.at(self.counts, first, 1)
            np.add.at(self.counts, second, 1)
            wanted = self._is_among_nearest(first, second, bits)
            few = (first[wanted].astype(np.int32), second[wanted].astype(np.int32), bits[wanted])
            self._parts.append(few)
            self._held += len(few[0])
            if self._held > max(_HELD, _GROWTH * self._held_after):
                self._forget()

    @property
    def crowded(self) -> np.ndarray:
        """Rows that have more near ones than they keep, ascending int64."""
        return np.flatnonzero(self.counts > self._limit)

    def kept(self) -> Found:
        """The pairs that are kept, in no order, each once."""
        self._forget()
        first, second, bits = self._parts[0]
        return first.astype(np.int64), second.astype(np.int64), bits.view(np.float32)

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

    def _is_among_nearest(self, first: np.ndarray, second: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Whether a pair is among the nearest of either row as far as is known; equally near ones go by row.

        Distance and other row are compared as one number: the bits of floats >= 0 are ordered as the floats are.
        """
        high = bits.astype(np.uint64) << np.uint64(32)
        by_first, by_second = high | second.astype(np.uint64), high | first.astype(np.uint64)
        return (by_first <= self._bar[first]) | (by_second <= self._bar[second])

    def _forget(self) -> None:
        from imagescape.audit import kernels

        first, second, bits = _joined(self._parts, np.int32, np.uint32)
        self._parts = []
        kernels.set_bars(first, second, bits, self.counts > self._limit, self._limit, self._bar)
        kept = self._is_among_nearest(first, second, bits)
        self._parts = [(first[kept], second[kept], bits[kept])]
        self._held = self._held_after = int(kept.sum())


def _joined(parts: list[Found], rows: type = np.int64, measure: type = np.float32) -> Found:
    if not parts:
        return np.empty(0, rows), np.empty(0, rows), np.empty(0, measure)
    first, second, distance = (np.concatenate(side) for side in zip(*parts, strict=True))
    return first.astype(rows, copy=False), second.astype(rows, copy=False), distance
