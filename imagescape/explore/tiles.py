"""A map in parts: a quadtree whose every point is in one tile, a sample at coarse levels and the rest at the finest.

What is drawn of a part of the map at level z is the union of the tiles of levels 0 to z that touch it. Going deeper
adds points and moves none, and the sample depends on the images' ids alone, which are hashes: rows that are added
disturb it little.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

CAPACITY = 4096  # points of a tile, but at the deepest level
DEEPEST = 14

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Tiles:
    """The points of a map by tile.

    Attributes:
        x0, y0, size: The square that tile 0/0/0 covers.
        depth: Levels; the deepest is depth - 1.
        capacity: Points of a tile of any level but the deepest, at most.
        index: (t, 4) int64: z, x, y and points of each tile that has any; by level, along the curve of Morton.
        starts: (t + 1,) int64 places in `rows`.
        rows: (points,) uint32 rows of the points, tile by tile.
    """

    x0: float
    y0: float
    size: float
    depth: int
    capacity: int
    index: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, coords: np.ndarray, numbers: np.ndarray, capacity: int = CAPACITY) -> "Tiles":
        """Put points into tiles.

        Args:
            coords: (n, 2) float32; NaN for rows that are not on the map.
            numbers: (n,) int64 ids of the rows, which choose the samples.
            capacity: Points of a tile of any level but the deepest.
        """
        here = np.flatnonzero(np.isfinite(coords[:, 0])).astype(np.uint32)
        points = coords[here].astype(np.float64)
        low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.ones(2))
        size = float((high - low).max()) * (1 + 1e-6) or 1.0
        middle = (low + high) / 2
        x0, y0 = (middle - size / 2).tolist()
        cells = np.clip((points - (x0, y0)) * ((1 << DEEPEST) / size), 0, (1 << DEEPEST) - 1).astype(np.uint32)
        codes = _interleaved(cells[:, 0], cells[:, 1])
        along = np.argsort(codes, kind="stable")  # along the curve of Morton a tile of any level is one stretch
        codes, left = codes[along], here[along]
        # Ids of a benchmark or a test may count up; multiplied by an odd number, their order is as good as random.
        chance = numbers[left].astype(np.uint64) * _ODD
        index: list[list[int]] = []
        rows: list[np.ndarray] = []
        level = 0
        while len(left):
            names = codes >> np.uint32(2 * (DEEPEST - level))
            firsts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
            taken = np.ones(len(left), bool)
            for start, end in zip(firsts.tolist(), [*firsts[1:].tolist(), len(left)], strict=True):
                if end - start > capacity and level < DEEPEST:
                    of_tile = chance[start:end]
                    taken[start:end] = of_tile <= np.partition(of_tile, capacity - 1)[capacity - 1]
            held = np.add.reduceat(taken, firsts, dtype=np.int64)
            for name, count in zip(names[firsts].tolist(), held.tolist(), strict=True):
                index.append([level, *_parted(name, level), count])
            rows.append(left[taken])
            codes, left, chance = codes[~taken], left[~taken], chance[~taken]
            level += 1
        every = np.array(index, np.int64).reshape(-1, 4)
        starts = np.r_[0, np.cumsum(every[:, 3])]
        return cls(x0, y0, size, max(level, 1), capacity, every, starts, np.concatenate(rows) if rows else here)

    @property
    def nbytes(self) -> int:
        return int(self.index.nbytes + self.starts.nbytes + self.rows.nbytes)

    @cached_property
    def _places(self) -> dict[tuple[int, int, int], int]:
        return {(z, x, y): place for place, (z, x, y, _) in enumerate(self.index.tolist())}

    def tile(self, z: int, x: int, y: int) -> np.ndarray | None:
        """Rows (m,) uint32 of a tile, none where it is empty; None for a tile outside the tree."""
        if not 0 <= z < self.depth or not (0 <= x < 1 << z and 0 <= y < 1 << z):
            return None
        place = self._places.get((z, x, y))
        if place is None:
            return np.empty(0, np.uint32)
        return self.rows[self.starts[place] : self.starts[place + 1]]

    def density(self, coords: np.ndarray, bins: int) -> np.ndarray:
        """Points in each part of the square, (bins * bins,) uint32, line by line from below."""
        points = coords[np.isfinite(coords[:, 0])]
        cells = np.clip((points - (self.x0, self.y0)) * (bins / self.size), 0, bins - 1).astype(np.int64)
        return np.bincount(cells[:, 1] * bins + cells[:, 0], minlength=bins * bins).astype(np.uint32)


def along_curve(coords: np.ndarray) -> np.ndarray:
    """Rows of the points of (n, 2) coordinates, NaN for none, along a curve on which neighbours are mostly near."""
    here = np.flatnonzero(np.isfinite(coords[:, 0]))
    points = coords[here].astype(np.float64)
    if not len(here):
        return here
    low = points.min(axis=0)
    size = max(float((points.max(axis=0) - low).max()), 1e-30)
    cells = np.clip((points - low) * ((1 << DEEPEST) / size), 0, (1 << DEEPEST) - 1).astype(np.uint32)
    return here[np.argsort(_interleaved(cells[:, 0], cells[:, 1]), kind="stable")]


def _interleaved(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) uint32 codes of Morton: the bits of x and y (16 at most) by turns."""

    def spread(bits: np.ndarray) -> np.ndarray:
        bits = (bits | (bits << np.uint32(8))) & np.uint32(0x00FF00FF)
        bits = (bits | (bits << np.uint32(4))) & np.uint32(0x0F0F0F0F)
        bits = (bits | (bits << np.uint32(2))) & np.uint32(0x33333333)
        return (bits | (bits << np.uint32(1))) & np.uint32(0x55555555)

    return spread(x) | (spread(y) << np.uint32(1))


def _parted(code: int, level: int) -> tuple[int, int]:
    """x and y of a code."""
    x = sum((code >> (2 * bit) & 1) << bit for bit in range(level))
    y = sum((code >> (2 * bit + 1) & 1) << bit for bit in range(level))
    return x, y
