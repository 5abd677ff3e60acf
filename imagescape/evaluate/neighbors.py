"""Exact nearest neighbours, in memory that grows with the number of rows and not with its square.

Two engines, both exact: blocked matrix products for vectors (torch, so also on a GPU), and a
k-d tree for the two or three dimensions of a map, where a tree is a hundred times faster.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree

from imagescape.errors import InputError
from imagescape.runtime import resolve_device, worker_count

Metric = Literal["euclidean", "cosine"]

_BLOCK_ENTRIES = 2**24  # entries of the (queries, corpus) matrix held at once: 64 MiB of float32
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
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows, dtype=np.int64)
    return _search(vectors, vectors[rows], rows, k, metric, device)


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
    wanted = min(k + _SPARE, available)
    if metric == "euclidean" and corpus.shape[1] <= _TREE_DIMENSIONS:
        return _by_tree(corpus, queries, own, k, wanted)
    return _by_products(corpus, queries, own, k, wanted, metric, device)


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


def _by_products(
    corpus: np.ndarray, queries: np.ndarray, own: np.ndarray | None, k: int, wanted: int, metric: Metric, device: str
) -> Neighbors:
    on = resolve_device(device)
    # Centring changes no distance and keeps |a|^2 + |b|^2 - 2ab from cancelling; it would change cosines.
    center = corpus.mean(axis=0, dtype=np.float64).astype(np.float32) if metric == "euclidean" else np.float32(0)
    items = _on_device(corpus, center, metric, on)
    half_norms = items.square().sum(dim=1) / 2 if metric == "euclidean" else torch.zeros(len(items), device=on)
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    block = max(1, _BLOCK_ENTRIES // len(corpus))
    for start in range(0, len(queries), block):
        here = slice(start, start + block)
        batch = _on_device(queries[here], center, metric, on)
        closeness = torch.addmm(-half_norms, batch, items.T)  # rises as distance falls, for both metrics
        if own is not None:
            closeness[torch.arange(len(batch)), torch.from_numpy(own[here]).to(on)] = -torch.inf
        candidates = closeness.topk(wanted, dim=1).indices.sort(dim=1).values  # sorted: ties go to the lower row
        exact = _distances(batch, items[candidates], metric)
        exact, order = exact.sort(dim=1, stable=True)
        indices[here] = candidates.gather(1, order)[:, :k].cpu().numpy()
        distances[here] = exact[:, :k].cpu().numpy()
    return Neighbors(indices, distances)


def _on_device(values: np.ndarray, center: np.ndarray | np.float32, metric: Metric, on: torch.device) -> torch.Tensor:
    rows = torch.from_numpy(np.asarray(values, np.float32) - center).to(on)
    return torch.nn.functional.normalize(rows, dim=1) if metric == "cosine" else rows


def _distances(batch: torch.Tensor, found: torch.Tensor, metric: Metric) -> torch.Tensor:
    """From (b, d) to (b, c, d): written out, so that near-twins are not lost to rounding."""
    if metric == "cosine":
        return (1 - (batch[:, None] * found).sum(dim=2)).clamp_(0, 2)
    return torch.linalg.vector_norm(batch[:, None] - found, dim=2)
