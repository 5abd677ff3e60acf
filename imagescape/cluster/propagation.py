"""Name one, and its like have the name: from clusters to clusters beside them, from images to images near them.

Nothing is named because it must be: a cluster or an image that is near to nothing that has a name, or nearly as near to
another name, stays without.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int64

from imagescape.cluster.members import Members
from imagescape.cluster.prototypes import centroids
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Metric, nearest

# The halves of a normal distribution lie 2.7 of their standard deviations apart, neighbouring pieces of an even spread
# 3.5; normal distributions that lie 4 or more apart hardly overlap.
TOUCHING = 4.0


def propagate_to_clusters(
    vectors: Float[np.ndarray, "n d"],
    labels: Int64[np.ndarray, " n"],
    names: Mapping[int, str],
    *,
    margin: float = 0.2,
) -> dict[int, str]:
    """Names for clusters that touch one that has a name.

    Two clusters touch if their centroids are less than four times as far apart as their rows spread along the line
    between (the mean of both standard deviations). Of several named ones that touch, the nearest gives its name.

    Args:
        vectors: What was clustered.
        labels: Cluster of each; -1 for none.
        names: Of the clusters that have one.
        margin: By which share of its distance a touching cluster with another name must be farther, in [0, 1).

    Returns:
        Names of clusters that had none.

    Raises:
        InputError: no such cluster, a margin out of range, shapes do not fit, or a value is not finite.
    """
    _check(margin)
    vectors, labels, means = centroids(vectors, labels)
    members = Members.of(labels, allow_none=True)
    clusters = members.clusters
    places = {int(cluster): k for k, cluster in enumerate(clusters)}
    if unknown := [cluster for cluster in names if cluster not in places]:
        raise InputError(f"there is no cluster {unknown[0]} to take the name '{names[unknown[0]]}' from")
    named = np.array([places[cluster] for cluster in names], np.int64)
    called = np.array(list(names.values()), object)
    found = {}
    for k, rows in enumerate(members):
        if int(clusters[k]) in names or not len(named):
            continue
        apart = means[named] - means[k]
        distances = np.linalg.norm(apart, axis=1)
        spreads = np.array([_spread(vectors, (rows, members[named[i]]), line) for i, line in enumerate(apart)])
        touches = distances < TOUCHING * spreads
        if touches.any() and (name := _distinct(distances[touches], called[touches], margin)) is not None:
            found[int(clusters[k])] = name
    return found


def propagate_to_rows(
    vectors: Float[np.ndarray, "n d"],
    names: Mapping[int, str],
    *,
    k: int = 15,
    margin: float = 0.2,
    metric: Metric = "euclidean",
    device: str = "auto",
) -> dict[int, str]:
    """Names for the rows near to some that have one.

    Every named row gives its name to the k rows nearest to it. Where several meet, each has one vote.

    Args:
        vectors: (n, d).
        names: Of the rows that have one.
        k: How far a name goes, in neighbours.
        margin: By which share of the votes the first name must lead, in [0, 1).
        metric, device: As in `evaluate.neighbors.nearest`.

    Returns:
        Names of rows that had none.

    Raises:
        InputError: no such row, a margin or k out of range, or a value is not finite.
    """
    _check(margin)
    if k < 1:
        raise InputError(f"a name must go to 1 neighbour or more, got {k}")
    rows = np.array(sorted(names), np.int64)
    if not len(rows):
        return {}
    if rows[0] < 0 or rows[-1] >= len(vectors):
        raise InputError(f"named rows must lie in 0 to {len(vectors) - 1}, got {rows[0]} to {rows[-1]}")
    free = np.setdiff1d(np.arange(len(vectors)), rows)
    if not len(free):
        return {}
    near = nearest(vectors[free], vectors[rows], min(k, len(free)), metric=metric, device=device).indices
    votes: dict[int, dict[str, int]] = {}
    for row, reached in zip(rows.tolist(), free[near].tolist(), strict=True):
        for one in reached:
            count = votes.setdefault(one, {})
            count[names[row]] = count.get(names[row], 0) + 1
    found = {}
    for row, count in sorted(votes.items()):
        first, second = sorted([*count.values(), 0], reverse=True)[:2]
        if first > second and first - second >= margin * sum(count.values()):
            found[row] = max(count, key=lambda name: count[name])
    return found


def _spread(vectors: np.ndarray, parts: tuple[np.ndarray, np.ndarray], line: np.ndarray) -> float:
    """The mean of two clusters' standard deviations along a line."""
    length = float(np.linalg.norm(line))
    return float(np.mean([np.std(vectors[rows] @ line, dtype=np.float64) for rows in parts])) / max(length, 1e-30)


def _distinct(distances: np.ndarray, names: np.ndarray, margin: float) -> str | None:
    """The name that is nearest, unless another is nearly as near."""
    best = names[distances.argmin()]
    others = distances[names != best]
    if len(others) and distances.min() > (1 - margin) * others.min():
        return None
    return str(best)


def _check(margin: float) -> None:
    if not 0 <= margin < 1:
        raise InputError(f"a margin must lie in [0, 1), got {margin}")
