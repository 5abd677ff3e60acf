"""Every kind of source as one stream of `Item`s. `open_source` finds the reader for what it is given.

A reader for files is a module with

    matches(path: Path) -> bool      is this file or folder mine? (cheap: names and headers only)
    open(path: Path) -> Reader       stream it
    fetch_rows(path: Path, rows: Sequence[int]) -> list[bytes | np.ndarray | Decoded]
                                     optional: go back to some rows of an uncompressed container file

and one line in `_READERS`.
"""

import importlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from imagescape.collection.readers.item import Item, Reader
from imagescape.errors import InputError

__all__ = ["Item", "Reader", "open_source", "reader_for"]

# The first that matches reads it: the particular before the general.
_READERS = ("parquet", "arrow", "arrays", "medmnist", "stl10", "cifar", "idx", "paths", "folder")


def open_source(source: Any, *, glob: str | None = None, layout: str = "auto") -> Reader:
    """The reader for a source of images.

    Args:
        source: A folder of images; a `.csv` (column `path`) or `.txt` list of paths; a Parquet file or a folder of
            shards; a folder written by `datasets.save_to_disk`; `.npy`; the files of CIFAR, STL-10, MedMNIST or
            anything in IDX; one image file; or the name of a known dataset ("cifar10"), which is downloaded.
            In Python also a list of paths, an array (n, h, w[, c]), a map-style torch Dataset, and any `Reader`.
        glob: For folders: take exactly the files matching this pattern ("**/*.dat"), below the folder.
        layout: For folders: "classes" takes labels from folder names, "flat" does not, "auto" looks.

    Raises:
        InputError: the source does not exist, holds no image, or is of no known kind.
    """
    if isinstance(source, (str, os.PathLike)):
        return _open_path(source, glob=glob, layout=layout)
    if glob is not None or layout != "auto":
        raise InputError(f"glob and layout apply to a folder of images, got {type(source).__name__}")
    if isinstance(source, Reader):
        return source
    from imagescape.collection.readers import arrays, paths

    if isinstance(source, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in source):
        return paths.open_list(source)
    return arrays.open_memory(source)


def reader_for(path: Path) -> ModuleType | None:
    """The reader module that knows this file or folder."""
    for module in _modules():
        if module.matches(path):
            return module
    return None


def _open_path(source: str | os.PathLike[str], *, glob: str | None, layout: str) -> Reader:
    path = _existing(source)
    if glob is not None or layout != "auto":
        from imagescape.collection.readers import folder

        if not folder.matches(path):
            raise InputError(f"glob and layout apply to a folder of images, and this is a file: {path}")
        return folder.open(path, glob=glob, layout=layout)
    module = reader_for(path)
    if module is None:
        raise InputError(
            f"no reader for {path}; needed a folder of images, .csv, .txt, .parquet, .npy, .npz (MedMNIST), "
            "an image, or the files of CIFAR, STL-10 or an IDX dataset"
        )
    return module.open(path)


def _existing(source: str | os.PathLike[str]) -> Path:
    """The path, absolute; a known dataset's name is downloaded first, unless a file of that name is here."""
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if path.exists():
        return path
    from imagescape.collection.readers import download

    if isinstance(source, str) and source in download.DATASETS:
        return download.fetch_dataset(source)
    raise InputError(
        f"no such file or folder: {source} (datasets known by name: {', '.join(sorted(download.DATASETS))})"
    )


def _modules(names: Iterable[str] = _READERS) -> Iterator[ModuleType]:
    for name in names:
        yield importlib.import_module(f"imagescape.collection.readers.{name}")
