"""CRC-32C of gigabytes, with NumPy alone.

With a register that starts at zero, a checksum is linear over XOR, and zero bytes in front of a message change
nothing. So all 8-byte words are checksummed side by side through tables of 16 bits, and neighbours are then joined,
pair by pair: crc(ab) = advance(crc(a), len(b)) ^ crc(b).
"""

from functools import cache

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_CHUNK_BYTES = 1 << 18  # a power of two wastes no padding; its temporaries stay in the cache


def crc32c(data: np.ndarray) -> int:
    """CRC-32C (RFC 3720, appendix B.4) of uint8 data; 0 for none."""
    crc = 0
    for start in range(0, data.size, _CHUNK_BYTES):
        chunk = data[start : start + _CHUNK_BYTES]
        crc = _advance(crc, chunk.size) ^ _raw_crc(chunk)
    return crc ^ _advance(0xFFFFFFFF, data.size) ^ 0xFFFFFFFF


def _raw_crc(chunk: np.ndarray) -> int:
    """The checksum of at most `_CHUNK_BYTES`, from a register of zero and without the final inversion."""
    padded = np.zeros(max(8, 1 << (chunk.size - 1).bit_length()), np.uint8)
    padded[padded.size - chunk.size :] = chunk
    halves = padded.view("<u2").reshape(-1, 4)
    # The register of 32 bits takes a word's first four bytes, and is then carried over the other four.
    crc = np.zeros(len(halves), np.uint32)
    for place in range(4):
        crc ^= _table_over(8 - 2 * place)[0][halves[:, place]]
    step_bytes = 8
    while len(crc) > 1:
        low, high = _table_over(step_bytes)
        left, right = crc[0::2], crc[1::2]
        crc = low[left & 0xFFFF] ^ high[left >> 16] ^ right
        step_bytes *= 2
    return int(crc[0])


@cache
def _table_over(zeros_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """What becomes of the lower and of the upper 16 bits of a register that so many zero bytes go through."""
    basis = _columns(zeros_bytes)
    tables = []
    for columns in (basis[:16], basis[16:]):
        table = np.zeros(1, np.uint32)
        for column in columns:
            table = np.concatenate([table, table ^ column])
        tables.append(table)
    return tables[0], tables[1]


@cache
def _columns(zeros_bytes: int) -> np.ndarray:
    """The images of the 32 single bits, lowest first: the matrix of `zeros_bytes` zero bytes, a power of two or 6."""
    if zeros_bytes == 1:
        columns = [1 << bit for bit in range(32)]
        for _ in range(8):
            columns = [(value >> 1) ^ (_POLYNOMIAL if value & 1 else 0) for value in columns]
        return np.array(columns, np.uint32)
    half = 1 << (zeros_bytes - 1).bit_length() - 1
    return _product(_columns(half), _columns(zeros_bytes - half))


def _product(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Columns of the matrix that does `first`, then `then`."""
    bits = (first[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    return np.bitwise_xor.reduce(np.where(bits == 1, then, np.uint32(0)), axis=1)


def _advance(crc: int, zeros_bytes: int) -> int:
    """A register after so many zero bytes, any number of them."""
    power = 1
    while zeros_bytes:
        if zeros_bytes & 1:
            bits = (crc >> np.arange(32)) & 1
            crc = int(np.bitwise_xor.reduce(np.where(bits == 1, _columns(power), np.uint32(0))))
        zeros_bytes >>= 1
        power *= 2
    return crc
