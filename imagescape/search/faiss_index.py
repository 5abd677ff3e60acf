"""Any FAISS factory string as an index (Douze et al., The Faiss library, 2024, arXiv:2401.08281).

FAISS numbers what it stores. A plain list of codes moves up when rows are removed, inverted lists keep the numbers they
were given, and a graph cannot remove at all: there the deleted are left out of every search, and a number is never
given twice. So an id that is deleted and added again is its new vector only.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np

from imagescape.errors import InputError
from imagescape.search import faiss_native as fn
from imagescape.search.engine import Ability, Engine, Ledger, Metric

_BLOCK = 65_536  # vectors that are made float32 at once
_SAMPLE_A_CENTROID = 256  # more than that, FAISS itself leaves out of training
_SAMPLE = 65_536  # product quantisers have 256 centroids
_LIST_SHARE = 64  # of the inverted lists, one in so many is looked through by default …
_LEAST_LISTS = 8  # … and at least so many
_GRAPH_WIDTH = 128
_SPARSE = 20  # a graph of which less than one in so many may be found is left aside: it would walk over the others
_FLOOR = 1e-12  # of a distribution: FAISS takes 0 log 0 for not a number
_EVERY_METRIC: tuple[Metric, ...] = ("euclidean", "cosine", "inner_product", "manhattan", "jensen_shannon")
_PRODUCT_METRICS = _EVERY_METRIC[:3]


class FaissIndex(Engine):
    """An index of FAISS on vectors."""

    def __init__(self, native: Any, engine: str, metric: Metric, dimensions: int, ledger: Ledger) -> None:
        super().__init__(engine, metric, dimensions, ledger)
        self._native = native
        self._labels = np.arange(len(ledger.ids))  # by position; ascending
        self._next_label = len(ledger.ids)
        self._is_mapped = False
        self._width = self._usual_width()
        self._can_select = True

    # -- what FAISS is asked to be ------------------------------------------------------------------------------------

    @classmethod
    def ability(cls, engine: str, dimensions: int) -> Ability:
        native = cls._empty(engine, dimensions, "euclidean")
        kind = fn.exactness(native)
        metrics = {"any": _EVERY_METRIC, "products": _PRODUCT_METRICS, "squares": _PRODUCT_METRICS[:1]}[kind]
        return Ability(metrics, radius=fn.has_radius(native), search_width=fn.width_name(native))

    @classmethod
    def _empty(cls, engine: str, dimensions: int, metric: Metric) -> Any:
        faiss = fn.module()
        kind = {
            "euclidean": faiss.METRIC_L2,
            "cosine": faiss.METRIC_INNER_PRODUCT,
            "inner_product": faiss.METRIC_INNER_PRODUCT,
            "manhattan": faiss.METRIC_L1,
            "jensen_shannon": faiss.METRIC_JensenShannon,
        }[metric]
        if "IDMap" in engine:
            raise InputError(f"ids are kept for you: leave 'IDMap' out of the engine '{engine}'")
        try:
            native = faiss.index_factory(dimensions, engine, kind)
        except RuntimeError as error:
            raise InputError(
                f"engine must be 'exact', 'lance', 'binary' or a FAISS factory string for {dimensions} dimensions "
                f"(such as {fn.EXAMPLES}), got '{engine}'; FAISS says: {fn.reason(error)}"
            ) from error
        fn.refuse_other_distances(native, engine)
        return native

    @classmethod
    def _create(
        cls, vectors: np.ndarray, ids: np.ndarray, *, engine: str, metric: Metric, device: str, seed: int
    ) -> Self:
        dimensions = vectors.shape[1]
        native = cls._empty(engine, dimensions, metric)
        index = cls(native, engine, metric, dimensions, Ledger(ids[:0]))
        fn.prepare_training(native, seed)
        if not native.is_trained:
            fn.train(native, index._sample(vectors, seed), engine)
        index._add(vectors, ids)
        index._ledger = Ledger(ids)
        index._can_select = fn.selects(native, index._compared(vectors[:1]))
        return index

    def _sample(self, vectors: np.ndarray, seed: int) -> np.ndarray:
        lists = fn.core(self._native).nlist if fn.is_inverted(self._native) else 0
        count = min(len(vectors), max(_SAMPLE, _SAMPLE_A_CENTROID * lists))
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))
        return self._compared(vectors[rows] if count < len(vectors) else vectors)

    def _usual_width(self) -> int | None:
        name = fn.width_name(self._native)
        if name == "nprobe":
            lists = fn.core(self._native).nlist
            return min(lists, max(_LEAST_LISTS, -(-lists // _LIST_SHARE)))
        return _GRAPH_WIDTH if name else None

    # -- in and out of FAISS's distances ------------------------------------------------------------------------------

    def _compared(self, vectors: np.ndarray) -> np.ndarray:
        """As FAISS is given them."""
        values = np.ascontiguousarray(vectors, np.float32)
        if self.metric == "cosine":
            return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        if self.metric == "jensen_shannon":
            values = np.maximum(values / values.sum(axis=1, keepdims=True), _FLOOR)
        return values

    def _distances(self, measured: np.ndarray) -> np.ndarray:
        """FAISS's squares, products and natural logarithms as our distances."""
        if self.metric == "euclidean":
            return np.sqrt(np.maximum(measured, 0))
        if self.metric == "cosine":
            return np.clip(1 - measured, 0, 2)
        if self.metric == "inner_product":
            return -measured
        if self.metric == "jensen_shannon":
            return np.sqrt(np.clip(measured / np.log(2), 0, 1))
        return measured

    def _threshold(self, radius: float) -> float:
        """FAISS's own measure of a radius, a little wider: it leaves out what lies on it."""
        exact = {
            "euclidean": radius * abs(radius),
            "cosine": 1 - radius,
            "inner_product": -radius,
            "manhattan": radius,
            "jensen_shannon": radius * abs(radius) * np.log(2),
            "hamming": radius,
        }[self.metric]
        wider = abs(exact) * 1e-5 + 1e-6
        return float(exact - wider if self.metric in ("cosine", "inner_product") else exact + wider)

    # -- the work -----------------------------------------------------------------------------------------------------

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self._native = self._writable()
        labels = np.arange(self._next_label, self._next_label + len(vectors))
        for start in range(0, len(vectors), _BLOCK):
            here = slice(start, start + _BLOCK)
            values = self._compared(vectors[here])
            try:
                if fn.numbering(self._native) == "kept":
                    self._native.add_with_ids(values, labels[here])
                else:
                    self._native.add(values)
            except RuntimeError as error:
                raise InputError(f"the engine '{self.engine}' cannot take in vectors: {fn.reason(error)}") from error
        self._labels = np.concatenate([self._labels, labels])
        self._next_label += len(vectors)

    def _remove(self, positions: np.ndarray) -> bool:
        numbering = fn.numbering(self._native)
        if numbering == "fixed":
            return False
        self._native = self._writable()
        try:
            self._native.remove_ids(self._labels[positions])
        except RuntimeError:
            return False  # FAISS does not implement it for this kind
        self._labels = np.delete(self._labels, positions)
        if numbering == "moving":
            self._labels = np.arange(len(self._labels))
            self._next_label = len(self._labels)
        return True

    def _search(self, queries: np.ndarray, k: int, visible: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        labels, asked = self._visible_labels(visible), self._compared(queries)
        try:
            if labels is not None and fn.is_graph(self._native) and _SPARSE * labels.count < self._native.ntotal:
                measured, found = fn.search_everything(self._native, asked, k, labels)
            else:
                measured, found = fn.search(self._native, asked, k, self._width, labels, can_select=self._can_select)
                short = (found < 0).any(axis=1)  # too few in the lists or the part of the graph that was looked at
                if short.any():
                    measured[short], found[short] = fn.search_everything(self._native, asked[short], k, labels)
        except RuntimeError as error:
            raise InputError(f"FAISS cannot search '{self.engine}': {fn.reason(error)}") from error
        return self._positions(found), self._distances(measured)

    def _within(
        self, queries: np.ndarray, radius: float, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels, asked = self._visible_labels(visible), self._compared(queries)
        try:
            measured, which, found = fn.within(
                self._native, asked, self._threshold(radius), self._width, labels, can_select=self._can_select
            )
        except RuntimeError as error:
            raise InputError(f"FAISS cannot search '{self.engine}' within a radius: {fn.reason(error)}") from error
        distances = self._distances(measured)
        inside = distances <= radius
        return which[inside], self._positions(found[inside]), distances[inside]

    def _visible_labels(self, visible: np.ndarray | None) -> fn.Labels | None:
        if visible is None:
            return None
        mask = np.zeros(self._next_label, bool)
        mask[self._labels[visible]] = True
        return fn.Labels(mask)

    def _positions(self, labels: np.ndarray) -> np.ndarray:
        return np.where(labels < 0, -1, np.searchsorted(self._labels, labels))

    # -- storage ------------------------------------------------------------------------------------------------------

    def _writable(self) -> Any:
        """FAISS ends the process when it is to change what lies in a file: then a copy in memory is made first."""
        if not self._is_mapped:
            return self._native
        self._is_mapped = False
        return fn.copied(self._native)

    def _storage_bytes(self) -> float:
        return float(fn.stored_bytes(self._native) + self._labels.nbytes)

    def _write(self, data: Path) -> None:
        fn.write(self._native, data / "index.faiss")
        np.save(data / "labels.npy", self._labels)
        self._ledger.write(data)

    def _description(self) -> dict[str, Any]:
        return {**super()._description(), "next_label": self._next_label, "can_select": self._can_select}

    @classmethod
    def _read(cls, data: Path, description: dict[str, Any], device: str) -> Self:
        metric, dimensions = description["metric"], description["dimensions"]
        native = fn.read_mapped(data / "index.faiss", packed=metric == "hamming")
        index = cls(native, description["engine"], metric, dimensions, Ledger.read(data))
        index._is_mapped = True
        index._labels = np.load(data / "labels.npy")
        index._next_label, index._can_select = description["next_label"], description["can_select"]
        if not native.ntotal == len(index._labels) == len(index._ledger.ids):
            raise ValueError(f"it stores {native.ntotal} vectors under {len(index._ledger.ids)} ids")
        return index
