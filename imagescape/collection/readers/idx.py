"""IDX files: MNIST and the many data sets published in its format (Fashion-MNIST, KMNIST, EMNIST).

An IDX file is a magic number (two zero bytes, a type code, the number of dimensions), one
big-endian uint32 a dimension, then the values. Source: LeCun, Cortes and Burges, "The MNIST
database of handwritten digits".

An uncompressed images file is memory-mapped and can be gone back to (`fetch_rows`); a gzipped
one is streamed and cannot.
"""

import gzip
import itertools
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from imagescape.collection.readers.item import Item, Reader, row_uri
from imagescape.errors import InputError
from imagescape.images.decode import Decoded

_IMAGES_FILE = re.compile(
    r"(?P<dataset>.*?)[-_.]?(?P<split>train|t10k|test)[-_.]images[-_.]idx3[-_.]ubyte(?:\.gz)?", re.IGNORECASE
)
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_UNSIGNED_BYTE = 0x08
_IMAGES_MAGIC = bytes([0, 0, _UNSIGNED_BYTE, 3])

# Label names of data sets that say which they are: the digits of MNIST name themselves.
_LABEL_NAMES = {
    "fashionmnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


def matches(path: Path) -> bool:
    """Whether `path` is an IDX images file, or a folder holding some under MNIST's names."""
    if path.is_dir():
        return any(_IMAGES_FILE.fullmatch(name) for name in os.listdir(path))
    return path.is_file() and (bool(_IMAGES_FILE.fullmatch(path.name)) or _begins_like_images(path))


def open(path: Path) -> Reader:
    """Read the IDX file or folder at `path`.

    Columns: `split` ("train" or "test"), `label` (int64), and `label_name` where the file or one
    of its nearest folders is named after Fashion-MNIST or KMNIST.

    Raises:
        InputError: a file is damaged, images and labels do not fit, or a folder mixes data sets.
    """
    path = Path(os.path.abspath(path))
    return _IdxReader(_parts_of_folder(path) if path.is_dir() else [_part(path)])


def fetch_rows(path: Path, rows: Sequence[int]) -> list[np.ndarray | Decoded]:
    """Images number `rows` of the uncompressed images file at `path`: uint8 (h, w) each, in that order.

    Raises:
        InputError: the file is damaged.
    """
    images, transposed = _map_images(path), _part(path).transposed
    gone = Decoded(None, "vanished", f"{path.name} has {len(images)} images now")
    return [_upright(images[row], transposed) if row < len(images) else gone for row in rows]


@dataclass(frozen=True, slots=True)
class _Part:
    """One images file and what its name and neighbours tell about it."""

    images: Path
    labels: Path | None
    split: str | None
    dataset: str
    label_names: tuple[str, ...]

    @property
    def transposed(self) -> bool:
        return self.dataset.lower().startswith("emnist")  # Cohen et al. 2017 publish x before y


class _IdxReader:
    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self._labels = [_labels(part) for part in parts]
        self.total: int | None = sum(_shape(part.images)[0] for part in parts)
        fields = [pa.field("split", pa.string()), pa.field("label", pa.int64())]
        if any(part.label_names for part in parts):
            fields.append(pa.field("label_name", pa.string()))
        self.schema = pa.schema(fields)

    def __iter__(self) -> Iterator[Item]:
        for part, labels in zip(self._parts, self._labels, strict=True):
            compressed = _is_compressed(part.images)
            images = _stream_images(part.images) if compressed else iter(_map_images(part.images))
            for row, image in enumerate(images):
                yield Item(
                    uri=row_uri(part.images, row),
                    array=_upright(image, part.transposed),
                    columns=self._columns(part, None if labels is None else int(labels[row])),
                    refetchable=not compressed,
                )

    def _columns(self, part: _Part, label: int | None) -> dict[str, object]:
        columns: dict[str, object] = {"split": part.split, "label": label}
        if "label_name" in self.schema.names:
            named = label is not None and label < len(part.label_names)
            columns["label_name"] = part.label_names[cast(int, label)] if named else None
        return columns


def _upright(image: np.ndarray, transposed: bool) -> np.ndarray:
    return np.array(image.T if transposed else image, order="C")  # a copy: no map of the file stays open


# -- which files -------------------------------------------------------------------------------


def _parts_of_folder(folder: Path) -> list[_Part]:
    """The images files of a folder, training first; an unpacked file wins over its .gz twin."""
    names = {name for name in os.listdir(folder) if _IMAGES_FILE.fullmatch(name)}
    parts = [
        _part(folder / name) for name in sorted(names) if name.removesuffix(".gz") == name or name[:-3] not in names
    ]
    datasets = sorted({part.dataset for part in parts})
    if len(datasets) > 1:
        raise InputError(
            f"{folder} holds several data sets ({', '.join(name or 'no prefix' for name in datasets)}); "
            "give the path of one images file, or move each data set to a folder of its own"
        )
    return sorted(parts, key=lambda part: part.split != "train")


def _part(images: Path) -> _Part:
    match = _IMAGES_FILE.fullmatch(images.name)
    if match is None:
        return _Part(images, labels=None, split=None, dataset="", label_names=())
    split = _SPLITS[match["split"].lower()]
    return _Part(images, _labels_beside(images), split, match["dataset"], _label_names(images))


def _labels_beside(images: Path) -> Path | None:
    """The labels file that belongs to `images`, in any of the spellings in use."""
    stem = re.sub("idx3", "idx1", re.sub("images", "labels", images.name.removesuffix(".gz")))
    spellings = {stem, *(re.sub(r"[-_.]idx1[-_.]", f"{mark}idx1-", stem) for mark in "-.")}
    found = [images.with_name(name + gz) for name, gz in itertools.product(sorted(spellings), ("", ".gz"))]
    return next((path for path in found if path.is_file()), None)


def _label_names(images: Path) -> tuple[str, ...]:
    """Names of the labels, if the file's name or the nearest folder that speaks of MNIST tells which it is."""
    for part in (images.name, *(folder.name for folder in list(images.parents)[:3])):
        word = re.sub("[^a-z0-9]", "", part.lower())
        if "mnist" in word:
            return next((names for dataset, names in _LABEL_NAMES.items() if dataset in word), ())
    return ()


# -- what is in them -----------------------------------------------------------------------------


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open_bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if _is_compressed(path) else path.open("rb")


def _begins_like_images(path: Path) -> bool:
    try:
        with _open_bytes(path) as file:
            return file.read(4) == _IMAGES_MAGIC
    except (OSError, EOFError, zlib.error):
        return False


def _read(file: BinaryIO, size_bytes: int, path: Path) -> bytes:
    try:
        data = file.read(size_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged or cut short ({error}); get it again") from error
    if len(data) < size_bytes:
        raise InputError(f"{path} ends {size_bytes - len(data)} bytes too early; get it again")
    return data


def _read_header(file: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    """The sizes of an IDX file of unsigned bytes; leaves `file` at the first value."""
    magic = _read(file, 4, path)
    if magic != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        needed = "images (magic 00000803)" if dimensions == 3 else "labels (magic 00000801)"
        raise InputError(f"{path} must be an IDX file of {needed}, its magic number is {magic.hex()}")
    shape = tuple(int(size) for size in np.frombuffer(_read(file, 4 * dimensions, path), dtype=">u4"))
    if 0 in shape[1:]:
        raise InputError(f"{path} says its images are {shape[1]} x {shape[2]} pixels; get it again")
    return shape


def _shape(path: Path) -> tuple[int, int, int]:
    with _open_bytes(path) as file:
        count, height, width = _read_header(file, path, 3)
    return count, height, width


def _map_images(path: Path) -> np.ndarray:
    if _is_compressed(path):
        raise InputError(f"{path} is gzipped, and single images cannot be read out of it; unpack it first (gunzip)")
    shape, header_bytes = _shape(path), 4 * 4
    needed, got = header_bytes + math.prod(shape), path.stat().st_size
    if got != needed:
        raise InputError(f"{path} must be {needed} bytes for its {shape[0]} images, got {got}; get it again")
    return np.memmap(path, np.uint8, "r", header_bytes, shape) if shape[0] else np.empty(shape, np.uint8)


def _stream_images(path: Path) -> Iterator[np.ndarray]:
    with _open_bytes(path) as file:
        count, height, width = _read_header(file, path, 3)
        for _ in range(count):
            yield np.frombuffer(_read(file, height * width, path), np.uint8).reshape(height, width)


def _labels(part: _Part) -> np.ndarray | None:
    """All labels, uint8 (n,): a byte an image is no burden. None when there is no labels file."""
    if part.labels is None:
        return None
    with _open_bytes(part.labels) as file:
        (count,) = _read_header(file, part.labels, 1)
        labels = np.frombuffer(_read(file, count, part.labels), np.uint8)
    images = _shape(part.images)[0]
    if count != images:
        raise InputError(f"{part.labels} holds {count} labels for the {images} images of {part.images.name}")
    return labels
