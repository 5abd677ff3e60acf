"""Images that are arrays already: `.npy` files, NumPy arrays, and map-style Datasets as torch has them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from PIL import Image

from imagescape.collection.readers.item import Item, file_uri, row_uri
from imagescape.errors import InputError
from imagescape.images.decode import Decoded, from_array, to_rgb
from imagescape.images.pixels import image_of


def matches(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npy"


def open(path: Path) -> "ArrayReader":
    """Read a `.npy` of images (n, h, w[, c]), mapped into memory.

    Raises:
        InputError: it is damaged, or holds no images.
    """
    return ArrayReader(_mapped(path), path)


def open_memory(images: Any) -> "ArrayReader | DatasetReader":
    """Read an array of images (n, h, w[, c]), or a map-style Dataset yielding image or (image, label).

    Raises:
        InputError: `images` is neither, or its images cannot be used.
    """
    if isinstance(images, np.ndarray):
        return ArrayReader(images)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        return DatasetReader(images)
    raise InputError(
        "a source must be a path, a list of paths, an array (n, h, w[, c]) or a map-style Dataset "
        f"(with len and indexing), got {type(images).__name__}"
    )


def fetch_rows(path: Path, rows: Sequence[int]) -> list[np.ndarray | Decoded]:
    """Copies of some images of a `.npy`, in the order asked."""
    images = _mapped(path)
    gone = Decoded(None, "vanished", f"the array has {len(images)} images now")
    return [np.array(images[row]) if row < len(images) else gone for row in rows]


class ArrayReader:
    """The images of one array, in memory or mapped from a `.npy`."""

    def __init__(self, images: np.ndarray, path: Path | None = None) -> None:
        where = str(path) if path else "the array"
        if images.ndim not in (3, 4) or not len(images):
            raise InputError(f"{where} must be (n, h, w) or (n, h, w, c) with n > 0, got shape {images.shape}")
        if images.ndim == 3 and images.shape[-1] in (3, 4):
            raise InputError(
                f"{where} of shape {images.shape} looks like one colour image; put it in an array of one, images[None]"
            )
        try:
            from_array(images[0])  # the type and, for floats, the range: better now than in every row
        except InputError as error:
            raise InputError(f"{where} cannot be read as images: {error}") from error
        self._images, self._path = images, path
        self.total = len(images)
        self.schema = pa.schema([])

    def __iter__(self) -> Iterator[Item]:
        for row, image in enumerate(self._images):
            uri = row_uri(self._path, row) if self._path else f"array#{row}"
            yield Item(uri, array=image, refetchable=self._path is not None)


class DatasetReader:
    """The samples of a map-style Dataset (`len` and indexing) yielding an image or (image, label, ...).

    An image is a Pillow image, an array or tensor (see `from_array`), encoded bytes, or a path. Labels that are whole
    numbers become `label` (with `label_name` if the dataset has `classes`, as torchvision's do), texts likewise;
    labels of other kinds are left out. The first sample decides.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._name = type(dataset).__name__
        self.total = len(dataset)
        if not self.total:
            raise InputError(f"the dataset {self._name} is empty")
        first = self._label(self._sample(0))
        self._classes: Sequence[str] = getattr(dataset, "classes", None) or () if isinstance(first, int) else ()
        fields = [] if first is None else [("label", pa.int64() if isinstance(first, int) else pa.string())]
        self.schema = pa.schema(fields + ([("label_name", pa.string())] if self._classes else []))
        next(iter(self))  # an image of a kind we do not know is told now

    def __iter__(self) -> Iterator[Item]:
        for i in range(self.total):
            sample = self._sample(i)
            image, uri, columns = image_of(sample), f"{self._name}#{i}", self._columns(sample)
            if isinstance(image, (str, os.PathLike)):
                yield Item(file_uri(image), path=Path(os.path.abspath(image)), columns=columns)
            elif isinstance(image, bytes):
                yield Item(uri, data=image, columns=columns, refetchable=False)
            else:
                yield Item(uri, array=self._pixels(i, image), columns=columns, refetchable=False)

    def _sample(self, i: int) -> Any:
        try:
            return self._dataset[i]
        except Exception as error:
            raise InputError(f"{self._name}[{i}] failed: {type(error).__name__}: {error}") from error

    def _pixels(self, i: int, image: Any) -> np.ndarray:
        if isinstance(image, Image.Image):
            return np.asarray(to_rgb(image))
        try:
            return np.asarray(from_array(image))
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"{self._name}[{i}] cannot be read as an image: {error}") from error

    @staticmethod
    def _label(sample: Any) -> int | str | None:
        label = sample[1] if isinstance(sample, (tuple, list)) and len(sample) > 1 else None
        if getattr(label, "ndim", None) == 0:  # a NumPy number or a tensor of one
            label = cast(Any, label).item()
        return label if isinstance(label, (int, str)) else None

    def _columns(self, sample: Any) -> dict[str, object]:
        if "label" not in self.schema.names:
            return {}
        label = self._label(sample)
        if not self._classes:
            return {"label": label}
        named = isinstance(label, int) and 0 <= label < len(self._classes)
        return {"label": label, "label_name": self._classes[cast(int, label)] if named else None}


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is no .npy of numbers, or damaged: {error}") from error
