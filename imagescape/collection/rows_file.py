"""One array on disk that grows by whole rows: what a long computation has done so far, and a kill cannot spoil.

A folder holds

    <name>         the rows, raw
    ids.s16        image_id of each row, 16 ASCII characters each
    progress.json  how many rows are whole; anything behind them is the rest of a killed run, and is cut off
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imagescape.collection.locking import storage_errors


class RowsFile:
    """Rows of one shape and type, each belonging to an image.

    Args:
        folder: Made if it is not there.
        name: Of the file with the rows.
        row_shape: Of one row.
        dtype: Of its entries.
    """

    def __init__(self, folder: Path, name: str, row_shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.folder, self.row_shape, self.dtype = folder, row_shape, np.dtype(dtype)
        self.row_bytes = math.prod(row_shape) * self.dtype.itemsize
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._data, self._ids, self._progress = folder / name, folder / "ids.s16", folder / "progress.json"

    def rows(self) -> int:
        """Rows that are whole."""
        try:
            rows = int(json.loads(self._progress.read_text(encoding="utf-8"))["rows"])
            lengths = self._data.stat().st_size // self.row_bytes, self._ids.stat().st_size // 16
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return 0
        return min(rows, *lengths)

    def ids(self) -> np.ndarray:
        """(n,) ids of the whole rows."""
        rows = self.rows()
        return np.fromfile(self._ids, "S16", rows).astype("U16") if rows else np.empty(0, "U16")

    def array(self, rows: int) -> np.ndarray:
        """The first `rows` rows, memory-mapped and read-only."""
        shape = (rows, *self.row_shape)
        return np.memmap(self._data, self.dtype, "r", shape=shape) if rows else np.empty(shape, self.dtype)

    def cut(self) -> int:
        """Remove what a killed run left behind the whole rows; returns their number."""
        rows = self.rows()
        for path, row_bytes in ((self._data, self.row_bytes), (self._ids, 16)):
            with path.open("ab") as file:
                file.truncate(rows * row_bytes)
        return rows

    def append(self, ids: Sequence[str], values: np.ndarray, rows_before: int) -> None:
        """Add whole rows. On disk for good before they count."""
        with storage_errors(self.folder):
            for path, data in (
                (self._data, np.ascontiguousarray(values, self.dtype).data),
                (self._ids, "".join(ids).encode()),
            ):
                with path.open("ab") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            mark = self._progress.with_suffix(".new")
            mark.write_text(json.dumps({"rows": rows_before + len(ids)}), encoding="utf-8")
            mark.replace(self._progress)
