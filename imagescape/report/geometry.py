"""Boxes, segments and stacks: what keeps labels, pictures and leader lines apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def around(cls, center: Point, width: float, height: float) -> "Box":
        x, y = center
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    @property
    def center(self) -> Point:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def grown(self, by: float) -> "Box":
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)

    def overlaps(self, other: "Box") -> bool:
        """Whether the insides meet; touching edges do not overlap."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def holds(self, other: "Box") -> bool:
        return self.x0 <= other.x0 and self.y0 <= other.y0 and other.x1 <= self.x1 and other.y1 <= self.y1

    def hit_by(self, start: Point, end: Point) -> bool:
        """Whether the segment passes through the inside (clipped against each side in turn)."""
        enter, leave = 0.0, 1.0
        for axis, (low, high) in enumerate(((self.x0, self.x1), (self.y0, self.y1))):
            along = end[axis] - start[axis]
            if along == 0:
                if not low < start[axis] < high:
                    return False
                continue
            first, last = sorted(((low - start[axis]) / along, (high - start[axis]) / along))
            enter, leave = max(enter, first), min(leave, last)
        return leave - enter > 1e-9  # a line that starts on an edge only touches


def segments_cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether segments ab and cd cross in a point inside both; a shared end is no crossing."""

    def side(p: Point, q: Point, r: Point) -> float:
        return float(np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])))

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def stack(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> np.ndarray:
    """Centres of intervals stacked in the given order within [low, high], as near as can be to where each wants to be.

    Least squares under the constraint that neighbours do not overlap, by pooling (Ayer et al. 1955,
    doi:10.1214/aoms/1177728423).

    Args:
        wanted: Where the centres would like to be, (n,), in the order that the stack must keep (ascending).
        sizes: Lengths of the intervals, (n,).
        low: No interval begins before.
        high: No interval ends after.

    Returns:
        Centres, (n,), ascending.

    Raises:
        ValueError: together the intervals are longer than the room.
    """
    lengths = np.asarray(sizes, dtype=np.float64)
    if lengths.sum() > (high - low) * (1 + 1e-9):
        raise ValueError(f"a stack of {lengths.sum():.4g} does not fit into {high - low:.4g}")
    before = np.cumsum(lengths) - lengths / 2  # centre of each interval when all are pushed together at 0
    pools: list[list[float]] = []  # [mean start, count] of runs that touch
    for value in np.asarray(wanted, dtype=np.float64) - before:
        pools.append([float(value), 1.0])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            mean, count = pools.pop()
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * count) / (pools[-1][1] + count), pools[-1][1] + count]
    starts = np.repeat([mean for mean, _ in pools], [int(count) for _, count in pools])
    return np.clip(starts, low, max(low, high - lengths.sum())) + before


def scattered(coords: np.ndarray, size: float, order: Iterable[int], obstacles: Sequence[Box] = ()) -> list[int]:
    """Rows whose squares of side `size` overlap neither each other nor an obstacle, taken greedily in `order`.

    Args:
        coords: Centres of the squares, (n, 2).
        size: Side of a square, > 0.
        order: Rows to try, the first first.
        obstacles: Boxes to keep clear of.
    """
    taken: dict[tuple[int, int], int] = {}  # one square a cell at most: cells are no larger than squares
    chosen: list[int] = []
    for row in order:
        x, y = float(coords[row, 0]), float(coords[row, 1])
        cell = int(np.floor(x / size)), int(np.floor(y / size))
        around = (taken.get((cell[0] + dx, cell[1] + dy)) for dx in (-1, 0, 1) for dy in (-1, 0, 1))
        near = (other for other in around if other is not None)
        if any(max(abs(x - coords[other, 0]), abs(y - coords[other, 1])) < size for other in near):
            continue
        if any(Box.around((x, y), size, size).overlaps(box) for box in obstacles):
            continue
        taken[cell] = row
        chosen.append(row)
    return chosen
