"""Rows that show what a cluster is: some at random, the nearest and farthest of its centroid, and its prototype.

Everything returns rows of the arrays that were given, a line a cluster in ascending order of labels; -1 stands where a
cluster has no more rows.
"""

from dataclasses import dataclass

import numpy as np

from imagescape.cluster.members import Members
from imagescape.errors import InputError
from imagescape.evaluate.contingency import NOISE
from imagescape.runtime import seed_for


@dataclass(frozen=True, slots=True)
class Extremes:
    """The rows of each cluster that are nearest to its centroid, and farthest from it.

    Attributes:
        clusters: The labels, (k,) int64, ascending.
        nearest: (k, count) int64, nearest first.
        farthest: (k, count) int64, farthest first; in a small cluster they may be among the nearest too.
    """

    clusters: np.ndarray
    nearest: np.ndarray
    farthest: np.ndarray


def representatives(labels: np.ndarray, count: int = 10, *, seed: int = 0) -> np.ndarray:
    """Random rows of each cluster, (k, count) int64, ascending.

    What is drawn of one cluster does not depend on the others.

    Args:
        labels: (n,) integers, -1 for noise.
        count: Rows a cluster, at least 1.
        seed: Names the draw.
    """
    members = Members.of(labels)
    chosen = np.full((len(members), _checked(count)), -1, np.int64)
    for position, label in enumerate(members.clusters.tolist()):
        rows = members[position]
        generator = np.random.default_rng(seed_for(seed, "representatives", label))
        some = np.sort(generator.choice(rows, min(count, len(rows)), replace=False))
        chosen[position, : len(some)] = some
    return chosen


def extremes(features: np.ndarray, labels: np.ndarray, count: int = 5) -> Extremes:
    """The rows nearest to their cluster's centroid and those farthest from it, Euclidean; equally far ones by row.

    Args:
        features: (n, d).
        labels: (n,) integers, -1 for noise.
        count: Rows of each kind, at least 1.

    Raises:
        InputError: shapes do not fit, a row is not finite, or there is no cluster.
    """
    members = Members.of(labels)
    radii = members.radii(features, members.centroids(features))
    nearest, farthest = (_first(members, by, _checked(count)) for by in (radii, -radii))
    return Extremes(members.clusters, nearest, farthest)


def prototypes(
    features: np.ndarray, labels: np.ndarray, probability: np.ndarray | None = None, *, confident_fraction: float = 0.1
) -> np.ndarray:
    """The prototype of each cluster: of its most confident rows the one nearest to their mean, (k,) int64.

    Source: Van Gansbeke et al. 2020, arXiv:2005.12320.

    Args:
        features: (n, d).
        labels: (n,) integers, -1 for noise.
        probability: Of each row's own cluster, (n,), in [0, 1]; when None all are equally sure.
        confident_fraction: Of a cluster's rows that are looked at, in (0, 1], at least one; rows as sure as the last
            of them join them.

    Raises:
        InputError: shapes do not fit, a value is not finite or out of range, or there is no cluster.
    """
    if not 0 < confident_fraction <= 1:
        raise InputError(f"confident_fraction must lie above 0 and up to 1, got {confident_fraction}")
    labels, members = np.asarray(labels), Members.of(labels)
    if probability is not None:
        probability = np.asarray(probability)
        if probability.shape != labels.shape:
            raise InputError(f"probability must have one value a label, got {probability.shape} for {labels.shape}")
        if not np.isfinite(probability[members.rows]).all():
            raise InputError("probability must be finite for every row of a cluster; label the others -1")
        wanted = np.ceil(confident_fraction * members.sizes).astype(np.int64)
        surest = members.rows[np.lexsort((-probability[members.rows], members.positions))]
        bar = probability[surest[members.starts[:-1] + wanted - 1]]
        is_sure = probability[members.rows] >= np.repeat(bar, members.sizes)
        sure = np.full_like(labels, NOISE)
        sure[members.rows[is_sure]] = labels[members.rows[is_sure]]
        labels = sure
    return extremes(features, labels, 1).nearest[:, 0]


def _first(members: Members, values: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of each cluster with the least values (m,), given in the order of `members.rows`."""
    order = np.lexsort((values, members.positions))  # stable: equal values stay by row
    place = np.arange(len(order)) - np.repeat(members.starts[:-1], members.sizes)
    kept = place < count
    first = np.full((len(members), count), -1, np.int64)
    first[members.positions[kept], place[kept]] = members.rows[order][kept]
    return first


def _checked(count: int) -> int:
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    return count
