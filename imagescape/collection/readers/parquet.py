"""Parquet tables of images in the Hugging Face layout: one file, or a folder of shards."""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imagescape.collection.readers.folder import SPLITS
from imagescape.collection.readers.huggingface import TableLayout, encoded_images, encoded_or_reason
from imagescape.collection.readers.item import Item
from imagescape.errors import InputError
from imagescape.images.decode import Decoded

_BATCH_ROWS = 256
_SPLIT_OF_SHARD = re.compile(rf"({'|'.join(sorted(SPLITS))})(?:-\d+-of-\d+.*)?", re.IGNORECASE)


def matches(path: Path) -> bool:
    """A `.parquet` file, or a folder of them (or of folders of them) in which the first one holds images."""
    if not path.is_dir():
        return path.suffix.lower() == ".parquet"
    shards = _shards(path)
    try:
        return bool(shards) and bool(TableLayout.of(pq.read_schema(shards[0]), shards[0]))
    except (InputError, pa.ArrowException, OSError):
        return False


def open(path: Path) -> "ParquetReader":
    """Read a Parquet file or a folder of shards.

    Columns: all but the image; `<column>_name` for columns of class numbers whose names the file knows; and for a
    folder whose every shard is named after a split, as in `train-00000-of-00002.parquet`, `split`.

    Raises:
        InputError: no column of images, shards with different columns, a damaged file, or no row.
    """
    return ParquetReader(_shards(path) if path.is_dir() else [path], split_by_name=path.is_dir())


def fetch_rows(path: Path, rows: Sequence[int]) -> list[bytes | Decoded]:
    """Encoded images of some rows of a file, in the order asked; every row group is read at most once."""
    file, footer = _opened(path)
    ends = list(itertools.accumulate(footer.row_group(i).num_rows for i in range(footer.num_row_groups)))
    image = TableLayout.of(file.schema_arrow, path).image
    found: dict[int, bytes | Decoded] = {}
    for group, end in enumerate(ends):
        begin = end - footer.row_group(group).num_rows
        wanted = sorted({row for row in rows if begin <= row < end})
        if wanted:
            column = file.read_row_group(group, columns=[image]).column(image)
            images = encoded_images(column.take([row - begin for row in wanted]).combine_chunks(), path)
            found.update(zip(wanted, map(encoded_or_reason, images), strict=True))
    gone = Decoded(None, "vanished", f"the file has {footer.num_rows} rows now")
    return [found.get(row, gone) for row in rows]


class ParquetReader:
    """The rows of one or several Parquet files, a batch in memory at a time."""

    def __init__(self, shards: Sequence[Path], *, split_by_name: bool) -> None:
        self._shards = shards
        self.total = 0
        layouts = []
        for shard in shards:
            file, footer = _opened(shard)
            self.total += footer.num_rows
            layouts.append(TableLayout.of(file.schema_arrow, shard))
            if not layouts[-1].schema.equals(layouts[0].schema) or layouts[-1].image != layouts[0].image:
                raise InputError(
                    f"the shards of a folder must have the same columns; {shard.name} has "
                    f"{_listed(layouts[-1].schema)}, {shards[0].name} has {_listed(layouts[0].schema)}"
                )
        if not self.total:
            raise InputError(f"{shards[0] if len(shards) == 1 else shards[0].parent} has no rows")
        self._layouts, self.schema = layouts, layouts[0].schema
        splits = [_SPLIT_OF_SHARD.fullmatch(shard.stem) for shard in shards]
        self._splits: list[str] | None = None
        if split_by_name and all(splits) and "split" not in self.schema.names:
            self._splits = [match[1].lower() for match in splits if match]
            self.schema = self.schema.append(pa.field("split", pa.string()))

    def __iter__(self) -> Iterator[Item]:
        for number, (shard, layout) in enumerate(zip(self._shards, self._layouts, strict=True)):
            file, _ = _opened(shard)
            row = 0
            for batch in file.iter_batches(_BATCH_ROWS):
                for item in layout.items(batch, shard, row):
                    if self._splits is not None:
                        item = replace(item, columns={**item.columns, "split": self._splits[number]})
                    yield item
                row += len(batch)


def _shards(folder: Path) -> list[Path]:
    found = itertools.chain(folder.glob("*.parquet"), folder.glob("*/*.parquet"))
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def _opened(path: Path) -> tuple[pq.ParquetFile, pq.FileMetaData]:
    """The file, with the footer parsed once for as long as the file stays the same."""
    status = path.stat()
    try:
        footer = _footer(path, status.st_size, status.st_mtime_ns)
        return pq.ParquetFile(path, metadata=footer), footer
    except pa.ArrowException as error:
        raise InputError(f"{path} is no Parquet file, or damaged: {error}") from error


@functools.lru_cache(maxsize=8)
def _footer(path: Path, size_bytes: int, modified_ns: int) -> pq.FileMetaData:
    return pq.read_metadata(path)


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "no columns"
