"""The columns of a collection: which are fixed, how they may be called, how values become Arrow."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.errors import InputError

FIXED = pa.schema(
    {
        "image_id": pa.string(),  # 16 hex digits, minted once, kept when the file moves
        "uri": pa.string(),  # where the image came from, see readers.item
        "sha256": pa.string(),  # of the file's bytes, or of an array's dtype, shape and pixels; "" if never read
        "bytes": pa.int64(),
        "modified_ns": pa.int64(),  # null unless the image is a file of its own
        "width": pa.int32(),  # upright; 0 when unknown
        "height": pa.int32(),
        "format": pa.string(),
        "thumbnail": pa.binary(),  # WebP
        "status": pa.string(),  # "ok", or what is wrong
        "reason": pa.string(),
    }
)
"""Every collection has these. A column `image` (bytes) joins them once images are stored and not only referred to."""

IMAGE = pa.field("image", pa.large_binary())
RESERVED = frozenset(FIXED.names) | {"image"}


def check_name(name: str) -> None:
    """Refuse a column name that the store or its filter language cannot hold.

    Raises:
        InputError: the name is empty, holds a dot or a backtick, or begins with "_row".
    """
    if not name or re.search(r"[.`]", name) or name.startswith("_row"):
        raise InputError(f"a column name must be without '.' and '`' and not begin with '_row', got '{name}'")


def source_name(name: str) -> str:
    """The name under which the column `name` of a source is stored; never a fixed one, always a valid one.

    >>> source_name("species"), source_name("width"), source_name("exif.iso")
    ('species', 'source_width', 'exif_iso')
    """
    name = re.sub(r"[.`]", "_", name)
    return f"source_{name}" if name in RESERVED or name.startswith("_row") or not name else name


def storable_type(type: pa.DataType) -> pa.DataType:
    """The type that values of `type` are stored as: dictionaries by their values, what is always null as text."""
    if pa.types.is_dictionary(type):
        return type.value_type
    if pa.types.is_list(type):  # a column of tags may well begin with none at all
        return pa.list_(storable_type(type.value_type))
    return pa.string() if pa.types.is_null(type) else type


def castable(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether every value of `source` can join a column of `target` and keep its meaning."""

    def kind(type: pa.DataType) -> object:
        if pa.types.is_integer(type) or pa.types.is_floating(type):
            return "number"
        if pa.types.is_string(type) or pa.types.is_large_string(type):
            return "text"
        if pa.types.is_binary(type) or pa.types.is_large_binary(type):
            return "bytes"
        return type

    return source.equals(target) or kind(source) == kind(target) or pa.types.is_null(source)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with each column that `schema` knows cast to its type there.

    Raises:
        InputError: a column holds values that its type in `schema` cannot.
    """
    for i, field in enumerate(table.schema):
        target = schema.field(field.name).type if field.name in schema.names else storable_type(field.type)
        if field.type.equals(target):
            continue
        try:
            if not castable(storable_type(field.type), target):
                raise pa.ArrowInvalid("another kind of value")
            column = table.column(i).cast(target)
        except pa.ArrowException as error:
            raise InputError(
                f"column '{field.name}' holds {target} in the collection, the new values are {field.type} ({error}); "
                "rename the column in the source, or use another collection"
            ) from error
        table = table.set_column(i, pa.field(field.name, target), column)
    return table


def as_ids(image_ids: Any) -> pa.Array:
    """Image ids, given as any sequence, NumPy or Arrow array, as one Arrow string array.

    Raises:
        InputError: an id is given twice.
    """
    ids = image_ids.combine_chunks() if isinstance(image_ids, pa.ChunkedArray) else image_ids
    ids = pa.array(ids, pa.string()) if not isinstance(ids, pa.Array) else ids.cast(pa.string())
    if pc.count_distinct(ids, mode="all").as_py() < len(ids):
        raise InputError("every image must be named once: image_ids holds one id twice or more")
    return ids


def as_arrow(name: str, values: Any, rows: int, type: pa.DataType | None = None) -> pa.Array:
    """Values of a column as one Arrow array of `rows`.

    A 2-D array (n, d) of numbers becomes a fixed-size list of d of them, with its dtype kept; a sequence of lists of
    any lengths becomes a list column. `type` is what plain Python values are to become; None infers it.

    Raises:
        InputError: the values are not one a row, or Arrow has no type for them.
    """
    try:
        if isinstance(values, pa.ChunkedArray):
            array = values.combine_chunks()
        elif isinstance(values, pa.Array):
            array = values
        elif isinstance(values, (list, tuple)):
            array = pa.array(values, type)
        else:
            numbers = np.asarray(values)
            array = _matrix(numbers) if numbers.ndim == 2 else pa.array(numbers)
        array = array.cast(storable_type(array.type))
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column '{name}' cannot be stored: {error}") from error
    if len(array) != rows:
        raise InputError(f"column '{name}' must have one value for each of the {rows} image_ids, got {len(array)}")
    return array


def _matrix(numbers: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(numbers).reshape(-1)), numbers.shape[1])


def python_column(name: str, values: Sequence[object], type: pa.DataType, uris: Sequence[str]) -> pa.Array:
    """Python values that a source gave for one column, as an Arrow array of the promised `type`.

    Raises:
        InputError: a value is of another type; the message names its image.
    """
    try:
        return pa.array(values, type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        for value, uri in zip(values, uris, strict=True):
            try:
                pa.array([value], type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise InputError(f"column '{name}' of '{uri}' must be {type}, got {value!r}") from error
        raise
