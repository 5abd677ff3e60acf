"""One image-to-be, where it comes from, and how that place is written down.

A `uri` is what the table keeps of the source, and what `fetch` goes back to:

* `/photos/cat.jpg`: a file, by its absolute path;
* `/data/train.parquet#row=7`: a row of a container file;
* `array#7`: an image that came from memory and cannot be fetched again;
* `file:///photos/caf%E9.jpg`: a file whose name is not valid UTF-8, or contains "#row=" itself, percent-encoded,
  so that every uri is proper text and means one thing only.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
import pyarrow as pa

_ROW = re.compile(r"(?P<container>.+)#row=(?P<row>\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Item:
    """One image before decoding. Exactly one of `path`, `data`, `array` is set.

    Attributes:
        uri: Where it comes from; see the module's head.
        path: File to read when its turn comes.
        data: Encoded image.
        array: Raw pixels; see `imagescape.images.decode.from_array` for the shapes.
        columns: Values of the reader's `schema`, by column: Python scalars and lists that Arrow understands.
        refetchable: Whether `fetch(uri)` can bring the image back. If not, the table has to store it.
    """

    uri: str
    path: Path | None = None
    data: bytes | None = None
    array: np.ndarray | None = None
    columns: Mapping[str, object] = field(default_factory=dict)
    refetchable: bool = True


@runtime_checkable
class Reader(Protocol):
    """A source of images: iterable more than once, streaming, in a fixed order.

    Attributes:
        total: How many items there are, when that is cheap to know.
        schema: The columns of every item, with types fixed before the first one is read.
    """

    @property
    def total(self) -> int | None: ...

    @property
    def schema(self) -> pa.Schema: ...

    def __iter__(self) -> Iterator[Item]: ...


def file_uri(path: str | os.PathLike[str]) -> str:
    """The uri of a file.

    >>> file_uri("/photos/cat.jpg"), file_uri("/photos/caf\\udce9.jpg")
    ('/photos/cat.jpg', 'file:///photos/caf%E9.jpg')
    """
    absolute = os.path.abspath(path)
    if _is_text(absolute) and "#row=" not in absolute:
        return absolute
    return "file://" + quote_from_bytes(os.fsencode(absolute))


def row_uri(container: str | os.PathLike[str], row: int) -> str:
    """The uri of a row (from 0) of a container file: "/data/train.parquet#row=7"."""
    return f"{file_uri(container)}#row={row}"


def parse_uri(uri: str) -> tuple[Path | None, int | None]:
    """The file and the row that a uri means; (None, None) for an image that came from memory.

    >>> parse_uri("/data/train.parquet#row=7"), parse_uri("array#7")
    ((PosixPath('/data/train.parquet'), 7), (None, None))
    """
    row = _ROW.fullmatch(uri)
    file = row["container"] if row else uri
    if file.startswith("file://"):
        path = path_of_url(file)
    elif os.path.isabs(file):
        path = Path(file)
    else:
        return None, None
    return path, int(row["row"]) if row else None


def path_of_url(url: str) -> Path:
    """The path that a file:// URL means, whatever bytes are in it.

    >>> path_of_url("file:///photos/a%23row%3D1.jpg")
    PosixPath('/photos/a#row=1.jpg')
    """
    return Path(os.fsdecode(unquote_to_bytes(url.removeprefix("file://"))))


def as_text(name: str) -> str:
    """A file or folder name as text that can be stored: bytes that are not UTF-8 show as U+FFFD."""
    return name if _is_text(name) else os.fsencode(name).decode("utf-8", "replace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
