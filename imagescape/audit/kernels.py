"""The inner loops of the searches and of grouping, compiled; a second or so each the first time, then kept on disk.

This module is imported where a loop is needed: loading the compiler takes a moment.
"""

import heapq
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

_TILE = 256  # entries that are looked at together before single ones are


@intrinsic
def _bits_set(typing: Any, word: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return numba.types.uint64(numba.types.uint64), build


@intrinsic
def _as_float(typing: Any, number: Any) -> Any:
    """A float32 as it is, and the bits of a float16 widened."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if number == numba.types.float32:
            return arguments[0]
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return numba.types.float32(number), build


@numba.njit(nogil=True, cache=True)
def compare_runs(
    lines: Any,
    order: Any,
    ends: Any,
    start: int,
    stop: int,
    asked: int,
    blocks: Any,
    table: Any,
    first: Any,
    second: Any,
    distance: Any,
) -> tuple[int, int]:
    """Compare sorted hashes with those behind them in their run; see `hash_pairs`.

    Args:
        lines: The hashes in order, (words, n) uint64.
        order: The item of each, (n,).
        ends: Where the run of each ends, (n,).
        start: The first that is compared with those behind it.
        stop: Behind the last.
        asked: Items from this on are compared with lower ones only.
        blocks: Masks of the blocks of bits, (b, words).
        table: The blocks that are equal within a run, ascending; b less their number is the radius.
        first, second, distance: Room for the pairs.

    Returns:
        Where it stopped, which is before `stop` if room ran short, and how many pairs it found.
    """
    width, radius = len(lines), np.uint64(len(blocks) - len(table))
    apart = np.empty(_TILE, np.uint64)
    found = 0
    for i in range(start, stop):
        if order[i] >= asked:
            continue
        if len(first) - found < ends[i] - i:
            return i, found
        for begin in range(i + 1, ends[i], _TILE):
            size = min(_TILE, ends[i] - begin)
            own, others = lines[0, i], lines[0, begin : begin + size]
            for t in range(size):
                apart[t] = _bits_set(own ^ others[t])  # type: ignore[call-arg]
            for column in range(1, width):
                own, others = lines[column, i], lines[column, begin : begin + size]
                for t in range(size):
                    apart[t] += _bits_set(own ^ others[t])  # type: ignore[call-arg]
            close = False
            for t in range(size):
                close |= apart[t] <= radius
            if close:
                for t in range(size):
                    if apart[t] <= radius and _agrees_first_in(table, lines, blocks, i, begin + t):
                        first[found], second[found], distance[found] = order[i], order[begin + t], apart[t]
                        found += 1
    return stop, found


@numba.njit(nogil=True, cache=True)
def _agrees_first_in(table: Any, lines: Any, blocks: Any, i: int, j: int) -> bool:
    """Whether the first equal blocks of two hashes are those of the table: it is the first in which they agree."""
    place = 0
    for block in range(len(blocks)):
        if place == len(table):
            break
        differs = np.uint64(0)
        for column in range(len(lines)):
            differs |= (lines[column, i] ^ lines[column, j]) & blocks[block, column]
        if differs == 0:
            if table[place] != block:
                return False
            place += 1
    return True


@numba.njit(error_model="numpy", nogil=True, cache=True)
def look(
    product: Any,
    bound: Any,
    rows: Any,
    column: int,
    start: int,
    stop: int,
    both_ways: bool,
    asked: int,
    values: Any,
    value_of: Any,
    scale: Any,
    square: Any,
    first: Any,
    second: Any,
    distance: Any,
) -> tuple[int, int]:
    """Measure what passes the bound in a product of coordinates; see `feature_pairs`.

    Args:
        product: (r, w) float32.
        bound: By item, what entries of its line must reach, (m,) float32.
        rows: The item of each line, (r,).
        column: The item of the first column.
        start: The first line.
        stop: Behind the last.
        both_ways: Also take pairs whose second item is lower.
        asked: Of two items from this on, no pair is wanted.
        values: Vectors, float32, or the bits of float16 as uint16, (n, d).
        value_of: The vector of each item, (m,).
        scale: What its numbers are multiplied with, (m,) float32.
        square: Largest squared distance that is taken.
        first, second, distance: Room for the pairs; distances are left squared.

    Returns:
        As `compare_runs`.
    """
    width, found = product.shape[1], 0
    for line in range(start, stop):
        if len(first) - found < width:
            return line, found
        i = rows[line]
        least = bound[i]
        for begin in range(0 if both_ways else max(0, i + 1 - column), width, _TILE):
            part = product[line, begin : min(begin + _TILE, width)]
            passes = False
            for t in range(len(part)):
                passes |= part[t] >= least
            if passes:
                for t in range(len(part)):
                    j = column + begin + t
                    if part[t] >= least and i != j and (i < asked or j < asked):
                        apart = _square_of(values[value_of[i]], values[value_of[j]], scale[i], scale[j])
                        if apart <= square:
                            first[found], second[found], distance[found] = i, j, apart
                            found += 1
    return stop, found


# Sums may be taken in any order, or nothing is vectorised.
@numba.njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
def _square_of(a: Any, b: Any, scale_a: Any, scale_b: Any) -> Any:
    total = np.float32(0)
    for k in range(len(a)):
        apart = _as_float(a[k]) * scale_a - _as_float(b[k]) * scale_b  # type: ignore[call-arg]
        total += apart * apart
    return total


@numba.njit(nogil=True, cache=True)
def set_bars(first: Any, second: Any, bits: Any, crowded: Any, limit: int, bar: Any) -> None:
    """Write the `limit`-th of the near ones of each crowded row that has so many; see `nearest_pairs`.

    Args:
        first, second: Rows of the pairs, (p,).
        bits: Of their distances, uint32.
        crowded: Which rows are, (n,) bool.
        limit: At least 1.
        bar: Distance and other row of the `limit`-th as one number, (n,) uint64.
    """
    starts = np.zeros(len(crowded) + 1, np.int64)
    for p in range(len(first)):
        starts[first[p] + 1] += crowded[first[p]]
        starts[second[p] + 1] += crowded[second[p]]
    starts = np.cumsum(starts)
    keys, place = np.empty(starts[-1], np.uint64), starts[:-1].copy()
    for p in range(len(first)):
        for row, other in ((first[p], second[p]), (second[p], first[p])):
            if crowded[row]:
                keys[place[row]] = np.uint64(bits[p]) << np.uint64(32) | np.uint64(other)
                place[row] += 1
    for row in range(len(crowded)):
        if starts[row + 1] - starts[row] >= limit:
            bar[row] = np.sort(keys[starts[row] : starts[row + 1]])[limit - 1]


@numba.njit(nogil=True, cache=True)
def cover(starts: Any, others: Any, apart: Any, copies: Any) -> Any:
    """Centres, one after the other the item with the most near ones that are in no group yet; see `duplicates`.

    Args:
        starts: Where the near ones of each item begin, and the end, (m + 1,).
        others: Near ones, item by item.
        apart: The distances to them, float32.
        copies: Rows that an item stands for, (m,).

    Returns:
        The centre of each item, (m,) int64, and the distance to it, (m,) float32.
    """
    m = len(copies)
    center, distance = np.full(m, -1, np.int64), np.zeros(m, np.float32)
    near = copies.copy()
    for i in range(m):
        for e in range(starts[i], starts[i + 1]):
            near[i] += copies[others[e]]
    # The most near ones first, the lowest of several: as one number.
    heap = [i - near[i] * m for i in range(m)]
    heapq.heapify(heap)
    while len(heap) > 0:
        entry = heapq.heappop(heap)
        i = entry % m
        if center[i] >= 0:
            continue
        if entry != i - near[i] * m:  # some of its near ones have gone since
            heapq.heappush(heap, i - near[i] * m)
            continue
        center[i] = i
        for e in range(starts[i], starts[i + 1]):
            if center[others[e]] < 0:
                center[others[e]], distance[others[e]] = i, apart[e]
        for e in range(starts[i], starts[i + 1]):
            j = others[e]
            if center[j] == i:
                for f in range(starts[j], starts[j + 1]):
                    near[others[f]] -= copies[j]
    return center, distance
