"""How well a search finds the one true picture of each query.

A query is a picture made from an original; a search answers it with k items and their distances, and the
*truth* is the id of the original, or -1 for a query whose original is not there to be found. Three figures:

- **recall@k**: the share of matching queries whose original is among the first k results.
- **Micro average precision**: all (query, result) pairs of all queries in one ranking by distance, and the area
  under its precision-recall curve; what is found counts against all matching queries, and the results of queries
  that match nothing count as false. So it asks for distances that mean the same from query to query, as one
  threshold on them needs (Perronnin et al. 2009, "A family of contextual measures of similarity between
  distributions with application to image retrieval"; Douze et al. 2021, arXiv:2106.09672).
- **Recall at 90 % precision** in the same ranking, and the distance at which it is reached (Douze et al. 2021).

Queries made from one original succeed and fail together. So the intervals are percentiles of a bootstrap that draws
originals, each with all its queries, and not queries (Field and Welsh 2007, "Bootstrapping clustered data").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imagescape.errors import InputError

NOTHING = -1  # the truth of a query that matches nothing, and the id that fills rows with fewer than k results
PRECISION = 0.9

_LEVEL = 0.95
_FEWEST_RESAMPLES = 100
_PAIR_BUDGET = 10**8  # pairs ranked over all resamples: a few seconds


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in [0, 1], and the ends of its 95 % interval; None where there are too few originals for one."""

    value: float
    low: float | None = None
    high: float | None = None

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class Recall:
    """recall@k of a group of queries.

    Attributes:
        at: The share found, by k.
        queries: Matching queries in the group.
    """

    at: Mapping[int, Estimate]
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """The figures of one search over a set of queries.

    Attributes:
        overall: Recall of all matching queries.
        by_family: The same by family of queries (what was done to the original, coarsely).
        by_kind: The same by kind (finely).
        average_precision: Micro average precision over the results given.
        recall_at_precision: The largest share of matching queries found at a precision of at least 90 %, by
            accepting every result up to one distance; 0 where no distance is that precise.
        distance_at_precision: The smallest such distance: accept a result when its distance is no larger. None
            where there is none.
        queries: Queries in all, with those that match nothing.
        matching: Queries that match something.
    """

    overall: Recall
    by_family: Mapping[str, Recall]
    by_kind: Mapping[str, Recall]
    average_precision: Estimate
    recall_at_precision: Estimate
    distance_at_precision: float | None
    queries: int
    matching: int


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Every (query, result) pair, nearest first; `ends` are the last pairs of each distinct distance."""

    queries: np.ndarray
    distances: np.ndarray
    is_match: np.ndarray
    ends: np.ndarray


def ranks_of_truth(ids: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The place of the true original among the results, from 1; 0 where it is not there or nothing matches.

    Args:
        ids: Results, nearest first, (n, k) int64, -1 where there are fewer than k.
        truth: The id of each query's original, (n,) int64, -1 where it matches nothing.

    Returns:
        (n,) int64 in [0, k].

    >>> ranks_of_truth(np.array([[7, 9], [7, 9], [7, -1]]), np.array([9, 4, -1])).tolist()
    [2, 0, 0]
    """
    hits = (ids == truth[:, None]) & (truth != NOTHING)[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)


def measure(
    ids: np.ndarray,
    distances: np.ndarray,
    truth: np.ndarray,
    *,
    ks: Sequence[int] = (1, 5, 10),
    families: Sequence[str] | np.ndarray | None = None,
    kinds: Sequence[str] | np.ndarray | None = None,
    originals: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Retrieval:
    """Score the results of a search.

    Equal distances keep the order in which the search gave them for recall@k, and form one step of the curve for
    the other two figures.

    Args:
        ids: Results, nearest first, (n, k) int64, -1 where there are fewer than k.
        distances: (n, k), ascending, any finite number, inf beside -1.
        truth: The id of each query's original, (n,) int64, -1 where it matches nothing.
        ks: For recall@k, each between 1 and k.
        families: What was done to each query, coarsely, (n,).
        kinds: The same, finely, (n,).
        originals: What each query was made from, (n,) int64, for the intervals; it differs from `truth` where the
            original is not there to be found. By default the truth, and each query that matches nothing on its own.
        resamples: Bootstrap draws; 0 for no intervals. Fewer (at least 100) where there are very many results.
        seed: Names the draws.

    Raises:
        InputError: shapes do not fit, distances are not in order, an id comes twice in a row, a k is beyond the
            results, or no query matches.
    """
    ids, distances, truth = _checked(ids, distances, truth, ks)
    names = {"families": families, "kinds": kinds, "originals": originals}
    for name, values in names.items():
        if values is not None and len(values) != len(truth):
            raise InputError(f"{name} must have one entry a query, got {len(values)} for {len(truth)} queries")
    ks = sorted(set(ks))
    matching = truth != NOTHING
    groups = _groups(matching, {"family": families, "kind": kinds})
    members = np.stack(list(groups.values()), axis=1)
    ranks = ranks_of_truth(ids, truth)
    hits = np.stack([(ranks > 0) & (ranks <= k) for k in ks], axis=1)
    clusters = _clusters(truth, originals)
    # Queries of one original are drawn together, so their sums are all that a draw needs: (groups [* ks], clusters).
    counts = _sums(members, clusters)
    found = _sums((members[:, :, None] & hits[:, None, :]).reshape(len(truth), -1), clusters)
    ranking = _ranking(ids, distances, truth)

    def figures(drawn: np.ndarray) -> np.ndarray:
        """Every figure when the queries of cluster c count drawn[c] times: recalls by group and k, then two more."""
        with np.errstate(invalid="ignore"):  # a draw may leave a family without queries
            recalls = found @ drawn / np.repeat(counts @ drawn, len(ks))
        weights = drawn[clusters]
        return np.append(
            recalls, [_average_precision(ranking, weights, matching), _precise(ranking, weights, matching)[0]]
        )

    once = np.ones(counts.shape[1])
    intervals = _intervals(figures, once, _affordable(resamples, ranking), seed)
    estimates = [Estimate(value, *ends) for value, ends in zip(figures(once).tolist(), intervals, strict=True)]
    recalls = {}
    for place, group in enumerate(groups):
        its = estimates[place * len(ks) : (place + 1) * len(ks)]
        if np.count_nonzero(counts[place]) < 2:
            its = [Estimate(one.value) for one in its]
        recalls[group] = Recall(dict(zip(ks, its, strict=True)), int(counts[place].sum()))
    return Retrieval(
        overall=recalls["all", ""],
        by_family={name: one for (level, name), one in recalls.items() if level == "family"},
        by_kind={name: one for (level, name), one in recalls.items() if level == "kind"},
        average_precision=estimates[-2],
        recall_at_precision=estimates[-1],
        distance_at_precision=_precise(ranking, once[clusters], matching)[1],
        queries=len(truth),
        matching=int(matching.sum()),
    )


def _checked(
    ids: np.ndarray, distances: np.ndarray, truth: np.ndarray, ks: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, distances, truth = np.asarray(ids), np.asarray(distances), np.asarray(truth)
    if ids.ndim != 2 or ids.shape != distances.shape or truth.shape != ids.shape[:1]:
        shapes = f"{ids.shape}, {distances.shape} and {truth.shape}"
        raise InputError(f"ids and distances must be (queries, k) and truth (queries,), got {shapes}")
    if not (truth != NOTHING).any():
        raise InputError("recall needs at least one query whose original is in the database, got none")
    if not len(ks) or min(ks) < 1 or max(ks) > ids.shape[1]:
        raise InputError(
            f"every k of recall@k must lie between 1 and the {ids.shape[1]} results a query, got {list(ks)}"
        )
    if np.isnan(distances).any() or (distances[:, 1:] < distances[:, :-1]).any():
        raise InputError("distances must ascend along a row and not be NaN: results come nearest first")
    in_order = np.sort(ids, axis=1)
    if ((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] != NOTHING)).any():
        raise InputError("an id must not come twice among the results of one query; the index holds it twice")
    if not np.isfinite(distances[ids != NOTHING]).all():
        raise InputError("the distance of a result must be finite; only a missing one (id -1) has inf")
    return ids, distances, truth


def _ranking(ids: np.ndarray, distances: np.ndarray, truth: np.ndarray) -> _Ranking:
    queries, places = np.nonzero(ids != NOTHING)
    order = np.argsort(distances[queries, places], kind="stable")
    queries, places = queries[order], places[order]
    ranked = distances[queries, places]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.empty(0, np.int64)
    return _Ranking(queries, ranked, ids[queries, places] == truth[queries], ends)


def _curve(ranking: _Ranking, weights: np.ndarray, matching: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall when everything up to each distinct distance is accepted; 0 and 0 for nothing."""
    counted = weights[ranking.queries]
    accepted = np.cumsum(counted)[ranking.ends]
    right = np.cumsum(counted * ranking.is_match)[ranking.ends]
    precision = np.divide(right, accepted, out=np.zeros_like(right), where=accepted > 0)
    total = weights[matching].sum()
    return precision, right / total if total else np.full_like(right, np.nan)


def _average_precision(ranking: _Ranking, weights: np.ndarray, matching: np.ndarray) -> float:
    """Sum of precision times the step in recall, without interpolation."""
    precision, recall = _curve(ranking, weights, matching)
    return float((precision * np.diff(recall, prepend=0.0)).sum())


def _precise(ranking: _Ranking, weights: np.ndarray, matching: np.ndarray) -> tuple[float, float | None]:
    """The largest recall that is precise enough, and the smallest distance that reaches it."""
    precision, recall = _curve(ranking, weights, matching)
    enough = np.flatnonzero((precision >= PRECISION) & (recall > 0))
    if not len(enough):
        return 0.0, None
    best = enough[np.argmax(recall[enough])]
    return float(recall[best]), float(ranking.distances[ranking.ends[best]])


def _groups(
    matching: np.ndarray, columns: Mapping[str, Sequence[str] | np.ndarray | None]
) -> dict[tuple[str, str], np.ndarray]:
    """Masks of the matching queries of every group, by (column, value), and of all of them as ("all", "")."""
    groups = {("all", ""): matching}
    for level, column in columns.items():
        values = np.asarray(np.full(len(matching), "") if column is None else column, dtype=str)
        names = [] if column is None else np.unique(values[matching]).tolist()
        groups |= {(level, name): matching & (values == name) for name in names}
    return groups


def _clusters(truth: np.ndarray, originals: np.ndarray | None) -> np.ndarray:
    """Which queries the bootstrap draws together, (n,) int64 from 0."""
    if originals is not None:
        return np.unique(originals, return_inverse=True)[1]
    alone = np.where(truth == NOTHING, np.arange(len(truth)), NOTHING)
    return np.unique(np.stack([truth, alone], axis=1), axis=0, return_inverse=True)[1].ravel()


def _sums(columns: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Column sums within each cluster: (n, c) -> (c, clusters) float64."""
    return np.stack([np.bincount(clusters, weights=column) for column in columns.T])


def _affordable(resamples: int, ranking: _Ranking) -> int:
    if resamples < 0:
        raise InputError(f"resamples must be 0 (no intervals) or more, got {resamples}")
    return min(resamples, max(_FEWEST_RESAMPLES, _PAIR_BUDGET // max(len(ranking.queries), 1)))


def _intervals(
    figures: Callable[[np.ndarray], np.ndarray], once: np.ndarray, resamples: int, seed: int
) -> list[tuple[float | None, float | None]]:
    if not resamples or len(once) < 2:
        return [(None, None)] * len(figures(once))
    generator = np.random.default_rng(seed)
    draws = np.stack(
        [
            figures(np.bincount(generator.integers(len(once), size=len(once)), minlength=len(once)).astype(np.float64))
            for _ in range(resamples)
        ]
    )
    low, high = np.nanquantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0).tolist()
    return list(zip(low, high, strict=True))
