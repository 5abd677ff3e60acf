"""What all search engines share: the nouns, the checks of what comes in, and which id is at which position.

An engine works with positions 0, 1, 2, … in the order of adding and knows no ids; `Ledger` keeps those.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.distances import Metric
from imagescape.search.stored import write_index

METRICS: tuple[Metric, ...] = get_args(Metric)

_CHECKED_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Found:
    """The k nearest vectors to each query, nearest first.

    Attributes:
        ids: (m, k) int64; -1 where there are fewer than k.
        distances: (m, k) float32, ascending; inf where there are fewer than k. By metric

            euclidean       L2, not squared
            cosine          1 - cosine, in [0, 2]; a vector of zeros is at 1 from everything
            inner_product   the negative inner product, so that smaller is closer; may be below 0
            manhattan       L1
            jensen_shannon  the square root of the divergence to base 2 of rows scaled to sum 1, in [0, 1]
            hamming         the number of bits that differ
    """

    ids: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, slots=True)
class WithinRadius:
    """All vectors within a radius of each query: those of query i are at `offsets[i]:offsets[i + 1]`, nearest first.

    Attributes:
        offsets: (m + 1,) int64.
        ids: (t,) int64.
        distances: (t,) float32, as in `Found`.
    """

    offsets: np.ndarray
    ids: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True, slots=True)
class Ability:
    """What an engine can.

    Attributes:
        metrics: Those it measures by.
        radius: Whether it answers `within`.
        search_width: What its search width is called there: "nprobe", "efSearch", "nprobes"; None where it has none.
    """

    metrics: tuple[Metric, ...]
    radius: bool
    search_width: str | None


class Ledger:
    """Which id is at which position, and which positions are hidden: deleted, but still in the engine's storage."""

    def __init__(self, ids: np.ndarray, alive: np.ndarray | None = None) -> None:
        self.ids = ids
        self.alive = np.ones(len(ids), bool) if alive is None else alive
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def read(cls, data: Path) -> Self:
        return cls(np.load(data / "ids.npy"), np.load(data / "alive.npy"))

    def write(self, data: Path) -> None:
        np.save(data / "ids.npy", self.ids)
        np.save(data / "alive.npy", self.alive)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.alive))

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where the ids are; -1 for those that are not there."""
        if self._sorted is None:
            places = np.flatnonzero(self.alive)
            places = places[np.argsort(self.ids[places], kind="stable")]
            self._sorted = self.ids[places], places
        known, places = self._sorted
        if not len(known):
            return np.full(len(ids), -1)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, places[at], -1)

    def append(self, ids: np.ndarray) -> None:
        self._change(np.concatenate([self.ids, ids]), np.concatenate([self.alive, np.ones(len(ids), bool)]))

    def hide(self, positions: np.ndarray) -> None:
        alive = self.alive.copy()
        alive[positions] = False
        self._change(self.ids, alive)

    def keep(self, which: np.ndarray) -> None:
        """Keep the positions of the mask, close up the others."""
        self._change(self.ids[which], self.alive[which])

    def visible(self, among: np.ndarray | None) -> np.ndarray | None:
        """Mask of the positions that a search may find; None for all."""
        if among is None:
            return None if self.alive.all() else self.alive
        places = self.positions(among)
        mask = np.zeros(len(self.ids), bool)
        mask[places[places >= 0]] = True
        return mask

    def _change(self, ids: np.ndarray, alive: np.ndarray) -> None:
        self.ids, self.alive, self._sorted = ids, alive, None


class Engine(ABC):
    """An index but for how it searches; see `search.index.Index` for what its methods promise."""

    def __init__(self, engine: str, metric: Metric, dimensions: int, ledger: Ledger) -> None:
        self.engine, self.metric, self.dimensions = engine, metric, dimensions
        self._ledger = ledger
        self._width: int | None = None

    # -- what an engine does ------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def ability(cls, engine: str, dimensions: int) -> Ability:
        """What it can."""

    @classmethod
    @abstractmethod
    def _create(
        cls, vectors: np.ndarray, ids: np.ndarray, *, engine: str, metric: Metric, device: str, seed: int
    ) -> Self:
        """From vectors and ids that are in order."""

    @classmethod
    @abstractmethod
    def _read(cls, data: Path, description: dict[str, Any], device: str) -> Self:
        """What `_write` wrote."""

    @abstractmethod
    def _write(self, data: Path) -> None:
        """Write all files."""

    @abstractmethod
    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Take in vectors after the last position."""

    def _remove(self, positions: np.ndarray) -> bool:
        """Take positions out of the storage, so that the later ones move up; or leave them to be hidden: False."""
        return False

    def _compact(self) -> bool:
        """When most positions are hidden: store the others anew; or leave it: False."""
        return False

    @abstractmethod
    def _search(self, queries: np.ndarray, k: int, visible: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions (m, k), nearest first, -1 where nothing was found, and distances; k visible ones there are."""

    def _within(
        self, queries: np.ndarray, radius: float, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs at most `radius` apart, in no order: queries (t,), positions (t,), distances (t,).

        Asked only of engines whose `ability` says that they answer it.
        """
        raise NotImplementedError(f"{type(self).__name__} says that it answers radius search, and does not")

    @abstractmethod
    def _storage_bytes(self) -> float:
        """All that is kept, ids apart."""

    # -- what all engines do ------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls, vectors: np.ndarray, ids: np.ndarray, *, engine: str, metric: Metric, device: str, seed: int
    ) -> Self:
        dimensions = _matrix(vectors, "vectors").shape[1]
        metrics = cls.ability(engine, dimensions).metrics
        if metric not in metrics:
            raise InputError(
                f"the engine '{engine}' measures by {', '.join(metrics)}, got metric '{metric}'; "
                "'exact' has them all" + ("" if metric == "hamming" else ", 'Flat' and 'HNSW32' all but hamming")
            )
        vectors = checked(vectors, metric, dimensions, "vectors")
        if not len(vectors):
            raise InputError("an index needs at least 1 vector to be built, got 0")
        ids = _checked_ids(ids, len(vectors))
        return cls._create(vectors, ids, engine=engine, metric=metric, device=device, seed=seed)

    @classmethod
    def load(cls, data: Path, description: dict[str, Any], *, device: str) -> Self:
        """From a data folder; raises CheckpointError where it does not hold what the description says."""
        try:
            index = cls._read(data, description, device)
            index._width = description["search_width"]
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            if isinstance(error, InputError):
                raise
            raise CheckpointError(f"{data.parent} cannot be read: {error}; build the index again") from error
        if len(index) != description["count"]:
            raise CheckpointError(
                f"{data.parent} is damaged: it should hold {description['count']} vectors and has {len(index)}"
            )
        return index

    def __len__(self) -> int:
        return len(self._ledger)

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.engine}', {self.metric}, {len(self)} vectors of {self.dimensions})"

    def ids(self) -> np.ndarray:
        return self._ledger.ids[self._ledger.alive]

    @property
    def search_width(self) -> int | None:
        return self._width

    @search_width.setter
    def search_width(self, value: int) -> None:
        if self._width is None:
            raise InputError(f"the engine '{self.engine}' has no search width, got {value}")
        if value < 1:
            raise InputError(f"the search width must be at least 1, got {value}")
        self._width = int(value)

    @property
    def vector_bytes(self) -> float:
        return self._storage_bytes() / max(1, len(self)) + self._ledger.ids.itemsize

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        vectors = checked(vectors, self.metric, self.dimensions, "vectors")
        ids = _checked_ids(ids, len(vectors))
        present = self._ledger.positions(ids) >= 0
        if present.any():
            raise InputError(f"id {ids[present][0]} is in the index already; delete it first to replace its vector")
        if len(ids):
            self._add(vectors, ids)
            self._ledger.append(ids)

    def delete(self, ids: np.ndarray) -> None:
        ids = _checked_ids(ids)
        positions = np.sort(self._ledger.positions(ids))
        if len(ids) and positions[0] < 0:
            missing = ids[self._ledger.positions(ids) < 0]
            raise InputError(f"id {missing[0]} is not in the index, so it cannot be deleted")
        if not len(ids):
            return
        if self._remove(positions):
            keep = np.ones(len(self._ledger.ids), bool)
            keep[positions] = False
            self._ledger.keep(keep)
            return
        self._ledger.hide(positions)
        if 2 * len(self) < len(self._ledger.ids) and self._compact():
            self._ledger.keep(self._ledger.alive)

    def search(self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None) -> Found:
        queries, visible, count = self._asked(queries, among)
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        ids = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf, np.float32)
        width = min(k, count)
        if width and len(queries):
            positions, measured = self._search(queries, width, visible)
            nothing = positions < 0
            ids[:, :width] = np.where(nothing, -1, self._ledger.ids[positions])
            distances[:, :width] = np.where(nothing, np.inf, measured)
        return Found(ids, distances)

    def within(self, queries: np.ndarray, radius: float, *, among: np.ndarray | None = None) -> WithinRadius:
        if not self.ability(self.engine, self.dimensions).radius:
            others = (
                "'binary', 'binary:IVF64'" if self.metric == "hamming" else "'Flat', 'IVF256,Flat', 'HNSW32', 'lance'"
            )
            raise InputError(f"the engine '{self.engine}' cannot search within a radius; 'exact', {others} can")
        queries, visible, count = self._asked(queries, among)
        if not np.isfinite(radius):
            raise InputError(f"the radius must be finite, got {radius}")
        if not count or not len(queries):
            empty = np.zeros(len(queries) + 1, np.int64)
            return WithinRadius(empty, np.empty(0, np.int64), np.empty(0, np.float32))
        which, positions, distances = self._within(queries, radius, visible)
        order = np.lexsort((positions, distances, which))
        offsets = np.concatenate([[0], np.bincount(which, minlength=len(queries)).cumsum()]).astype(np.int64)
        return WithinRadius(offsets, self._ledger.ids[positions[order]], distances[order].astype(np.float32))

    def save(self, folder: str | Path) -> None:
        write_index(Path(folder), self._description(), self._write)

    def _description(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "metric": self.metric,
            "dimensions": self.dimensions,
            "count": len(self),
            "search_width": self._width,
        }

    def _asked(self, queries: np.ndarray, among: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None, int]:
        """Checked queries, the mask of positions that may be found, and how many those are."""
        queries = checked(queries, self.metric, self.dimensions, "queries")
        if among is not None and not len(among):
            raise InputError("there is nothing to search: 'among' names no ids; widen the condition or leave it out")
        visible = self._ledger.visible(None if among is None else _as_ids(among))
        return queries, visible, len(self) if visible is None else int(np.count_nonzero(visible))


def checked(values: np.ndarray, metric: Metric, dimensions: int, name: str) -> np.ndarray:
    """Vectors fit to be compared: (n, dimensions) C-contiguous float32 or float16, or uint8; a memory map stays one.

    Raises:
        InputError: of another shape or type, not finite, too large to square, or not a distribution where it must be.
    """
    values = _matrix(values, name)
    if values.shape[1] != dimensions:
        unit = "bytes" if metric == "hamming" else "dimensions"
        raise InputError(f"{name} must have {dimensions} {unit}, as those of the index, got {values.shape[1]}")
    if (values.dtype == np.uint8) != (metric == "hamming"):
        wanted = "packed uint8 bits" if metric == "hamming" else "floating-point vectors"
        raise InputError(f"the metric '{metric}' needs {wanted}, got {name} of {values.dtype}")
    if metric != "hamming" and values.dtype not in (np.float32, np.float16):
        values = values.astype(np.float32)
    if not values.flags.c_contiguous:
        values = np.ascontiguousarray(values)
    for start in range(0, len(values) if metric != "hamming" else 0, _CHECKED_ROWS):
        block = values[start : start + _CHECKED_ROWS].astype(np.float32, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("nd,nd->n", block, block)
        bad = ~np.isfinite(squares)
        if bad.any():
            row = int(bad.argmax())
            why = "is too large to compare" if np.isfinite(block[row]).all() else "is not"
            raise InputError(f"{name} must be finite, row {start + row} {why}; leave such rows out")
        if metric == "jensen_shannon":
            bad = (block < 0).any(axis=1) | (block.sum(axis=1) <= 0)
            if bad.any():
                raise InputError(
                    "jensen_shannon compares distributions: no value below 0 and a sum above 0, "
                    f"row {start + int(bad.argmax())} of {name} is none"
                )
    return values


def _matrix(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asanyarray(values)
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"{name} must be a matrix (rows, dimensions), got shape {values.shape}")
    if values.dtype.kind not in "fui":
        raise InputError(f"{name} must be numbers, got {values.dtype}")
    return values


def _as_ids(ids: np.ndarray) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or (len(ids) and (ids.dtype.kind not in "iu" or ids.dtype == np.uint64)):
        raise InputError(f"ids must be a line of int64, got {ids.dtype} of shape {ids.shape}")
    return ids.astype(np.int64)


def _checked_ids(ids: np.ndarray, count: int | None = None) -> np.ndarray:
    ids = _as_ids(ids)
    if count is not None and len(ids) != count:
        raise InputError(f"each vector needs an id, got {count} vectors and {len(ids)} ids")
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise InputError(f"ids must differ, {twice[0]} comes twice")
    if (ids == -1).any():
        raise InputError("-1 stands for a missing id and cannot be one")
    return ids
