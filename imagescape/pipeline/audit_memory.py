"""What an audit remembers, so that of a collection that grew only what is new is looked at against everything.

`audit/` of the collection holds

    measures/           what the decoded pictures were measured to be, by image
    pairs-<name>.npz    near pairs of images, and which images were compared
    nearest-<name>.npz  the nearest images of each image

Each belongs to the values that it was made of, and to nothing else: features that were made anew are compared anew.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imagescape.audit.pairs import Metric, Pairs, distance_of
from imagescape.collection.locking import storage_errors
from imagescape.collection.store import Collection
from imagescape.evaluate.neighbors import Neighbors
from imagescape.pipeline.graphs import EXACT_ROWS, index_of_many
from imagescape.pipeline.similarity import without_own
from imagescape.runtime import track
from imagescape.search.exact import ExactIndex
from imagescape.search.index import Index, build_index

FOLDER = "audit"

Search = Callable[[np.ndarray | None, float], Pairs]

_QUERIES = 4096


def remembered_pairs(
    scape: Collection, name: str, ids: np.ndarray, search: Search, *, threshold: float, metric: Metric, of: str
) -> tuple[Pairs, int]:
    """Near pairs among images, and how many images were compared now; those compared before are not compared again.

    Args:
        scape: The collection.
        name: Of what was compared.
        ids: Of the images, (n,) int64.
        search: Finds the near pairs among these images by a threshold, of all or, given (n,) bool, of some with all.
        threshold: Of nearness, as `distance_of` takes it.
        metric: Of the distances.
        of: Tells these values from any that the name stood for before.
    """
    path = scape.path / FOLDER / f"pairs-{name}.npz"
    known = _read(path, of)
    if known is not None and distance_of(float(known["threshold"]), metric) >= distance_of(threshold, metric):
        searched = float(known["threshold"])
        places = places_among(known["ids"], ids)
        new = np.ones(len(ids), bool)
        new[places[places >= 0]] = False
        pairs = _pairs(known).moved(places)
        if new.any():
            pairs = Pairs.concatenate([pairs, search(new, searched)])
        unchanged = np.array_equal(known["ids"], ids)
    else:
        searched, new, unchanged = threshold, np.ones(len(ids), bool), False
        pairs = search(None, searched)
    if not unchanged:
        columns = {part: getattr(pairs, part) for part in ("first", "second", "distance", "crowded")}
        plain = {"metric": metric, "radius": pairs.radius, "limit": pairs.limit, "threshold": searched}
        _write(path, of, {"ids": ids, **columns, **plain})
    return pairs.at(threshold), int(new.sum())


def _pairs(known: Mapping[str, Any]) -> Pairs:
    return Pairs.of(
        known["first"],
        known["second"],
        known["distance"],
        metric=str(known["metric"]),  # type: ignore[arg-type]
        radius=float(known["radius"]),
        limit=int(known["limit"]),
        crowded=known["crowded"],
    )


def remembered_nearest(
    scape: Collection, name: str, ids: np.ndarray, vectors: np.ndarray, k: int, *, of: str, seed: int, device: str
) -> Neighbors:
    """The k nearest others of each image by cosine, nearest first, as positions (n, k).

    Of a collection that grew, the new images are sought among all, and for the others among the new ones only. Where an
    image has lost one of its neighbours to deletion, it counts as new.

    Args:
        scape: The collection.
        name: Of the features.
        ids: Of the images, (n,) int64, n >= 2.
        vectors: Their features, (n, d).
        k: 1 to n - 1.
        of: Tells these features from any that had the name before.
        seed: Of an index, where there are too many to compare all with all.
        device: Where they are compared.
    """
    path = scape.path / FOLDER / f"nearest-{name}.npz"
    known = _read(path, of)
    indices, distances = np.full((len(ids), k), -1, np.int64), np.full((len(ids), k), np.inf, np.float32)
    if known is not None and known["indices"].shape[1] == k:
        if np.array_equal(known["ids"], ids):
            return Neighbors(known["indices"], known["distances"])
        places = places_among(known["ids"], ids)
        stay = places >= 0
        moved = np.where(known["indices"] < 0, -1, places[known["indices"]])
        indices[places[stay]], distances[places[stay]] = moved[stay], known["distances"][stay]
    anew = (indices < 0).any(axis=1)
    everything = _index(vectors, seed, device) if anew.any() else None
    if anew.all() and isinstance(everything, ExactIndex):  # half the work of searching for each
        with track(f"nearest by {name}", len(ids)) as progress:
            found = everything.graph(k, progress.advance)
        indices, distances = found.ids, found.distances
    elif everything is not None:
        for rows in _blocks(np.flatnonzero(anew), f"nearest by {name}"):
            found = without_own(everything.search(vectors[rows], k + 1), rows, k)
            indices[rows], distances[rows] = found.ids, found.distances
    if anew.any() and not anew.all():
        _offer(indices, distances, vectors, np.flatnonzero(anew), np.flatnonzero(~anew), device)
    _write(path, of, {"ids": ids, "indices": indices, "distances": distances})
    return Neighbors(indices, distances)


def _offer(
    indices: np.ndarray, distances: np.ndarray, vectors: np.ndarray, new: np.ndarray, old: np.ndarray, device: str
) -> None:
    """Let the new rows take the places among the nearest of the old ones that are theirs."""
    k = indices.shape[1]
    index = build_index(vectors[new], new, metric="cosine", device=device)
    for rows in _blocks(old, "nearest among the new"):
        found = index.search(vectors[rows], min(k, len(new)))
        both = np.concatenate([indices[rows], found.ids], axis=1)
        apart = np.concatenate([distances[rows], found.distances], axis=1)
        twice = (found.ids[:, :, None] == indices[rows][:, None, :]).any(axis=2)  # a row that lost a neighbour is new
        apart[:, k:][twice] = np.inf
        order = np.argsort(apart, axis=1, kind="stable")[:, :k]
        indices[rows], distances[rows] = np.take_along_axis(both, order, 1), np.take_along_axis(apart, order, 1)


def _index(vectors: np.ndarray, seed: int, device: str) -> Index:
    rows = np.arange(len(vectors))
    if len(vectors) > EXACT_ROWS:
        return index_of_many(vectors, metric="cosine", seed=seed)
    return build_index(vectors, rows, metric="cosine", device=device)


def _blocks(rows: np.ndarray, doing: str) -> Any:
    with track(doing, len(rows)) as progress:
        for start in range(0, len(rows), _QUERIES):
            block = rows[start : start + _QUERIES]
            yield block
            progress.advance(len(block))


def places_among(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where in `ids` each of the known ids is, (len(known),) int64; -1 for those that are not there any more."""
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids, known, sorter=order), len(ids) - 1)
    return np.where(ids[order[at]] == known, order[at], -1)


def _read(path: Path, of: str) -> dict[str, Any] | None:
    """What was remembered of the same values; None where there is nothing of them, or nothing whole."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored) if str(stored["of"]) == of else None
    except (FileNotFoundError, zipfile.BadZipFile, EOFError, ValueError, KeyError):
        return None


def _write(path: Path, of: str, arrays: Mapping[str, Any]) -> None:
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                np.savez(file, of=np.array(of), **arrays)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
