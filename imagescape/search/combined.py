"""Several searches as one: their distances made comparable, and weighed by what each has shown to be worth.

A perceptual hash and a network fail on different pictures. Each has its own unit of distance, so the candidates of
all methods (the union of their nearest) get one common number: the probability of being the picture that the query
was made from. It comes from a logistic model whose log-odds are a sum of curves,

    log-odds = bias + sum over methods of f_m(distance_m) + g_m(gap_m),

where the gap is how much farther a candidate is than the nearest of that query: a blank picture is near to many, and
then near means little (the thought behind the ratio test of Lowe 2004, "Distinctive image features from
scale-invariant keypoints", but two copies of an original do not spoil each other). Every curve is piecewise linear and
falling, so that no candidate gains by being farther (a generalised additive model: Hastie and Tibshirani 1986,
"Generalized additive models", with monotone parts). All are learned together: what two methods both know is not
counted twice. A curve goes flat where its method can no longer tell a match from chance, so that the failure of one
leaves the word to the others; a linear weight could not do that.

The model is fitted on queries whose originals are known. `cross_fitted` scores such queries honestly: the curves that
judge a query have never seen its original.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.distances import comparison
from imagescape.evaluate.retrieval import NOTHING
from imagescape.search.index import Found, Index, Metric

DEPTH = 20  # candidates a method

_VERSION = 1
_STEPS = 8  # quantiles of matches, and of others, between which a curve is straight
_RIDGE = 0.05  # against infinite steps where matches and others do not overlap
_SMALLEST_STEP = 1e-3  # of log-odds, so that nearer is always better and candidates do not tie
_MOST_PAIRS = 2**18  # to learn from: 64 MiB a method
_BLOCK_ENTRIES = 2**23  # vector entries compared at once: 32 MiB of float32


@dataclass(frozen=True, slots=True)
class Method:
    """One way to search, and the vectors it searches.

    Attributes:
        index: Over the rows of `vectors`.
        ids: (n,) int64, the ids the index knows the rows by.
        vectors: (n, d), or (n, bits/8) uint8 for hashes; may be a memory map.
    """

    index: Index
    ids: np.ndarray
    vectors: np.ndarray
    _by_id: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.vectors):
            raise InputError(f"a method needs one id a vector, got {len(self.ids)} for {len(self.vectors)} vectors")
        object.__setattr__(self, "_by_id", np.argsort(self.ids))

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Rows of `vectors`, (t,) int64.

        Raises:
            InputError: an id has no vector.
        """
        places = np.minimum(np.searchsorted(self.ids, ids, sorter=self._by_id), len(self.ids) - 1)
        rows = self._by_id[places]
        if (strangers := ids[self.ids[rows] != ids]).size:
            raise InputError(f"all methods must know the same items, one has no vector for id {strangers[0]}")
        return rows


@dataclass(frozen=True, slots=True)
class Curve:
    """Log-odds at knots, straight lines between them, flat outside.

    Attributes:
        knots: Distances or gaps, ascending, at least one.
        log_odds: What is added at each knot, falling to 0 at the last.
    """

    knots: tuple[float, ...]
    log_odds: tuple[float, ...]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.interp(values, self.knots, self.log_odds)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one method says.

    Attributes:
        metric: The distance that the curves were learned on.
        by_distance: Of the distance between query and candidate.
        by_gap: Of that distance less the distance of the query's nearest candidate by this method, >= 0.
    """

    metric: Metric
    by_distance: Curve
    by_gap: Curve


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the distances of several methods to the probability of being the same picture.

    Attributes:
        bias: Log-odds of a candidate that is far by every method.
        methods: What each says, by name.
        depth: Candidates each method brings.
        pairs: (query, candidate) pairs it was learned from.
        matches: How many of them were matches.
    """

    bias: float
    methods: Mapping[str, Evidence]
    depth: int
    pairs: int
    matches: int

    def log_odds(self, distances: Mapping[str, np.ndarray], gaps: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-odds of candidates, (t,) float64, from their distance and gap by every method, (t,) each."""
        said = [one.by_distance(distances[name]) + one.by_gap(gaps[name]) for name, one in self.methods.items()]
        return self.bias + np.sum(said, axis=0)

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        data = {
            "version": _VERSION,
            "bias": self.bias,
            "depth": self.depth,
            "pairs": self.pairs,
            "matches": self.matches,
            "methods": {name: asdict(one) for name, one in self.methods.items()},
        }
        Path(path).write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file.
            CheckpointError: it is damaged, or of a newer imagescape.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"needed a saved calibration, got {path}, which is no file; run an experiment to make one")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["version"] != _VERSION:
                raise CheckpointError(f"{path} is of version {data['version']}, this imagescape reads {_VERSION}")
            methods = {
                name: Evidence(one["metric"], _read_curve(one["by_distance"]), _read_curve(one["by_gap"]))
                for name, one in data["methods"].items()
            }
            return cls(float(data["bias"]), methods, int(data["depth"]), int(data["pairs"]), int(data["matches"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged ({error!r}); calibrate again") from error


def _read_curve(data: Mapping) -> Curve:
    return Curve(tuple(map(float, data["knots"])), tuple(map(float, data["log_odds"])))


@dataclass(frozen=True, slots=True)
class Combined:
    """A search by several methods at once.

    Attributes:
        methods: By the names that the calibration knows.
        calibration: What their distances are worth.
    """

    methods: Mapping[str, Method]
    calibration: Calibration

    def __post_init__(self) -> None:
        for name, one in self.calibration.methods.items():
            if name not in self.methods:
                raise InputError(f"the calibration is for {', '.join(self.calibration.methods)}; '{name}' is not given")
            if (metric := self.methods[name].index.metric) != one.metric:
                raise InputError(f"'{name}' was calibrated with {one.metric} distances, its index has {metric}")

    def search(self, queries: Mapping[str, np.ndarray], k: int) -> Found:
        """The k most probable originals of each query.

        Args:
            queries: The queries as every method sees them, (m, d) each.
            k: Results a query; there are at most methods x max(k, depth) candidates.

        Returns:
            Distances are 1 - probability, in [0, 1].
        """
        methods = {name: self.methods[name] for name in self.calibration.methods}
        candidates = _candidates(methods, queries, max(k, self.calibration.depth))
        return _best(candidates, candidates.judged_by(self.calibration), k)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """(query, item) pairs, by query: rows of queries (t,), ids (t,), distances and gaps by method, (t,) each."""

    count: int
    queries: np.ndarray
    ids: np.ndarray
    distances: Mapping[str, np.ndarray]
    gaps: Mapping[str, np.ndarray]

    def only(self, keep: np.ndarray) -> "_Candidates":
        distances, gaps = ({name: one[keep] for name, one in column.items()} for column in (self.distances, self.gaps))
        return _Candidates(self.count, self.queries[keep], self.ids[keep], distances, gaps)

    def judged_by(self, calibration: Calibration) -> np.ndarray:
        return calibration.log_odds(self.distances, self.gaps)


def fit_combined(
    methods: Mapping[str, Method],
    queries: Mapping[str, np.ndarray],
    truth: np.ndarray,
    *,
    depth: int = DEPTH,
) -> Combined:
    """Learn from queries with known originals what the distances of each method are worth.

    The probabilities hold for queries like these: with the same share that match nothing, altered in the same ways.

    Args:
        methods: At least one, by name.
        queries: The queries as every method sees them, (m, d) each, row i of all the same query.
        truth: The id of each query's original, (m,) int64, -1 where it matches nothing.
        depth: Candidates each method brings.

    Raises:
        InputError: a method has no queries, or no true original is among the candidates.
    """
    candidates = _candidates(methods, queries, depth)
    return Combined(methods, _fit(methods, candidates, candidates.ids == _truth_of(candidates, truth), depth))


def cross_fitted(
    methods: Mapping[str, Method],
    queries: Mapping[str, np.ndarray],
    truth: np.ndarray,
    k: int,
    *,
    originals: np.ndarray | None = None,
    depth: int = DEPTH,
    folds: int = 5,
    seed: int = 0,
) -> Found:
    """Search with the very queries that calibrate, without letting an original calibrate itself.

    The originals are dealt into folds; the queries of one fold are judged by curves learned from the others.

    Args:
        methods: As in `fit_combined`.
        queries: As in `fit_combined`.
        truth: As in `fit_combined`.
        k: Results a query.
        originals: What each query was made from, (m,) int64, also where it is not in the database. By default the
            truth, and each query that matches nothing on its own.
        depth: Candidates each method brings.
        folds: At least 2.
        seed: Deals the folds.

    Raises:
        InputError: as `fit_combined`, also when one fold holds every match.
    """
    if folds < 2:
        raise InputError(f"folds must be 2 or more, got {folds}: curves need originals that they do not judge")
    candidates = _candidates(methods, queries, max(k, depth))
    is_match = candidates.ids == _truth_of(candidates, truth)
    fold = _folds(truth, originals, folds, seed)[candidates.queries]
    scores = np.empty(len(fold))
    for number in np.unique(fold):
        judged = fold == number
        calibration = _fit(methods, candidates.only(~judged), is_match[~judged], depth)
        scores[judged] = candidates.only(judged).judged_by(calibration)
    return _best(candidates, scores, k)


def _folds(truth: np.ndarray, originals: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """The fold of each query, (m,) int64; matching and other originals are dealt one by one, each kind in turn."""
    truth = np.asarray(truth)
    alone = np.where(truth == NOTHING, np.arange(len(truth)), NOTHING)
    keys = np.stack([truth, alone], axis=1) if originals is None else np.asarray(originals)[:, None]
    first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)[1:]
    generator = np.random.default_rng(seed)
    dealt = np.empty(len(first), dtype=np.int64)
    for kind in (True, False):
        cards = generator.permutation(np.flatnonzero((truth[first] == NOTHING) == kind))
        dealt[cards] = np.arange(len(cards)) % folds
    return dealt[place.ravel()]


def _best(candidates: _Candidates, scores: np.ndarray, k: int) -> Found:
    """The k candidates of each query with the highest log-odds, equal ones by id."""
    order = np.lexsort((candidates.ids, -scores, candidates.queries))
    queries = candidates.queries[order]
    places = np.arange(len(queries)) - np.searchsorted(queries, queries)
    kept = places < k
    order, at = order[kept], (queries[kept], places[kept])
    ids = np.full((candidates.count, k), NOTHING, dtype=np.int64)
    distances = np.full((candidates.count, k), np.inf, dtype=np.float32)
    ids[at], distances[at] = candidates.ids[order], expit(-scores[order])
    return Found(ids, distances)


def _truth_of(candidates: _Candidates, truth: np.ndarray) -> np.ndarray:
    truth = np.asarray(truth)
    if truth.shape != (candidates.count,):
        raise InputError(f"truth must have one id a query, got {truth.shape} for {candidates.count} queries")
    return truth[candidates.queries]


def _candidates(methods: Mapping[str, Method], queries: Mapping[str, np.ndarray], depth: int) -> _Candidates:
    """The union of what every method finds, with the exact distance by every method to each."""
    missing = [name for name in methods if name not in queries]
    if missing or not methods:
        raise InputError(f"every method needs queries of its own, got none for {', '.join(missing) or 'no method'}")
    counts = {name: len(queries[name]) for name in methods}
    if len(set(counts.values())) > 1:
        raise InputError(f"every method must get the same queries, got {counts}")
    count = next(iter(counts.values()))
    found = []
    for name, method in methods.items():
        ids = method.index.search(queries[name], min(depth, len(method.index))).ids
        rows, places = np.nonzero(ids != NOTHING)
        found.append((rows, ids[rows, places]))
    rows, ids = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((ids, rows))
    rows, ids = rows[order], ids[order]
    is_new = np.append(True, (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1]))[: len(rows)]
    rows, ids = rows[is_new], ids[is_new]
    distances = {
        name: _pair_distances(queries[name], rows, method.vectors, method.rows_of(ids), method.index.metric)
        for name, method in methods.items()
    }
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])[: len(rows)])
    sizes = np.diff(starts, append=len(rows))
    gaps = {name: one - np.repeat(np.minimum.reduceat(one, starts), sizes) for name, one in distances.items()}
    return _Candidates(count, rows, ids, distances, gaps)


def _pair_distances(
    queries: np.ndarray, query_rows: np.ndarray, items: np.ndarray, item_rows: np.ndarray, metric: Metric
) -> np.ndarray:
    """Distance of each pair of rows, as an exact index measures it; (t,) float64, in blocks."""
    measure = comparison(metric, torch.zeros(items.shape[1]))

    def tensor(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(rows if metric == "hamming" else rows.astype(np.float32, copy=False))

    block = max(1, _BLOCK_ENTRIES // max(items.shape[1], 1))
    distances = np.empty(len(item_rows))
    for at in (slice(start, start + block) for start in range(0, len(item_rows), block)):
        prepared = measure.prepare(tensor(queries[query_rows[at]]))
        distances[at] = measure.distances(prepared, tensor(items[item_rows[at]])).numpy()
    return distances


def _fit(methods: Mapping[str, Method], candidates: _Candidates, is_match: np.ndarray, depth: int) -> Calibration:
    """Logistic regression on the steps of every curve, no step upwards, by maximum penalised likelihood."""
    if not is_match.any() or is_match.all():
        had = "no match" if not is_match.any() else "nothing but matches"
        raise InputError(f"calibration needs candidates that match and others, got {had} among {len(is_match)}")
    if len(is_match) > _MOST_PAIRS:
        sample = np.random.default_rng(0).permutation(len(is_match))[:_MOST_PAIRS]
        candidates, is_match = candidates.only(sample), is_match[sample]
    columns = [column[name] for name in methods for column in (candidates.distances, candidates.gaps)]
    knots = [_knots(column, is_match) for column in columns]
    design = np.concatenate([_steps(column, its) for column, its in zip(columns, knots, strict=True)], axis=1)
    signs = np.where(is_match, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        bias, heights = parameters[0], parameters[1:]
        margins = signs * (bias + design @ heights)
        pull = -signs * expit(-margins)
        value = np.logaddexp(0, -margins).sum() + _RIDGE / 2 * heights @ heights
        return float(value), np.append(pull.sum(), pull @ design + _RIDGE * heights)

    share = is_match.mean()
    start = np.append(np.log(share / (1 - share)), np.full(design.shape[1], 0.1))
    bounds = [(None, None)] + [(_SMALLEST_STEP, None)] * design.shape[1]
    solved = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-6}).x
    ends = np.cumsum([1] + [len(its) - 1 for its in knots])
    curves = iter(_curve(its, solved[at:end]) for its, at, end in zip(knots, ends[:-1], ends[1:], strict=True))
    evidence = {name: Evidence(method.index.metric, next(curves), next(curves)) for name, method in methods.items()}
    return Calibration(float(solved[0]), evidence, depth, len(is_match), int(is_match.sum()))


def _curve(knots: np.ndarray, heights: np.ndarray) -> Curve:
    falling = np.append(np.cumsum(heights[::-1])[::-1], 0.0)
    return Curve(tuple(knots.tolist()), tuple(falling.tolist()))


def _knots(values: np.ndarray, is_match: np.ndarray) -> np.ndarray:
    """Where a curve may bend: quantiles of the matches and of the others, and the least there is."""
    shares = np.linspace(0, 1, _STEPS + 1)
    quantiles = [np.quantile(values[mask], shares) for mask in (is_match, ~is_match)]
    return np.unique(np.append(np.concatenate(quantiles), min(0.0, float(values.min()))))


def _steps(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """How much of each step of a curve lies above a value: 1 before its left knot, 0 after its right; (t, steps)."""
    return np.clip((knots[1:] - values[:, None]) / np.diff(knots), 0, 1)
