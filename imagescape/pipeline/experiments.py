"""`experiment`: how well, and how fast, altered copies find their originals."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from imagescape.collection.results import feature_names, features_identity, last_features
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Vectors, numbers_of
from imagescape.errors import InputError
from imagescape.evaluate.retrieval import NOTHING
from imagescape.features.extract import same_encoder
from imagescape.pipeline.embedding import embed, encoder_of
from imagescape.runtime import seed_for
from imagescape.search import experiment as searches
from imagescape.search.experiment import Outcome, Setting, Together, run_experiment
from imagescape.search.index import Metric, what_it_can

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """An experiment, and what was searched in it.

    Attributes:
        outcome: Figures, and what each setting found.
        queries: What was searched for.
        distractors: Collections that were searched too.
    """

    outcome: Outcome
    queries: searches.Queries
    distractors: tuple[Collection, ...]


def experiment(
    scape: Collection,
    queries: Collection,
    *,
    features: Sequence[str] | None = None,
    engines: Sequence[str] = ("exact",),
    metrics: Sequence[Metric] | None = None,
    ks: Sequence[int] = (10,),
    search_widths: Sequence[int] | None = None,
    distractors: Sequence[Collection] = (),
    held_out: float = 0.2,
    center: bool = False,
    combined: bool = True,
    seed: int = 0,
    device: str = "auto",
) -> Measured:
    """Search a collection for the originals of altered copies, in every way asked for.

    Features that the queries or the distractors lack are made first, by the encoder that made the collection's.

    Args:
        scape: The originals.
        queries: Altered copies, as `attack` makes them: `original_id` says what of (null: of nothing in the
            collection), `family` and `attack` what was done.
        features: Names of features; all that the collection has when None. The first is the main one.
        engines: As for `Searcher`.
        metrics: As for `Searcher`; None: "cosine". Hashes are compared by "hamming" whatever is said.
        ks: Results a query.
        search_widths: nprobe, efSearch to sweep, for the engines that have it; None: each engine's own.
        distractors: Collections whose images are searched too, and are right for no query.
        held_out: Fraction of the originals that are left out of the search, so that their copies match nothing:
            without such queries precision says little.
        center: Search by the features of networks once more, measured from the mean of the database: "NAME centred".
        combined: Also combine all features, with calibrated distances, where there are two or more.
        seed: Settles every random choice.
        device: Where networks and exact search run.

    Raises:
        InputError: no such features, no queries with `original_id`, or a setting that cannot be.
    """
    last_features(scape)  # there are some
    names = list(dict.fromkeys(features or feature_names(scape)))
    if not 0 <= held_out < 1:
        raise InputError(f"held_out is the fraction of the originals left out, in [0, 1), got {held_out}")
    for name in names:
        Vectors(scape, name)  # they are there
        for other in (queries, *distractors):
            _embed_alike(scape, name, other, device)
    asked, originals = _queries(queries, names)
    ids, columns = _database([scape, *distractors], names, _held_out(originals, held_out, seed))
    if center:
        names = [*names, *_add_centered(columns, asked["columns"])]
    database = searches.Vectors(ids, columns)
    searched = searches.Queries(
        **asked, originals=originals, truth=np.where(np.isin(originals, ids), originals, NOTHING)
    )
    single = _settings(database, names, engines, metrics or ("cosine",), ks, search_widths)
    settings: list[Setting | Together] = [*single]
    first = {one.features: one for one in reversed(single)}
    if combined and len(names) > 1 and len(first) > 1:
        settings.append(Together(methods=tuple(first[name] for name in names if name in first), k=max(ks)))
    outcome = run_experiment(database, searched, settings, device=device, seed=seed)
    return Measured(outcome, searched, tuple(distractors))


def _embed_alike(scape: Collection, name: str, other: Collection, device: str) -> None:
    """Have `other` encoded as the collection was.

    Raises:
        InputError: it has features of that name, made by another encoder.
    """
    theirs = features_identity(other, name)
    if theirs and not same_encoder(theirs, features_identity(scape, name)):
        raise InputError(
            f"features '{name}' of '{other.path.name}' were made by another encoder than those of "
            f"'{scape.path.name}'; make them again: imagescape embed {other.path} --encoder "
            f"{scape.path / 'models' / name} --name {name} --overwrite"
        )
    dtype = np.dtype(scape.schema.field(f"features_{name}").type.value_type.to_pandas_dtype())
    encoder = encoder_of(scape, name, device)
    embed(other, encoder, name, dtype="float16" if dtype == np.uint8 else str(dtype))


def _queries(queries: Collection, names: Sequence[str]) -> tuple[dict, np.ndarray]:
    """What all features know of the queries, and the ids (m,) of their originals, each its own where it has none."""
    for column in ("original_id", "family", "attack"):
        if column not in queries.columns:
            raise InputError(
                f"queries need a column '{column}', as `imagescape attack` writes it; '{queries.path}' has none"
            )
    ids, columns = _common([queries], names)
    table = queries.read(["image_id", "original_id", "family", "attack"])
    rows = np.searchsorted(known := np.sort(numbers := numbers_of(table["image_id"].to_numpy())), ids)
    assert np.array_equal(known[rows], ids)
    table = table.take(np.argsort(numbers)[rows])
    own = table["image_id"].to_pylist()
    for given in table["original_id"].to_pylist():
        if given and not re.fullmatch("[0-9a-f]{16}", given):
            raise InputError(f"original_id must be the image_id (16 hex digits) of an original, or null, got '{given}'")
    originals = [given or mine for given, mine in zip(table["original_id"].to_pylist(), own, strict=True)]
    kinds = [np.array([text or "" for text in table[name].to_pylist()]) for name in ("family", "attack")]
    return {"ids": ids, "columns": columns, "families": kinds[0], "kinds": kinds[1]}, numbers_of(np.array(originals))


def _held_out(originals: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    every = np.unique(originals)
    rng = np.random.default_rng(seed_for(seed, "held out"))
    return rng.permutation(every)[: round(fraction * len(every))]


def _add_centered(database: dict[str, np.ndarray], queries: dict[str, np.ndarray]) -> list[str]:
    """Add to both the features of networks, measured from the database's mean; returns the names of what was added."""
    added = []
    for name in [name for name, values in database.items() if values.dtype != np.uint8]:
        mean = database[name].mean(axis=0, dtype=np.float64).astype(np.float32)
        for columns in (database, queries):
            columns[f"{name} centred"] = columns[name].astype(np.float32) - mean
        added.append(f"{name} centred")
    return added


def _database(
    scapes: Sequence[Collection], names: Sequence[str], left_out: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    ids, columns = _common(scapes, names)
    keep = ~np.isin(ids, left_out)
    if not keep.any():
        raise InputError("nothing is left to search among; hold fewer originals out, or give distractors")
    return ids[keep], {name: values[keep] for name, values in columns.items()}


def _common(scapes: Sequence[Collection], names: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids and vectors of the images that have all of the features."""
    all_ids: list[np.ndarray] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for scape in scapes:
        found = {name: Vectors(scape, name) for name in names}
        ids = found[names[0]].ids
        for one in found.values():
            ids = ids[np.isin(ids, one.ids)]
        for name, one in found.items():
            columns[name].append(one.values()[np.isin(one.ids, ids)])
        all_ids.append(ids)
    ids = np.concatenate(all_ids)
    _, first = np.unique(ids, return_index=True)  # a picture may be in two collections
    first.sort()
    return ids[first], {name: np.concatenate(parts)[first] for name, parts in columns.items()}


def _is_approximate(engine: str) -> bool:
    return engine == "lance" or "IVF" in engine or "HNSW" in engine


def _settings(
    database: searches.Vectors,
    names: Sequence[str],
    engines: Sequence[str],
    metrics: Sequence[Metric],
    ks: Sequence[int],
    search_widths: Sequence[int] | None,
) -> list[Setting]:
    """Every combination that there is; hashes are searched by the engines that know them."""
    settings: list[Setting] = []
    for name, engine in product(names, engines):
        is_hash = database.columns[name].dtype == np.uint8
        if engine != "exact" and engine.startswith("binary") != is_hash:
            _log.info("engine '%s' is not for the features '%s'", engine, name)
            continue
        widths = search_widths if search_widths is not None and _is_approximate(engine) else (None,)
        known = what_it_can(engine, database.columns[name].shape[1]).metrics
        asked: Sequence[Metric] = ("hamming",) if is_hash else metrics
        wanted = [one for one in asked if one in known and (one == "hamming") == is_hash]
        for metric, width, k in product(wanted, widths, ks):
            settings.append(Setting(features=name, engine=engine, metric=metric, search_width=width, k=k))
    if not settings:
        raise InputError(f"none of the engines {', '.join(engines)} is for any of the features {', '.join(names)}")
    return settings
