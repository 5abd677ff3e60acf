"""Pairs of rows that are near each other, in a form that clumps of equal rows cannot blow up.

Rows at distance 0 are *twins*: alike in everything that was compared, so that what is near one is near all. They are
written as a star, each paired with the first of them (the lowest row), and all other pairs are between firsts. So
100,000 blank images make 99,999 pairs and not five thousand million, and nothing is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imagescape.errors import InputError

Metric = Literal["hamming", "cosine", "euclidean", "relative"]

_UNITS = {
    "hamming": "bits",
    "cosine": "cosine similarity",
    "euclidean": "Euclidean distance",
    "relative": "share of what was allowed",
}


def distance_of(threshold: float, metric: Metric) -> float:
    """The distance that a threshold stands for: bits and lengths as they are, of a cosine similarity 1 - it.

    Raises:
        InputError: it is below 0, or no cosine.
    """
    if metric not in _UNITS:
        raise InputError(f"metric must be one of {', '.join(_UNITS)}, got '{metric}'")
    if metric == "cosine":
        if not -1 <= threshold <= 1:
            raise InputError(f"a cosine similarity lies between -1 and 1, got {threshold}")
        return 1 - float(threshold)
    if not 0 <= threshold < np.inf:
        raise InputError(f"a threshold in {_UNITS[metric]} must be 0 or more, got {threshold}")
    return float(threshold)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pairs:
    """Pairs of near rows; make one with `Pairs.of`, which brings any pairs into this form.

    Attributes:
        first: The lower row of each, (p,) int64; of the rows at distance 0, always the first of them all.
        second: The higher row, (p,) int64.
        distance: (p,) float32, ascending, equally near ones by `first` and `second`. Hamming: bits that differ. Cosine:
            1 - similarity. No two pairs are the same.
        metric: Of the distances.
        radius: All pairs up to this distance were looked for, and found but for `crowded`.
        crowded: Rows (c,) int64, ascending, with more than `limit` near ones (twins count as one). Of a pair of two
            crowded rows it is only certain to be here if it is among the `limit` nearest of either, or if one is a
            hub: every crowded row is paired with at least one hub, and hubs keep all their pairs.
        limit: Near ones that a row keeps.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    metric: Metric
    radius: float
    crowded: np.ndarray
    limit: int

    @classmethod
    def of(
        cls,
        first: np.ndarray,
        second: np.ndarray,
        distance: np.ndarray,
        *,
        metric: Metric,
        radius: float,
        limit: int,
        crowded: np.ndarray | None = None,
    ) -> Self:
        """Bring pairs in any order, either way round and named more than once, into form.

        Args:
            first: Rows, (p,) integers >= 0.
            second: Rows, (p,).
            distance: Between them, (p,), >= 0; of a pair named twice the smaller counts.
            metric: As the attribute; so are the others.

        Raises:
            InputError: unequal lengths, negative rows or distances that are not between 0 and the radius.
        """
        first, second = np.asarray(first, np.int64), np.asarray(second, np.int64)
        distance = np.asarray(distance, np.float32)
        if not first.shape == second.shape == distance.shape or first.ndim != 1:
            raise InputError(
                f"pairs need equally many rows and distances, got {first.shape}, {second.shape}, {distance.shape}"
            )
        if len(first) and min(first.min(), second.min()) < 0:
            raise InputError(f"rows of pairs count from 0, got {min(first.min(), second.min())}")
        if not ((distance >= 0) & (distance <= np.float32(radius))).all():
            raise InputError(f"distances of pairs must lie between 0 and the radius {radius:g} they were looked for in")
        rows = np.unique(np.zeros(0, np.int64) if crowded is None else np.asarray(crowded, np.int64))
        return cls(
            **dict(zip(("first", "second", "distance"), _in_form(first, second, distance), strict=True)),
            metric=metric,
            radius=float(radius),
            crowded=rows,
            limit=int(limit),
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Pairs"]) -> Self:
        """All pairs of several searches over the same rows, such as an old one and one of what is new.

        Raises:
            InputError: there are none, or they differ in metric or radius.
        """
        kinds = {(one.metric, one.radius) for one in parts}
        if len(kinds) != 1:
            found = "; ".join(f"{metric} within {radius:g}" for metric, radius in sorted(kinds)) or "none"
            raise InputError(f"pairs can be joined if all were found by one metric within one radius, got {found}")
        (metric, radius), limit = kinds.pop(), min(one.limit for one in parts)
        columns = [[getattr(one, name) for one in parts] for name in ("first", "second", "distance", "crowded")]
        first, second, distance, crowded = (np.concatenate(column) for column in columns)
        return cls.of(first, second, distance, metric=metric, radius=radius, limit=limit, crowded=crowded)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def loosest(self) -> float:
        """The threshold up to which pairs were looked for, as `at` takes it."""
        return 1 - self.radius if self.metric == "cosine" else self.radius

    def relative(self, zero: float = 0.0) -> Self:
        """Distances as shares of the radius, so that pairs of several metrics can be concatenated.

        Args:
            zero: The share that distance 0 becomes, in [0, 1): above 0 where equal values are no proof of equal images.
        """
        share = self.distance / self.radius if self.radius else self.distance
        return type(self).of(
            self.first,
            self.second,
            zero + (1 - zero) * share,
            metric="relative",
            radius=1.0,
            limit=self.limit,
            crowded=self.crowded,
        )

    def at(self, threshold: float) -> Self:
        """Those within a stricter threshold: bits or a distance that is smaller, a cosine similarity that is larger.

        Raises:
            InputError: it is looser than what was searched.
        """
        distance = distance_of(threshold, self.metric)
        if distance > self.radius:
            raise InputError(
                f"pairs were looked for up to {self.loosest:g} ({_UNITS[self.metric]}) and cannot tell of "
                f"{threshold:g}, which is looser; search again"
            )
        count = int(np.searchsorted(self.distance, np.float32(distance), side="right"))
        cut = {name: getattr(self, name)[:count] for name in ("first", "second", "distance")}
        return replace(self, **cut, radius=distance)

    def where(self, chosen: np.ndarray) -> Self:
        """Some of the pairs, by (p,) bool."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in ("first", "second", "distance")})

    def moved(self, places: np.ndarray) -> Self:
        """The same after rows have moved: row i is now at `places[i]`, or gone where that is -1.

        Args:
            places: (n,) integers, each at most once but for -1; n is above every row of the pairs.

        Raises:
            InputError: a row has no entry.
        """
        places = np.asarray(places, np.int64)
        last = int(self.second.max(initial=-1))
        if last >= len(places):
            raise InputError(f"every row of the pairs needs its new place, got {len(places)} places and a row {last}")
        # Where the first of a star is gone, the next of it takes over its pairs.
        twins = self.distance == 0
        heirs = np.arange(len(places))
        stars, leaves = self.first[twins], self.second[twins]
        orphans = (places[stars] < 0) & (places[leaves] >= 0)
        lowest = np.full(len(places), len(places))
        np.minimum.at(lowest, stars[orphans], leaves[orphans])
        heirs[lowest < len(places)] = lowest[lowest < len(places)]
        first, second = places[heirs[self.first]], places[heirs[self.second]]
        stay = (first >= 0) & (second >= 0)
        crowded = places[heirs[self.crowded]] if len(self.crowded) else self.crowded
        return type(self).of(
            first[stay],
            second[stay],
            self.distance[stay],
            metric=self.metric,
            radius=self.radius,
            limit=self.limit,
            crowded=crowded[crowded >= 0],
        )

    def __str__(self) -> str:
        text = f"{len(self):,} pairs of rows up to {self.loosest:g} ({_UNITS[self.metric]})"
        if len(self.crowded):
            text += (
                f"; {len(self.crowded):,} rows have more than {self.limit} near ones: of these the nearest were kept"
            )
        return text


def _in_form(first: np.ndarray, second: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not len(first):
        return first, second, distance
    count = int(max(first.max(), second.max())) + 1
    twins = distance == 0
    head = _first_of_twins(first[twins], second[twins], count)
    leaves = np.flatnonzero(head != np.arange(count))
    one, other, apart = head[first[~twins]], head[second[~twins]], distance[~twins]
    apart = apart[one != other]
    one, other = one[one != other], other[one != other]
    keys = np.minimum(one, other) * count + np.maximum(one, other)
    order = keys.argsort()
    keys = keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
    apart = np.minimum.reduceat(apart[order], starts) if len(starts) else apart
    low, high = np.divmod(keys[starts], count)
    order = apart.argsort(kind="stable")  # by first and second they are in order
    leaves = leaves[head[leaves].argsort(kind="stable")]
    none = np.zeros(len(leaves), np.float32)
    return np.append(head[leaves], low[order]), np.append(leaves, high[order]), np.append(none, apart[order])


def _first_of_twins(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """The lowest row that each of `count` rows is joined to by the pairs, be it itself: (count,) int64."""
    if not len(first):
        return np.arange(count)
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), (count, count))
    label = connected_components(graph, directed=False)[1]
    lowest = np.unique(label, return_index=True)[1]
    return lowest[label]
