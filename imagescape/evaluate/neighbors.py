"""Exact nearest neighbours, in memory that grows with the number of rows and not with its square.

Two engines, both exact: blocks of the matrix of all pairs (torch, so also on a GPU), and a k-d tree for the two or
three dimensions of a map, where a tree is a hundred times faster.

Of a block, the nearest rows are those with the largest closeness. Finding the k largest of a long line costs a
processor more than making the line, so it is done in two steps: the largest of each group of 32 neighbours in the
line, in one fast pass; then only the k groups with the largest leaders, which hold the k largest of all.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from imagescape.errors import InputError
from imagescape.evaluate.all_pairs import nearest_of_all
from imagescape.evaluate.distances import Metric as AnyMetric
from imagescape.evaluate.distances import comparison
from imagescape.runtime import resolve_device, worker_count

Metric = Literal["euclidean", "cosine"]

_BLOCK_ENTRIES = 2**24  # entries of the (queries, corpus) matrix held at once: 64 MiB of float32
_BLOCK_QUERIES = 512
_FEW_QUERIES = 8
_CONVERTED_BYTES = 2**23  # of rows made float32 at once for few queries: 8 MiB, near the processor
_MEASURED_ENTRIES = 2**22  # numbers of the rows that are measured again at once: 16 MiB of float32
_GROUP = 32
_TREE_DIMENSIONS = 3
_SPARE = 4  # candidates beyond k, so that rounding in the matrix product cannot push a true neighbour out


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest rows of a corpus for each query, nearest first, equally near ones by row.

    Attributes:
        indices: Rows of the corpus, (m, k) int64.
        distances: Euclidean distance, or 1 - cosine in [0, 2]; (m, k) float32, ascending.
    """

    indices: np.ndarray
    distances: np.ndarray


def nearest(
    corpus: np.ndarray, queries: np.ndarray, k: int, *, metric: Metric = "euclidean", device: str = "auto"
) -> Neighbors:
    """The k rows of `corpus` nearest to each row of `queries`.

    Args:
        corpus: Rows to search, (n, d), any real dtype.
        queries: Rows to search for, (m, d).
        k: Neighbours a query, 1 <= k <= n.
        metric: "euclidean", or "cosine" (a row of zeros has cosine 0 with everything).
        device: Where the matrix products run.

    Raises:
        InputError: shapes do not fit, k is out of range, or a value is not finite.
    """
    corpus, queries = _matrix(corpus, "corpus"), _matrix(queries, "queries")
    if corpus.shape[1] != queries.shape[1]:
        raise InputError(f"corpus and queries need the same width, got {corpus.shape[1]} and {queries.shape[1]}")
    return _search(corpus, queries, None, k, metric, device)


def nearest_others(
    vectors: np.ndarray,
    k: int,
    *,
    rows: np.ndarray | None = None,
    metric: Metric = "euclidean",
    device: str = "auto",
) -> Neighbors:
    """The k other rows nearest to each row: no row is its own neighbour, an identical twin may be.

    Args:
        vectors: (n, d), any real dtype.
        k: Neighbours a row, 1 <= k <= n - 1.
        rows: Which rows to answer for, (m,) int; all when None.
        metric: As in `nearest`.
        device: As in `nearest`.

    Returns:
        Neighbours of `rows`, in their order.

    Raises:
        InputError: as `nearest`.
    """
    vectors = _matrix(vectors, "vectors")
    own = np.arange(len(vectors)) if rows is None else np.asarray(rows, dtype=np.int64)
    return _search(vectors, vectors if rows is None else vectors[own], own, k, metric, device)


def nearest_among(
    vectors: np.ndarray, candidates: np.ndarray, k: int, *, metric: Metric = "euclidean", device: str = "auto"
) -> Neighbors:
    """The k nearest to each row among a few candidates of its own, such as those found in fewer dimensions.

    Args:
        vectors: (n, d), any real dtype.
        candidates: Rows of `vectors`, (n, c) int64, no row twice in a line.
        k: At most c.
        metric: As in `nearest`.
        device: As in `nearest`.

    Raises:
        InputError: as `nearest`, or not a line of candidates for each row.
    """
    vectors = _matrix(vectors, "vectors")
    if candidates.ndim != 2 or len(candidates) != len(vectors) or not 1 <= k <= candidates.shape[1]:
        raise InputError(
            f"{len(vectors)} rows need a line of at least {k} candidates each, got shape {candidates.shape}"
        )
    corpus = Corpus(np.ascontiguousarray(vectors, np.float32), metric, device=device)
    return corpus.among(torch.from_numpy(candidates).to(corpus.device), k)


def _matrix(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2:
        raise InputError(f"{name} must be a matrix (rows, dimensions), got shape {values.shape}")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InputError(f"{name} must be finite, row {bad} is not; leave such rows out")
    return values


def _search(
    corpus: np.ndarray, queries: np.ndarray, own: np.ndarray | None, k: int, metric: Metric, device: str
) -> Neighbors:
    """`own[i]`, where given, is the row of the corpus that query i is and must not find."""
    if metric not in ("euclidean", "cosine"):
        raise InputError(f"metric must be 'euclidean' or 'cosine', got '{metric}'")
    available = len(corpus) - (own is not None)
    if not 1 <= k <= available:
        raise InputError(f"k must lie between 1 and the {available} rows there are to find, got {k}")
    if not len(queries):
        return Neighbors(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    if metric == "euclidean" and corpus.shape[1] <= _TREE_DIMENSIONS:
        return _by_tree(corpus, queries, own, k, min(k + _SPARE, available))
    ready = Corpus(np.ascontiguousarray(corpus, np.float32), metric, device=device)
    return ready.graph(k) if own is not None and queries is corpus else ready.nearest(queries, k, own=own)


def _by_tree(corpus: np.ndarray, queries: np.ndarray, own: np.ndarray | None, k: int, wanted: int) -> Neighbors:
    reach = np.arange(1, wanted + 1 + (own is not None))
    distances, indices = cKDTree(corpus).query(queries, reach, workers=worker_count())
    if own is not None:
        # A row with many identical twins may not be among its own nearest: then its farthest is dropped.
        distances = np.where(indices == own[:, None], np.inf, distances)
    order = np.lexsort((indices, distances))[:, :k]
    return Neighbors(
        np.take_along_axis(indices, order, 1).astype(np.int64),
        np.take_along_axis(distances, order, 1).astype(np.float32),
    )


class Corpus:
    """Rows ready to be searched exactly by any of the six metrics; they are used as they lie, not copied.

    Args:
        rows: (n, d) float32 or float16, or uint8 for "hamming"; C-contiguous. A memory map is read a block at a time.
            On a GPU, rows in memory are kept there and those of a memory map are sent block by block.
        metric: Any of `distances.Metric`. Rows for "jensen_shannon" must be non-negative, with sums above 0.
        device: Where the work is done.
    """

    def __init__(self, rows: np.ndarray, metric: AnyMetric, *, device: str = "auto") -> None:
        self.device = resolve_device(device)
        with warnings.catch_warnings():  # a read-only memory map; nothing here writes to it
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._rows = torch.from_numpy(rows)
        if not isinstance(rows, np.memmap):
            self._rows = self._rows.to(self.device)
        self._is_packed = rows.dtype == np.uint8
        step = self._block_rows(1)
        blocks = [slice(start, start + step) for start in range(0, len(rows), step)]
        center = torch.zeros(rows.shape[1], dtype=torch.float64)
        if metric == "euclidean":
            for here in blocks:
                center += self._rows_at(here).sum(dim=0).cpu() / len(rows)
        self._comparison = comparison(metric, center.float().to(self.device))
        terms = [self._comparison.row_terms(self._rows_at(here)) for here in blocks]
        self._terms = torch.cat(terms) if terms else torch.zeros(0, device=self.device)

    def __len__(self) -> int:
        return len(self._rows)

    def nearest(
        self, queries: np.ndarray, k: int, *, own: np.ndarray | None = None, visible: np.ndarray | None = None
    ) -> Neighbors:
        """The k nearest rows to each query; row -1 at distance inf where there are fewer.

        Args:
            queries: (m, d).
            k: At least 1.
            own: The row that each query is and must not find, (m,).
            visible: Which rows may be found, (n,) bool; all when None. Not together with `own`.
        """
        neighbors = _none(len(queries), k)
        for here, batch, blocks in self._batches(queries, visible):
            mine = None if own is None else torch.from_numpy(own[here]).to(self.device)
            self._rank(batch, _candidates(batch, min(k + _SPARE, len(self)), blocks, mine), neighbors, here)
        return neighbors

    def graph(self, k: int, advance: Callable[[int], None] = lambda rows: None) -> Neighbors:
        """The k nearest other rows of every row; row -1 at distance inf where there are fewer.

        Args:
            k: At least 1.
            advance: Told how many more rows are done, in all as many as there are.
        """
        n = len(self)
        is_product = self._comparison.sides(self._rows_at(slice(0, 1)), self._terms[:1]) is not None
        if self.device.type != "cpu" or n <= 2 * _BLOCK_QUERIES or not is_product:
            rows = self._rows.numpy() if self._rows.device.type == "cpu" else self._rows.cpu().numpy()
            found = self.nearest(rows, k, own=np.arange(n))
            advance(n)
            return found

        def sides(here: slice) -> tuple[Tensor, Tensor]:
            left_and_right = self._comparison.sides(self._rows_at(here), self._terms[here])
            assert left_and_right is not None
            return left_and_right

        return self.among(nearest_of_all(sides, n, min(k + _SPARE, n - 1), advance), k)

    def among(self, candidates: Tensor, k: int) -> Neighbors:
        """The k nearest to every row among candidates of its own, (n, c) rows; -1 is none."""
        candidates, neighbors = candidates.sort(dim=1).values, _none(len(self), k)
        for start in range(0, len(self), _BLOCK_QUERIES):
            here = slice(start, min(start + _BLOCK_QUERIES, len(self)))
            self._rank(self._comparison.prepare(self._rows_at(here)), candidates[here], neighbors, here)
        return neighbors

    def _rank(self, batch: Tensor, candidates: Tensor, neighbors: Neighbors, here: slice) -> None:
        """Measure the candidates (m, c), which ascend, and write the nearest of them to their place."""
        measured = self._measure(batch, candidates)
        measured, order = measured.sort(dim=1, stable=True)  # equally near ones stay by row
        found = candidates.gather(1, order).masked_fill_(measured.isinf(), -1)
        width = min(neighbors.indices.shape[1], found.shape[1])
        neighbors.indices[here, :width] = found[:, :width].cpu().numpy()
        neighbors.distances[here, :width] = measured[:, :width].cpu().numpy()

    def within(
        self, queries: np.ndarray, radius: float, *, visible: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All pairs at most `radius` apart, in no order: queries (t,), rows (t,) int64, distances (t,) float32."""
        pairs = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
        step = max(1, _MEASURED_ENTRIES // self._rows.shape[1])
        for here, batch, blocks in self._batches(queries, visible):
            bound = self._comparison.at_least(batch, self._terms, radius)
            bound = bound.clamp_min(torch.finfo(torch.float32).min)[:, None]  # rows that are not visible are at -inf
            for rows, closeness in blocks:
                which, columns = (closeness >= bound).nonzero(as_tuple=True)
                for some, near in zip(which.split(step), rows[columns].split(step), strict=True):
                    measured = self._comparison.distances(batch[some], self._rows_at(near))
                    inside = measured <= radius
                    which_query, row, distance = (x[inside].cpu().numpy() for x in (some, near, measured))
                    pairs.append((which_query + here.start, row, distance))
        which, rows, distances = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return which, rows, distances

    def _batches(self, queries: np.ndarray, visible: np.ndarray | None) -> Iterator[tuple[slice, Tensor, Iterator]]:
        """Slices of the queries, each as prepared and with its blocks."""
        buffer = torch.empty(0, device=self.device)
        for start in range(0, len(queries) if len(self) else 0, _BLOCK_QUERIES):
            here = slice(start, min(start + _BLOCK_QUERIES, len(queries)))
            values = np.ascontiguousarray(queries[here], np.uint8 if self._is_packed else np.float32)
            batch = self._comparison.prepare(torch.from_numpy(values).to(self.device))
            width = self._block_rows(len(batch))
            if len(buffer) < len(batch) * width:
                buffer = torch.empty(len(batch) * width, device=self.device)  # one for all: fresh memory is slow
            yield here, batch, self._blocks(batch, width, visible, buffer)

    def _blocks(
        self, batch: Tensor, width: int, visible: np.ndarray | None, buffer: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (b,) and their closeness to the batch (m, b), valid until the next; -inf for rows not to be found."""
        few = None if visible is None else np.flatnonzero(visible)
        if few is not None and 2 * len(few) > len(self):
            few = None  # more work to gather them than to search all
        listed = torch.arange(len(self)) if few is None else torch.from_numpy(few)
        for rows in listed.to(self.device).split(width):
            here = rows if few is not None else slice(int(rows[0]), int(rows[-1]) + 1)
            closeness = buffer[: len(batch) * len(rows)].view(len(batch), len(rows))
            self._comparison.closeness(batch, self._rows_at(here), self._terms[here], closeness)
            if visible is not None and isinstance(here, slice):
                hidden = torch.from_numpy(np.flatnonzero(~visible[here])).to(self.device)
                closeness.index_fill_(1, hidden, -torch.inf)
            yield rows, closeness

    def _block_rows(self, queries: int) -> int:
        """Rows of a block: as many as memory allows; fewer where they are converted for a few queries only."""
        rows = _BLOCK_ENTRIES // queries
        if self._rows.dtype == torch.float16 or self._rows.device != self.device:
            rows = min(rows, _CONVERTED_BYTES * (1 if queries <= _FEW_QUERIES else 8) // (4 * self._rows.shape[1]))
        return min(max(1, len(self)), max(_GROUP, rows // _GROUP * _GROUP))

    def _rows_at(self, here: slice | Tensor) -> Tensor:
        """Rows as the comparison takes them."""
        rows = self._rows[here.to(self._rows.device) if isinstance(here, Tensor) else here]
        return rows.to(self.device, torch.uint8 if self._is_packed else torch.float32)

    def _measure(self, batch: Tensor, rows: Tensor) -> Tensor:
        """Exact distances of the batch to rows (m, c), inf where a row is -1."""
        step = max(1, _MEASURED_ENTRIES // (rows.shape[1] * self._rows.shape[1]))
        parts = [
            self._comparison.distances(some[:, None], self._rows_at(near.clamp_min(0)))
            for some, near in zip(batch.split(step), rows.split(step), strict=True)
        ]
        return torch.cat(parts).masked_fill_(rows < 0, torch.inf)


def _none(m: int, k: int) -> Neighbors:
    return Neighbors(np.full((m, k), -1, np.int64), np.full((m, k), np.inf, np.float32))


def _candidates(batch: Tensor, count: int, blocks: Iterator[tuple[Tensor, Tensor]], own: Tensor | None) -> Tensor:
    """The `count` closest rows (m, count), by row; -1, which come first, where there are fewer."""
    best = torch.full((len(batch), count), -torch.inf, device=batch.device)
    found = torch.full((len(batch), count), -1, device=batch.device)
    for rows, closeness in blocks:
        if own is not None:
            here = ((own >= rows[0]) & (own <= rows[-1])).nonzero().squeeze(1)
            closeness[here, own[here] - rows[0]] = -torch.inf
        values, columns = _largest(closeness, count)
        best, order = torch.cat([best, values], dim=1).topk(count, dim=1, sorted=False)
        found = torch.cat([found, rows[columns]], dim=1).gather(1, order)
    return found.masked_fill_(best.isneginf(), -1).sort(dim=1).values


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each line, or all, in no order: values and columns."""
    width = values.shape[1]
    groups = width // _GROUP
    if groups <= 4 * count:
        return values.topk(min(count, width), dim=1, sorted=False)
    leaders = values[:, : groups * _GROUP].unflatten(1, (groups, _GROUP)).amax(dim=2)
    leading = leaders.topk(count, dim=1, sorted=False).indices
    within = torch.arange(_GROUP, device=values.device)
    rest = torch.arange(groups * _GROUP, width, device=values.device).expand(len(values), -1)
    columns = torch.cat([(leading[:, :, None] * _GROUP + within).flatten(1), rest], dim=1)
    largest, order = values.gather(1, columns).topk(count, dim=1, sorted=False)
    return largest, columns.gather(1, order)
