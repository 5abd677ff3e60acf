"""What is made of a picture once and kept: the pixels of a collection's images, for each size one memory-mapped array.

`cache/pixels-<size>px-<fit>[-<resample>]/` holds them as uint8 (n, size, size, 3); see `rows_file`.

Rows are only ever added at the end, and belong to an id, not to a place in the table. An id never comes to mean
another picture (new content is a new row), and a file that changed since it was ingested is noticed by its hash: a
cached row is never stale.
"""

import functools
import itertools
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from imagescape.collection.decoding import CHUNK_BYTES, CHUNK_ROWS, Flaw, decoded, flag, wanted_rows
from imagescape.collection.locking import exclusive
from imagescape.collection.rows_file import RowsFile
from imagescape.errors import CollectionError, InputError
from imagescape.images.decode import Fit, Resample, square
from imagescape.runtime import track

if TYPE_CHECKING:
    from imagescape.collection.store import Collection


class Rows:
    """Some rows of an array, in some order, read when they are asked for. Indexing gives arrays, as NumPy does."""

    def __init__(self, array: "np.ndarray | Rows", positions: np.ndarray) -> None:
        """Row i of this is row `positions[i]` of `array`."""
        self._array, self._positions = array, positions

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._positions), *self._array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        picked = self._positions[np.asarray(rows) if not isinstance(rows, slice) else rows]
        found = self._array[picked]
        return found[(slice(None),) * np.ndim(picked) + tuple(rest)] if rest else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows are not contiguous on disk, an array of them is a copy")
        return self._array[self._positions].astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class CachedPixels:
    """Pixels and whose they are.

    Attributes:
        ids: (n,) image ids, in table order.
        pixels: uint8 (n, size, size, 3). A memory-mapped array; or `Rows` of one, which can be indexed alike, where
            the collection lost rows since they were decoded.
    """

    ids: np.ndarray
    pixels: np.ndarray | Rows


def cached_pixels(
    collection: "Collection", size_px: int, fit: Fit = "crop", resample: Resample = "bicubic"
) -> CachedPixels:
    """The usable images of a collection as squares, decoding only those that are not cached yet.

    An image that can no longer be read, or whose file changed, is flagged in the collection and left out.

    Args:
        collection: Where the images are.
        size_px: Side of the squares.
        fit, resample: As for `images.decode.square`.

    Raises:
        InputError: size or fit make no sense.
        CollectionError: the disk is too small.
    """
    if size_px < 1 or fit not in get_args(Fit):
        raise InputError(f"pixels need a size of 1 px or more and a fit of {get_args(Fit)}, got {size_px} and '{fit}'")
    folder = collection.path / "cache" / f"pixels-{size_px}px-{fit}{'' if resample == 'bicubic' else f'-{resample}'}"
    files = RowsFile(folder, "pixels.u8", (size_px, size_px, 3), np.dtype(np.uint8))
    work = functools.partial(square, size_px=size_px, fit=fit, resample=resample)
    return CachedPixels(*cached_rows(collection, files, work, f"decoding to {size_px} px", at_least_px=size_px))


def cached_rows(
    collection: "Collection",
    files: RowsFile,
    work: Callable[[Image.Image], np.ndarray],
    doing: str,
    *,
    at_least_px: int | None = None,
) -> "tuple[np.ndarray, np.ndarray | Rows]":
    """What `work` makes of the picture of each usable image, from `files`; pictures that are not in it are decoded.

    An image that can no longer be read, or whose file changed, is flagged in the collection and left out.

    Args:
        collection: Where the images are.
        files: Where the rows are kept. A killed run goes on in it.
        work: From an upright RGB picture to a row of `files`; called on threads.
        doing: Shown while images are decoded.
        at_least_px: As for `decoded`.

    Returns:
        Image ids (n,) in table order, and their rows: a memory-mapped array, or `Rows` of one.

    Raises:
        CollectionError: the disk is too small.
    """
    if not contains(files.ids(), collection.ok_ids()).all():
        with exclusive(files.folder / "lock", doing):
            _fill(collection, files, work, doing, at_least_px)
    ids, cached = collection.ok_ids(), files.ids()
    rows = files.array(len(cached))
    if np.array_equal(ids, cached):
        return ids, rows
    ids = ids[contains(cached, ids)]  # rows that another process added this very moment wait for the next call
    positions = pc.index_in(pa.array(ids, pa.string()), value_set=pa.array(cached, pa.string())).to_numpy()
    return ids, Rows(rows, positions.astype(np.int64))


def _fill(
    collection: "Collection",
    files: RowsFile,
    work: Callable[[Image.Image], np.ndarray],
    doing: str,
    at_least_px: int | None,
) -> None:
    rows = files.cut()
    wanted = wanted_rows(collection)
    wanted = wanted.filter(pa.array(~contains(files.ids(), wanted["image_id"].to_numpy().astype("U16"))))
    needed, free = len(wanted) * files.row_bytes, shutil.disk_usage(files.folder).free
    if needed > free:
        raise CollectionError(
            f"{doing} needs {needed / 1e6:,.0f} MB more in '{collection.path}', "
            f"the disk has {free / 1e6:,.0f} MB free; free some space or train on smaller images"
        )
    flaws: list[tuple[str, Flaw]] = []
    try:
        with track(doing, rows + len(wanted), done=rows) as progress:
            made = decoded(collection, wanted, work, at_least_px=at_least_px)
            # Written in the order of the table, so that an uninterrupted cache needs no index.
            while part := list(itertools.islice(made, _rows_at_once(files.row_bytes))):
                good = [(image_id, result) for image_id, result in part if not isinstance(result, Flaw)]
                flaws += [(image_id, result) for image_id, result in part if isinstance(result, Flaw)]
                if good:
                    files.append([image_id for image_id, _ in good], np.stack([row for _, row in good]), rows)
                    rows += len(good)
                progress.advance(len(part))
    finally:
        flag(collection, flaws)


def _rows_at_once(row_bytes: int) -> int:
    return min(max(CHUNK_BYTES // row_bytes, 1), CHUNK_ROWS)


def contains(pool: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(len(ids),) bool: which of `ids` are in `pool`."""
    if np.array_equal(pool, ids):
        return np.ones(len(ids), bool)
    return pc.is_in(pa.array(ids, pa.string()), value_set=pa.array(pool, pa.string())).to_numpy(zero_copy_only=False)
