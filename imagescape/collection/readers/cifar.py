"""CIFAR-10 and CIFAR-100, straight from the published archives or the folders they unpack to.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images". The "python"
version stores each batch as a pickle, and a pickle from elsewhere can run any program: batches
are read by an unpickler that builds numbers, strings, lists, dicts and NumPy arrays and refuses
everything else. The "binary" version (.bin) is read as well.

One batch (at most 155 MB, CIFAR-100's training set) is in memory at a time.
"""

import io
import itertools
import os
import pickle
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.readers.archive import Member, is_tar, members
from imagescape.collection.readers.item import Item, Reader, row_uri
from imagescape.errors import InputError

_PIXELS_BYTES = 3 * 32 * 32

# batch file -> its split; CIFAR-10 has five training batches, CIFAR-100 one
_CIFAR10_SPLITS = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
_CIFAR100_SPLITS = {"train": "train", "test": "test"}

# the files that an unpacked archive is known by, one row a version
_TELLTALE = (
    *(("data_batch_1",), ("test_batch",), ("data_batch_1.bin",), ("test_batch.bin",)),
    *(("meta", "train"), ("fine_label_names.txt", "train.bin")),
)

# key of the pickled metadata, or text file of the binary version -> the column it names
_NAMES_OF = {
    "label_names": "label",
    "fine_label_names": "label",
    "coarse_label_names": "superclass",
    "batches.meta.txt": "label",
    "fine_label_names.txt": "label",
    "coarse_label_names.txt": "superclass",
}


def matches(path: Path) -> bool:
    """Whether `path` is a CIFAR archive (by its name) or an unpacked one (by its files)."""
    if not path.is_dir():
        return is_tar(path, "cifar")
    return any(all((path / name).is_file() for name in files) for files in _TELLTALE)


def open(path: Path) -> Reader:
    """Read the CIFAR-10 or CIFAR-100 archive or folder at `path`, python or binary version.

    Columns: `split`, `label` (int64), `label_name`; for CIFAR-100 also `superclass` (int64, the
    20 coarse classes) and `superclass_name`.

    Raises:
        InputError: there are no batches, or one is damaged or is not what CIFAR publishes.
    """
    return _CifarReader(Path(os.path.abspath(path)))


@dataclass(frozen=True, slots=True)
class _Batch:
    images: np.ndarray  # uint8 (n, 32, 32, 3)
    classes: dict[str, list[int]]  # "label" and perhaps "superclass", n each


class _CifarReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, list[str]] = {}
        kinds: set[frozenset[str]] = set()
        total = 0
        # Names may come after the batches in the archive, so it is read through once before the
        # first image is given: this also finds damage before anything is stored.
        for member in members(path):
            if _split_of(member.name) is None:
                self._names.update(_read_names(member))
            else:
                batch = _read_batch(member)
                kinds.add(frozenset(batch.classes))
                total += len(batch.images)
        if not total:
            raise InputError(f"{path} holds no CIFAR batches (data_batch_1 ... test_batch, or train and test)")
        if len(kinds) > 1:
            raise InputError(f"{path} mixes batches of CIFAR-10 and of CIFAR-100; put each in a folder of its own")
        self.total: int | None = total
        self._columns = sorted(*kinds)  # "label" before "superclass"
        fields = [pa.field("split", pa.string())]
        for column in self._columns:
            fields += [pa.field(column, pa.int64()), pa.field(f"{column}_name", pa.string())]
        self.schema = pa.schema(fields)

    def __iter__(self) -> Iterator[Item]:
        rows: defaultdict[Path, Iterator[int]] = defaultdict(itertools.count)
        for member in members(self._path):
            split = _split_of(member.name)
            if split is None:
                continue
            batch = _read_batch(member)
            for index, image in enumerate(batch.images):
                columns: dict[str, object] = {"split": split}
                for column in self._columns:
                    number = batch.classes[column][index]
                    columns |= {column: number, f"{column}_name": self._name(column, number)}
                uri = row_uri(member.container, next(rows[member.container]))
                yield Item(uri=uri, array=np.ascontiguousarray(image), columns=columns, refetchable=False)

    def _name(self, column: str, number: int) -> str | None:
        names = self._names.get(column)
        if names is None:
            return None
        if not 0 <= number < len(names):
            raise InputError(f"{self._path} has {column} {number} but names only {len(names)}; get it again")
        return names[number]


def _split_of(name: str) -> str | None:
    stem = name.removesuffix(".bin")
    return _CIFAR10_SPLITS.get(stem) or _CIFAR100_SPLITS.get(stem)


def _read_batch(member: Member) -> _Batch:
    data = member.read()
    if member.name.endswith(".bin"):
        return _from_binary(data, member)
    return _from_pickle(data, member)


def _from_binary(data: bytes, member: Member) -> _Batch:
    """Rows of one label byte (CIFAR-100: coarse, then fine) and 3072 bytes of pixels."""
    classes = ["label"] if member.name.removesuffix(".bin") in _CIFAR10_SPLITS else ["superclass", "label"]
    row_bytes = len(classes) + _PIXELS_BYTES
    if len(data) % row_bytes:
        raise InputError(f"{member.name} must be whole rows of {row_bytes} bytes, got {len(data)} bytes; get it again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, row_bytes)
    return _Batch(
        _channels_last(rows[:, len(classes) :]), {name: rows[:, i].tolist() for i, name in enumerate(classes)}
    )


def _from_pickle(data: bytes, member: Member) -> _Batch:
    content = _load_pickle(data, member)
    pixels = content.get("data")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (_PIXELS_BYTES,)):
        raise InputError(
            f"{member.name} must hold 'data', a uint8 array (n, {_PIXELS_BYTES}), got {_described(pixels)}"
        )
    keys = {"labels": "label"} if "labels" in content else {"fine_labels": "label", "coarse_labels": "superclass"}
    classes = {}
    for key, column in keys.items():
        numbers = content.get(key)
        if not isinstance(numbers, list) or len(numbers) != len(pixels):
            raise InputError(f"{member.name} must hold '{key}', {len(pixels)} numbers, got {_described(numbers)}")
        classes[column] = [int(number) for number in numbers]
    return _Batch(_channels_last(pixels), classes)


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """(n, 3072), red then green then blue planes, to (n, 32, 32, 3)."""
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _read_names(member: Member) -> dict[str, list[str]]:
    if member.name in ("batches.meta", "meta"):
        content = _load_pickle(member.read(), member)
        named = {column: content[key] for key, column in _NAMES_OF.items() if isinstance(content.get(key), list)}
        return {column: [str(name) for name in names] for column, names in named.items()}
    if member.name in _NAMES_OF:
        return {_NAMES_OF[member.name]: member.read().decode().split()}
    return {}


# -- pickles from elsewhere ------------------------------------------------------------------------

# How NumPy pickles an array. Its module was renamed in NumPy 2; the published files say the first.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays and plain values; a pickle that asks for any other class or function is refused."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs") from None


def _load_pickle(data: bytes, member: Member) -> dict[str, Any]:
    try:
        # latin1: the files were written by Python 2, whose strings were bytes
        content = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"{member.name} in {member.container} is not a CIFAR batch: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{member.name} in {member.container} must hold a dict, got {_described(content)}")
    return content


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{len(value)} numbers" if isinstance(value, list) else f"a {type(value).__name__}"
