"""From the rows of a collection back to their pictures: decoded on all cores, in order, a bounded number at a time.

A file that changed since it was ingested is noticed by its hash, so what is computed from a picture always belongs to
the row it is written to.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from imagescape.collection.identity import REPLACED, content_sha256
from imagescape.collection.ordered import ordered_map
from imagescape.collection.readers.fetch import fetch
from imagescape.collection.readers.item import parse_uri
from imagescape.images.decode import DEFAULT_MAX_PIXELS, Decoded, decode, from_array
from imagescape.runtime import worker_count

if TYPE_CHECKING:
    from imagescape.collection.store import Collection

CHUNK_ROWS = 1024  # fetched at a time, at most
CHUNK_BYTES = 64 << 20  # of encoded images held at a time

_COLUMNS = ["image_id", "uri", "sha256", "bytes", "width", "height"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Flaw(NamedTuple):
    """Why a picture could not be had: the status and the reason that its row gets."""

    status: str
    reason: str


def wanted_rows(collection: "Collection", where: str | None = None) -> pa.Table:
    """What it takes to get at the usable images, in table order, and where in the table they are.

    Args:
        collection: Where the images are.
        where: Only images that meet this SQL condition.
    """
    rows = collection.read([*_COLUMNS, "status"])
    rows = rows.append_column("position", pa.array(np.arange(len(rows))))
    wanted = pc.equal(rows["status"], "ok")
    if where is not None:
        meant = collection.read(["image_id"], where=where)["image_id"]
        wanted = pc.and_(wanted, pc.is_in(rows["image_id"], value_set=meant))
    return rows.filter(wanted).drop_columns("status")


def decoded(
    collection: "Collection",
    wanted: pa.Table,
    work: Callable[[Image.Image], T],
    *,
    at_least_px: int | None = None,
) -> Iterator[tuple[str, T | Flaw]]:
    """`work(picture)` of each image, with its id, in the order of `wanted`.

    Args:
        collection: Where the images are.
        wanted: Rows of `wanted_rows`.
        work: What to make of an upright RGB picture; called on threads.
        at_least_px: The short side that `work` needs: larger JPEGs may be decoded smaller, never below it.

    Yields:
        The id, and what `work` returned, or the flaw where the picture could not be had. Nothing an image does stops
        the others.
    """
    stored = "image" in collection.columns
    with ThreadPoolExecutor(worker_count() + 1) as pool:
        yield from ordered_map(
            pool,
            lambda task: (task[0]["image_id"], _picture(*task, work, at_least_px)),
            (task for chunk in _chunks(wanted) for task in _tasks(collection, chunk, stored)),
            in_flight=4 * worker_count() + 4,
        )


def originals(collection: "Collection", wanted: pa.Table) -> Iterator[tuple[str, bytes | np.ndarray | Flaw]]:
    """Each image as it came, with its id, in the order of `wanted`: its file's bytes, or pixels from an array.

    Args:
        collection: Where the images are.
        wanted: Rows of `wanted_rows`.

    Yields:
        The id, and the image, or the flaw where it could not be had or is no longer the one that was ingested.
    """
    stored = "image" in collection.columns
    for chunk in _chunks(wanted):
        for row, content, is_stored in _tasks(collection, chunk, stored):
            yield row["image_id"], _original(row, content, is_stored)


def flag(collection: "Collection", flaws: Sequence[tuple[str, Flaw]]) -> None:
    """Write the flaws that were met into their rows."""
    if not flaws:
        return
    collection.update(
        [image_id for image_id, _ in flaws],
        {"status": [flaw.status for _, flaw in flaws], "reason": [flaw.reason for _, flaw in flaws]},
    )
    _log.warning("%d images cannot be read any more and were flagged, first: %s", len(flaws), flaws[0][1].reason)


def _chunks(wanted: pa.Table) -> Iterator[list[dict[str, Any]]]:
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
        embedded = _embedded(collection, chunk)
    members = [row["uri"] for row in chunk if row["image_id"] not in embedded and not _is_file(row["uri"])]
    fetched = dict(zip(members, fetch(members), strict=True))
    for row in chunk:
        image = embedded.get(row["image_id"])
        yield row, image if image is not None else fetched.get(row["uri"]), image is not None


def _embedded(collection: "Collection", chunk: list[dict[str, Any]]) -> dict[str, bytes]:
    """The stored images of a chunk by id. By position, which is a seek; by id, which is a scan, if rows have moved."""
    ids = [row["image_id"] for row in chunk]
    try:
        table = collection.take([row["position"] for row in chunk], ["image_id", "image"])
    except (OSError, ValueError):  # a position beyond the end of a table that lost rows
        table = None
    if table is None or table["image_id"].to_pylist() != ids:
        listed = ", ".join(f"'{image_id}'" for image_id in ids)
        table = collection.read(["image_id", "image"], where=f"image_id IN ({listed})")
    pairs = zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True)
    return {image_id: image for image_id, image in pairs if image is not None}


def _is_file(uri: str) -> bool:
    path, member = parse_uri(uri)
    return path is not None and member is None


def _picture(
    row: dict[str, Any],
    content: _Content,
    is_stored: bool,
    work: Callable[[Image.Image], T],
    at_least_px: int | None,
) -> T | Flaw:
    try:
        original = _original(row, content, is_stored)
        if isinstance(original, Flaw):
            return original
        if isinstance(original, np.ndarray):
            return work(from_array(original))
        # The very bytes that were accepted at ingest, under whatever settings, are accepted here.
        limit = max((row["width"] or 0) * (row["height"] or 0), DEFAULT_MAX_PIXELS)
        result = decode(original, max_pixels=limit, salvage_truncated=True, at_least_px=at_least_px)
        return Flaw(result.status, result.reason) if result.image is None else work(result.image)
    except Exception as error:  # whatever one image breaks, the others must go on
        return Flaw("unreadable", f"cannot be processed: {type(error).__name__}: {error}")


def _original(row: dict[str, Any], content: _Content, is_stored: bool) -> bytes | np.ndarray | Flaw:
    if content is None:
        content = fetch([row["uri"]])[0]
    if isinstance(content, Decoded):
        return Flaw(content.status, content.reason)
    if not is_stored and content_sha256(content) != row["sha256"]:
        return Flaw("vanished", REPLACED)
    return content
