"""Values into their rows: new columns in table order, rows rewritten in place, and which files a column is in."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imagescape.errors import InputError

_SLICE_ROWS = 65_536  # rows of a new column held at a time while it is put into table order


def in_table_order(arrays: Mapping[str, pa.Array], positions: pa.Array) -> pa.RecordBatchReader:
    """Columns whose row i is row `positions[i]` of `arrays`; null where that is null."""
    schema = pa.schema({name: values.type for name, values in arrays.items()})

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(positions), _SLICE_ROWS):
            rows = positions.slice(start, _SLICE_ROWS)
            yield pa.record_batch([values.take(rows) for values in arrays.values()], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def rewrite_rows(dataset: lance.LanceDataset, table: pa.Table) -> lance.LanceDataset:
    """Replace the values of the rows of `table` (keyed by image_id) in place: same rows, same order, one commit.

    Returns:
        The version that this made.

    Raises:
        InputError: an id is not in the collection.
    """
    found = dataset.to_table(columns=["image_id"], with_row_address=True)
    positions = pc.index_in(found["image_id"], value_set=table["image_id"].combine_chunks()).combine_chunks()
    wanted = pc.is_valid(positions)
    rows = pc.filter(positions, wanted).to_numpy()
    if len(rows) < len(table):
        _refuse_unknown(table["image_id"], found["image_id"])
    fragments = pc.filter(found["_rowaddr"], wanted).to_numpy() >> np.uint64(32)  # the address is (fragment, offset)
    updated: list[lance.FragmentMetadata] = []
    modified: set[int] = set()
    for fragment_id in np.unique(fragments).tolist():
        fragment = dataset.get_fragment(fragment_id)
        assert fragment is not None, "its rows were just read"
        metadata, fields = fragment.update_columns(
            table.take(rows[fragments == fragment_id]).combine_chunks().to_reader(), left_on="image_id"
        )
        updated.append(metadata)
        modified.update(fields)
    operation = lance.LanceOperation.Update(updated_fragments=updated, fields_modified=sorted(modified))
    return lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)


def rows_named(dataset: lance.LanceDataset, ids: pa.Array, columns: Sequence[str]) -> pa.Table:
    """image_id and `columns` of the images named, in their order; nulls in columns that are not there.

    Raises:
        InputError: an id is not in the collection.
    """
    every = dataset.to_table(columns=["image_id"])["image_id"].combine_chunks()
    positions = pc.index_in(ids, value_set=every)
    if positions.null_count:
        _refuse_unknown(ids, every)
    here = [name for name in columns if name in dataset.schema.names]
    rows = dataset.take(positions.to_pylist(), columns=["image_id", *here])
    for name in columns:
        if name not in here:
            rows = rows.append_column(name, pa.nulls(len(rows)))
    return rows


def field_files(dataset: lance.LanceDataset, columns: Sequence[str]) -> str:
    """16 hex digits that change whenever values of `columns` are written, or rows come, go or move."""

    def own(field: Any) -> set[int]:
        return {field.id()}.union(*(own(child) for child in field.children()))

    fields = {field.name(): own(field) for field in dataset.lance_schema.fields() if field.name() in columns}
    digest = hashlib.sha256(repr(sorted((name, sorted(ids)) for name, ids in fields.items())).encode())
    wanted = set().union(*fields.values())
    for fragment in dataset.get_fragments():
        files = [file.path for file in fragment.data_files() if wanted.intersection(file.fields)]
        digest.update(repr((fragment.fragment_id, fragment.physical_rows, fragment.num_deletions, files)).encode())
    return digest.hexdigest()[:16]


def _refuse_unknown(ids: pa.Array | pa.ChunkedArray, here: pa.Array | pa.ChunkedArray) -> None:
    missing = pc.filter(ids, pc.invert(pc.is_in(ids, value_set=here)))
    raise InputError(f"{len(missing)} of the {len(ids)} images are not in the collection, as '{missing[0]}'")
