"""What an experiment with searches found, as nouns and as a JSON file that every plot can be redrawn from.

`results.json`, version 1: the figures of the main (first) trial at the top, so that a script finds
`recall_at_k["overall"]["1"]` and `recall_at_k["by_family"][family]["1"]` there, and all trials, each with the same
keys, under `trials`. Keys that end in `_95` hold the ends of 95 % intervals, or null.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.retrieval import Estimate, Recall, Retrieval

RESULTS = "results.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """Queries a second over repeated searches: the median, and the slowest and fastest of them."""

    median: float
    slowest: float
    fastest: float
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way to search, measured.

    Attributes:
        features: The column of vectors, or the columns joined by " + " for a combination.
        engine: As `build_index` takes it, or "combined".
        metric: As `build_index` takes it, or "probability".
        search_width: What the engine looked through (nprobe, efSearch); None where it has no such number.
        k: Results asked for.
        build_seconds: Time to build the index, and to calibrate a combination.
        batch: Queries a second when all are given at once.
        single: Queries a second when each is given alone.
        vector_bytes: Storage a vector.
        retrieval: How well it found the originals.
    """

    features: str
    engine: str
    metric: str
    search_width: int | None
    k: int
    build_seconds: float
    batch: Rate
    single: Rate
    vector_bytes: float
    retrieval: Retrieval

    @property
    def method(self) -> tuple[str, str, str]:
        """Features, engine and metric: what stays the same along a sweep of k or of the search width."""
        return self.features, self.engine, self.metric

    def __str__(self) -> str:
        width = "" if self.search_width is None else f", width {self.search_width}"
        return f"{self.features}, {self.engine}, {self.metric.replace('_', ' ')}{width}, k {self.k}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Trials on one database with one set of queries; the first is the main one.

    Attributes:
        trials: At least one, in the order they were asked for.
        database_rows: Pictures searched among.
        seed: What drew the folds, the order of rows and the intervals.
        machine: Where the times were taken.
        threads: Processor cores that could be used.
    """

    trials: tuple[Trial, ...]
    database_rows: int
    seed: int
    machine: str
    threads: int

    def __post_init__(self) -> None:
        if not self.trials:
            raise InputError("an experiment has at least one trial, got none")

    def save(self, folder: str | Path) -> Path:
        """Write `results.json` into `folder`, which is made where it is missing; returns the file."""
        path = Path(folder) / RESULTS
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {name: getattr(self, name) for name in ("database_rows", "seed", "machine", "threads")}
        trials = [_trial_json(trial) for trial in self.trials]
        main = _retrieval_json(self.trials[0].retrieval)
        text = json.dumps({"version": _VERSION, **about, **main, "trials": trials}, indent=1, allow_nan=False)
        partial = path.with_suffix(".partial")
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
        return path

    @classmethod
    def load(cls, folder: str | Path) -> "Experiment":
        """Read what `save` wrote.

        Raises:
            InputError: there is no `results.json` in `folder`.
            CheckpointError: it is damaged, or of a newer imagescape.
        """
        path = Path(folder) / RESULTS
        if not path.is_file():
            raise InputError(f"needed the results of an experiment, got {folder} without a {RESULTS}; run one first")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            version = data["version"]
            if version != _VERSION:
                raise CheckpointError(f"{path} is of version {version}, this imagescape reads {_VERSION}; update it")
            about = {name: data[name] for name in ("database_rows", "seed", "machine", "threads")}
            return cls(trials=tuple(_read_trial(trial) for trial in data["trials"]), **about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged ({error!r}); run the experiment again") from error

    def __str__(self) -> str:
        widest = max(len(str(trial)) for trial in self.trials)
        k = min(self.trials[0].retrieval.overall.at)
        lines = [
            f"{'search':<{widest}}  {f'R@{k}':>6}  {'95 %':>13}  {'uAP':>6}  {'R@P90':>6}  {'batch/s':>8}  {'bytes':>7}"
        ]
        for trial in self.trials:
            figures = trial.retrieval
            first = figures.overall.at[k]
            interval = "" if first.low is None else f"{first.low:.3f} - {first.high:.3f}"
            lines.append(
                f"{trial!s:<{widest}}  {first.value:>6.3f}  {interval:>13}  {figures.average_precision.value:>6.3f}  "
                f"{figures.recall_at_precision.value:>6.3f}  {trial.batch.median:>8.0f}  {trial.vector_bytes:>7.0f}"
            )
        return "\n".join(lines)


def _trial_json(trial: Trial) -> dict[str, object]:
    plain = ("features", "engine", "metric", "search_width", "k", "build_seconds", "vector_bytes")
    return {
        **{name: getattr(trial, name) for name in plain},
        "batch_queries_per_second": asdict(trial.batch),
        "single_queries_per_second": asdict(trial.single),
        **_retrieval_json(trial.retrieval),
    }


def _read_trial(data: Mapping) -> Trial:
    plain = ("features", "engine", "metric", "search_width", "k", "build_seconds", "vector_bytes")
    return Trial(
        **{name: data[name] for name in plain},
        batch=Rate(**data["batch_queries_per_second"]),
        single=Rate(**data["single_queries_per_second"]),
        retrieval=_read_retrieval(data),
    )


def _retrieval_json(figures: Retrieval) -> dict[str, object]:
    def table(cell: Callable[[Estimate], object]) -> dict[str, object]:
        def row(recall: Recall) -> dict[str, object]:
            return {str(k): cell(one) for k, one in recall.at.items()}

        groups = {"by_family": figures.by_family, "by_kind": figures.by_kind}
        rows = {level: {name: row(one) for name, one in group.items()} for level, group in groups.items()}
        return {"overall": row(figures.overall), **rows}

    return {
        "recall_at_k": table(lambda one: one.value),
        "recall_at_k_95": table(_ends),
        "micro_average_precision": figures.average_precision.value,
        "micro_average_precision_95": _ends(figures.average_precision),
        "recall_at_90_precision": figures.recall_at_precision.value,
        "recall_at_90_precision_95": _ends(figures.recall_at_precision),
        "distance_at_90_precision": figures.distance_at_precision,
        "queries": figures.queries,
        "matching_queries": {
            "overall": figures.overall.queries,
            "by_family": {name: one.queries for name, one in figures.by_family.items()},
            "by_kind": {name: one.queries for name, one in figures.by_kind.items()},
        },
    }


def _read_retrieval(data: Mapping) -> Retrieval:
    values, ends, counts = data["recall_at_k"], data["recall_at_k_95"], data["matching_queries"]

    def read(row: Mapping, intervals: Mapping, queries: int) -> Recall:
        return Recall({int(k): _estimate(value, intervals[k]) for k, value in row.items()}, queries)

    def group(level: str) -> dict[str, Recall]:
        return {name: read(row, ends[level][name], counts[level][name]) for name, row in values[level].items()}

    return Retrieval(
        overall=read(values["overall"], ends["overall"], counts["overall"]),
        by_family=group("by_family"),
        by_kind=group("by_kind"),
        average_precision=_estimate(data["micro_average_precision"], data["micro_average_precision_95"]),
        recall_at_precision=_estimate(data["recall_at_90_precision"], data["recall_at_90_precision_95"]),
        distance_at_precision=data["distance_at_90_precision"],
        queries=data["queries"],
        matching=counts["overall"],
    )


def _ends(one: Estimate) -> list[float] | None:
    return None if one.low is None or one.high is None else [one.low, one.high]


def _estimate(value: float, ends: list[float] | None) -> Estimate:
    return Estimate(value, *(ends or (None, None)))
