"""What the steps left in a collection, as arrays: maps, features, and which columns belong to which result.

A result called NAME is in the columns `x_NAME, y_NAME, z_NAME` (or `coords_NAME` beyond three dimensions) and
`features_NAME`; the network that made it is in `models/NAME`. What the map was after each stage of its training, where
that was kept, is in `x_NAME_stage1, y_NAME_stage1`, …: part of the map, and no map of its own.

Clusterings have a room of their own, `clusterings`.
"""

import uuid
from collections.abc import Mapping
from itertools import count, takewhile
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from imagescape.collection.clusterings import clustering_columns
from imagescape.collection.store import Collection
from imagescape.errors import InputError

_AXES = ("x", "y", "z")


def coord_columns(name: str, coords: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that a map is stored in: x, y and z, or one list column beyond three dimensions."""
    if coords.shape[1] > len(_AXES):
        return {f"coords_{name}": coords}
    return {f"{axis}_{name}": coords[:, i] for i, axis in zip(range(coords.shape[1]), _AXES, strict=False)}


def map_names(scape: Collection) -> list[str]:
    """Names of the maps, in the order they were made."""
    return [
        column.removeprefix(prefix)
        for column in scape.columns
        for prefix in ("x_", "coords_")
        if _is_map(scape, column, prefix)
    ]


def _is_map(scape: Collection, column: str, prefix: str) -> bool:
    name = column.removeprefix(prefix)
    return column.startswith(prefix) and (scape.path / "models" / name).is_dir()


def can_be_drawn(scape: Collection, name: str) -> bool:
    """Whether a map has the two dimensions of a page."""
    return f"y_{name}" in scape.columns and f"z_{name}" not in scape.columns


def map_coords(scape: Collection, name: str) -> np.ndarray:
    """Coordinates (rows, d) float32 in table order; NaN for rows that are not on the map.

    Raises:
        InputError: no map of that name; the message lists those there are.
    """
    if name not in map_names(scape):
        here = ", ".join(map_names(scape)) or "none yet: make one with `imagescape map`"
        raise InputError(f"no map is called '{name}' in '{scape.path}'; there are: {here}")
    if f"coords_{name}" in scape.columns:
        return _matrix(scape, f"coords_{name}")
    return _axes(scape, name)


def stage_names(scape: Collection, name: str) -> list[str]:
    """`NAME_stage1`, …: what the columns of the map's stages are called, as many as were kept."""
    every = (f"{name}_stage{number}" for number in count(1))
    return list(takewhile(lambda one: f"x_{one}" in scape.columns and not _is_map(scape, f"x_{one}", "x_"), every))


def stage_coords(scape: Collection, name: str) -> list[np.ndarray]:
    """Coordinates of a map after each stage, (rows, d) float32 each in table order; NaN for rows that are not on it.

    Raises:
        InputError: they were not kept.
    """
    names = stage_names(scape, name)
    if not names:
        raise InputError(f"the stages of '{name}' were not kept; map with --keep-stages to have them")
    return [_axes(scape, one) for one in names]


def _axes(scape: Collection, name: str) -> np.ndarray:
    columns = [f"{axis}_{name}" for axis in _AXES if f"{axis}_{name}" in scape.columns]
    table = scape.read(columns)
    return np.column_stack([_floats(table[column]) for column in columns])


def features(scape: Collection, name: str) -> np.ndarray:
    """Features (rows, d) float32 in table order; NaN for rows that have none.

    Raises:
        InputError: no features of that name; the message lists those there are.
    """
    check_features(scape, name)
    return _matrix(scape, f"features_{name}")


def check_features(scape: Collection, name: str) -> None:
    """Refuse a name that no features have: InputError; the message lists those there are."""
    if f"features_{name}" not in scape.columns:
        here = ", ".join(feature_names(scape)) or "none yet: make some with `imagescape embed`"
        raise InputError(f"no features are called '{name}' in '{scape.path}'; there are: {here}")


def ids_of(scape: Collection) -> np.ndarray:
    """Ids (rows,) in table order."""
    return scape.read(["image_id"])["image_id"].to_numpy().astype("U16")


def features_identity(scape: Collection, name: str) -> dict[str, str]:
    """What `sign_features` wrote beside `features_<name>`: the encoder's identity, and a token; empty if nothing."""
    column = f"features_{name}"
    if column not in scape.columns:
        return {}
    written = scape.schema.field(column).metadata or {}
    return {key.decode(): value.decode() for key, value in written.items()}


def sign_features(scape: Collection, name: str, identity: Mapping[str, str]) -> None:
    """Say beside `features_<name>` which encoder wrote it, so that no query is ever encoded by another.

    A random token `written` tells these values from any that the column held before: what was made from the column,
    such as an index, knows by it whether it still belongs to it.
    """
    scape.annotate(f"features_{name}", {**identity, "written": uuid.uuid4().hex})


def feature_names(scape: Collection) -> list[str]:
    """Names of the features, in the order they were made."""
    return [one.removeprefix("features_") for one in scape.columns if one.startswith("features_")]


def describe_features(scape: Collection) -> list[dict[str, Any]]:
    """What is known of each of the features: name, encoder, version, weights_sha256, dimensions and type."""
    described = []
    for name in feature_names(scape):
        identity, kind = features_identity(scape, name), scape.schema.field(f"features_{name}").type
        about = {part: identity.get(part, "") for part in ("encoder", "version", "weights_sha256")}
        described.append({"name": name, **about, "dimensions": kind.list_size, "type": str(kind.value_type)})
    return described


def last_features(scape: Collection) -> str:
    """The name of the features that were made last; InputError when there are none."""
    names = feature_names(scape)
    if not names:
        raise InputError(f"'{scape.path}' has no features yet; make some: imagescape embed {scape.path.name}")
    return names[-1]


def check_name(name: str) -> None:
    """Refuse a name that a result cannot have.

    Raises:
        InputError: it is not of letters, digits, _ and -.
    """
    if not name or not all(letter.isalnum() or letter in "_-" for letter in name):
        raise InputError(f"a name is made of letters, digits, _ and -, got '{name}'")


def user_columns(scape: Collection) -> list[str]:
    """Columns that hold something to look at: labels, names, coordinates; no pictures, hashes or features."""
    hidden = {"image_id", "sha256", "thumbnail", "image", "modified_ns", "reason"}
    vectors = ("features_", "neighbors_", "distances_")
    return [name for name in scape.columns if name not in hidden and not name.startswith(vectors)]


def is_class_column(scape: Collection, column: str) -> bool:
    """Whether a column can hold classes: text, whole numbers or booleans."""
    kind = scape.schema.field(column).type
    return any(is_kind(kind) for is_kind in (types.is_string, types.is_integer, types.is_boolean))


def classes(scape: Collection, column: str) -> np.ndarray:
    """A column of classes, (rows,) objects in table order; None for rows that have none.

    Raises:
        InputError: there is no such column, or it holds something else.
    """
    if column not in scape.columns:
        raise InputError(f"no column is called '{column}'; there are: {', '.join(user_columns(scape))}")
    if not is_class_column(scape, column):
        kind = scape.schema.field(column).type
        raise InputError(f"column '{column}' holds {kind}, and classes are text, whole numbers or booleans")
    return np.array(scape.read([column])[column].to_pylist(), dtype=object)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(np.float32)  # null becomes NaN


def _matrix(scape: Collection, column: str) -> np.ndarray:
    """A fixed-size-list column as (rows, d) float32, with NaN rows for nulls, a batch at a time."""
    width = scape.schema.field(column).type.list_size
    out = np.full((len(scape), width), np.nan, np.float32)
    start = 0
    for batch in scape.scanner([column], batch_size=8192):
        values = batch.column(0)
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        out[start : start + len(values)][valid] = values.drop_null().flatten().to_numpy().reshape(-1, width)
        start += len(values)
    return out


def columns_of(scape: Collection, name: str) -> list[str]:
    """Columns that the results called `name` are in."""
    parts = (*_AXES, "coords", "features", "neighbors", "distances")
    stages = [f"{axis}_{stage}" for stage in stage_names(scape, name) for axis in _AXES]
    found = [column for column in (*(f"{part}_{name}" for part in parts), *stages) if column in scape.columns]
    return found + clustering_columns(scape, name)


def replace_columns(scape: Collection, name: str, ids: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    """Write the results called `name`; what an earlier result of that name had and this one lacks goes."""
    scape.add_columns(ids, columns, overwrite=True)
    if stale := [column for column in columns_of(scape, name) if column not in columns]:
        scape.drop_columns(stale)
