"""FAISS on hashes: packed bits, by the number of bits that differ."""

from typing import Any

import numpy as np

from imagescape.errors import InputError
from imagescape.search import faiss_native as fn
from imagescape.search.engine import Ability, Metric
from imagescape.search.faiss_index import FaissIndex

_EXAMPLES = "'binary', 'binary:IVF64', 'binary:HNSW32'"


class FaissBinaryIndex(FaissIndex):
    """An index of FAISS on hashes; its dimensions are bytes."""

    @classmethod
    def ability(cls, engine: str, dimensions: int) -> Ability:
        native = cls._empty(engine, dimensions, "hamming")
        return Ability(("hamming",), radius=fn.has_radius(native), search_width=fn.width_name(native))

    @classmethod
    def _empty(cls, engine: str, dimensions: int, metric: Metric) -> Any:
        faiss = fn.module()
        kind = engine.partition(":")[2] or "Flat"
        try:
            native = faiss.index_binary_factory(8 * dimensions, f"B{kind}")
        except RuntimeError as error:
            raise InputError(
                f"engine must be {_EXAMPLES} or another factory string of FAISS after 'binary:', got '{engine}'; "
                f"FAISS says: {fn.reason(error)}"
            ) from error
        if not isinstance(fn.downcast(native), faiss.IndexBinaryFlat | faiss.IndexBinaryIVF | faiss.IndexBinaryHNSW):
            raise InputError(f"engine must be {_EXAMPLES}, got '{engine}', which does not find the nearest")
        return native

    def _compared(self, vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors)

    def _threshold(self, radius: float) -> float:
        return int(np.floor(radius)) + 1  # FAISS leaves out what lies on it
