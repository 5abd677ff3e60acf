"""The exact engine: every vector is compared, in blocks, on the processor or a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Corpus
from imagescape.search.engine import METRICS, Ability, Engine, Found, Ledger, Metric

_NAME = "vectors.npy"
_BLOCK = 65_536


class ExactIndex(Engine):
    """Vectors as they were given, which may be a memory map, and those added later in an array that grows.

    Vectors are deleted by hiding them; when fewer than half are left, they are stored anew (not those of a memory map).
    """

    def __init__(self, vectors: np.ndarray, metric: Metric, ledger: Ledger, device: str) -> None:
        super().__init__("exact", metric, vectors.shape[1], ledger)
        self._device = device
        self._hold(vectors)

    def _hold(self, vectors: np.ndarray) -> None:
        self._given, self._given_corpus = vectors, Corpus(vectors, self.metric, device=self._device)
        self._room, self._added = np.empty((0, self.dimensions), vectors.dtype), 0
        self._added_corpus: Corpus | None = None

    @classmethod
    def ability(cls, engine: str, dimensions: int) -> Ability:
        return Ability(METRICS, radius=True, search_width=None)

    @classmethod
    def _create(
        cls, vectors: np.ndarray, ids: np.ndarray, *, engine: str, metric: Metric, device: str, seed: int
    ) -> Self:
        return cls(vectors, metric, Ledger(ids), device)

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        end, dtype = self._added + len(vectors), np.result_type(self._room, vectors)
        if end > len(self._room) or dtype != self._room.dtype:
            room = np.empty((max(end, 2 * len(self._room)), self.dimensions), dtype)
            room[: self._added] = self._room[: self._added]
            self._room = room
        self._room[self._added : end] = vectors
        self._added, self._added_corpus = end, None

    def _compact(self) -> bool:
        if isinstance(self._given, np.memmap):
            return False
        self._hold(self._alive_vectors())
        return True

    def graph(self, k: int, advance: Callable[[int], None] = lambda rows: None) -> Found:
        """The k nearest other vectors of every vector, in the order of `ids()`: half the work of searching for each.

        Args:
            k: At least 1.
            advance: Told how many more vectors are done.

        Raises:
            InputError: k < 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        corpus, ids = self._given_corpus, self.ids()
        if self._added or len(ids) < len(self._given):
            corpus = Corpus(self._alive_vectors(), self.metric, device=self._device)
        found = corpus.graph(k, advance)
        return Found(np.where(found.indices < 0, -1, ids[found.indices]), found.distances)

    def _alive_vectors(self) -> np.ndarray:
        alive, many = self._ledger.alive, len(self._given)
        return np.concatenate([self._given[alive[:many]], self._room[: self._added][alive[many:]]])

    def _corpora(self) -> list[tuple[int, Corpus]]:
        """Where each begins, and each."""
        if self._added and self._added_corpus is None:
            self._added_corpus = Corpus(self._room[: self._added], self.metric, device=self._device)
        added = [] if self._added_corpus is None else [(len(self._given), self._added_corpus)]
        return [(0, self._given_corpus), *added]

    def _search(self, queries: np.ndarray, k: int, visible: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start, corpus in self._corpora():
            mask = None if visible is None else visible[start : start + len(corpus)]
            found = corpus.nearest(queries, k, visible=mask)
            parts.append((np.where(found.indices < 0, -1, found.indices + start), found.distances))
        if len(parts) == 1:
            return parts[0]
        positions, distances = (np.concatenate(side, axis=1) for side in zip(*parts, strict=True))
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)

    def _within(
        self, queries: np.ndarray, radius: float, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = []
        for start, corpus in self._corpora():
            mask = None if visible is None else visible[start : start + len(corpus)]
            which, rows, distances = corpus.within(queries, radius, visible=mask)
            parts.append((which, rows + start, distances))
        which, positions, distances = (np.concatenate(side) for side in zip(*parts, strict=True))
        return which, positions, distances

    def _storage_bytes(self) -> float:
        rows, term_bytes = len(self._given) + self._added, 4
        return float(self._given.nbytes + self._room.nbytes + rows * term_bytes)

    def _write(self, data: Path) -> None:
        """Those that are not deleted, a block at a time."""
        alive, many = self._ledger.alive, len(self._given)
        dtype = np.result_type(self._given, self._room)
        if not len(self):
            np.save(data / _NAME, np.empty((0, self.dimensions), dtype))
        else:
            stored = np.lib.format.open_memmap(data / _NAME, mode="w+", dtype=dtype, shape=(len(self), self.dimensions))
            done = 0
            for rows, keep in ((self._given, alive[:many]), (self._room[: self._added], alive[many:])):
                for start in range(0, len(rows), _BLOCK):
                    block = rows[start : start + _BLOCK][keep[start : start + _BLOCK]]
                    stored[done : done + len(block)] = block
                    done += len(block)
            stored.flush()
        Ledger(self.ids()).write(data)

    @classmethod
    def _read(cls, data: Path, description: dict[str, Any], device: str) -> Self:
        ledger = Ledger.read(data)
        vectors = np.load(data / _NAME, mmap_mode="r" if len(ledger) else None)  # nothing cannot be mapped
        if len(vectors) != len(ledger):
            raise ValueError(f"it stores {len(vectors)} vectors under {len(ledger)} ids")
        return cls(vectors, description["metric"], ledger, device)
