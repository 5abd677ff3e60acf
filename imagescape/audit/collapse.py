"""Equal rows as one, before anything is compared."""

from dataclasses import dataclass

import numpy as np

from imagescape.audit.nearest_pairs import Found, NearestPairs
from imagescape.audit.pairs import Metric, Pairs
from imagescape.errors import InputError

_BLOCK_BYTES = 2**26


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """The distinct rows of an array, those asked for first.

    Attributes:
        rows: The first row of each, (m,) int64. Items, in this order, are what is compared.
        item_of: The item of every row, (n,) int64.
        asked: The first so many items are those of which a row is new; only pairs with one of them are wanted.
    """

    rows: np.ndarray
    item_of: np.ndarray
    asked: int

    @classmethod
    def of(cls, values: np.ndarray, new: np.ndarray | None) -> "Distinct":
        """Find the rows of `values` (n, d) that are equal byte by byte.

        Args:
            values: C-contiguous.
            new: (n,) bool, or None where all are.

        Raises:
            InputError: `new` is not one bool a row.
        """
        if new is not None and (np.shape(new) != (len(values),) or np.asarray(new).dtype != bool):
            raise InputError(
                f"new must be one bool a row, got {np.asarray(new).dtype} {np.shape(new)} for {len(values)} rows"
            )
        if not len(values):
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), 0)
        whole = values.view(np.dtype((np.void, values.shape[1] * values.itemsize))).ravel()
        order = whole.argsort(kind="stable")  # the first of equal rows comes first
        differs = np.ones(len(values), bool)
        step = max(1, _BLOCK_BYTES // whole.itemsize)
        for start in range(1, len(values), step):
            here = slice(start, min(start + step, len(values)))
            differs[here] = whole[order[here]] != whole[order[start - 1 : here.stop - 1]]
        item_of = np.empty(len(values), np.int64)
        item_of[order] = np.cumsum(differs) - 1
        rows = order[differs]
        is_asked = np.ones(len(rows), bool)
        if new is not None:
            is_asked[:] = False
            is_asked[item_of[new]] = True
        place = np.lexsort((rows, ~is_asked))
        rank = np.empty_like(place)
        rank[place] = np.arange(len(place))
        return cls(rows[place], rank[item_of], int(is_asked.sum()))

    def pairs(self, found: Found, crowded: np.ndarray, *, metric: Metric, radius: float, limit: int) -> Pairs:
        """Pairs of items as pairs of rows, with the twins of all that were asked for or found."""
        first, second, distance = found
        touched = np.zeros(len(self.rows), bool)
        touched[: self.asked] = touched[first] = touched[second] = True
        stars = self.rows[self.item_of]
        leaves = np.flatnonzero((stars != np.arange(len(stars))) & touched[self.item_of])
        return Pairs.of(
            np.concatenate([self.rows[first], stars[leaves]]),
            np.concatenate([self.rows[second], leaves]),
            np.concatenate([distance, np.zeros(len(leaves), np.float32)]),
            metric=metric,
            radius=radius,
            limit=limit,
            crowded=self.rows[crowded],
        )

    def kept(self, nearest: NearestPairs, hubs: Found, *, metric: Metric, radius: float, limit: int) -> Pairs:
        """What a search kept, and the pairs of its hubs, as pairs of rows."""
        both = tuple(np.concatenate(sides) for sides in zip(nearest.kept(), hubs, strict=True))
        return self.pairs(both, nearest.crowded, metric=metric, radius=radius, limit=limit)  # type: ignore[arg-type]
