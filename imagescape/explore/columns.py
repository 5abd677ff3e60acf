"""Columns of the table as the page shows them: classes, amounts, texts or lists, one value a row of an order."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from imagescape.collection.clusterings import clustering_names, made_clusterings, part_column
from imagescape.collection.columns import FIXED
from imagescape.collection.results import map_names, stage_names
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.explore.order import Order
from imagescape.pipeline.annotations import MARK, NOTE, TAGS
from imagescape.pipeline.audit_results import audit_columns
from imagescape.report.columns import MAX_INTEGER_CLASSES, category_colors

Kind = Literal["classes", "amounts", "texts", "lists"]

MOST_CLASSES = 2000  # of text; a column with more different texts, or with one for every second row, is no classes
_FEW_CLASSES = 40  # that are classes however few rows there are

_HIDDEN = frozenset({"image_id", "sha256", "thumbnail", "image", "modified_ns"})
_VECTORS = ("features_", "neighbors_", "distances_", "coords_")


@dataclass(frozen=True, slots=True)
class Column:
    """A column in some order.

    Attributes:
        kind: What can be done with it.
        values: (n,) int32 codes of classes, -1 for none; float64 amounts, NaN for none; an Arrow array of texts or
            lists.
        about: By kind. Of classes `values` (what the table holds), `names`, `counts`, `colors`; of amounts `low`,
            `high` (1st and 99th percentile), `min`, `max`; always `kind` and `rows`.
    """

    kind: Kind
    values: np.ndarray | pa.Array
    about: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes) + 100 * len(self.about.get("values", ()))

    def table(self) -> pa.Table:
        """As one Arrow column `code` or `value`, with `about` as the schema's metadata, each entry JSON."""
        name = "code" if self.kind == "classes" else "value"
        values = pa.array(self.values) if isinstance(self.values, np.ndarray) else self.values
        return pa.table({name: values}).replace_schema_metadata(
            {key: json.dumps(one) for key, one in self.about.items()}
        )


def shown_columns(scape: Collection) -> list[str]:
    """Columns that a page can colour by, filter by or read, in table order."""
    maps = {name for one in map_names(scape) for name in (one, *stage_names(scape, one))}
    coords = {f"{axis}_{name}" for name in maps for axis in "xyz"}
    return [
        field.name
        for field in scape.schema
        if field.name not in _HIDDEN | coords and not field.name.startswith(_VECTORS) and _can_be_shown(field.type)
    ]


def role_of(scape: Collection, name: str) -> str:
    """What a column is: "cluster", "cluster_name", "probability", "tags", "mark", "note", "audit", "source" or ""."""
    if name in (TAGS, MARK, NOTE):
        return name
    if name in FIXED.names:
        return "source"
    clusterings = clustering_names(scape)
    if name in map(part_column, clusterings):
        return "cluster"
    if name in {part_column(one, "name") for one in clusterings}:
        return "cluster_name"
    if name in {part_column(one, "probability") for one in made_clusterings(scape)}:
        return "probability"
    return "audit" if name in audit_columns(scape) else ""


def sources_of(scape: Collection, name: str) -> list[str]:
    """The columns of the table that `column_of` reads: itself, and for a clustering the names of its clusters.

    Raises:
        InputError: it is not shown.
    """
    if name not in shown_columns(scape):
        raise InputError(f"no column to show is called '{name}'; there are: {', '.join(shown_columns(scape))}")
    of_clusters = {part_column(one): part_column(one, "name") for one in clustering_names(scape)}
    names = of_clusters.get(name)
    return [name] if names is None or names not in scape.columns else [name, names]


def column_of(scape: Collection, order: Order, name: str) -> Column:
    """A column in an order.

    Raises:
        InputError: it is not shown.
    """
    sources = sources_of(scape, name)
    table = order.read(scape, sources)
    values, kind = table[name], table.schema.field(name).type
    if types.is_list(kind) or types.is_large_list(kind):
        return Column("lists", _one(values.cast(pa.list_(pa.string()))), {"kind": "lists", "rows": len(order)})
    if role_of(scape, name) == "cluster":
        numbers = _classes(values, noise=True)
        return _named(numbers, table[sources[1]] if len(sources) > 1 else None)
    if types.is_boolean(kind):
        return _classes(values)
    if types.is_integer(kind):
        few = pc.count_distinct(values).as_py() <= MAX_INTEGER_CLASSES
        return _classes(values, noise=True) if few and name not in FIXED.names else _amounts(values)
    if types.is_floating(kind) or types.is_decimal(kind):
        return _amounts(values)
    texts = values.cast(pa.string())
    most = max(_FEW_CLASSES, min(MOST_CLASSES, 1 + len(order) // 2))
    if kind_by_type(scape, name) == "texts" or pc.count_distinct(texts).as_py() > most:
        return Column("texts", _one(texts), {"kind": "texts", "rows": len(order)})
    return _classes(texts)


def kind_by_type(scape: Collection, name: str) -> Kind | None:
    """The kind of a column where its values need not be looked at for it; None where they must be."""
    kind = scape.schema.field(name).type
    if types.is_list(kind) or types.is_large_list(kind):
        return "lists"
    if types.is_floating(kind) or types.is_decimal(kind) or (types.is_integer(kind) and name in FIXED.names):
        return "amounts"
    if types.is_boolean(kind) or role_of(scape, name) == "cluster":
        return "classes"
    return "texts" if name in ("uri", NOTE) else None


def tag_counts(tags: pa.Array) -> list[dict[str, Any]]:
    """How many rows have each tag, by name."""
    counted = pc.value_counts(pc.list_flatten(tags).drop_null())
    found = [
        {"name": one["values"], "count": one["counts"]} for one in counted.to_pylist() if one["values"] is not None
    ]
    return sorted(found, key=lambda one: one["name"])


def plain(value: Any) -> Any:
    """A value of a row as JSON has it: whole numbers beyond 2^53 as text, NaN as null, dates and bytes as text."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _can_be_shown(kind: pa.DataType) -> bool:
    if types.is_list(kind) or types.is_large_list(kind):
        return types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    scalar = (
        *(types.is_boolean, types.is_integer, types.is_floating, types.is_decimal),
        *(types.is_string, types.is_large_string, types.is_date, types.is_timestamp, types.is_time),
    )
    return any(is_kind(kind) for is_kind in scalar)


def _one(values: pa.ChunkedArray) -> pa.Array:
    joined = values.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _classes(values: pa.ChunkedArray, *, noise: bool = False) -> Column:
    """Classes in the order of the plots: numbers by value, texts by text; with `noise`, -1 means none."""
    encoded = _one(values).dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    given = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    ranked = sorted(
        (code for code, value in enumerate(distinct) if not (noise and value == -1)), key=distinct.__getitem__
    )
    place = np.full(len(distinct) + 1, -1, np.int32)  # the last is that of -1
    place[ranked] = np.arange(len(ranked), dtype=np.int32)
    kept = [distinct[code] for code in ranked]
    return _classes_of(place[given], kept, [" ".join(str(one).split()) or "(empty)" for one in kept])


def _classes_of(codes: np.ndarray, values: list[Any], names: list[str]) -> Column:
    about = {
        "kind": "classes",
        "rows": len(codes),
        "values": values,
        "names": names,
        "counts": np.bincount(codes[codes >= 0], minlength=len(values)).tolist(),
        "colors": list(category_colors(len(values))),
    }
    return Column("classes", codes, about)


def _named(clusters: Column, names: pa.ChunkedArray | None) -> Column:
    """Clusters called by the name that most of their rows have."""
    said = _most_frequent(clusters, names)
    shown = [said.get(code) or f"cluster {value}" for code, value in enumerate(clusters.about["values"])]
    about = clusters.about | {"names": shown, "named": [code in said for code in range(len(shown))]}
    return Column("classes", clusters.values, about)


def _most_frequent(clusters: Column, names: pa.ChunkedArray | None) -> dict[int, str]:
    if names is None:
        return {}
    encoded = _one(names).dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    given = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = np.asarray(clusters.values, np.int64)
    here = (codes >= 0) & (given >= 0)
    pairs, counts = np.unique(codes[here] * max(len(texts), 1) + given[here], return_counts=True)
    best: dict[int, tuple[int, str]] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        code, text = pair // len(texts), " ".join(texts[pair % len(texts)].split())
        if text and count > best.get(code, (0, ""))[0]:
            best[code] = count, text
    return {code: text for code, (_, text) in best.items()}


def _amounts(values: pa.ChunkedArray) -> Column:
    numbers = values.cast(pa.float64()).to_numpy().astype(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    known = numbers[~np.isnan(numbers)]
    low, high = np.percentile(known, [1, 99]).tolist() if len(known) else (0.0, 1.0)
    ends = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    about = {"kind": "amounts", "rows": len(numbers), "low": low, "high": high, "min": ends[0], "max": ends[1]}
    return Column("amounts", numbers, about)
