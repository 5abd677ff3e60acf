"""FAISS's own objects: what an index is made of, and how to search any of them among some labels only.

An index of FAISS may be wrapped: a transform of the vectors before it, a second pass with the exact vectors behind it.
What does the work inside (inverted lists, a graph, or a plain list of codes) decides what it can.
"""

import re
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from imagescape.errors import InputError, require

EXAMPLES = "'Flat', 'IVF256,Flat', 'HNSW32', 'IVF256,PQ32', 'SQ8', 'OPQ16,IVF64,PQ16'"

_REFINE_FACTOR = 8  # candidates of the first pass for each one that a refining index returns …
_LEAST_CANDIDATES = 64  # … and the fewest for all
_FILTERED_QUERIES = 64  # at once, where up to all labels are fetched for each


def module() -> ModuleType:
    """FAISS, or the error that says how to get it."""
    return require("faiss", extra="faiss")


def reason(error: Exception) -> str:
    """What FAISS says in one line, without the place in its sources."""
    text = str(error).strip().partition("\n")[0]
    return re.sub(r"^Error in .*? at \S+: ?(Error: )?", "", text) or type(error).__name__


def is_packed(native: Any) -> bool:
    return isinstance(native, module().IndexBinary)


def downcast(native: Any) -> Any:
    """`native` as its own class; it lives as long as `native` does."""
    faiss = module()
    return faiss.downcast_IndexBinary(native) if is_packed(native) else faiss.downcast_index(native)


def core(native: Any) -> Any:
    """What does the work inside of `native`, as its own class."""
    faiss = module()
    native = downcast(native)
    if isinstance(native, faiss.IndexPreTransform):
        return core(native.index)
    if isinstance(native, faiss.IndexRefine):
        return core(native.base_index)
    return native


def is_inverted(native: Any) -> bool:
    """Whether `core` is of inverted lists, which keep the labels they are given."""
    faiss = module()
    return isinstance(core(native), faiss.IndexIVF | faiss.IndexBinaryIVF)


def is_graph(native: Any) -> bool:
    faiss = module()
    return isinstance(core(native), faiss.IndexHNSW | faiss.IndexBinaryHNSW)


def refuse_other_distances(native: Any, engine: str) -> None:
    """Raises InputError where what FAISS returns are no distances between the vectors that were given."""
    faiss, native = module(), downcast(native)
    if isinstance(core(native), faiss.IndexLSH):
        raise InputError(f"the engine '{engine}' measures no distances; search hashes with 'binary'")
    kept = faiss.RandomRotationMatrix | faiss.OPQMatrix | faiss.RemapDimensionsTransform | faiss.PCAMatrix
    for step in _steps(native):
        if not isinstance(step, kept) or getattr(step, "eigen_power", 0) != 0:
            raise InputError(
                f"the engine '{engine}' changes distances by {type(step).__name__}; take PCA, OPQ or RR in its place"
            )


def exactness(native: Any) -> Literal["any", "products", "squares"]:
    """Which distances FAISS gets right: any, on plain vectors; those by products; squared L2 alone."""
    faiss, native = module(), downcast(native)
    is_centred = any(isinstance(step, faiss.PCAMatrix) for step in _steps(native))
    if is_centred or isinstance(core(native), faiss.IndexHNSWPQ):
        return "squares"  # the latter takes inner products for squares
    if isinstance(native, faiss.IndexIVFFlat):
        return "any" if isinstance(downcast(native.quantizer), faiss.IndexFlat) else "products"
    return "any" if isinstance(native, faiss.IndexFlat | faiss.IndexHNSWFlat) else "products"


def _steps(native: Any) -> list[Any]:
    """The transforms of the vectors before they are stored."""
    faiss, native = module(), downcast(native)
    if isinstance(native, faiss.IndexRefine):
        return _steps(native.base_index)
    if not isinstance(native, faiss.IndexPreTransform):
        return []
    here = [faiss.downcast_VectorTransform(native.chain.at(place)) for place in range(native.chain.size())]
    return here + _steps(native.index)


def numbering(native: Any) -> Literal["moving", "kept", "fixed"]:
    """What becomes of labels: places in a list that closes up, numbers that are kept, or places for ever."""
    faiss = module()
    if isinstance(downcast(native), faiss.IndexRefine):
        return "fixed"  # two lists, and FAISS removes from neither
    if is_inverted(native):
        return "kept"
    return "moving" if isinstance(core(native), faiss.IndexFlatCodes | faiss.IndexBinaryFlat) else "fixed"


def has_radius(native: Any) -> bool:
    """Whether its kind can search within a radius; asked by trying, which an empty index may refuse to do."""
    if isinstance(downcast(native), module().IndexRefine):
        return False  # FAISS does not sort out inner products there
    inner = core(native)
    values = np.zeros((0, inner.d // 8), np.uint8) if is_packed(native) else np.zeros((0, inner.d), np.float32)
    try:
        inner.range_search(values, 1)
    except RuntimeError as error:
        return "not implemented" not in str(error)
    return True


def width_name(native: Any) -> str | None:
    return "nprobe" if is_inverted(native) else "efSearch" if is_graph(native) else None


def prepare_training(native: Any, seed: int) -> None:
    """Fix the randomness of what `native` learns from its vectors, and leave out what only costs time."""
    inner = core(native)
    for owner in (inner, downcast(inner.storage)) if is_graph(native) else (inner,):
        if hasattr(owner, "do_polysemous_training"):
            owner.do_polysemous_training = False  # a minute of annealing for a way to search that is not used here
        for part in (owner, getattr(owner, "pq", None)):
            clustering = getattr(part, "cp", None)
            if clustering is not None:
                clustering.seed = seed & 0x7FFFFFFF
                clustering.min_points_per_centroid = 1  # FAISS would print a warning for every codebook


def train(native: Any, sample: np.ndarray, engine: str) -> None:
    """Raises InputError where the sample is too small for the engine."""
    try:
        native.train(sample)
    except RuntimeError as error:
        numbers = re.search(r"training points \((\d+)\).*?clusters \((\d+)\)", str(error))
        if numbers is None:
            raise InputError(f"the engine '{engine}' cannot be trained: {reason(error)}") from error
        raise InputError(
            f"the engine '{engine}' needs at least {numbers[2]} vectors to train on, got {len(sample)}; choose 'exact' "
            f"or 'HNSW32', which need none, or lists for so many vectors: 'IVF{max(1, len(sample) // 40)},Flat'"
        ) from error


class Labels:
    """Which labels a search may return."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self.selector = module().IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def parameters(native: Any, k: int, width: int | None, labels: Labels | None) -> Any:
    """Search parameters for `native`, wrapped as it is."""
    faiss = module()
    chosen = {} if labels is None else {"sel": labels.selector}
    native = downcast(native)
    if isinstance(native, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=parameters(native.index, k, width, labels))
    if isinstance(native, faiss.IndexRefine):
        inner = parameters(native.base_index, k, width, labels)
        factor = max(_REFINE_FACTOR, _LEAST_CANDIDATES / k)
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)
    if isinstance(native, faiss.IndexIVF | faiss.IndexBinaryIVF):
        return faiss.SearchParametersIVF(nprobe=min(width or 1, native.nlist), **chosen)
    if isinstance(native, faiss.IndexHNSW | faiss.IndexBinaryHNSW):
        return faiss.SearchParametersHNSW(efSearch=width or 1, **chosen)
    return faiss.SearchParameters(**chosen) if chosen else None


def selects(native: Any, query: np.ndarray) -> bool:
    """Whether the kind of index can leave labels out by itself; asked by trying."""
    try:
        native.search(query, 1, params=parameters(native, 1, 1, Labels(np.ones(native.ntotal, bool))))
    except RuntimeError:
        return False
    return True


def search(
    native: Any, queries: np.ndarray, k: int, width: int | None, labels: Labels | None, *, can_select: bool
) -> tuple[np.ndarray, np.ndarray]:
    """FAISS's distances and labels (m, k), nearest first, -1 where it found fewer."""
    if labels is None:
        return native.search(queries, k, params=parameters(native, k, width, None))
    if width is not None:  # to see as many of those that count as without the others
        width = min(native.ntotal, -(-width * native.ntotal // max(1, labels.count)))
    if can_select:
        return native.search(queries, k, params=parameters(native, k, width, labels))
    parts = [_search_and_filter(native, one, k, width, labels) for one in _slices(queries)]
    distances, found = (np.concatenate(side) for side in zip(*parts, strict=True))
    return distances, found


def search_everything(native: Any, queries: np.ndarray, k: int, labels: Labels | None) -> tuple[np.ndarray, np.ndarray]:
    """As `search`, but looking at all that is stored: what is there is found."""
    faiss = module()
    native = downcast(native)
    if isinstance(native, faiss.IndexPreTransform):
        for place in range(native.chain.size()):
            queries = faiss.downcast_VectorTransform(native.chain.at(place)).apply(queries)
        return search_everything(native.index, queries, k, labels)
    if isinstance(native, faiss.IndexRefine):
        native = downcast(native.refine_index)
    elif is_graph(native):
        native = downcast(native.storage)
    width = native.nlist if is_inverted(native) else None
    return search(native, queries, k, width, labels, can_select=selects(native, queries[:1]))


def _search_and_filter(
    native: Any, queries: np.ndarray, k: int, width: int | None, labels: Labels
) -> tuple[np.ndarray, np.ndarray]:
    """For kinds that cannot leave labels out: fetch more and more, until enough of it may be returned."""
    fetch = k
    while True:
        fetch = min(native.ntotal, 2 * fetch + 16)
        distances, found = native.search(queries, fetch, params=parameters(native, fetch, width, None))
        good = (found >= 0) & labels.mask[found]
        if (good.sum(axis=1) >= k).all() or fetch == native.ntotal or (found[:, -1] < 0).all():
            break
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    distances, found, good = (np.take_along_axis(side, order, 1) for side in (distances, found, good))
    return distances, np.where(good, found, -1)


def _slices(queries: np.ndarray) -> list[np.ndarray]:
    return [queries[start : start + _FILTERED_QUERIES] for start in range(0, len(queries), _FILTERED_QUERIES)]


def within(
    native: Any, queries: np.ndarray, threshold: float, width: int | None, labels: Labels | None, *, can_select: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FAISS's distances, queries and labels of all that lie closer than the threshold."""
    if is_packed(native) and is_inverted(native):
        core(native).nprobe, chosen = width, None  # here it takes no parameters
    else:
        chosen = parameters(native, 1, width, labels if can_select else None)
    limits, distances, found = native.range_search(queries, threshold, params=chosen)
    which = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
    if labels is None or can_select:
        return distances, which, found
    good = labels.mask[found]
    return distances[good], which[good], found[good]


# -- storage ----------------------------------------------------------------------------------------------------------


def write(native: Any, path: Path) -> None:
    faiss = module()
    (faiss.write_index_binary if is_packed(native) else faiss.write_index)(native, str(path))


def read_mapped(path: Path, *, packed: bool) -> Any:
    """An index whose codes stay in the file."""
    faiss = module()
    return (faiss.read_index_binary if packed else faiss.read_index)(str(path), faiss.IO_FLAG_MMAP_IFC)


def copied(native: Any) -> Any:
    """The same in memory."""
    faiss = module()
    if is_packed(native):
        return faiss.deserialize_index_binary(faiss.serialize_index_binary(native))
    return faiss.deserialize_index(faiss.serialize_index(native))


def stored_bytes(native: Any) -> int:
    """Bytes of `native` as it would be written, which are counted and thrown away."""
    faiss = module()
    lengths: list[int] = []
    counter = faiss.PyCallbackIOWriter(lambda chunk: lengths.append(len(chunk)))
    (faiss.write_index_binary if is_packed(native) else faiss.write_index)(native, counter)
    return sum(lengths)
