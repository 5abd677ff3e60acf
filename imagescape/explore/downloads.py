"""A selection as a file, written while it is sent: CSV, Parquet, a list of sources, or a zip of copies.

Nothing is held but a few thousand rows, or one chunk of images, at a time.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imagescape.collection.decoding import Flaw, originals
from imagescape.errors import InputError
from imagescape.explore.columns import plain, shown_columns
from imagescape.explore.explorer import Explorer
from imagescape.explore.pictures import MEDIA_TYPES, name_of
from imagescape.explore.sink import Sink
from imagescape.images.decode import encode_png, from_array

Format = Literal["csv", "parquet", "paths", "zip"]

_ROWS_AT_ONCE = 4096
_SOURCE = ["uri", "sha256", "bytes", "width", "height", "format"]
_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "paths": ".txt", "zip": ".zip"}
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "paths": "text/plain; charset=utf-8",
    "zip": "application/zip",
}


@dataclass(frozen=True)
class Download:
    """A file to be made of images.

    Attributes:
        numbers: (m,) int64, in the order of the file.
        format: What kind of file.
        columns: Of a table: those besides `image_id`.
        filename: What to call it.
    """

    numbers: np.ndarray
    format: Format
    columns: tuple[str, ...]
    filename: str

    @property
    def media_type(self) -> str:
        return _TYPES[self.format]

    def chunks(self, explorer: Explorer) -> Iterator[bytes]:
        """The file, a piece at a time. Images that went since they were selected are left out."""
        writers: dict[str, Callable[..., Iterator[bytes]]] = {
            "csv": _csv,
            "parquet": _parquet,
            "paths": _paths,
            "zip": _zip,
        }
        return writers[self.format](explorer, self.numbers, list(self.columns))


def download(explorer: Explorer, numbers: np.ndarray, format: str, columns: Sequence[str] | None) -> Download:
    """Check what is asked for.

    Raises:
        InputError: an unknown format or column, no image, or an image that is not in the table.
    """
    if format not in get_args(Format):
        raise InputError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
    shown = shown_columns(explorer.scape)
    wanted = shown if columns is None else list(dict.fromkeys(columns))
    if unknown := [one for one in wanted if one not in shown]:
        raise InputError(f"no column to export is called '{unknown[0]}'; there are: {', '.join(shown)}")
    if not len(numbers):
        raise InputError("there is no image to export: select some")
    missing = int((explorer.orders.now()[0].rows_of(numbers) < 0).sum())
    if missing:
        raise InputError(f"{missing} of the {len(numbers)} images are not in the collection any more")
    name = f"{explorer.scape.path.name.removesuffix('.scape')}-{len(numbers)}{_SUFFIXES[format]}"
    return Download(numbers, format, tuple(wanted), name)  # type: ignore[arg-type]  # checked above


def _tables(explorer: Explorer, numbers: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
    for start in range(0, len(numbers), _ROWS_AT_ONCE):
        yield explorer.take(numbers[start : start + _ROWS_AT_ONCE], columns)


def _csv(explorer: Explorer, numbers: np.ndarray, columns: list[str]) -> Iterator[bytes]:
    names = ["image_id", *columns]
    yield _lines([names])
    for table in _tables(explorer, numbers, columns):
        yield _lines([[_cell(row[name]) for name in names] for row in table.select(names).to_pylist()])


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> Any:
    return "|".join(value) if isinstance(value, list) else plain(value)


def _parquet(explorer: Explorer, numbers: np.ndarray, columns: list[str]) -> Iterator[bytes]:
    sink, names = Sink(), ["image_id", *columns]
    schema = pa.schema([explorer.scape.schema.field(name).remove_metadata() for name in names])
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema) as writer:
        for table in _tables(explorer, numbers, columns):
            writer.write_table(table.select(names).cast(schema))
            yield sink.drain()
    yield sink.drain()


def _paths(explorer: Explorer, numbers: np.ndarray, columns: list[str]) -> Iterator[bytes]:
    for table in _tables(explorer, numbers, ["uri"]):
        yield "".join(f"{_one_line(uri)}\n" for uri in table["uri"].to_pylist()).encode("utf-8", "backslashreplace")


def _one_line(uri: str) -> str:
    """A source as a line; one with a line break in its name as file:// with that encoded, as `item.file_uri` does."""
    if uri.isprintable():
        return uri
    return uri if uri.startswith("file://") else "file://" + quote(uri, safe="/#=")


def _zip(explorer: Explorer, numbers: np.ndarray, columns: list[str]) -> Iterator[bytes]:
    """Copies of the originals as they are, without compression, which they have; and two tables."""
    sink, missing = Sink(), [["image_id", "name", "reason"]]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for table in _tables(explorer, numbers, _SOURCE):
            called = dict(zip(table["image_id"].to_pylist(), table["uri"].to_pylist(), strict=True))
            for image_id, content in originals(explorer.scape, table):
                name = name_of(called[image_id])
                if isinstance(content, Flaw):
                    missing.append([image_id, name, content.reason])
                    continue
                is_array = isinstance(content, np.ndarray)
                data = encode_png(from_array(content)) if isinstance(content, np.ndarray) else content
                archive.writestr(
                    f"{image_id}_{_safe(name)}{'.png' if is_array else _suffix(name, table, image_id)}", data
                )
                yield sink.drain()
        with archive.open("selection.csv", "w") as file:
            for part in _csv(explorer, numbers, columns):
                file.write(part)
        if len(missing) > 1:
            archive.writestr("missing.csv", _lines(missing))
    yield sink.drain()


def _safe(name: str) -> str:
    """A name that is a name on every system: no folders, no signs that some of them refuse."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name)[-100:].strip(" .") or "image"


def _suffix(name: str, table: pa.Table, image_id: str) -> str:
    """The ending that a row of a container lacks."""
    if re.search(r"\.\w{2,5}$", name):
        return ""
    kinds = dict(zip(table["image_id"].to_pylist(), table["format"].to_pylist(), strict=True))
    kind = "PNG" if kinds[image_id] == "ARRAY" else kinds[image_id]
    return "." + {"JPEG": "jpg", "MPO": "jpg"}.get(kind, kind.lower()) if kind in MEDIA_TYPES else ""
