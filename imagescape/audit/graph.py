"""Graphs of neighbours as audits take them: who is near whom, with places left empty where nobody is."""

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Neighbors


def checked(graph: Neighbors, k: int | None = None, *, rows: int | None = None, name: str = "graph") -> Neighbors:
    """The k nearest of each row of a graph, after a look at whether it is one.

    Args:
        graph: indices (n, K) and distances (n, K) of other rows, nearest first; index -1, at any distance, where a
            row has fewer neighbours, or none as it has no features.
        k: Neighbours wanted; all there are when None.
        rows: Rows that the graph must have.
        name: What errors call it.

    Returns:
        indices (n, k) int64; distances (n, k) float64, inf where the index is -1.

    Raises:
        InputError: another shape, too few neighbours or rows, an index out of range or of the row itself, or a
            distance that is no number or that is smaller than the one before.
    """
    indices, distances = np.asarray(graph.indices), np.asarray(graph.distances)
    if indices.ndim != 2 or indices.shape != distances.shape or not np.issubdtype(indices.dtype, np.integer):
        raise InputError(
            f"{name} must be integer indices and distances of one shape (rows, k), got {indices.dtype} "
            f"{indices.shape} and {distances.shape}"
        )
    n, most = indices.shape
    if rows is not None and n != rows:
        raise InputError(f"{name} must have {rows} rows as the others, got {n}")
    k = most if k is None else k
    if not 1 <= k <= most:
        raise InputError(f"k must lie between 1 and the {most} neighbours a row in {name}, got {k}")
    indices, distances = indices[:, :k].astype(np.int64), distances[:, :k].astype(np.float64)
    if ((indices < -1) | (indices >= n)).any():
        raise InputError(f"{name} must name rows 0 to {n - 1}, or -1 for none, got {indices.min()} to {indices.max()}")
    if (own := (indices == np.arange(n)[:, None]).any(axis=1)).any():
        raise InputError(f"{name} must be of other rows, row {own.argmax()} is its own neighbour; see `nearest_others`")
    distances[indices < 0] = np.inf
    if (bad := np.isnan(distances).any(axis=1) | (distances < 0).any(axis=1)).any():
        raise InputError(f"distances in {name} must be 0 or more, those of row {bad.argmax()} are not; give it none")
    with np.errstate(invalid="ignore"):  # inf - inf
        if (bad := (np.diff(distances, axis=1) < 0).any(axis=1)).any():
            raise InputError(f"neighbours in {name} must come nearest first, those of row {bad.argmax()} do not")
    return Neighbors(indices, distances)
