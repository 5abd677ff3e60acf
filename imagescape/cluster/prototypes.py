"""Images that show what a cluster is, without any words: those in its middle, and those on its border."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from imagescape.cluster.exemplars import extremes
from imagescape.cluster.members import Members
from imagescape.errors import InputError

_BLOCK_ENTRIES = 2**24


@dataclass(frozen=True, slots=True)
class Shown:
    """Rows that show a cluster.

    Attributes:
        cluster: Its label.
        prototypes: Those nearest to its centroid, the nearest first.
        boundary: Those that are nearest to being in another cluster, the nearest first: with the smallest difference
            between the distances to the nearest other centroid and to their own. None where there is no other.
    """

    cluster: int
    prototypes: tuple[int, ...]
    boundary: tuple[int, ...]


def show_clusters(
    vectors: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], count: int = 5
) -> tuple[Shown, ...]:
    """Prototypes and boundary of every cluster, by Euclidean distance.

    Args:
        vectors: What was clustered.
        labels: Cluster of each; -1 for none.
        count: Rows of either kind; fewer where the cluster has fewer.

    Returns:
        One for every cluster, by label.

    Raises:
        InputError: shapes do not fit, or a value is not finite.
    """
    vectors, labels, means = centroids(vectors, labels)
    members = Members.of(labels, allow_none=True)
    if not len(members):
        return ()
    shown, middle = [], extremes(vectors, labels, count).nearest
    for k, rows in enumerate(members):
        own, other = _distances(vectors, rows, means, k)
        border = np.lexsort((rows, other - own))[:count]
        boundary = tuple(rows[border].tolist()) if len(means) > 1 else ()
        shown.append(Shown(int(members.clusters[k]), tuple(middle[k, : len(rows)].tolist()), boundary))
    return tuple(shown)


def centroids(
    vectors: np.ndarray, labels: np.ndarray
) -> tuple[Float[np.ndarray, "n d"], Int64[np.ndarray, " n"], Float[np.ndarray, "k d"]]:
    """Vectors as float32 from their mean, where large numbers do not cancel; labels; and the clusters' centroids there.

    Raises:
        InputError: shapes do not fit, or a value is not finite.
    """
    vectors, labels = np.asarray(vectors), np.asarray(labels, np.int64)
    if vectors.ndim != 2 or labels.shape != (len(vectors),):
        raise InputError(f"vectors (n, d) and labels (n,) must fit, got {vectors.shape} and {labels.shape}")
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors).all(axis=1)).argmax())
        raise InputError(f"vectors must be finite, row {bad} is not; leave such rows out")
    moved = (vectors - vectors.mean(axis=0, dtype=np.float64)).astype(np.float32) if len(vectors) else vectors
    return moved, labels, Members.of(labels, allow_none=True).centroids(moved).astype(np.float32)


def _distances(vectors: np.ndarray, rows: np.ndarray, means: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each row to its own centroid and to the nearest other one; inf where there is none."""
    inside, outside = np.empty(len(rows)), np.full(len(rows), np.inf)
    squares = (means.astype(np.float64) ** 2).sum(axis=1)
    others = np.arange(len(means)) != own
    step = max(1, _BLOCK_ENTRIES // max(means.shape))
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        some = vectors[rows[here]]
        inside[here] = np.linalg.norm(some - means[own], axis=1)
        if len(means) > 1:
            # To the nearest other only, which is then measured without cancelling.
            nearest = np.where(others, squares - 2.0 * (some @ means.T), np.inf).argmin(axis=1)
            outside[here] = np.linalg.norm(some - means[nearest], axis=1)
    return inside, outside
