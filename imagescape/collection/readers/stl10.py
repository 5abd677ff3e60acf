"""STL-10 from its binary archive or the folder it unpacks to: 13,000 labelled and 100,000 unlabelled images.

Source: Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature
learning". An image is 27,648 bytes: red, green, blue planes, each stored column after column.
Files are read image by image, for `unlabeled_X.bin` alone is 2.7 GB; those of the unpacked folder
can be gone back to (`fetch_rows`).
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from imagescape.collection.readers.archive import Member, is_tar, members
from imagescape.collection.readers.item import Item, Reader, row_uri
from imagescape.errors import InputError
from imagescape.images.decode import Decoded

_SIDE_PX = 96
_IMAGE_BYTES = 3 * _SIDE_PX * _SIDE_PX
_SPLITS = {"train_X.bin": "train", "test_X.bin": "test", "unlabeled_X.bin": "unlabeled"}
_LABELS = {"train_y.bin": "train", "test_y.bin": "test"}

# class_names.txt as published: the archive has it behind 3 GB of pixels, this saves unpacking them for it
_CLASS_NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def matches(path: Path) -> bool:
    """Whether `path` is an STL-10 archive (by its name), an unpacked one (by its files), or one of its images files."""
    if path.is_dir():
        return any((path / name).is_file() for name in _SPLITS)
    return is_tar(path, "stl10") or (path.name in _SPLITS and path.is_file())


def open(path: Path) -> Reader:
    """Read the STL-10 archive or folder at `path`, or one split of a folder, given as its images file.

    Columns: `split` ("train", "test", "unlabeled"), `label` (int64, 0 to 9, null when unlabelled)
    and `label_name`.

    Raises:
        InputError: an images or labels file is missing, damaged or not what STL-10 publishes.
    """
    path = Path(os.path.abspath(path))
    if path.name in _SPLITS and path.is_file():
        return _Stl10Reader(path.parent, frozenset({path.name}))
    return _Stl10Reader(path, frozenset(_SPLITS))


def fetch_rows(path: Path, rows: Sequence[int]) -> list[np.ndarray | Decoded]:
    """Images number `rows` of the unpacked images file at `path`: uint8 (96, 96, 3) each, in that order.

    Raises:
        InputError: the file is damaged.
    """
    with path.open("rb") as stream:
        images_file = Member(path.name, path.stat().st_size, path, stream)
        count = _image_count(images_file)
        images: list[np.ndarray | Decoded] = []
        for row in rows:
            if row < count:
                stream.seek(row * _IMAGE_BYTES)
                images.append(_upright(images_file.read(_IMAGE_BYTES)))
            else:
                images.append(Decoded(None, "vanished", f"{path.name} has {count} images now"))
    return images


class _Stl10Reader:
    schema = pa.schema([("split", pa.string()), ("label", pa.int64()), ("label_name", pa.string())])

    def __init__(self, path: Path, images_files: frozenset[str]) -> None:
        self._path = path
        self._images_files = images_files
        self._names = _CLASS_NAMES
        self._labels: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        # Labels and names come first, they may lie behind the images. In an archive this stops at
        # the last labels file, so that the unlabelled images are not unpacked twice.
        for member in members(path):
            if member.name in images_files:
                counts[_SPLITS[member.name]] = _image_count(member)
            elif member.name in _LABELS:
                self._labels[_LABELS[member.name]] = np.frombuffer(member.read(), np.uint8)
            elif member.name == "class_names.txt":
                self._names = member.read().decode().split()
            if len(self._labels) == len(_LABELS) and not path.is_dir():
                break
        if not counts:
            raise InputError(f"{path} holds none of STL-10's images ({', '.join(_SPLITS)})")
        self.total: int | None = sum(counts.values()) if path.is_dir() else None
        for split, count in counts.items():
            self._check_labels(split, count)

    def _check_labels(self, split: str, count: int) -> None:
        if split == "unlabeled":
            return
        labels = self._labels.get(split)
        if labels is None or len(labels) != count:
            got = "no such file" if labels is None else f"{len(labels)}"
            raise InputError(f"{self._path} needs {count} labels in {split}_y.bin, got {got}; get it again")
        if count and not 1 <= labels.min() <= labels.max() <= len(self._names):
            raise InputError(
                f"{split}_y.bin in {self._path} must hold labels 1 to {len(self._names)}, "
                f"got {labels.min()} to {labels.max()}; get it again"
            )

    def __iter__(self) -> Iterator[Item]:
        rows: defaultdict[Path, Iterator[int]] = defaultdict(itertools.count)
        for member in members(self._path):
            if member.name not in self._images_files:
                continue
            split = _SPLITS[member.name]
            count = _image_count(member)
            self._check_labels(split, count)
            labels = self._labels.get(split)
            for index in range(count):
                columns: dict[str, object] = {"split": split, "label": None, "label_name": None}
                if labels is not None:
                    label = int(labels[index]) - 1  # published as 1 to 10
                    columns |= {"label": label, "label_name": self._names[label]}
                yield Item(
                    row_uri(member.container, next(rows[member.container])),
                    array=_upright(member.read(_IMAGE_BYTES)),
                    columns=columns,
                    refetchable=self._path.is_dir(),
                )


def _image_count(member: Member) -> int:
    count, rest = divmod(member.size_bytes, _IMAGE_BYTES)
    if rest:
        raise InputError(
            f"{member.name} in {member.container} must be whole images of {_IMAGE_BYTES} bytes, "
            f"got {member.size_bytes} bytes; get it again"
        )
    return count


def _upright(data: bytes) -> np.ndarray:
    """Planes of columns to rows of pixels: uint8 (96, 96, 3)."""
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(3, _SIDE_PX, _SIDE_PX).transpose(2, 1, 0))
