"""Folders written by `datasets.save_to_disk`, and single Arrow files, read with pyarrow alone.

state.json, dataset_info.json, data-00000-of-00002.arrow …      a Dataset
dataset_dict.json, train/, test/ (each a Dataset)               a DatasetDict: the folder becomes column `split`
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from imagescape.collection.readers.huggingface import TableLayout, encoded_images, encoded_or_reason
from imagescape.collection.readers.item import Item
from imagescape.errors import InputError
from imagescape.images.decode import Decoded

_BATCH_ROWS = 256


def matches(path: Path) -> bool:
    if path.is_dir():
        return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
    return path.suffix.lower() == ".arrow"


def open(path: Path) -> "ArrowReader":
    """Read a saved Dataset or DatasetDict, or one Arrow file.

    Columns: all but the image; `<column>_name` for columns of class numbers whose names are known; `split` for a
    DatasetDict.

    Raises:
        InputError: no column of images, splits with different columns, a missing or damaged file, or no row.
    """
    if not path.is_dir():
        return ArrowReader([_Part(path, None)])
    if not (path / "dataset_dict.json").is_file():
        return ArrowReader([_Part(file, None) for file in _data_files(path)])
    splits = _json(path / "dataset_dict.json").get("splits") or []
    return ArrowReader([_Part(file, split) for split in splits for file in _data_files(path / split)])


def fetch_rows(path: Path, rows: Sequence[int]) -> list[bytes | Decoded]:
    """Encoded images of some rows of an Arrow file, in the order asked. The file is mapped, not read whole."""
    found: dict[int, bytes | Decoded] = {}
    with _batches(path) as (schema, batches):
        image = TableLayout.of(schema, path).image
        begin = 0
        for batch in batches:
            wanted = sorted({row for row in rows if begin <= row < begin + len(batch)})
            if wanted:
                images = encoded_images(batch.column(image).take(pa.array([row - begin for row in wanted])), path)
                found.update(zip(wanted, map(encoded_or_reason, images), strict=True))
            begin += len(batch)
    gone = Decoded(None, "vanished", f"the file has {begin} rows now")
    return [found.get(row, gone) for row in rows]


@dataclass(frozen=True, slots=True)
class _Part:
    file: Path
    split: str | None


class ArrowReader:
    """The rows of Arrow files, mapped into memory and cut into small batches."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self.total = 0
        self._layouts: list[TableLayout] = []
        for part in parts:
            with _batches(part.file) as (schema, batches):
                self._layouts.append(TableLayout.of(schema, part.file))
                self.total += sum(len(batch) for batch in batches)
            if not self._layouts[-1].schema.equals(self._layouts[0].schema):
                raise InputError(f"{part.file} has other columns than {parts[0].file}; ingest them one by one")
        if not self.total:
            raise InputError("the saved dataset has no rows" + (f": {parts[0].file.parent}" if parts else ""))
        self.schema = self._layouts[0].schema
        self._add_split = parts[0].split is not None and "split" not in self.schema.names
        if self._add_split:
            self.schema = self.schema.append(pa.field("split", pa.string()))

    def __iter__(self) -> Iterator[Item]:
        for part, layout in zip(self._parts, self._layouts, strict=True):
            with _batches(part.file) as (_, batches):
                row = 0
                for whole in batches:
                    for start in range(0, len(whole), _BATCH_ROWS):
                        batch = whole.slice(start, _BATCH_ROWS)
                        for item in layout.items(batch, part.file, row):
                            if self._add_split:
                                item = replace(item, columns={**item.columns, "split": part.split})
                            yield item
                        row += len(batch)


@contextmanager
def _batches(path: Path) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Schema and record batches of an Arrow file: the stream format that `datasets` writes, or the file format."""
    try:
        with pa.memory_map(str(path)) as source:
            if source.read(6) == b"ARROW1":
                file = pa.ipc.open_file(source)
                yield file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
            else:
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                yield stream.schema, iter(stream)
    except pa.ArrowException as error:
        raise InputError(f"{path} is no Arrow file, or damaged: {error}") from error


def _data_files(folder: Path) -> list[Path]:
    """The files of a saved Dataset, in the order of its rows."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise InputError(f"{folder} is a selection of rows; call flatten_indices() before save_to_disk()")
    files = [folder / file["filename"] for file in state.get("_data_files") or []]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}, which its state.json names; copy it again")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is needed to read this saved dataset, and cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object; this is no folder of datasets.save_to_disk")
    return content
