"""TensorFlow V2 checkpoints, read without TensorFlow.

A checkpoint `P` is a table `P.index` and one or more files `P.data-00000-of-0000N` of raw tensors. The table is
LevelDB's: sorted keys in blocks, each key stored as what it does not share with the one before, an index of the blocks,
and a footer of 48 bytes. Its values are two small protocol buffers, `BundleHeaderProto` under the empty key and a
`BundleEntryProto` for each tensor. Both formats are described in LevelDB's `doc/table_format.md` and in TensorFlow's
`tensor_bundle.proto`.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imagescape.errors import CheckpointError
from imagescape.features.crc32c import crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
# DataType of TensorFlow's types.proto. NumPy has no bfloat16: it is read as the float32 that it is the upper half of.
_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
_READABLE = set(_DTYPES.values()) - {"string"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset_bytes: int
    size_bytes: int
    masked_crc: int
    is_sliced: bool

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.size_bytes


@dataclass(frozen=True)
class Index:
    """The table of a checkpoint: `<prefix>.index`.

    Attributes:
        path: The file.
        shards: Files that hold the tensors.
        entries: What is stored, by name, in the table's order.
    """

    path: Path
    shards: int
    entries: dict[str, Entry] = field(repr=False)

    @classmethod
    def read(cls, path: str | Path) -> "Index":
        """
        Raises:
            CheckpointError: there is no such file, or it is damaged.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
        try:
            records = dict(_table(data))
            shards = _shards(records.pop(b""))
            # Keys that begin with a zero byte are the pieces of sliced tensors.
            entries = {key.decode(): _entry(value) for key, value in records.items() if not key.startswith(b"\0")}
        except (_Damaged, KeyError, IndexError, TypeError, struct.error, UnicodeDecodeError) as error:
            reason = error if isinstance(error, _Damaged) else "its records cannot be parsed"
            raise CheckpointError(f"{path} is damaged or no TensorFlow checkpoint index: {reason}") from error
        return cls(path, shards, entries)

    def shard_path(self, shard: int) -> Path:
        return self.path.with_suffix(f".data-{shard:05}-of-{self.shards:05}")

    def check_shard(self, shard: int, path: Path | None = None) -> None:
        """See whether a shard is long enough for its tensors.

        Args:
            shard: Its number.
            path: Where it is, when that is not beside the index.

        Raises:
            CheckpointError: it is not there, or shorter.
        """
        path = path or self.shard_path(shard)
        needed = max((entry.end_bytes for entry in self.entries.values() if entry.shard == shard), default=0)
        try:
            got = path.stat().st_size
        except OSError as error:
            raise CheckpointError(f"{self.path} needs {path.name} beside it, which is not there") from error
        if got < needed:
            raise CheckpointError(
                f"{path} is cut short: its tensors take {needed} bytes, it has {got}; fetch the file again"
            )


class Bundle:
    """Tensors of a TensorFlow V2 checkpoint by name, memory-mapped and read when they are asked for.

    Args:
        source: The prefix (`…/model.ckpt-250228`), its `.index`, or a folder with one checkpoint in it.

    Raises:
        CheckpointError: nothing there, several checkpoints, damaged, or a file is shorter than its tensors need.
    """

    def __init__(self, source: str | Path) -> None:
        self._index = Index.read(_index_path(Path(source)))
        self.path = self._index.path.with_suffix("")
        self._shards: dict[int, np.ndarray] = {}
        for shard in sorted({entry.shard for entry in self._index.entries.values()}):
            self._index.check_shard(shard)

    def names(self) -> list[str]:
        """Names of the tensors, sorted."""
        return list(self._index.entries)

    def __contains__(self, name: str) -> bool:
        return name in self._index.entries

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def dtype(self, name: str) -> str:
        """NumPy's name of the type, or "bfloat16" or "string"."""
        return self._entry(name).dtype

    def read(self, name: str, *, verify: bool = True) -> np.ndarray:
        """The tensor: a read-only view of the mapped file. bfloat16 comes as a float32 copy.

        Args:
            name: One of `names()`.
            verify: Compare its bytes with the CRC-32C in the index first, at about 4 s a gigabyte.

        Raises:
            CheckpointError: no such tensor, its checksum is wrong, or it is sliced or of strings.
        """
        entry = self._entry(name)
        if entry.is_sliced:
            raise CheckpointError(
                f"'{name}' in {self.path} is stored in slices (a partitioned variable), which cannot be read; "
                "save the checkpoint again without a partitioner"
            )
        if entry.dtype not in _READABLE:
            raise CheckpointError(f"'{name}' in {self.path} holds values of {entry.dtype}, which cannot be read")
        data = self._bytes(entry)
        if verify and mask(crc32c(data)) != entry.masked_crc:
            raise CheckpointError(
                f"'{name}' in {self._index.shard_path(entry.shard)} is damaged: its checksum is not that of the index; "
                "fetch the file again"
            )
        dtype = np.dtype("<u2" if entry.dtype == "bfloat16" else entry.dtype)
        if data.size != dtype.itemsize * int(np.prod(entry.shape, dtype=np.int64)):
            raise CheckpointError(
                f"'{name}' in {self.path} has {data.size} bytes, which are no {entry.dtype} of shape {entry.shape}"
            )
        values = data.view(dtype).reshape(entry.shape)
        return (values.astype(np.uint32) << 16).view(np.float32) if entry.dtype == "bfloat16" else values

    def _entry(self, name: str) -> Entry:
        try:
            return self._index.entries[name]
        except KeyError:
            raise CheckpointError(f"there is no variable '{name}' in {self.path}") from None

    def _bytes(self, entry: Entry) -> np.ndarray:
        if not entry.size_bytes:
            return np.empty(0, np.uint8)  # an empty file cannot be mapped
        if entry.shard not in self._shards:
            self._shards[entry.shard] = np.memmap(self._index.shard_path(entry.shard), np.uint8, mode="r")
        return self._shards[entry.shard][entry.offset_bytes : entry.end_bytes]


def _index_path(source: Path) -> Path:
    if source.is_dir():
        found = sorted(source.glob("*.index"))
        if len(found) == 1:
            return found[0]
        which = f"several: {', '.join(path.stem for path in found)}; name one of them" if found else "none"
        raise CheckpointError(f"{source} must hold one TensorFlow checkpoint (NAME.index), it holds {which}")
    name = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", source.name)
    return source.with_name(f"{name}.index")


class _Damaged(Exception):
    """What is wrong with a table."""


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table."""
    if len(data) < _FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damaged(f"its last 8 of {len(data)} bytes are not those of a table")
    footer = data[-_FOOTER_BYTES:]
    _, at = _handle(footer, 0)  # the meta-index, which is empty
    index, _ = _handle(footer, at)
    for _, value in _records(_block(data, index)):
        yield from _records(_block(data, _handle(value, 0)[0]))


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the next thing begins."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(data: bytes, handle: tuple[int, int]) -> bytes:
    """The contents of a block, its checksum verified."""
    offset, size = handle
    end = offset + size
    if end + _TRAILER_BYTES > len(data) - _FOOTER_BYTES:
        raise _Damaged(f"a block lies at bytes {offset} to {end}, beyond the file's {len(data)}")
    compression, checksum = struct.unpack("<BI", data[end : end + _TRAILER_BYTES])
    if mask(crc32c(np.frombuffer(data, np.uint8, size + 1, offset))) != checksum:
        raise _Damaged(f"the checksum of its block at byte {offset} is wrong")
    if compression:
        raise _Damaged(f"its block at byte {offset} is compressed, which TensorFlow never does")
    return data[offset:end]


def _records(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = struct.unpack("<I", block[-4:])[0]
    end, at, key = len(block) - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        size, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of 7 bits a byte, lowest first, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers of a protocol buffer with numbers, or with bytes for strings and messages."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield number, int.from_bytes(message[at : at + size], "little")
            at += size
        else:
            raise _Damaged(f"a field of unknown kind {wire}")


def _shards(header: bytes) -> int:
    fields = dict(_fields(header))
    if fields.get(2):
        raise _Damaged("its tensors are big-endian, which cannot be read")
    return int(fields.get(1, 1))


def _entry(message: bytes) -> Entry:
    fields: dict[int, Any] = dict(_fields(message))
    dims: list[Any] = [dim for number, dim in _fields(fields.get(2, b"")) if number == 2]
    return Entry(
        dtype=_DTYPES.get(fields.get(1, 0), f"type {fields.get(1, 0)}"),
        shape=tuple(int(dict(_fields(dim)).get(1, 0)) for dim in dims),
        shard=fields.get(3, 0),
        offset_bytes=fields.get(4, 0),
        size_bytes=fields.get(5, 0),
        masked_crc=fields.get(6, 0),
        is_sliced=7 in fields,
    )


def mask(crc: int) -> int:
    """A checksum as LevelDB and TensorFlow store it, so that a checksum of checksums stays one."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
