"""What an image's nearest in feature space say of it: are they of its class, and of its cluster?

These judge the features, before or beside any clustering of them. All come from one search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.metrics import Classes, sample_rows
from imagescape.evaluate.neighbors import Metric, nearest_others
from imagescape.evaluate.splits import encode_labels

_VOTE_ENTRIES = 2**22  # entries of the (asked rows, classes) tally held at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighborhoods:
    """The neighbours of some rows.

    Attributes:
        metric: What near means.
        class_purity: Mean share of a row's k nearest that are of its class, by k; empty where classes are not known.
        cluster_purity: Mean share of a clustered row's k nearest that are in its cluster, by k; neighbours that are
            noise are not. Empty where there is no cluster.
        weighted_knn_accuracy: See `weighted_vote`: share of rows whose class is elected by their `voters` nearest,
            all others voting; None where classes are not known, or near is not by cosine.
        voters: Of `weighted_knn_accuracy`.
        asked: Rows whose neighbours were sought.
        rows: Rows among which they were sought.
    """

    metric: Metric
    class_purity: Mapping[int, float]
    cluster_purity: Mapping[int, float]
    weighted_knn_accuracy: float | None
    voters: int
    asked: int
    rows: int


def neighborhoods(
    features: np.ndarray,
    *,
    classes: Classes | None = None,
    clusters: np.ndarray | None = None,
    ks: Sequence[int] = (1, 5, 20),
    metric: Metric = "cosine",
    voters: int = 200,
    temperature: float = 0.07,
    max_rows: int = 10_000,
    seed: int = 0,
    device: str = "auto",
) -> Neighborhoods:
    """Ask the nearest of each row what they are.

    Args:
        features: (n, d), at least 2 rows.
        classes: (n,), as `encode_labels` takes them. Rows without a class are neither asked nor found.
        clusters: (n,) integers, -1 for noise.
        ks: Neighbours to count the purity of; those there are too few rows for are left out.
        metric: What near means. The vote is taken by cosine only, by which it is weighted.
        voters: Neighbours that vote for the class; all others where there are fewer.
        temperature: Of the vote.
        max_rows: Rows asked, at most; a random sample of that many where there are more.
        seed: Names the sample.
        device: Where distances are computed.

    Raises:
        InputError: neither classes nor clusters, different lengths, or fewer than 2 rows.
    """
    if classes is None and clusters is None:
        raise InputError("neighbours are asked for classes or clusters, got neither")
    truth = None if classes is None else encode_labels(classes)
    for name, codes in (("classes", None if truth is None else truth.codes), ("clusters", clusters)):
        if codes is not None and len(codes) != len(features):
            raise InputError(f"{name} must have one entry a row, got {len(codes)} for {len(features)} rows")
    if truth is not None and truth.unlabelled_count:
        features, clusters = features[truth.labelled], None if clusters is None else clusters[truth.labelled]
    n = len(features)
    if n < 2:
        raise InputError(f"neighbours need at least 2 rows, got {n}" + (" with a class" if truth is not None else ""))
    rows, ks, voters = sample_rows(np.arange(n), max_rows, seed), [k for k in ks if k < n], min(voters, n - 1)
    found = nearest_others(
        features, max([*ks, 1 if truth is None else voters]), rows=rows, metric=metric, device=device
    )
    class_purity, cluster_purity, accuracy = {}, {}, None
    if truth is not None:
        codes = truth.codes[truth.labelled]
        class_purity = _purity(codes, rows, found.indices, ks)
        if metric == "cosine":
            votes, distances = codes[found.indices[:, :voters]], found.distances[:, :voters]
            elected = weighted_vote(votes, distances, len(truth.classes), temperature=temperature)
            accuracy = float((elected == codes[rows]).mean())
    if clusters is not None and (clusters[rows] >= 0).any():
        cluster_purity = _purity(clusters, rows, found.indices, ks)
    return Neighborhoods(
        metric=metric,
        class_purity=class_purity,
        cluster_purity=cluster_purity,
        weighted_knn_accuracy=accuracy,
        voters=voters,
        asked=len(rows),
        rows=n,
    )


def weighted_vote(codes: np.ndarray, distances: np.ndarray, classes: int, *, temperature: float = 0.07) -> np.ndarray:
    """The class elected by voters whose weight is exp(cosine / temperature); a tie goes to the lower code.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4, who take 200 voters and a temperature of .07.

    Args:
        codes: Class of each voter, (m, k), in [0, classes).
        distances: 1 - cosine of each voter, (m, k).
        classes: Number of classes.
        temperature: Above 0.

    Returns:
        (m,) int64.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be above 0, got {temperature}")
    elected, block = np.empty(len(codes), np.int64), max(1, _VOTE_ENTRIES // classes)
    for start in range(0, len(codes), block):
        here = slice(start, start + block)
        nearer = distances[here].min(axis=1, keepdims=True) - distances[here].astype(np.float64)
        votes = np.zeros((len(nearer), classes))
        # Relative to the nearest voter: the order is the same, and nothing overflows.
        np.add.at(votes, (np.arange(len(nearer))[:, None], codes[here]), np.exp(nearer / temperature))
        elected[here] = votes.argmax(axis=1)
    return elected


def _purity(groups: np.ndarray, rows: np.ndarray, neighbors: np.ndarray, ks: Sequence[int]) -> dict[int, float]:
    """Mean share of the k nearest that are in the group of the row, over the rows that are in one."""
    asked = groups[rows] >= 0
    same = groups[neighbors[asked]] == groups[rows[asked]][:, None]
    return {k: float(same[:, :k].mean()) for k in ks}
