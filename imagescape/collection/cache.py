"""The pixels of a collection's images, decoded once for each size and kept as one memory-mapped array.

`cache/pixels-<size>px-<fit>/` holds

    pixels.u8      uint8 (n, size, size, 3), raw
    ids.s16        image_id of each of the n rows, 16 ASCII characters each
    progress.json  how many rows are whole; anything behind them is the rest of a killed run, and is cut off

Rows are only ever added at the end, and belong to an id, not to a place in the table. An id never comes to mean
another picture (new content is a new row), and a file that changed since it was ingested is noticed by its hash: a
cached row is never stale.
"""

import itertools
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.collection.identity import REPLACED, content_sha256
from imagescape.collection.locking import exclusive, storage_errors
from imagescape.collection.ordered import ordered_map
from imagescape.collection.readers.fetch import fetch
from imagescape.collection.readers.item import parse_uri
from imagescape.errors import CollectionError, InputError
from imagescape.images.decode import DEFAULT_MAX_PIXELS, Decoded, Fit, decode, from_array, square
from imagescape.runtime import track, worker_count

if TYPE_CHECKING:
    from imagescape.collection.store import Collection

CHUNK_ROWS = 1024  # written at a time, at most
CHUNK_BYTES = 64 << 20  # of pixels, and of encoded images, held at a time

_COLUMNS = ["image_id", "uri", "sha256", "bytes", "width", "height"]

_log = logging.getLogger(__name__)


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


def cached_pixels(collection: "Collection", size_px: int, fit: Fit = "crop") -> CachedPixels:
    """The usable images of a collection as squares, decoding only those that are not cached yet.

    An image that can no longer be read, or whose file changed, is flagged in the collection and left out.

    Args:
        collection: Where the images are.
        size_px: Side of the squares.
        fit: "crop", "pad" or "squash"; see `images.decode.square`.

    Raises:
        InputError: size or fit make no sense.
        CollectionError: the disk is too small.
    """
    if size_px < 1 or fit not in get_args(Fit):
        raise InputError(f"pixels need a size of 1 px or more and a fit of {get_args(Fit)}, got {size_px} and '{fit}'")
    files = _Files(collection.path / "cache" / f"pixels-{size_px}px-{fit}", size_px)
    if not _contains(files.ids(), collection.ok_ids()).all():
        with exclusive(files.folder / "lock", f"decoding to {size_px} px"):
            _build(collection, files, fit)
    ids, cached = collection.ok_ids(), files.ids()
    pixels = files.pixels(len(cached))
    if np.array_equal(ids, cached):
        return CachedPixels(ids, pixels)
    ids = ids[_contains(cached, ids)]  # rows that another process added this very moment wait for the next call
    positions = pc.index_in(pa.array(ids, pa.string()), value_set=pa.array(cached, pa.string())).to_numpy()
    return CachedPixels(ids, Rows(pixels, positions.astype(np.int64)))


class _Files:
    """What is on disk for one size and fit."""

    def __init__(self, folder: Path, size_px: int) -> None:
        self.folder, self.size_px = folder, size_px
        self.row_bytes = size_px * size_px * 3
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._pixels, self._ids, self._progress = folder / "pixels.u8", folder / "ids.s16", folder / "progress.json"

    def rows(self) -> int:
        """Rows that are whole."""
        try:
            rows = int(json.loads(self._progress.read_text(encoding="utf-8"))["rows"])
            lengths = self._pixels.stat().st_size // self.row_bytes, self._ids.stat().st_size // 16
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0
        return min(rows, *lengths)

    def ids(self) -> np.ndarray:
        """(n,) ids of the whole rows."""
        rows = self.rows()
        return np.fromfile(self._ids, "S16", rows).astype("U16") if rows else np.empty(0, "U16")

    def pixels(self, rows: int) -> np.ndarray:
        """The first `rows` rows, memory-mapped and read-only."""
        shape = (rows, self.size_px, self.size_px, 3)
        return np.memmap(self._pixels, np.uint8, "r", shape=shape) if rows else np.empty(shape, np.uint8)

    def cut(self) -> int:
        """Remove what a killed run left behind the whole rows; returns their number."""
        rows = self.rows()
        for path, row_bytes in ((self._pixels, self.row_bytes), (self._ids, 16)):
            with path.open("ab") as file:
                file.truncate(rows * row_bytes)
        return rows

    def append(self, ids: list[str], pixels: list[np.ndarray], rows_before: int) -> None:
        """Add whole rows. On disk for good before they count."""
        with storage_errors(self.folder):
            for path, data in ((self._pixels, np.stack(pixels).data), (self._ids, "".join(ids).encode())):
                with path.open("ab") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            mark = self._progress.with_suffix(".new")
            mark.write_text(json.dumps({"rows": rows_before + len(ids)}), encoding="utf-8")
            mark.replace(self._progress)


def _build(collection: "Collection", files: _Files, fit: Fit) -> None:
    rows = files.cut()
    wanted = collection.read(_COLUMNS, where="status = 'ok'")
    wanted = wanted.filter(pa.array(~_contains(files.ids(), wanted["image_id"].to_numpy().astype("U16"))))
    needed, free = len(wanted) * files.row_bytes, shutil.disk_usage(files.folder).free
    if needed > free:
        raise CollectionError(
            f"the pixel cache of '{collection.path}' at {files.size_px} px needs {needed / 1e6:,.0f} MB more, "
            f"the disk has {free / 1e6:,.0f} MB free; free some space or train on smaller images"
        )
    bad: list[tuple[str, str, str]] = []
    stored = "image" in collection.columns
    try:
        with (
            ThreadPoolExecutor(worker_count() + 1) as pool,
            track(f"decoding to {files.size_px} px", rows + len(wanted), done=rows) as progress,
        ):
            squares = ordered_map(
                pool,
                lambda task: (task[0]["image_id"], _square(*task, files.size_px, fit)),
                (task for chunk in _chunks(wanted, files) for task in _tasks(collection, chunk, stored)),
                in_flight=4 * worker_count() + 4,
            )
            # Written in the order of the table, so that an uninterrupted cache needs no index.
            while part := list(itertools.islice(squares, _rows_at_once(files))):
                good = [(image_id, result) for image_id, result in part if isinstance(result, np.ndarray)]
                bad += [(image_id, *result) for image_id, result in part if not isinstance(result, np.ndarray)]
                if good:
                    files.append([image_id for image_id, _ in good], [pixels for _, pixels in good], rows)
                    rows += len(good)
                progress.advance(len(part))
    finally:
        if bad:
            ids, statuses, reasons = (list(column) for column in zip(*bad, strict=True))
            collection.update(ids, {"status": statuses, "reason": reasons})
            _log.warning("%d images cannot be read any more and were flagged, first: %s", len(bad), reasons[0])


def _rows_at_once(files: _Files) -> int:
    return min(max(CHUNK_BYTES // files.row_bytes, 1), CHUNK_ROWS)


def _chunks(wanted: pa.Table, files: _Files) -> Iterator[list[dict[str, Any]]]:
    """Rows whose encoded images are fetched together: few enough to be held in memory."""
    chunk: list[dict[str, Any]] = []
    held = 0
    for batch in wanted.to_batches(max_chunksize=CHUNK_ROWS):
        for row in batch.to_pylist():
            if chunk and (len(chunk) >= CHUNK_ROWS or held + (row["bytes"] or 0) > CHUNK_BYTES):
                yield chunk
                chunk, held = [], 0
            chunk.append(row)
            held += row["bytes"] or 0
    if chunk:
        yield chunk


_Content = bytes | np.ndarray | Decoded | None


def _tasks(
    collection: "Collection", chunk: list[dict[str, Any]], stored: bool
) -> Iterator[tuple[dict[str, Any], _Content, bool]]:
    """Each row with its content and whether that comes from the table; files of their own are left to the threads."""
    embedded: dict[str, bytes] = {}
    if stored:
        listed = ", ".join(f"'{row['image_id']}'" for row in chunk)
        table = collection.read(["image_id", "image"], where=f"image_id IN ({listed}) AND image IS NOT NULL")
        embedded = dict(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
    members = [row["uri"] for row in chunk if row["image_id"] not in embedded and not _is_file(row["uri"])]
    fetched = dict(zip(members, fetch(members), strict=True))
    for row in chunk:
        image = embedded.get(row["image_id"])
        yield row, image if image is not None else fetched.get(row["uri"]), image is not None


def _is_file(uri: str) -> bool:
    path, member = parse_uri(uri)
    return path is not None and member is None


def _square(
    row: dict[str, Any], content: _Content, is_stored: bool, size_px: int, fit: Fit
) -> np.ndarray | tuple[str, str]:
    """The pixels of one image, or its status and reason. Whatever one image breaks, the others must go on."""
    try:
        if content is None:
            content = fetch([row["uri"]])[0]
        if isinstance(content, Decoded):
            return content.status, content.reason
        if not is_stored and content_sha256(content) != row["sha256"]:
            return "vanished", REPLACED
        if isinstance(content, np.ndarray):
            return square(from_array(content), size_px, fit)
        # The very bytes that were accepted at ingest, under whatever settings, are accepted here.
        limit = max((row["width"] or 0) * (row["height"] or 0), DEFAULT_MAX_PIXELS)
        result = decode(content, max_pixels=limit, salvage_truncated=True, at_least_px=size_px)
        return (result.status, result.reason) if result.image is None else square(result.image, size_px, fit)
    except Exception as error:
        return "unreadable", f"cannot be processed: {type(error).__name__}: {error}"


def _contains(pool: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(len(ids),) bool: which of `ids` are in `pool`."""
    if np.array_equal(pool, ids):
        return np.ones(len(ids), bool)
    return pc.is_in(pa.array(ids, pa.string()), value_set=pa.array(pool, pa.string())).to_numpy(zero_copy_only=False)
