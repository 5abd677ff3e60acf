"""All pairs of feature vectors within a similarity or a distance: exact, and most of the work left out.

Centred rows are turned to their principal axes. Of the first k coordinates p and the length r of the rest,

    |x - y|² >= |p(x) - p(y)|² + (r(x) - r(y))²,

as two vectors are never nearer than their lengths are. So one matrix product of k + 1 numbers a row, half of it as
pairs have no order, shows which pairs cannot be within the radius; the others are measured in full. How many axes are
worth it is tried on a sample: the vectors of networks have most of their spread in a few dozen of hundreds.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from imagescape.audit.collapse import Distinct
from imagescape.audit.nearest_pairs import NEAREST, Found, NearestPairs
from imagescape.audit.pairs import Metric, Pairs
from imagescape.errors import InputError
from imagescape.runtime import worker_count

_BLOCK_ROWS, _BLOCK_COLUMNS = 1024, 4096  # of the matrix of all pairs: 16 MiB of float32
_READ_NUMBERS = 2**22  # numbers of rows made float64 at once: 32 MiB
_FOUND_AT_ONCE = 2**16  # pairs that a look returns, or as many as one line has
_AXES_FROM = 16_384  # rows that the axes are found on
_TRIED_ROWS = 2048  # rows whose pairs show how many axes are worth it
_AXES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_LOOKING = 24  # what it costs to look at an entry of the product, in multiplications
_MEASURING = 8  # and a multiplication where two rows are fetched and measured
_SLACK = 1e-5  # of squared lengths, well above the rounding of a product
_NOWHERE = -1e30


def feature_pairs(
    features: np.ndarray,
    similarity: float | None = None,
    *,
    radius: float | None = None,
    new: np.ndarray | None = None,
    limit: int = NEAREST,
    advance: Callable[[float], None] = lambda share: None,
) -> Pairs:
    """All pairs of vectors with at least so much cosine similarity, or at most so far apart.

    Args:
        features: (n, d), any real dtype; float16 is left as it is. A row of zeros is similar to nothing but its twins.
        similarity: Least cosine, above 0 and up to 1; or instead
        radius: Largest Euclidean distance, 0 or more.
        new: (n,) bool: only pairs with at least one of these rows are wanted, and only they take time.
        limit: Near ones that a row keeps at least; see `Pairs.crowded`.
        advance: Told which share of the work is done since it was told last; in all 1.

    Returns:
        Distances are 1 - cosine, or Euclidean.

    Raises:
        InputError: both or neither of the thresholds, one out of range, or features that are no finite matrix.
    """
    if (similarity is None) == (radius is None):
        raise InputError("features are compared by a similarity or within a radius: give one of the two")
    if similarity is not None and not 0 < similarity <= 1:
        raise InputError(f"similarity must lie above 0 and up to 1, got {similarity}")
    if radius is not None and not 0 <= radius < math.inf:
        raise InputError(f"radius must be 0 or more, got {radius}")
    if limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    features = _checked(features)
    metric: Metric = "euclidean" if similarity is None else "cosine"
    farthest = float(radius) if similarity is None else 1 - float(similarity)  # type: ignore[arg-type]
    distinct = Distinct.of(features, new)
    nearest = NearestPairs(len(distinct.rows), limit)
    if len(distinct.rows) < 2 or not distinct.asked:
        nothing = nearest.kept()
        return distinct.pairs(nothing, nearest.crowded, metric=metric, radius=farthest, limit=limit)
    items = _Items(features, distinct, metric, farthest)
    items.pairs(nearest, advance)
    hubs = nearest.hubs(items.near)
    return distinct.kept(nearest, hubs, metric=metric, radius=farthest, limit=limit)


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.asanyarray(features)
    if features.ndim != 2 or not features.shape[1] or features.dtype.kind not in "fiu":
        raise InputError(
            f"features must be a matrix of numbers (rows, dimensions), got {features.dtype} of shape {features.shape}"
        )
    if features.dtype.kind == "f":
        step = max(1, _READ_NUMBERS // features.shape[1])
        for start in range(0, len(features), step):
            bad = ~np.isfinite(features[start : start + step]).all(axis=1)
            if bad.any():
                raise InputError(
                    f"features must be finite, row {start + int(bad.argmax())} is not; leave such rows out"
                )
    return np.ascontiguousarray(features)


class _Items:
    """Distinct rows, and their few coordinates (m, k + 1) with half their squared lengths, below 0."""

    def __init__(self, features: np.ndarray, distinct: Distinct, metric: Metric, radius: float) -> None:
        self._features, self._rows, self._asked = features, distinct.rows, distinct.asked
        self._radius, self._is_cosine = radius, metric == "cosine"
        # Half floats go as their bits: the compiled loop widens them in registers.
        self._values = (
            features.view(np.uint16) if features.dtype == np.float16 else features.astype(np.float32, copy=False)
        )
        reach = math.sqrt(2 * radius) if self._is_cosine else radius  # between unit vectors
        self._scale = np.ones(len(self._rows), np.float32)
        coordinates, half = self._turned(reach)
        longest = float(-2 * half[half > _NOWHERE].min(initial=0))
        self._coordinates = torch.from_numpy(coordinates)
        self._half = torch.from_numpy(half)
        # (|x - y|² - |x|² - |y|²) / -2 is the product, so they may be within reach where it is at least this.
        slack = _SLACK * (longest - 2 * np.maximum(half, -longest / 2))
        self._bound = (-(reach**2) / 2 - half - slack).astype(np.float32)

    def _turned(self, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Centred rows along the principal axes that are worth it and the length of the rest, and -|row|² / 2."""
        m = len(self._rows)
        some = self._read(_spread(m, _AXES_FROM))
        center = some.mean(axis=0)
        some -= center
        axes = np.linalg.eigh(some.T @ some)[1][:, ::-1]
        count = _axes_worth(some[_spread(len(some), _TRIED_ROWS)] @ axes, reach)
        axes = np.ascontiguousarray(axes[:, :count])
        coordinates, half = np.empty((m, count + 1), np.float32), np.empty(m, np.float32)
        step = max(1, _READ_NUMBERS // self._features.shape[1])
        for start in range(0, m, step):
            here = slice(start, min(start + step, m))
            rows = self._read(np.arange(here.start, here.stop))
            has_no_direction = self._is_cosine & ~rows.any(axis=1)
            rows -= center
            squares, along = np.einsum("nd,nd->n", rows, rows), rows @ axes
            # In double precision: the root of a difference of two like numbers.
            rest = np.sqrt(np.maximum(squares - np.einsum("nd,nd->n", along, along), 0))
            coordinates[here] = np.column_stack([along, rest])
            half[here] = np.where(has_no_direction, _NOWHERE, -squares / 2)
        return coordinates, half

    def pairs(self, nearest: NearestPairs, advance: Callable[[float], None]) -> None:
        """Find all pairs within the radius, block by block; the rows of a block are shared out among threads."""
        m, asked = len(self._rows), self._asked
        every = sum(min(_BLOCK_ROWS, asked - i) * (m - i) for i in range(0, asked, _BLOCK_ROWS))
        buffer = torch.empty(_BLOCK_ROWS * _BLOCK_COLUMNS)
        with ThreadPoolExecutor(worker_count()) as threads:
            for i in range(0, asked, _BLOCK_ROWS):
                rows = np.arange(i, min(i + _BLOCK_ROWS, asked))
                for j in range(i, m, _BLOCK_COLUMNS):
                    columns = slice(j, min(j + _BLOCK_COLUMNS, m))
                    product = self._product(rows, columns, buffer)
                    cuts = np.linspace(0, len(rows), worker_count() + 1).astype(int)
                    list(threads.map(partial(self._look, product, rows, j, nearest.add), cuts[:-1], cuts[1:]))
                    advance(len(rows) * (columns.stop - j) / every)

    def near(self, rows: np.ndarray) -> Found:
        """As `NearestPairs.hubs` asks for them."""
        parts: list[Found] = []
        buffer = torch.empty(len(rows) * _BLOCK_COLUMNS)
        for j in range(0, len(self._rows), _BLOCK_COLUMNS):
            columns = slice(j, min(j + _BLOCK_COLUMNS, len(self._rows)))
            product = self._product(rows, columns, buffer)
            self._look(product, rows, j, lambda *found: parts.append(found), 0, len(rows), both_ways=True)
        first, second, distance = (np.concatenate(side) for side in zip(*parts, strict=True))
        place_of = np.empty(len(self._rows), np.int64)
        place_of[rows] = np.arange(len(rows))
        place = place_of[first]
        order = np.argsort(place, kind="stable")
        return place[order], second[order], distance[order]

    def _product(self, rows: np.ndarray, columns: slice, buffer: Tensor) -> np.ndarray:
        """Of few coordinates, (rows, columns); valid until the next."""
        width = columns.stop - columns.start
        product = buffer[: len(rows) * width].view(len(rows), width)
        torch.addmm(self._half[columns], self._coordinates[rows], self._coordinates[columns].T, out=product)
        return product.numpy()

    def _look(
        self,
        product: np.ndarray,
        rows: np.ndarray,
        column: int,
        take: Callable[[np.ndarray, np.ndarray, np.ndarray], None],
        start: int,
        stop: int,
        *,
        both_ways: bool = False,
    ) -> None:
        """Measure what passes the bound in lines `start` to `stop` of a product, and hand on what is within the radius.

        Args:
            product: As `_product` makes it.
            rows: The item of each line.
            column: The item of the first column.
            take: Told the pairs: lower item first, unless `both_ways`.
            start: First line.
            stop: Behind the last.
            both_ways: Also pairs whose second item is lower, and not those of two that are not asked for.
        """
        from imagescape.audit import kernels

        room = max(_FOUND_AT_ONCE, product.shape[1])
        square = np.float32(2 * self._radius if self._is_cosine else self._radius**2)
        while start < stop:
            first, second = np.empty(room, np.int64), np.empty(room, np.int64)
            distance = np.empty(room, np.float32)
            start, found = kernels.look(
                product,
                self._bound,
                rows,
                column,
                start,
                stop,
                both_ways,
                self._asked,
                self._values,
                self._rows,
                self._scale,
                square * np.float32(1 + _SLACK),
                first,
                second,
                distance,
            )
            apart = distance[:found] / 2 if self._is_cosine else np.sqrt(distance[:found])
            inside = apart <= np.float32(self._radius)
            take(first[:found][inside], second[:found][inside], apart[inside])

    def _read(self, items: np.ndarray) -> np.ndarray:
        """Items as float64; of length 1, or 0, where directions are compared."""
        rows = self._features[self._rows[items]].astype(np.float64)
        if self._is_cosine:
            lengths = np.linalg.norm(rows, axis=1)
            scale = 1 / np.where(lengths > 0, lengths, 1)
            self._scale[items] = scale
            rows *= scale[:, None]
        return rows


def _spread(count: int, most: int) -> np.ndarray:
    """Numbers from 0 to count - 1, at most so many, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _axes_worth(rows: np.ndarray, reach: float) -> int:
    """How many axes are expected to cost least, by the pairs of some rows (s, d) along the axes."""
    d = rows.shape[1]
    if len(rows) < 2:
        return d
    squares = (rows**2).sum(axis=1)
    best, least = d, float(d + _LOOKING)
    for k in _AXES:
        if k >= d or k + _LOOKING >= least:
            break
        along = rows[:, :k]
        rest = np.sqrt(np.maximum(squares - (along**2).sum(axis=1), 0))
        few = np.column_stack([along, rest])
        apart = squares[:, None] + squares - 2 * few @ few.T
        passing = (apart <= reach**2).sum() - len(rows)
        cost = k + _LOOKING + _MEASURING * d * passing / (len(rows) * (len(rows) - 1))
        if cost < least:
            best, least = k, cost
    return best
