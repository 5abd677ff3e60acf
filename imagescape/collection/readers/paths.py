"""Lists of image files: `.csv` with a column `path`, `.txt` with a path a line, a Python list, or one image."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from imagescape.collection.readers.folder import IMAGE_SUFFIXES
from imagescape.collection.readers.item import Item, file_uri, path_of_url, row_uri
from imagescape.errors import InputError


def matches(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in {".csv", ".txt", *IMAGE_SUFFIXES}


def open(path: Path) -> "PathsReader":
    """Read a list of paths, which are relative to the folder of the list; or the one image that `path` is.

    Raises:
        InputError: the list is empty, or a table without a column `path`.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _open_csv(path)
    if suffix == ".txt":
        lines = os.fsdecode(path.read_bytes().removeprefix(b"\xef\xbb\xbf")).splitlines()
        paths = [line for line in lines if line.strip()]
        if not paths:
            raise InputError(f"the list {path} names no file; it needs one path a line")
        return PathsReader(paths, base=path.parent)
    return PathsReader([str(path)], base=path.parent)


def open_list(paths: Sequence[str | os.PathLike[str]]) -> "PathsReader":
    """Read a Python list of paths, which are relative to the current folder."""
    if not paths:
        raise InputError("the list of paths is empty; give at least one image")
    return PathsReader([os.fspath(path) for path in paths], base=Path.cwd())


class PathsReader:
    """Files named one by one. A file that is not there is still an item, to show as a vanished row."""

    def __init__(
        self,
        paths: Sequence[str | None] | pa.ChunkedArray,
        *,
        base: Path,
        source: Path | None = None,
        columns: pa.Table | None = None,
    ) -> None:
        self._paths, self._base, self._columns = paths, base, columns
        self._source = source or base  # names the rows that name no file
        self.total = len(paths)
        self.schema = pa.schema([]) if columns is None else columns.schema

    def __iter__(self) -> Iterator[Item]:
        for row, (path, columns) in enumerate(zip(self._paths, self._rows(), strict=True)):
            text = path.as_py() if isinstance(path, pa.Scalar) else path
            if not text:  # no file to name: the row is kept, and shows as empty
                yield Item(row_uri(self._source, row), data=b"", columns=columns, refetchable=False)
                continue
            local = path_of_url(text) if text.startswith("file://") else Path(self._base, text)
            yield Item(file_uri(local), path=local, columns=columns)

    def _rows(self) -> Iterator[dict[str, object]]:
        if self._columns is None or not self._columns.num_columns:
            yield from ({} for _ in range(self.total))
            return
        for batch in self._columns.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()


def _open_csv(path: Path) -> PathsReader:
    """A CSV in UTF-8 with a header.

    Types are inferred over the whole file; an empty cell is null, and so is "NA" among numbers.
    """
    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),  # file names may hold line breaks
            convert_options=pyarrow.csv.ConvertOptions(column_types={"path": pa.string()}),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is no table in CSV: {error}") from error
    names = table.column_names
    if names.count("path") != 1:
        raise InputError(f"{path} must have one column 'path', it has the columns: {', '.join(names)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} has several columns named {', '.join(twice)}; rename them")
    if not len(table):
        raise InputError(f"{path} has a header and no rows")
    columns = table.drop_columns("path")
    for i, column in enumerate(columns.columns):
        if pa.types.is_string(column.type):
            nothing = pa.scalar(None, pa.string())
            columns = columns.set_column(i, columns.field(i).name, pc.if_else(pc.equal(column, ""), nothing, column))
        elif pa.types.is_null(column.type):
            columns = columns.set_column(i, columns.field(i).name, column.cast(pa.string()))
    return PathsReader(table["path"], base=path.parent, source=path, columns=columns)
