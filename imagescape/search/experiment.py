"""Experiments with searches: the same queries through many settings, each scored and timed.

It knows vectors and ids, and nothing of images: what the queries were made from is given as ids of the database.
"""

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.retrieval import NOTHING, measure
from imagescape.evaluate.trials import Experiment, Rate, Trial
from imagescape.runtime import track, worker_count
from imagescape.search.combined import DEPTH, Calibration, Method, cross_fitted, fit_combined
from imagescape.search.index import Found, Index, Metric, build_index

KS = (1, 2, 3, 5, 10, 20, 50, 100)  # of recall@k, up to the results of a trial

_REPEATS = 5
_SINGLES = 100  # queries that are also timed one at a time
_PATIENCE_SECONDS = 10.0  # a search that took longer is not repeated


@dataclass(frozen=True, slots=True)
class Vectors:
    """The database: one row a picture, in one or more columns of vectors.

    Attributes:
        ids: (n,) int64.
        columns: By name of the features, (n, d) each; hashes are (n, bits/8) uint8.
    """

    ids: np.ndarray
    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        _same_length(len(self.ids), self.columns, "a row of the database")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Altered pictures whose originals are known.

    Attributes:
        ids: Of the queries themselves, (m,) int64; they are not in the database.
        columns: As of the database, (m, d) each.
        truth: The id of each query's original in the database, (m,) int64, -1 where it matches nothing.
        families: What was done to it, coarsely, (m,): "crop".
        kinds: What was done to it, finely, (m,): "crop 40 %".
        originals: What each query was made from, (m,) int64, also where that is not in the database; queries of one
            original are never taken for independent. By default the truth, and each query that matches nothing alone.
    """

    ids: np.ndarray
    columns: Mapping[str, np.ndarray]
    truth: np.ndarray
    families: Sequence[str] | np.ndarray
    kinds: Sequence[str] | np.ndarray
    originals: np.ndarray | None = None

    def __post_init__(self) -> None:
        known = {"truth": self.truth, "families": self.families, "kinds": self.kinds}
        known |= {} if self.originals is None else {"originals": self.originals}
        _same_length(len(self.ids), {**known, **self.columns}, "a query")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to search.

    Attributes:
        features: A column of vectors.
        engine: As `build_index` takes it.
        metric: As `build_index` takes it.
        search_width: nprobe, efSearch; None for the engine's own.
        k: Results a query.
    """

    features: str
    engine: str = "exact"
    metric: Metric = "euclidean"
    search_width: int | None = None
    k: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Several ways to search, combined (see `imagescape.search.combined`), each query judged without its original.

    Attributes:
        methods: At least two, of different features; their `k` is not used.
        k: Results a query.
        depth: Candidates each method brings.
    """

    methods: tuple[Setting, ...]
    k: int = 10
    depth: int = DEPTH

    def __post_init__(self) -> None:
        names = [one.features for one in self.methods]
        if len(set(names)) < max(len(names), 2):
            raise InputError(f"a combination needs two or more different features, got {', '.join(names) or 'none'}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an experiment gave, every tuple in the order of its settings.

    Attributes:
        experiment: The figures and times.
        found: The results behind them.
        calibrations: Of each combination, learned from all queries, to search with from now on; None for others.
    """

    experiment: Experiment
    found: tuple[Found, ...]
    calibrations: tuple[Calibration | None, ...]


def sweep(base: Setting, **axes: Sequence[Any]) -> list[Setting]:
    """`base` with every combination of other values, the last axis changing fastest.

    >>> [one.k for one in sweep(Setting(features="dhash64"), k=(1, 10))]
    [1, 10]
    """
    return [replace(base, **dict(zip(axes, values, strict=True))) for values in product(*axes.values())]


def run_experiment(
    database: Vectors,
    queries: Queries,
    settings: Sequence[Setting | Together],
    *,
    device: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
) -> Outcome:
    """Search with every setting, score and time it.

    Rows are put into an index in a random order, so that an engine which orders equal distances by row favours no
    picture: hashes have many equal distances, and originals often come first in a collection.

    Speed is measured on all queries at once and on single ones; a first search that took less than 10 seconds is
    a warm-up and is repeated five times.

    Args:
        database: What to search among.
        queries: What to search for.
        settings: At least one; the first is the main one. Settings that differ in k or search width share an index.
        device: Where exact search runs.
        resamples: Bootstrap draws behind every interval.
        seed: Names the order of rows, the indexes, the folds and the draws.

    Raises:
        InputError: a column is missing, a true original is not in the database, or a setting does not fit its engine.
    """
    _check(database, queries, settings)
    indexes = _Indexes(database, settings, device, seed)
    trials, results, calibrations = [], [], []
    with track("Experiment", len(settings), unit="searches") as progress:
        for setting in settings:
            if isinstance(setting, Together):
                found, measured, calibration = _run_together(setting, queries, indexes, seed)
            else:
                found, measured, calibration = *_run_single(setting, queries, indexes), None
            retrieval = measure(
                found.ids,
                found.distances,
                queries.truth,
                ks=[k for k in KS if k <= setting.k],
                families=queries.families,
                kinds=queries.kinds,
                originals=queries.originals,
                resamples=resamples,
                seed=seed,
            )
            trials.append(Trial(retrieval=retrieval, k=setting.k, **measured))
            results.append(found)
            calibrations.append(calibration)
            progress.advance()
    experiment = Experiment(
        trials=tuple(trials),
        database_rows=len(database),
        seed=seed,
        machine=platform.platform(),
        threads=worker_count(),
    )
    return Outcome(experiment, tuple(results), tuple(calibrations))


def _same_length(count: int, columns: Mapping[str, Sequence | np.ndarray], of: str) -> None:
    for name, values in columns.items():
        if len(values) != count:
            raise InputError(f"{name} must have one entry {of}, got {len(values)} for {count} ids")


def _check(database: Vectors, queries: Queries, settings: Sequence[Setting | Together]) -> None:
    if not settings:
        raise InputError("an experiment needs at least one setting, got none")
    if not len(queries):
        raise InputError("an experiment needs queries, got none")
    for setting in settings:
        for one in _parts(setting):
            for where, columns in (("database", database.columns), ("queries", queries.columns)):
                if one.features not in columns:
                    had = ", ".join(columns) or "none"
                    raise InputError(
                        f"the {where} must have the features '{one.features}', got {had}; embed them first"
                    )
    lost = np.setdiff1d(queries.truth[queries.truth != NOTHING], database.ids)
    if len(lost):
        raise InputError(
            f"the truth of a query is an id of the database, or -1 for a query that matches nothing; "
            f"{len(lost)} originals are not in the database, the first {lost[0]}"
        )


def _parts(setting: Setting | Together) -> tuple[Setting, ...]:
    return setting.methods if isinstance(setting, Together) else (setting,)


@dataclass(frozen=True, slots=True)
class _Built:
    method: Method
    build_seconds: float
    usual_width: int | None


class _Indexes:
    """The indexes of an experiment: each built once, before its first use, and let go after its last."""

    def __init__(self, database: Vectors, settings: Sequence[Setting | Together], device: str, seed: int) -> None:
        self._database, self._device, self._seed = database, device, seed
        self._order = np.random.default_rng(seed).permutation(len(database))
        self._uses = Counter(self._key(one) for setting in settings for one in _parts(setting))
        self._built: dict[tuple[str, str, str], _Built] = {}

    @staticmethod
    def _key(setting: Setting) -> tuple[str, str, str]:
        return setting.features, setting.engine, setting.metric

    def take(self, setting: Setting) -> _Built:
        """The index of a setting, at the setting's search width."""
        key = self._key(setting)
        built = self._built.get(key) or self._build(setting)
        self._uses[key] -= 1
        self._built[key] = built
        if not self._uses[key]:
            del self._built[key]
        index = built.method.index
        width = setting.search_width if setting.search_width is not None else built.usual_width
        if width is not None:
            if built.usual_width is None:
                raise InputError(f"the engine '{setting.engine}' has no search width, got {setting.search_width}")
            index.search_width = width
        return built

    def _build(self, setting: Setting) -> _Built:
        vectors = np.ascontiguousarray(self._database.columns[setting.features][self._order])
        ids = self._database.ids[self._order]
        began = time.perf_counter()
        index = build_index(
            vectors, ids, engine=setting.engine, metric=setting.metric, device=self._device, seed=self._seed
        )
        return _Built(Method(index, ids, vectors), time.perf_counter() - began, index.search_width)


def _run_single(setting: Setting, queries: Queries, indexes: _Indexes) -> tuple[Found, dict[str, Any]]:
    built = indexes.take(setting)
    index: Index = built.method.index
    vectors = queries.columns[setting.features]
    found, batch, single = _timed(lambda rows: index.search(vectors[rows], setting.k), len(queries))
    return found, {
        "features": setting.features,
        "engine": setting.engine,
        "metric": setting.metric,
        "search_width": index.search_width,
        "build_seconds": built.build_seconds,
        "batch": batch,
        "single": single,
        "vector_bytes": float(index.vector_bytes),
    }


def _run_together(
    setting: Together, queries: Queries, indexes: _Indexes, seed: int
) -> tuple[Found, dict[str, Any], Calibration]:
    built = {one.features: indexes.take(one) for one in setting.methods}
    methods = {name: one.method for name, one in built.items()}
    columns = {name: queries.columns[name] for name in built}
    began = time.perf_counter()
    combined = fit_combined(methods, columns, queries.truth, depth=setting.depth)
    fit_seconds = time.perf_counter() - began
    _, batch, single = _timed(
        lambda rows: combined.search({name: values[rows] for name, values in columns.items()}, setting.k), len(queries)
    )
    found = cross_fitted(
        methods,
        columns,
        queries.truth,
        setting.k,
        originals=queries.originals,
        depth=setting.depth,
        seed=seed,
    )
    measured = {
        "features": " + ".join(built),
        "engine": "combined",
        "metric": "probability",
        "search_width": None,
        "build_seconds": sum(one.build_seconds for one in built.values()) + fit_seconds,
        "batch": batch,
        "single": single,
        "vector_bytes": float(sum(one.method.index.vector_bytes for one in built.values())),
    }
    return found, measured, combined.calibration


def _timed(search: Callable[[slice], Found], count: int) -> tuple[Found, Rate, Rate]:
    """What a search of all queries finds, and how many it answers a second, all at once and one by one."""
    found, first = _seconds(search, slice(None))
    batch = [first] if first > _PATIENCE_SECONDS else [_seconds(search, slice(None))[1] for _ in range(_REPEATS)]
    single = list(_single_seconds(search, count))
    return found, _rate(count, batch), _rate(1, single[1:] or single)  # the first warms up


def _single_seconds(search: Callable[[slice], Found], count: int) -> Iterator[float]:
    began = time.perf_counter()
    for row in range(min(count, _SINGLES + 1)):
        yield _seconds(search, slice(row, row + 1))[1]
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            return


def _seconds(search: Callable[[slice], Found], rows: slice) -> tuple[Found, float]:
    began = time.perf_counter()
    found = search(rows)
    return found, max(time.perf_counter() - began, 1e-9)


def _rate(queries: int, seconds: Sequence[float]) -> Rate:
    rates = queries / np.array(seconds)
    return Rate(float(np.median(rates)), float(rates.min()), float(rates.max()), len(seconds))
