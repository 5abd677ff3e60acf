"""All pairs of hashes of which at most so many bits differ: exact, from equal parts.

Where at most r bits differ, at most r of b blocks of bits do: the other q = b - r are equal. So for every choice of q
blocks the hashes are sorted by them, and those that agree are compared (Manku et al. 2007, "Detecting near-duplicates
for web crawling"; with q = 1 it is the multi-index hashing of Norouzi et al. 2012, arXiv:1307.2982). A pair may agree
in several tables; it is taken from the first. Small q means few tables and long runs of hashes that agree, large q many
tables and short runs. The runs are counted on some tables, and so the choice fits the hashes there are: where very
many share a block, more blocks must agree; at worst all are compared with all.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from imagescape.audit.collapse import Distinct
from imagescape.audit.nearest_pairs import NEAREST, Found, NearestPairs
from imagescape.audit.pairs import Pairs
from imagescape.errors import InputError
from imagescape.runtime import worker_count

_MOST_TABLES = 1000
_TABLES_TRIED = 3  # of each scheme, to count its runs
_SAMPLE = 2**16  # hashes that show how evenly the bits are set
_SORTING = 250  # what sorting a hash costs, in comparisons of two words
_TASK = 2**28  # comparisons between two looks at the clock
_FOUND_AT_ONCE = 2**20  # pairs that a task returns, or as many as one hash has
_MIX = 0x9E3779B97F4A7C15  # the golden ratio's bits: spreads the words of a key over one


def hash_pairs(
    hashes: np.ndarray,
    radius: int,
    *,
    new: np.ndarray | None = None,
    limit: int = NEAREST,
    advance: Callable[[float], None] = lambda share: None,
) -> Pairs:
    """All pairs of hashes that differ in at most `radius` bits.

    Args:
        hashes: (n, bytes) uint8, packed bits, as `features.hashing` makes them.
        radius: Bits, from 0 and below the number of bits. Chance alone brings random hashes of 64 bits within 10 bits
            once in 10^8 pairs, within 4 bits once in 3 x 10^13.
        new: (n,) bool: only pairs with at least one of these rows are wanted, and only they take time.
        limit: Near ones that a row keeps at least; see `Pairs.crowded`.
        advance: Told which share of the work is done since it was told last; in all 1.

    Returns:
        Distances are numbers of bits.

    Raises:
        InputError: no packed bits, or a radius or limit out of range.
    """
    hashes = np.asarray(hashes)
    if hashes.ndim != 2 or hashes.dtype != np.uint8 or not hashes.shape[1]:
        raise InputError(f"hashes must be packed bits, uint8 (rows, bytes), got {hashes.dtype} {hashes.shape}")
    bits = 8 * hashes.shape[1]
    if not 0 <= radius < bits or radius != int(radius):
        raise InputError(f"radius must be a whole number of bits from 0 to {bits - 1}, got {radius}")
    if limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    distinct = Distinct.of(np.ascontiguousarray(hashes), new)
    words = _as_words(hashes[distinct.rows])
    nearest = NearestPairs(len(words), limit)
    if int(radius) > 0 and distinct.asked:
        _search(words, distinct.asked, _best_scheme(words, bits, int(radius), distinct.asked), nearest, advance)
    hubs = nearest.hubs(functools.partial(_near, words, int(radius), distinct.asked))
    return distinct.kept(nearest, hubs, metric="hamming", radius=int(radius), limit=limit)


@dataclass(frozen=True, slots=True, eq=False)
class Scheme:
    """Blocks of bits, so many of which must be equal.

    Attributes:
        blocks: Masks, (b, words) uint64; every bit is in one.
        chosen: How many blocks of a pair must be equal: b less the radius.
    """

    blocks: np.ndarray
    chosen: int

    @classmethod
    def of(cls, order: np.ndarray, radius: int, chosen: int) -> "Scheme":
        """Deal the bits out in this order, (bits,), so that every block gets its share of those that tell most."""
        block_of = np.empty(len(order), np.int64)
        block_of[order] = np.arange(len(order)) % (radius + chosen)
        members = block_of == np.arange(radius + chosen)[:, None]
        return cls(_as_words(np.packbits(members, axis=1)), chosen)

    @property
    def radius(self) -> int:
        return len(self.blocks) - self.chosen

    @property
    def tables(self) -> int:
        return math.comb(len(self.blocks), self.chosen)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The blocks of each table, ascending."""
        choices = itertools.combinations(range(len(self.blocks)), self.chosen)
        return (np.array(choice, np.int64) for choice in choices)

    def some(self) -> Iterator[np.ndarray]:
        """A few tables, spread over all."""
        places = np.linspace(0, self.tables - 1, min(_TABLES_TRIED, self.tables)).astype(int)
        wanted = set(places.tolist())
        return (table for place, table in enumerate(self) if place in wanted)

    def keys(self, words: np.ndarray, table: np.ndarray) -> np.ndarray:
        """One number for the bits of a table, (n,) uint64; equal bits have equal numbers."""
        mask = np.bitwise_or.reduce(self.blocks[table], axis=0) if len(table) else np.zeros_like(self.blocks[0])
        keys = words[:, 0] & mask[0]
        for column in range(1, words.shape[1]):
            keys *= np.uint64(_MIX)
            keys ^= keys >> np.uint64(29)
            keys += words[:, column] & mask[column]
        return keys


def _as_words(packed: np.ndarray) -> np.ndarray:
    """Bytes (n, d) as words of 8, (n, ceil(d / 8)) uint64, the last filled up with zeros."""
    n, width = packed.shape
    padded = np.zeros((n, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = packed
    return padded.view(np.uint64)


def _most_telling(words: np.ndarray, bits: int) -> np.ndarray:
    """Bits by how evenly they are set and not set in a sample, (bits,): those that are nearly always the same last."""
    step = -(-len(words) // _SAMPLE)
    sample = np.unpackbits(np.ascontiguousarray(words[::step]).view(np.uint8), axis=1)[:, :bits]
    return np.argsort(np.abs(sample.mean(axis=0) - 0.5), kind="stable")


def _best_scheme(words: np.ndarray, bits: int, radius: int, asked: int) -> Scheme:
    """The one that is expected to take the fewest steps; comparing all with all is `chosen` 0."""
    n, width = words.shape
    order = _most_telling(words, bits)
    best, least = Scheme.of(order, radius, 0), asked * (n - asked / 2) * width
    for chosen in range(1, bits - radius + 1):
        scheme = Scheme.of(order, radius, chosen)
        sorting = scheme.tables * n * _SORTING
        if scheme.tables > _MOST_TABLES or sorting >= least:
            break
        runs = [_run_lengths(scheme.keys(words, table)) for table in scheme.some()]
        compared = np.mean([(run * (run - 1.0)).sum() / 2 for run in runs]) * scheme.tables * width
        share = asked / n
        cost = sorting + compared * (2 * share - share**2)
        if cost < least:
            best, least = scheme, cost
    return best


def _run_lengths(keys: np.ndarray) -> np.ndarray:
    keys = np.sort(keys)
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return np.diff(starts, append=len(keys))


def _search(
    words: np.ndarray, asked: int, scheme: Scheme, nearest: NearestPairs, advance: Callable[[float], None]
) -> None:
    """Go through all tables; each is shared out among threads."""
    from imagescape.audit import kernels

    n = len(words)
    with ThreadPoolExecutor(worker_count()) as threads:
        for table in scheme:
            keys = scheme.keys(words, table)
            order = keys.argsort(kind="stable")  # within a run those asked for come first
            keys = keys[order]
            starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
            ends = np.repeat(np.append(starts[1:], n), np.diff(starts, append=n))
            lines = np.ascontiguousarray(words[order].T)
            room = max(_FOUND_AT_ONCE, int((ends - np.arange(n)).max()))

            def task(
                start: int,
                stop: int,
                lines: np.ndarray = lines,
                order: np.ndarray = order,
                ends: np.ndarray = ends,
                table: np.ndarray = table,
                room: int = room,
            ) -> None:
                while start < stop:
                    first, second = np.empty(room, np.int64), np.empty(room, np.int64)
                    distance = np.empty(room, np.float32)
                    start, found = kernels.compare_runs(
                        lines, order, ends, start, stop, asked, scheme.blocks, table, first, second, distance
                    )
                    nearest.add(first[:found], second[:found], distance[:found])

            cuts = _shares(np.where(order < asked, ends - np.arange(n), 0) * words.shape[1])
            list(threads.map(task, cuts[:-1], cuts[1:]))
            advance(1 / scheme.tables)


def _shares(work: np.ndarray) -> np.ndarray:
    """Where to cut a line of pieces of work so that the parts are alike and not too long; both ends included."""
    done = np.cumsum(work)
    count = 4 * worker_count() + int(done[-1] // _TASK)
    inner = np.searchsorted(done, np.arange(1, count) * (done[-1] / count))
    return np.unique(np.concatenate([[0], inner, [len(work)]]))


def _near(words: np.ndarray, radius: int, asked: int, rows: np.ndarray) -> Found:
    """All pairs of these rows, as `NearestPairs.hubs` asks for them."""
    parts = []
    for place, row in enumerate(rows):
        apart = np.bitwise_count(words ^ words[row]).sum(axis=1, dtype=np.int64)
        close = apart <= radius
        close[row] = False
        if row >= asked:
            close[asked:] = False
        other = np.flatnonzero(close)
        parts.append((np.full(len(other), place), other, apart[other].astype(np.float32)))
    first, second, distance = (np.concatenate(side) for side in zip(*parts, strict=True))
    return first, second, distance
