"""Lance's IVF_RQ index: on disk, for tables beyond memory.

RaBitQ codes (Gao and Long 2024, arXiv:2405.12497) of a few bits a dimension pick the candidates, which are then
measured again on the stored vectors. Rows that were added after the index was built are compared one by one, and so
are all where there are too few for an index. Lance offers no seed for its training.

A dataset keeps its versions. What `save` writes is the number of one, so changes that were not saved are not loaded.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.search.engine import Ability, Engine, Ledger, Metric
from imagescape.search.stored import point_to, write_index

_NAME = "vectors.lance"
_BLOCK = 65_536
_LEAST_ROWS = 4096  # for fewer, comparing all is as fast
_ROWS_A_PARTITION = 1024
_CODE_BITS = 5
_REFINE_FACTOR = 5
_USUAL_PARTITIONS = 16  # at least so many are looked through by default, and one in so many
_WIDTH_STEP = 8  # the codes need dimensions that are a multiple; zeros are put behind, which changes no distance
_BATCH = 256
_NAMED_AT_ONCE = 10_000
_KEEP_VERSIONS = timedelta(days=1)  # someone may still be reading an older one


class LanceIndex(Engine):
    """A Lance dataset of ids and vectors, and its index.

    One that was built lies in the folder for temporary files until it is saved, and that copy goes with this object.
    """

    def __init__(self, dataset: lance.LanceDataset, metric: Metric, dimensions: int, ledger: Ledger) -> None:
        super().__init__("lance", metric, dimensions, ledger)
        self._dataset = dataset
        partitions = max(1, len(ledger.ids) // _ROWS_A_PARTITION)
        self._width = min(partitions, max(_USUAL_PARTITIONS, partitions // _USUAL_PARTITIONS))

    @classmethod
    def ability(cls, engine: str, dimensions: int) -> Ability:
        return Ability(("euclidean", "cosine", "inner_product"), radius=True, search_width="nprobes")

    @classmethod
    def _create(
        cls, vectors: np.ndarray, ids: np.ndarray, *, engine: str, metric: Metric, device: str, seed: int
    ) -> Self:
        folder = tempfile.mkdtemp(prefix="imagescape-index-")
        try:
            batches = _batches(vectors, ids, metric)
            first = next(batches)
            dataset = lance.write_dataset(_chained(first, batches), f"{folder}/{_NAME}", schema=first.schema)
            if len(ids) >= _LEAST_ROWS:
                kind, partitions = "l2" if metric == "euclidean" else "dot", len(ids) // _ROWS_A_PARTITION
                dataset.create_index("vector", "IVF_RQ", metric=kind, num_partitions=partitions, num_bits=_CODE_BITS)
            index = cls(dataset, metric, vectors.shape[1], Ledger(ids))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
        return index

    # -- changes ------------------------------------------------------------------------------------------------------

    def _add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        self._dataset = self._writable()
        batches = (batch.cast(self._dataset.schema) for batch in _batches(vectors, ids, self.metric))
        reader = pa.RecordBatchReader.from_batches(self._dataset.schema, batches)
        self._dataset = lance.write_dataset(reader, self._dataset.uri, mode="append")

    def _remove(self, positions: np.ndarray) -> bool:
        self._dataset = self._writable()
        gone = self._ledger.ids[positions]
        for start in range(0, len(gone), _NAMED_AT_ONCE):
            names = ", ".join(map(str, gone[start : start + _NAMED_AT_ONCE].tolist()))
            self._dataset.delete(f"id IN ({names})")
        return True

    def _writable(self) -> lance.LanceDataset:
        """The dataset, its version the latest: later ones, which were not saved, are left behind."""
        if self._dataset.version != self._dataset.latest_version:
            self._dataset.restore()
        return self._dataset

    # -- searches -----------------------------------------------------------------------------------------------------

    def _search(self, queries: np.ndarray, k: int, visible: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        positions = np.full((len(queries), k), -1, np.int64)
        distances = np.full((len(queries), k), np.inf, np.float32)
        wanted = {"k": k, "minimum_nprobes": self._width, "refine_factor": _REFINE_FACTOR}
        pending = np.arange(len(queries))
        for use_index in (True, False):  # the second time for those that found too few
            which, found, measured = self._ask(queries[pending], {**wanted, "use_index": use_index}, visible)
            place = np.arange(len(which)) - np.searchsorted(which, which)  # within its query: they come in order
            positions[pending[which], place] = found
            distances[pending[which], place] = measured
            pending = pending[(positions[pending] < 0).any(axis=1)]
            if not len(pending):
                break
        return positions, distances

    def _within(
        self, queries: np.ndarray, radius: float, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        exact = {"euclidean": radius * abs(radius), "cosine": radius, "inner_product": radius + 1}[self.metric]
        upper = exact + 1e-5 * abs(exact) + 1e-6  # Lance leaves out what lies on it
        wanted = {"k": len(self), "use_index": False, "distance_range": (None, upper)}
        which, positions, distances = self._ask(queries, wanted, visible)
        inside = distances <= radius
        return which[inside], positions[inside], distances[inside]

    def _ask(
        self, queries: np.ndarray, wanted: dict[str, Any], visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries (t,), positions (t,) and distances (t,), by query and by distance."""
        kind = "l2" if self.metric == "euclidean" else "dot"
        parts = []
        for start in range(0, len(queries), _BATCH):
            asked = _stored_form(queries[start : start + _BATCH], self.metric).astype(np.float32)
            table = self._dataset.scanner(
                columns=["id", "_distance"],
                nearest={"column": "vector", "q": asked, "metric": kind, **wanted},
                filter=self._condition(visible),
                prefilter=True,
            ).to_table()
            which = table["query_index"].to_numpy().astype(np.int64) + start
            parts.append((which, table["id"].to_numpy(), table["_distance"].to_numpy()))
        which, ids, measured = (np.concatenate(side) for side in zip(*parts, strict=True))
        distances = {
            "euclidean": lambda: np.sqrt(np.maximum(measured, 0)),
            "cosine": lambda: np.clip(measured, 0, 2),
            "inner_product": lambda: measured - 1,  # Lance's is 1 - product
        }[self.metric]()
        order = np.lexsort((distances, which))
        return which[order], self._ledger.positions(ids[order]), distances[order]

    def _condition(self, visible: np.ndarray | None) -> pc.Expression | None:
        if visible is None:
            return None
        few = 2 * np.count_nonzero(visible) < len(visible)
        named = pc.field("id").isin(pa.array(self._ledger.ids[visible if few else ~visible]))
        return named if few else ~named

    # -- storage ------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write it to `folder`: the number of its version where it lies there already, else a copy."""
        folder, here = Path(folder), Path(self._dataset.uri)
        latest = self._writable()
        if len(self):
            latest.optimize.compact_files()
            latest.optimize.optimize_indices()
        self._dataset = latest = lance.dataset(str(here))
        description = {**self._description(), "version": latest.version}
        if here.parent.parent.resolve() == folder.resolve():
            point_to(folder, description, here.parent)
            latest.cleanup_old_versions(_KEEP_VERSIONS)
        else:
            write_index(folder, description, self._write)

    def _write(self, data: Path) -> None:
        shutil.copytree(self._dataset.uri, data / _NAME)

    @classmethod
    def _read(cls, data: Path, description: dict[str, Any], device: str) -> Self:
        dataset = lance.dataset(str(data / _NAME), version=description["version"])
        ids = dataset.to_table(columns=["id"])["id"].to_numpy()
        return cls(dataset, description["metric"], description["dimensions"], Ledger(ids))

    def _storage_bytes(self) -> float:
        files = (path for path in Path(self._dataset.uri).rglob("*") if path.is_file())
        return float(sum(path.stat().st_size for path in files))


def _stored_form(vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """As they are stored: unit length for cosine, so that it is a product; zeros up to a multiple of 8 dimensions."""
    if metric == "cosine":
        values = vectors.astype(np.float32)
        vectors = (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)).astype(vectors.dtype)
    return np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % _WIDTH_STEP)))


def _batches(vectors: np.ndarray, ids: np.ndarray, metric: Metric) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(ids), _BLOCK):
        values = _stored_form(vectors[start : start + _BLOCK], metric)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        yield pa.record_batch({"id": ids[start : start + _BLOCK], "vector": column})


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
