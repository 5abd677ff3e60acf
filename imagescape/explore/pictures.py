"""The pictures of a collection: thumbnails by the batch, originals as they are, and what they are called."""

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from PIL import Image

from imagescape.collection.decoding import Flaw, originals
from imagescape.collection.readers.item import parse_uri
from imagescape.collection.vectors import numbers_of
from imagescape.errors import ImagescapeError
from imagescape.explore.explorer import Explorer, numbers_checked
from imagescape.images.decode import DEFAULT_MAX_PIXELS, decode, encode_png, from_array

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}
"""Formats that browsers show; nothing else is ever sent as what it says it is."""

_SHOWN_PX = 4096  # longer side of what is made of other formats
_CHUNK_BYTES = 256 << 10
_SOURCE = ["uri", "sha256", "bytes", "modified_ns", "width", "height", "format"]


class Vanished(ImagescapeError):
    """An image cannot be had any more, or is another one now."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to send.

    Attributes:
        name: What it is called.
        media_type: One of `MEDIA_TYPES`, or "application/octet-stream".
        length_bytes: Of all chunks.
        chunks: The bytes, to be read once.
    """

    name: str
    media_type: str
    length_bytes: int
    chunks: Iterator[bytes]


def thumbnails(explorer: Explorer, image_ids: Sequence[str]) -> bytes:
    """uint32 count, uint32 length of each, then the WebP images; length 0 where there is none. Little-endian."""
    numbers = numbers_checked(image_ids)
    return packed(_by_image(explorer, numbers, "thumbnail"))


def packed(pictures: Sequence[bytes | None]) -> bytes:
    """Pictures as one block: uint32 count, uint32 length of each, then the bytes. Little-endian."""
    lengths = [len(one or b"") for one in pictures]
    return struct.pack(f"<{len(lengths) + 1}I", len(lengths), *lengths) + b"".join(one or b"" for one in pictures)


def names(explorer: Explorer, image_ids: Sequence[str]) -> list[str | None]:
    """What images are called; None for those that are not in the table."""
    uris = _by_image(explorer, numbers_checked(image_ids), "uri")
    return [None if uri is None else name_of(uri) for uri in uris]


def name_of(uri: str) -> str:
    """What an image is called: its file's name; of a row of a container, the container's and the row's number.

    >>> name_of("/photos/cat.jpg"), name_of("/data/train.parquet#row=7"), name_of("array#7")
    ('cat.jpg', 'train.parquet 7', 'array#7')
    """
    path, row = parse_uri(uri)
    if path is None:
        return uri
    name = os.fsencode(path.name).decode("utf-8", "replace")
    return name if row is None else f"{name} {row}"


def picture(explorer: Explorer, image_id: str, *, original: bool = False) -> Picture:
    """An image at full size: as it came where a browser can show it, else as PNG.

    Args:
        explorer: Of the collection.
        image_id: Of the image.
        original: The very bytes whatever they are.

    Raises:
        Missing: no such image.
        Vanished: it is gone, or its file holds another picture now.
    """
    row = explorer.row(image_id, _SOURCE)
    about = {name: row[name][0].as_py() for name in _SOURCE}
    name, kind = name_of(about["uri"]), MEDIA_TYPES.get(about["format"])
    is_stored = "image" in explorer.scape.columns and explorer.row(image_id, ["image"])["image"][0].is_valid
    if not is_stored and (original or kind) and (streamed := _unchanged_file(about)) is not None:
        return Picture(name, kind or "application/octet-stream", *streamed)
    _, content = next(iter(originals(explorer.scape, row.select(["image_id", *_SOURCE, "position"]))))
    if isinstance(content, Flaw):
        raise Vanished(f"'{name}' cannot be had: {content.reason}")
    if isinstance(content, np.ndarray):
        return _whole(name, "image/png", encode_png(from_array(content)))
    if about["format"] == "ARRAY":  # which the table stores as PNG
        kind = "image/png"
    if kind or original:
        return _whole(name, kind or "application/octet-stream", content)
    return _whole(name, "image/png", _shown(name, content, about))


def _by_image(explorer: Explorer, numbers: np.ndarray, column: str) -> list[Any]:
    """Values of a column by image, None for those that are not in the table."""
    rows = explorer.take(np.unique(numbers), [column])
    found = dict(zip(numbers_of(rows["image_id"]).tolist(), rows[column].to_pylist(), strict=True))
    return [found.get(number) for number in numbers.tolist()]


def _unchanged_file(about: dict[str, Any]) -> tuple[int, Iterator[bytes]] | None:
    """Length and content of a file of its own that has the size and time of its row; None for anything else."""
    path, member = parse_uri(about["uri"])
    if path is None or member is not None or about["modified_ns"] is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # never waits for a pipe's writer
    except (OSError, ValueError):
        return None  # what is wrong will be told by the slower way
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (
        about["bytes"],
        about["modified_ns"],
    ):
        os.close(descriptor)
        return None
    return status.st_size, _chunks(os.fdopen(descriptor, "rb"), status.st_size)


def _chunks(file: IO[bytes], length_bytes: int) -> Iterator[bytes]:
    with file:
        left = length_bytes
        while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk


def _whole(name: str, media_type: str, content: bytes) -> Picture:
    return Picture(name, media_type, len(content), iter([content]))


def _shown(name: str, content: bytes, about: dict[str, Any]) -> bytes:
    """A picture that no browser shows, as PNG."""
    limit = max((about["width"] or 0) * (about["height"] or 0), DEFAULT_MAX_PIXELS)
    result = decode(content, max_pixels=limit, salvage_truncated=True)
    if result.image is None:
        raise Vanished(f"'{name}' cannot be shown: {result.reason}")
    image = result.image
    image.thumbnail((_SHOWN_PX, _SHOWN_PX), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return encode_png(image)
