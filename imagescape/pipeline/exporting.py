"""`export`: what a collection holds, as files that other tools read."""

import csv
from pathlib import Path

import numpy as np

from imagescape.collection.results import last_features
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Vectors, ids_of_numbers
from imagescape.errors import InputError


def export_features(scape: Collection, name: str | None, path: Path) -> tuple[Path, Path]:
    """Write features as an array, and whose they are as a table beside it: row i is of row i.

    Args:
        scape: The collection.
        name: Of the features; None: the last that were made.
        path: `FILE.npy`, (n, d) in the type the features are stored in; the ids go to `FILE.csv`, with the columns
            image_id and uri.

    Returns:
        Both files.

    Raises:
        InputError: no such features, or a path of another ending.
    """
    if path.suffix != ".npy":
        raise InputError(f"features are exported to a file that ends in .npy, got '{path}'")
    found = Vectors(scape, name or last_features(scape))
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.lib.format.open_memmap(path, "w+", found.dtype, (len(found), found.width))
    start = 0
    for part in found.batches():
        values[start : start + len(part)] = part
        start += len(part)
    values.flush()
    table = path.with_suffix(".csv")
    uris = found.uris()
    with table.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "uri"])
        writer.writerows(zip(ids_of_numbers(found.ids).tolist(), uris, strict=True))
    return path, table
