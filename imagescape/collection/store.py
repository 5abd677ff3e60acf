"""A collection on disk: a Lance dataset, the caches and models beside it, and the rules for writing to it.

A folder `NAME.scape/` holds

    scape.json     the format version and who wrote it; its presence makes the folder a collection
    data.lance/    the table, one row an image
    models/ runs/  encoders and training runs
    cache/         what can be rebuilt at any time

Every change of the table is one Lance commit, so a process killed at any instant leaves the last whole version.
Writers take turns by a lock file; readers never wait, they see the latest committed version.
"""

import contextlib
import errno
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError

from imagescape.collection import cache
from imagescape.collection.columns import FIXED, RESERVED, as_arrow, as_ids, check_name, conform
from imagescape.collection.locking import exclusive, storage_errors
from imagescape.collection.rewriting import field_files, in_table_order, rewrite_rows, rows_named
from imagescape.errors import CollectionError, InputError
from imagescape.images.decode import Fit, Resample

FORMAT_VERSION = 1

_COMMIT_TRIES = 12
_FRAGMENT_BYTES = 64 << 20
_KEEP_VERSIONS = timedelta(days=1)  # to undo a step; and a reader may still be scanning an older version


class Collection:
    """A table of images, one row each, that every step reads columns of and adds columns to.

    Rows keep their order: changes happen in place, new rows come last.

    Attributes:
        path: The folder of the collection.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the collection in the folder `path`.

        Raises:
            CollectionError: there is none, it is damaged, or a newer imagescape wrote it.
        """
        self.path = Path(path).absolute()
        _check_format(self.path)
        try:
            self._session = lance.dataset(str(self.path / "data.lance")).session()
        except (OSError, ValueError) as error:
            raise CollectionError(f"the table of '{self.path}' cannot be opened: {_first_line(error)}") from error

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Collection":
        """Open the collection in the folder `path`; raises CollectionError as the constructor does."""
        return cls(path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "Collection":
        """Make an empty collection in a new (or empty) folder.

        Raises:
            CollectionError: the folder exists and holds something.
            InputError: the name cannot be stored.
        """
        path = Path(path).absolute()
        if not str(path).isprintable():  # Lance refuses control characters in paths, with a message of its own world
            raise InputError(f"the path of a collection must be of printable characters, got {str(path)!r}")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CollectionError(f"'{path}' exists already and is not empty; name another folder")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Built aside and renamed: a kill on the way leaves no half-made collection under the name.
            draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            try:
                draft.chmod(0o755)
                lance.write_dataset(FIXED.empty_table(), str(draft / "data.lance"), mode="create")
                for folder in ("models", "runs", "cache"):
                    (draft / folder).mkdir()
                (draft / "scape.json").write_text(json.dumps(_header(), indent=2) + "\n", encoding="utf-8")
                draft.rename(path)
            except OSError as error:
                shutil.rmtree(draft, ignore_errors=True)
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise CollectionError(f"'{path}' was made by another process just now; open it instead") from error
                raise
        return cls(path)

    def __repr__(self) -> str:
        return f"Collection('{self.path}', {len(self)} images)"

    # -- reading ------------------------------------------------------------------------------------------------------

    def _latest(self) -> lance.LanceDataset:
        return lance.dataset(str(self.path / "data.lance"), session=self._session)

    def __len__(self) -> int:
        return self._latest().count_rows()

    @property
    def schema(self) -> pa.Schema:
        """Names and Arrow types of all columns."""
        return self._latest().schema

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self.schema.names

    @property
    def version(self) -> int:
        """Number of the latest version of the table; every change adds to it."""
        return self._latest().version

    def written(self, columns: Sequence[str]) -> str:
        """A token of 16 hex digits, another one after every change of the values of `columns`, or of the rows."""
        return field_files(self._latest(), columns)

    def read(self, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
        """Rows in table order.

        Args:
            columns: Names; None for all, thumbnails and stored images included.
            where: An SQL condition, such as "status = 'ok' AND label = 3"; names with capitals, spaces or signs stand
                in backticks.

        Raises:
            InputError: a column is unknown, or the condition cannot be understood.
        """
        dataset = self._latest()
        with _query_errors(dataset, columns, where):
            return dataset.to_table(columns=_listed(columns), filter=where)

    def scanner(
        self, columns: Sequence[str] | None = None, where: str | None = None, batch_size: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """As `read`, but streamed in batches of at most `batch_size` rows."""
        dataset = self._latest()
        with _query_errors(dataset, columns, where):
            yield from dataset.scanner(columns=_listed(columns), filter=where, batch_size=batch_size).to_batches()

    def take(self, positions: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows at `positions` in table order (0 is the first), in the order asked for, without a scan."""
        dataset = self._latest()
        with _query_errors(dataset, columns, None):
            return dataset.take(np.asarray(positions, np.int64).tolist(), columns=_listed(columns))

    def count(self, where: str | None = None) -> int:
        """How many rows meet the SQL condition `where` (all if None)."""
        dataset = self._latest()
        with _query_errors(dataset, None, where):
            return dataset.count_rows(filter=where)

    def ok_ids(self) -> np.ndarray:
        """Ids (n,) of the images that can be used, in table order, as an array of 16-character strings."""
        ids = self.read(["image_id"], where="status = 'ok'")["image_id"]
        return ids.to_numpy().astype("U16")

    def summary(self) -> dict[str, Any]:
        """What is in the collection, as plain data.

        Returns:
            rows, ok, flagged: counts; columns: name and type of each; by_status: how many rows of each status;
            bytes_on_disk: of the whole folder; version: as `version`.
        """
        dataset = self._latest()
        statuses = dataset.to_table(columns=["status"])["status"]
        by_status = {entry["values"]: entry["counts"] for entry in pc.value_counts(statuses).to_pylist()}
        rows, ok = len(statuses), by_status.get("ok", 0)
        return {
            "rows": rows,
            "ok": ok,
            "flagged": rows - ok,
            "columns": [{"name": field.name, "type": str(field.type)} for field in dataset.schema],
            "by_status": dict(sorted(by_status.items(), key=lambda entry: -entry[1])),
            "bytes_on_disk": _bytes_below(self.path),
            "version": dataset.version,
        }

    def flagged_rows(self, limit: int | None = None) -> list[dict[str, str]]:
        """uri, status and reason of the images that cannot be used, in table order; at most `limit` of them."""
        scan = self._latest().scanner(columns=["uri", "status", "reason"], filter="status != 'ok'", limit=limit)
        return scan.to_table().to_pylist()

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, table: pa.Table) -> None:
        """Add rows at the end, in one commit. Columns they lack are null; columns the collection lacks are added.

        Args:
            table: With `image_id` (16 hex digits, new to the collection) at least.

        Raises:
            InputError: an id is malformed, or a column's type does not fit the collection's.
            CollectionError: the disk is full.
        """
        if "image_id" not in table.column_names:
            raise InputError(f"rows to append need a column 'image_id', got {', '.join(table.column_names)}")
        if not pc.all(
            pc.match_substring_regex(table["image_id"], "^[0-9a-f]{16}$"), skip_nulls=False, min_count=0
        ).as_py():
            raise InputError("image_id must be 16 hex digits in every row")
        for name in table.column_names:
            check_name(name)

        def change(dataset: lance.LanceDataset) -> None:
            rows = conform(table, dataset.schema)
            new = [field for field in rows.schema if field.name not in dataset.schema.names]
            if new:
                dataset.add_columns(pa.schema(new))  # of nulls, by metadata only
            if len(rows):
                lance.write_dataset(rows, dataset, mode="append")

        self._commit("appending rows", change)

    def add_columns(self, image_ids: Any, columns: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Add columns whose values are given by image, in any order. Images not named get null.

        Ids that are no longer in the collection are passed over: a row deleted during an hour of computing must not
        cost the result for all others.

        Args:
            image_ids: Ids (n,), each once.
            columns: Name -> n values: a 1-D array or a sequence (numbers, strings, lists), or a 2-D array (n, d) that
                becomes a fixed-size list.
            overwrite: Replace columns that exist.

        Raises:
            CollectionError: a column exists and `overwrite` is not set; the disk is full.
            InputError: none of the ids is in the collection, or the values do not fit the ids.
        """
        ids = as_ids(image_ids)
        for name in columns:
            check_name(name)
        arrays = {name: as_arrow(name, values, len(ids)) for name, values in columns.items()}
        for name in RESERVED.intersection(arrays):
            raise InputError(f"'{name}' is a column of every collection; change its values with update()")

        def change(dataset: lance.LanceDataset) -> None:
            existing = [name for name in arrays if name in dataset.schema.names]
            if existing and not overwrite:
                raise CollectionError(
                    f"column '{existing[0]}' exists already in '{self.path}'; "
                    "ask to overwrite it, or choose another name"
                )
            table_ids = dataset.to_table(columns=["image_id"])["image_id"].combine_chunks()
            positions = pc.index_in(table_ids, value_set=ids)
            if len(ids) and positions.null_count == len(positions):
                raise InputError(
                    f"none of the {len(ids)} image_ids is in '{self.path}'; do they come from another one?"
                )
            # In place where the type allows, so that readers never find the column missing.
            in_place = [name for name in existing if dataset.schema.field(name).type.equals(arrays[name].type)]
            if in_place:
                rows = {name: arrays[name].take(positions) for name in in_place}
                dataset = rewrite_rows(dataset, pa.table({"image_id": table_ids, **rows}))
            if dropped := [name for name in existing if name not in in_place]:
                dataset.drop_columns(dropped)
            if new := {name: values for name, values in arrays.items() if name not in in_place}:
                dataset.add_columns(in_table_order(new, positions))

        self._commit("adding columns", change)

    def update(self, image_ids: Any, columns: Mapping[str, Any]) -> None:
        """Set values of existing columns for the images named; all rows keep their places.

        Args:
            image_ids: Ids (n,), each once.
            columns: Name -> n values.

        Raises:
            InputError: an id or a column is not in the collection, or a value does not fit its column.
            CollectionError: the disk is full.
        """
        ids = as_ids(image_ids)
        if not len(ids) or not columns:
            return

        def change(dataset: lance.LanceDataset) -> None:
            _check_columns(dataset, columns)
            arrays = {
                name: as_arrow(name, values, len(ids), dataset.schema.field(name).type)
                for name, values in columns.items()
            }
            table = pa.table({"image_id": ids, **arrays})
            rewrite_rows(dataset, conform(table, dataset.schema))

        self._commit("updating rows", change)

    def revise(
        self,
        image_ids: Any,
        columns: Mapping[str, pa.DataType],
        change: Callable[[pa.Table], Mapping[str, Any] | None],
    ) -> None:
        """Set values that depend on what is there: no other writer comes between the look and the change.

        Args:
            image_ids: Ids (n,), each once.
            columns: Columns to see and set, with the types of those the collection may lack, which are added.
            change: Gets the rows as a table (image_id and `columns`, in the order of the ids, null where there is
                nothing), and returns the new values by column, or None to leave all as it is. Called again if a writer
                that knows nothing of the lock came between.

        Raises:
            InputError: an id is not in the collection, or a column is there and holds something else.
            CollectionError: the disk is full.
        """
        ids = as_ids(image_ids)
        for name in columns:
            check_name(name)

        def rewrite(dataset: lance.LanceDataset) -> None:
            for name, type in columns.items():
                if name in dataset.schema.names and not dataset.schema.field(name).type.equals(type):
                    raise InputError(
                        f"column '{name}' of '{self.path}' holds {dataset.schema.field(name).type} and no {type}; "
                        "copy it under another name and drop it to have it free"
                    )
            values = change(rows_named(dataset, ids, list(columns)))
            if values is None or not len(ids):
                return
            if new := [pa.field(name, columns[name]) for name in values if name not in dataset.schema.names]:
                dataset.add_columns(pa.schema(new))
            arrays = {name: as_arrow(name, one, len(ids), columns[name]) for name, one in values.items()}
            rewrite_rows(dataset, conform(pa.table({"image_id": ids, **arrays}), dataset.schema))

        self._commit("revising rows", rewrite)

    def drop_columns(self, names: Sequence[str]) -> None:
        """Remove computed or source columns.

        Raises:
            InputError: a column is unknown, or is one that every collection has.
        """
        for name in RESERVED.intersection(names):
            raise InputError(f"'{name}' is a column of every collection and cannot be dropped")

        def change(dataset: lance.LanceDataset) -> None:
            _check_columns(dataset, names)
            dataset.drop_columns(list(names))

        self._commit("dropping columns", change)

    def annotate(self, columns: str | Sequence[str], values: Mapping[str, str]) -> None:
        """Replace what is noted beside columns, found again in `schema.field(column).metadata`.

        Raises:
            InputError: a column is unknown.
        """
        names = [columns] if isinstance(columns, str) else list(columns)

        def change(dataset: lance.LanceDataset) -> None:
            _check_columns(dataset, names)
            dataset.update_field_metadata({name: dict(values) for name in names}, replace=True)

        self._commit("annotating a column", change)

    def delete(self, image_ids: Any) -> None:
        """Remove rows. The images they refer to are not touched; ids that are not in the collection are passed over."""
        ids = as_ids(image_ids)
        listed = ", ".join(f"'{image_id}'" for image_id in ids.to_pylist() if image_id.isalnum())
        if listed:
            self._commit("deleting rows", lambda dataset: dataset.delete(f"image_id IN ({listed})"))

    def compact(self) -> None:
        """Join small fragments, and free the space of versions older than a day."""

        def change(dataset: lance.LanceDataset) -> None:
            rows = max(dataset.count_rows(), 1)
            row_bytes = max(self._live_bytes(dataset) // rows, 1)
            dataset.optimize.compact_files(
                target_rows_per_fragment=min(max(_FRAGMENT_BYTES // row_bytes, 1), 1 << 20),
                batch_size=min(max((16 << 20) // row_bytes, 1), 8192),  # bounds the memory when images are stored
            )
            dataset.cleanup_old_versions(older_than=_KEEP_VERSIONS, error_if_tagged_old_versions=False)

        self._commit("compacting", change)

    def _live_bytes(self, dataset: lance.LanceDataset) -> int:
        files = {file.path for fragment in dataset.get_fragments() for file in fragment.data_files()}
        return sum((self.path / "data.lance" / "data" / file).stat().st_size for file in files)

    def _commit(self, doing: str, change: Callable[[lance.LanceDataset], Any]) -> None:
        """Apply `change` to the latest version while no other writer does; again if a foreign writer came between."""
        with exclusive(self.path / "write.lock", doing), storage_errors(self.path):
            for attempt in range(_COMMIT_TRIES):
                try:
                    change(self._latest())
                    return
                except CommitConflictError as error:  # by Lance's own tools, which know nothing of the lock
                    if attempt == _COMMIT_TRIES - 1:
                        raise CollectionError(
                            f"{doing} in '{self.path}' kept colliding with another writer; run it again later"
                        ) from error
                    time.sleep(random.uniform(0.5, 1.0) * 0.05 * 1.6**attempt)

    # -- pixels -------------------------------------------------------------------------------------------------------

    def pixels(self, size_px: int, fit: Fit = "crop", resample: Resample = "bicubic") -> "np.ndarray | cache.Rows":
        """The usable images as one uint8 array (n, size_px, size_px, 3), in the order of `ok_ids`.

        Decoded once for each size, fit and filter, then read from disk as needed; see `cache.cached_pixels`, which also
        gives the ids that belong to the rows.
        """
        return cache.cached_pixels(self, size_px, fit, resample).pixels

    def native_px(self) -> int | None:
        """The largest short side of the usable images, or None when there are none."""
        table = self.read(["width", "height"], where="status = 'ok'")
        return pc.max(pc.min_element_wise(table["width"], table["height"])).as_py()

    def pixel_ids(self, size_px: int, fit: Fit = "crop") -> np.ndarray:
        """Ids (n,) of the rows of `pixels`."""
        return cache.cached_pixels(self, size_px, fit).ids


def _header() -> dict[str, object]:
    try:
        version = installed_version("imagescape")
    except PackageNotFoundError:  # run from a checkout
        version = "(development)"
    return {"format": FORMAT_VERSION, "created_by": f"imagescape {version}, pylance {lance.__version__}"}


def _check_format(path: Path) -> None:
    try:
        header = json.loads((path / "scape.json").read_text(encoding="utf-8"))
        version = int(header["format"])
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "has no scape.json" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
        raise CollectionError(f"'{path}' is not a collection: it {what}; make one by ingesting images") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"'{path / 'scape.json'}' cannot be read: {_first_line(error)}") from error
    if version > FORMAT_VERSION:
        raise CollectionError(
            f"'{path}' has format {version}, this imagescape reads up to format {FORMAT_VERSION}; "
            "upgrade with: pip install --upgrade imagescape"
        )


def _bytes_below(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a writer may just have replaced it
            total += file.lstat().st_size if file.is_file() else 0
    return total


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(dict.fromkeys(columns))


def _check_columns(dataset: lance.LanceDataset, columns: Sequence[str] | Mapping[str, Any]) -> None:
    for name in columns:
        if name not in dataset.schema.names:
            raise InputError(f"no column is called '{name}'; there are: {', '.join(dataset.schema.names)}")


@contextlib.contextmanager
def _query_errors(dataset: lance.LanceDataset, columns: Sequence[str] | None, where: str | None) -> Iterator[None]:
    _check_columns(dataset, columns or ())
    try:
        yield
    except (OSError, ValueError) as error:
        if where is None or "Invalid user input" not in str(error):
            raise
        raise InputError(f'the condition "{where}" cannot be understood: {_first_line(error)}') from error


def _first_line(error: BaseException) -> str:
    """The message without the places in Lance's sources."""
    return re.sub(r",? /\S+\.rs:\d+:\d+", "", str(error)).partition("\n")[0] or type(error).__name__
