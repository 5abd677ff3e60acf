"""One noun for all search engines: vectors under ids, the nearest of which can be asked for.

exact
    Every vector is compared, in blocks (torch, also on a GPU). Vectors stay as they are: float16, or in a memory map.
    All metrics; within a radius.
Flat; IVF256,Flat; HNSW32; IVF256,PQ32; SQ8; OPQ16,IVF64,PQ16; … any FAISS factory string
    In memory; mapped when loaded. euclidean, cosine and inner_product; Flat, IVF…,Flat and HNSW… also manhattan and
    jensen_shannon. Most within a radius, where an approximate index finds only what its search width lets it see.
binary; binary:IVF64; binary:HNSW32
    FAISS on packed bits: hamming. Within a radius all but HNSW.
lance
    On disk, for tables beyond memory: IVF with RaBitQ codes, the candidates measured again on the stored vectors;
    below 4096 vectors every one is compared. euclidean, cosine and inner_product; within a radius.

`what_it_can` tells the same of any engine, by asking the engine.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from imagescape.errors import InputError
from imagescape.search.engine import METRICS, Ability, Engine, Found, Metric, WithinRadius
from imagescape.search.stored import read_description

__all__ = ["Ability", "Found", "Index", "Metric", "WithinRadius", "build_index", "load_index", "what_it_can"]


class Index(Protocol):
    """Vectors under ids. Ids are any int64 but -1, each at most once.

    Attributes:
        engine: What `build_index` was asked for.
        metric: Of its distances.
        dimensions: Of its vectors; for hashes, bytes.
    """

    engine: str
    metric: Metric
    dimensions: int

    def __len__(self) -> int: ...

    @property
    def search_width(self) -> int | None:
        """How much an approximate engine looks through, more being slower and surer; None where there is no choice.

        It may be set; InputError where the engine has none or it is below 1.
        """

    @search_width.setter
    def search_width(self, value: int) -> None: ...

    @property
    def vector_bytes(self) -> float:
        """Bytes of storage a vector, with its share of all else that is kept to search."""

    def ids(self) -> np.ndarray:
        """The ids that are in it, int64, in no order."""

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Take in `vectors` (n, d).

        Raises:
            InputError: an id comes twice, is present or is -1; a vector is of another width or not finite.
        """

    def delete(self, ids: np.ndarray) -> None:
        """Take out; what was taken out is never found again.

        Raises:
            InputError: an id is not there, or comes twice.
        """

    def search(self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None) -> Found:
        """The k nearest to each of `queries` (m, d); fewer, padded, where there are fewer.

        Args:
            queries: As the vectors.
            k: At least 1.
            among: Ids that may be found; ids that are not in the index are passed over.

        Raises:
            InputError: k < 1, `among` is empty, or a query is of another width or not finite.
        """

    def within(self, queries: np.ndarray, radius: float, *, among: np.ndarray | None = None) -> WithinRadius:
        """All at most `radius` from each of `queries`; as `search`.

        Raises:
            InputError: also where the engine cannot.
        """

    def save(self, folder: Path) -> None:
        """Write it to `folder`; a kill at any instant leaves what was there or the new one."""


def build_index(
    vectors: np.ndarray,
    ids: np.ndarray,
    *,
    engine: str = "exact",
    metric: Metric = "euclidean",
    device: str = "auto",
    seed: int = 0,
    search_width: int | None = None,
) -> Index:
    """An index over `vectors`.

    Args:
        vectors: (n, d) float32 or float16, n >= 1, may be a memory map; for "hamming" (n, bits/8) uint8. An "exact"
            index keeps using this array: it must not be changed.
        ids: (n,) int64, any but -1, each once.
        engine: See above.
        metric: One that the engine has.
        device: Where an "exact" index works; the others use the processor.
        seed: Of the engine's training.
        search_width: nprobe, efSearch, nprobes; None for a default that is on the side of finding them.

    Raises:
        InputError: the engine is unknown or lacks the metric, or needs more vectors to train on; vectors and ids do
            not fit.
        MissingExtraError: FAISS is not installed.
    """
    if metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, got '{metric}'")
    kind = _engine_class(engine)
    index = kind.build(vectors, ids, engine=engine, metric=metric, device=device, seed=seed)
    if search_width is not None:
        index.search_width = search_width
    return index


def load_index(folder: str | Path, *, device: str = "auto") -> Index:
    """The index that was saved to `folder`; memory-mapped where the engine can. `device` is as in `build_index`.

    Raises:
        CheckpointError: there is none, it is damaged, or a newer imagescape wrote it.
        MissingExtraError: FAISS is not installed.
    """
    description, data = read_description(Path(folder))
    return _engine_class(description["engine"]).load(data, description, device=device)


def what_it_can(engine: str, dimensions: int = 128) -> Ability:
    """What the engine can, for vectors of so many dimensions (hashes: bytes).

    Raises:
        InputError: the engine is unknown, or does not fit the dimensions.
        MissingExtraError: FAISS is not installed.
    """
    return _engine_class(engine).ability(engine, dimensions)


def _engine_class(engine: str) -> type[Engine]:
    """Engines are imported when they are asked for: FAISS may not be installed, and Lance takes a second."""
    if engine == "exact":
        from imagescape.search.exact import ExactIndex

        return ExactIndex
    if engine == "lance":
        from imagescape.search.lance_index import LanceIndex

        return LanceIndex
    if engine.partition(":")[0] == "binary":
        from imagescape.search.faiss_binary import FaissBinaryIndex

        return FaissBinaryIndex
    from imagescape.search.faiss_index import FaissIndex

    return FaissIndex
