"""Features of a collection as vectors to search: ids as numbers, values as they are stored."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from imagescape.collection.results import feature_names
from imagescape.collection.store import Collection
from imagescape.errors import CollectionError, InputError


def numbers_of(ids: np.ndarray | pa.ChunkedArray) -> np.ndarray:
    """Ids of 16 hex digits (n,) as int64 (n,), their 64 bits being the same.

    >>> numbers_of(np.array(["0000000000000010", "fffffffffffffffe"])).tolist()
    [16, -2]
    """
    if isinstance(ids, pa.ChunkedArray):  # ten times faster than by way of Python's texts
        raw = b"".join(bytes.fromhex(_letters(chunk)) for chunk in ids.chunks)
    else:
        raw = bytes.fromhex("".join(np.asarray(ids, "U16").tolist()))
    return np.frombuffer(raw, ">i8").astype(np.int64)


def _letters(chunk: pa.StringArray) -> str:
    """All texts of an Arrow array, one after another."""
    _, offsets, letters = chunk.buffers()
    ends = (
        np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]].tolist() if len(chunk) else (0, 0)
    )
    return str(memoryview(letters)[ends[0] : ends[1]], "ascii") if letters else ""


def ids_of_numbers(numbers: np.ndarray) -> np.ndarray:
    """The ids (n,) that `numbers_of` made int64 (n,) of.

    >>> ids_of_numbers(np.array([16, -2])).tolist()
    ['0000000000000010', 'fffffffffffffffe']
    """
    text = np.asarray(numbers, np.int64).astype(">i8").tobytes().hex()
    return np.array([text[at : at + 16] for at in range(0, len(text), 16)], "U16")


class Vectors:
    """The features of the usable images that have them, in table order; values are read when they are asked for.

    Args:
        scape: The collection.
        name: Of the features.

    Attributes:
        ids: (n,) int64.
        dtype: As the values are stored.
        width: Entries of a vector.

    Raises:
        InputError: no features of that name, or no image has them.
    """

    def __init__(self, scape: Collection, name: str) -> None:
        self.column = f"features_{name}"
        if self.column not in scape.columns:
            here = ", ".join(feature_names(scape)) or "none yet: make some with `imagescape embed`"
            raise InputError(f"no features are called '{name}' in '{scape.path}'; there are: {here}")
        self._scape, self._name = scape, name
        self._where = f"status = 'ok' AND `{self.column}` IS NOT NULL"
        kind = scape.schema.field(self.column).type
        self.dtype, self.width = np.dtype(kind.value_type.to_pandas_dtype()), int(kind.list_size)
        self.ids = self.ids_where(None)
        if not len(self.ids):
            raise InputError(f"no image of '{scape.path}' has features '{name}'; run imagescape embed again")

    def __len__(self) -> int:
        return len(self.ids)

    def ids_where(self, condition: str | None) -> np.ndarray:
        """Ids (m,) int64 of those images that meet an SQL condition."""
        where = self._where if condition is None else f"{self._where} AND ({condition})"
        return numbers_of(self._scape.read(["image_id"], where=where)["image_id"])

    def uris(self) -> list[str]:
        """Where the images are, in the order of `ids`."""
        return self._scape.read(["uri"], where=self._where)["uri"].to_pylist()

    def batches(self) -> Iterator[np.ndarray]:
        """The values (b, d) in the order of `ids`, a few thousand rows at a time.

        Raises:
            InputError: a value is not finite.
            CollectionError: rows came or went while they were read.
        """
        start = 0
        for batch in self._scape.scanner(["image_id", self.column], where=self._where, batch_size=8192):
            ids = numbers_of(batch.column("image_id").to_numpy(False))
            if not np.array_equal(ids, self.ids[start : start + len(batch)]):
                raise CollectionError(f"'{self._scape.path}' was changed while it was read; run the same again")
            values = batch.column(self.column).flatten().to_numpy(zero_copy_only=False).reshape(-1, self.width)
            bad = ~np.isfinite(values).all(axis=1)
            if bad.any():
                raise InputError(
                    f"features '{self._name}' are not finite, first of image {ids_of_numbers(ids[bad][:1])[0]}; "
                    f"encode again: imagescape embed {self._scape.path.name} --name {self._name} --overwrite"
                )
            yield values
            start += len(batch)

    def mean(self) -> np.ndarray:
        """(d,) float32, of all images."""
        total = np.zeros(self.width)
        for part in self.batches():
            total += part.sum(axis=0, dtype=np.float64)
        return (total / len(self)).astype(np.float32)

    def values(self) -> np.ndarray:
        """(n, d) in the order of `ids`, as they are stored; errors as `batches`."""
        values = np.empty((len(self), self.width), self.dtype)
        start = 0
        for part in self.batches():
            values[start : start + len(part)] = part
            start += len(part)
        return values


class Places:
    """Where in the table each image is, so that a few rows are had without a scan."""

    def __init__(self, scape: Collection) -> None:
        self._scape = scape
        self._look()

    def _look(self) -> None:
        numbers = numbers_of(self._scape.read(["image_id"])["image_id"])
        self._order = np.argsort(numbers, kind="stable")
        self._sorted = numbers[self._order]

    def take(self, numbers: np.ndarray, columns: list[str]) -> pa.Table:
        """The rows of the images `numbers` (int64), in their order; of those that are there no more, none."""
        for fresh in (False, True):
            if fresh:  # the table lost rows since: look again where they are
                self._look()
            at = np.minimum(np.searchsorted(self._sorted, numbers), len(self._sorted) - 1)
            known = self._sorted[at] == numbers
            try:
                rows = self._scape.take(self._order[at[known]], ["image_id", *columns])
            except (OSError, ValueError):
                continue
            if known.all() and np.array_equal(numbers_of(rows["image_id"].to_numpy()), numbers):
                return rows
        return rows
