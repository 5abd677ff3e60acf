"""Writes TensorFlow V2 checkpoints byte by byte, to have ones that TensorFlow would not write."""

import struct
from pathlib import Path

import numpy as np

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}


def _crc_table():
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


CRC_TABLE = tuple(_crc_table())


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = slow_crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protocol buffer: integers as varints, field 6 as four bytes, bytes with their length."""
    out = b""
    for number, value in fields:
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif number == 6:
            out += varint(number << 3 | 5) + struct.pack("<I", value)
        else:
            out += varint(number << 3) + varint(value)
    return out


def entry(array: np.ndarray, offset: int, *, shard: int = 0, crc: int = 0, dtype: int | None = None) -> bytes:
    shape = b"".join(message((2, message((1, size)))) for size in array.shape)
    number = DTYPES[array.dtype.name] if dtype is None else dtype
    return message((1, number), (2, shape), (3, shard), (4, offset), (5, array.nbytes), (6, crc))


def block(records: list[tuple[bytes, bytes]], *, restart_every: int = 16, compression: int = 0) -> bytes:
    """A block with its trailer; keys are cut by what they share with the one before, but at restarts."""
    out, restarts, before = b"", [], b""
    for i, (key, value) in enumerate(records):
        shared = 0
        if i % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    out += struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts))
    kind = bytes([compression])
    return out + kind + struct.pack("<I", masked(out + kind))


def table(records: dict[bytes, bytes], *, block_records: int = 7, compression: int = 0) -> bytes:
    items, out, index = sorted(records.items()), b"", []
    for start in range(0, len(items), block_records):
        part = items[start : start + block_records]
        content = block(part, restart_every=3, compression=compression)
        index.append((part[-1][0], varint(len(out)) + varint(len(content) - 5)))
        out += content
    handles = b""
    for content in (block([]), block(index, restart_every=1)):
        handles += varint(len(out)) + varint(len(content) - 5)
        out += content
    return out + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_bundle(
    prefix: Path, tensors: dict[str, np.ndarray], *, shards: int = 1, checksums: bool = True, **options
) -> Path:
    """Write `tensors`, spread over the shards in turn. Without checksums it must be read with `verify=False`."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data, records = [bytearray() for _ in range(shards)], {b"": message((1, shards))}
    for i, (name, array) in enumerate(tensors.items()):
        content, shard = array.tobytes(), i % shards
        crc = masked(content) if checksums else 0
        records[name.encode()] = entry(array, len(data[shard]), shard=shard, crc=crc)
        data[shard] += content
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{shards:05}").write_bytes(content)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(records, **options))
    return prefix
