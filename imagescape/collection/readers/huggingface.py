"""The Hugging Face layout of image tables, shared by its Parquet and its Arrow files.

An image is a struct {bytes, path}, or plain bytes, in one column of the table; `bytes` may be missing when `path` names
a file. What `datasets` knows beyond Arrow's types (which column is the image, the names of classes) is JSON under the
key "huggingface" of the schema's metadata.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imagescape.collection.readers.item import Item, file_uri, row_uri
from imagescape.errors import InputError
from imagescape.images.decode import Decoded, read_file


@dataclass(frozen=True)
class TableLayout:
    """Which column of a table is the image, and what the others become.

    Attributes:
        image: Name of the image column.
        columns: The other columns, in their order.
        names: Class names of the columns of class numbers for which we add a column `<column>_name`.
        schema: Columns of the items: `columns` and the added names.
    """

    image: str
    columns: tuple[str, ...]
    class_columns: frozenset[str]
    names: Mapping[str, tuple[str, ...]]
    schema: pa.Schema

    @classmethod
    def of(cls, schema: pa.Schema, where: Path) -> "TableLayout":
        """The layout of a table with this schema.

        Raises:
            InputError: no column can be the image.
        """
        features = _features(schema)
        image = _image_column(schema, features)
        if image is None:
            found = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
            raise InputError(
                f"{where} must have a column of images (a struct with 'bytes', or binary), it has the columns: {found}"
            )
        columns = tuple(name for name in schema.names if name != image)
        classes = {name: _class_names(features[name]) for name in columns if _class_names(features.get(name))}
        names = {name: known for name, known in classes.items() if f"{name}_name" not in columns}
        fields = [pa.field(name, _plain(schema.field(name).type)) for name in columns]
        fields += [pa.field(f"{name}_name", pa.string()) for name in names]
        return cls(image, columns, frozenset(classes), names, pa.schema(fields))

    def items(self, batch: pa.RecordBatch, container: Path, first_row: int) -> Iterator[Item]:
        """The rows of a batch that begins at row `first_row` of the file `container`."""
        images = encoded_images(batch.column(self.image), container)
        rows = batch.select(self.columns).to_pylist() if self.columns else [{} for _ in range(len(batch))]
        for row, (image, columns) in enumerate(zip(images, rows, strict=True), first_row):
            for name in self.class_columns:
                columns[name] = _known(columns[name])
            for name, known in self.names.items():
                label = columns[name]
                columns[f"{name}_name"] = known[label] if label is not None and label < len(known) else None
            if isinstance(image, Path):
                yield Item(file_uri(image), path=image, columns=columns)
            else:
                yield Item(row_uri(container, row), data=image, columns=columns)


def encoded_images(column: pa.Array, container: Path) -> Iterator[bytes | Path]:
    """The images of a column: bytes, or the file that holds them. b"" for a row without either."""
    if not pa.types.is_struct(column.type):
        yield from (content or b"" for content in column.to_pylist())
        return
    contents = pc.struct_field(column, "bytes").to_pylist()
    has_paths = any(field.name == "path" for field in column.type)
    paths = pc.struct_field(column, "path").to_pylist() if has_paths else [None] * len(column)
    for content, path in zip(contents, paths, strict=True):
        if content is None and path:
            yield container.parent / path
        else:
            yield content or b""


def encoded_or_reason(image: bytes | Path) -> bytes | Decoded:
    """An image of `encoded_images`, read if it is a file."""
    return read_file(image) if isinstance(image, Path) else image


def _features(schema: pa.Schema) -> dict[str, Any]:
    """What `datasets` wrote about the columns; {} for a table from elsewhere."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _image_column(schema: pa.Schema, features: Mapping[str, Any]) -> str | None:
    """A column declared as image, one named so, a struct with bytes, a binary one: the first that there is."""

    def holds_images(name: str) -> bool:
        return _is_struct_of_bytes(schema.field(name).type) or _is_binary(schema.field(name).type)

    declared = [name for name in schema.names if _kind(features.get(name)) == "Image" and holds_images(name)]
    named = [name for name in ("image", "img") if name in schema.names and holds_images(name)]
    structs = [name for name in schema.names if _is_struct_of_bytes(schema.field(name).type)]
    binary = [name for name in schema.names if _is_binary(schema.field(name).type)]
    in_order = [name for name in named if name in declared] + declared + named + structs + binary
    return in_order[0] if in_order else None


def _is_binary(type: pa.DataType) -> bool:
    return pa.types.is_binary(type) or pa.types.is_large_binary(type)


def _is_struct_of_bytes(type: pa.DataType) -> bool:
    return pa.types.is_struct(type) and any(field.name == "bytes" and _is_binary(field.type) for field in type)


def _kind(feature: Any) -> str | None:
    return feature.get("_type") if isinstance(feature, dict) else None


def _class_names(feature: Any) -> tuple[str, ...]:
    return tuple(feature.get("names") or ()) if _kind(feature) == "ClassLabel" else ()


def _known(label: int | None) -> int | None:
    return None if label is None or label < 0 else label  # `datasets` writes -1 for "no label"


def _plain(type: pa.DataType) -> pa.DataType:
    """The type of the values: what a dictionary encodes, what an extension type stores."""
    if pa.types.is_dictionary(type):
        return type.value_type
    return type.storage_type if isinstance(type, pa.BaseExtensionType) else type
