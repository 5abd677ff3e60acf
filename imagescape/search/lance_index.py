"""Lance's IVF_RQ index: on disk, for tables beyond memory.

RaBitQ codes (Gao and Long 2024, arXiv:2405.12497) of a few bits a dimension pick the candidates, which are then
measured again on the stored vectors. Rows that were added after the index was built are compared one by one, and so
are all where there are too few for an index.

The dataset keeps its versions: what is saved is the number of one, so that changes which were not saved are not loaded.
"""

import contextlib
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

from imagescape.errors import InputError
from imagescape.search.engine import Ability, Engine, Ledger, Metric
from imagescape.search.stored import point_to, write_index

_NAME = "vectors.lance"
_BLOCK = 65_536
_LEAST_ROWS = 4096  # for fewer, comparing all is as fast
_ROWS_A_PARTITION = 1024
_CODE_BITS = 5
_REFINE_FACTOR = 5
_LEAST_PARTITIONS = 10
_SHARE = 16  # of the partitions, one in so many is looked through by default
_WIDTH_STEP = 8  # the codes need dimensions that are a multiple; zeros are put behind, which changes no distance
_BATCH = 256
_NAMED_AT_ONCE = 10_000


class LanceIndex(Engine):
    """A Lance dataset of vectors, by position of adding, and its index."""

    def __init__(self, dataset: lance.LanceDataset, metric: Metric, dimensions: int, ledger: Ledger) -> None:
        super().__init__("lance", metric, dimensions, ledger)
        self._dataset = dataset
        self._numbers = np.arange(len(ledger.ids))  # of the rows, by position; ascending, never given twice
        self._next_number = len(ledger.ids)

    @classmethod
    def ability(cls, engine: str, dimensions: int) -> Ability:
        return Ability(("euclidean", "cosine", "inner_product"), radius=True, search_width="nprobes")

    @classmethod
    def _create(
        cls, vectors: np.ndarray, ids: np.ndarray, *, engine: str, metric: Metric, device: str, seed: int
    ) -> Self:
        folder = tempfile.mkdtemp(prefix="imagescape-index-")
        index = cls(_Draft(folder), metric, vectors.shape[1], Ledger(ids[:0]))
        index._dataset = lance.write_dataset(index._batches(vectors), f"{folder}/{_NAME}", schema=index._schema(vectors))
        weakref.finalize(index, shutil.rmtree, folder, ignore_errors=True)
        return index
