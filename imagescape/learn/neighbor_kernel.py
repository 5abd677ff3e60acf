"""The inner loop of a neighbour map on a processor, compiled: one pass over points x negatives that stays in registers.

Written as tensor operations the same work goes through memory six times and takes several times as long. The points are
parted among the cores, always in the same way: what is learned does not depend on how many there are.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float

from imagescape.runtime import worker_count

# Dimensions of a map that are compiled for.
AXES = (2, 3)
# Pairs that a core takes at a time: half a millisecond against a few hundred negatives.
_PART = 1024

Gradients = tuple[float, np.ndarray, np.ndarray]


def shared_negatives(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"], negatives: int) -> Gradients:
    """Loss of `NeighborNCE` at width 1, summed over the 2n points, and its gradients by a and b, (n, d) each.

    Args:
        a, b: float32, of 2 or 3 dimensions. The first `negatives` rows of a are what every point is compared with.
    """
    axes, a, b = a.shape[1], np.ascontiguousarray(a), np.ascontiguousarray(b)
    on_a, on_b = np.zeros_like(a), np.zeros_like(b)
    starts = range(0, len(a), _PART)
    on_negatives = np.zeros((len(starts), 3, negatives), np.float32)
    loop = _compiled(axes)

    def part(number: int) -> float:
        start = starts[number]
        return loop(a, b, start, min(start + _PART, len(a)), on_a, on_b, on_negatives[number])

    workers = worker_count()
    each = map if workers == 1 or len(starts) == 1 else _pool(workers).map
    total = sum(each(part, range(len(starts))))
    on_a[:negatives] += on_negatives.sum(0)[:axes].T
    return total, on_a, on_b


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "neighbor-map")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads


@functools.cache
def _compiled(axes: int) -> Callable[..., float]:
    """The loop for so many axes; compiled in a second or two, then kept beside this file or in the user's cache."""
    # Here and not above: loading the compiler takes a moment that only maps of features need.
    import numba

    one, two = np.float32(1), np.float32(2)
    third = axes == 3

    # Sums may be taken in any order, and 1 / x needs no check, as it is never of 0: else nothing is vectorised.
    @numba.njit(fastmath=True, error_model="numpy", nogil=True, cache=True)
    def loop(a: Any, b: Any, start: int, stop: int, on_a: Any, on_b: Any, on_negatives: Any) -> float:
        m = on_negatives.shape[1]
        # Negatives in one array an axis, so that neighbouring lanes read neighbouring numbers.
        x, y, z = a[:m, 0].copy(), a[:m, 1].copy(), a[:m, axes - 1].copy()
        # What each negative pushes with, of one point; and what it is pushed by, of all.
        push_x, push_y, push_z = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        on_x, on_y, on_z = on_negatives[0], on_negatives[1], on_negatives[2]
        total = 0.0
        for side in range(2):
            points, on_points = (a, on_a) if side == 0 else (b, on_b)
            for i in range(start, stop):
                px, py, pz = points[i, 0], points[i, 1], points[i, axes - 1]
                apart_x, apart_y, apart_z = a[i, 0] - b[i, 0], a[i, 1] - b[i, 1], a[i, axes - 1] - b[i, axes - 1]
                square = apart_x * apart_x + apart_y * apart_y
                if third:
                    square += apart_z * apart_z
                positive = one / (one + square)
                normaliser = positive
                sum_x = sum_y = sum_z = np.float32(0)
                for k in range(m):
                    dx, dy = px - x[k], py - y[k]
                    square = dx * dx + dy * dy
                    if third:
                        dz = pz - z[k]
                        square += dz * dz
                    q = one / (one + square)
                    normaliser += q
                    q *= q
                    push_x[k], push_y[k] = q * dx, q * dy
                    sum_x += q * dx
                    sum_y += q * dy
                    if third:
                        push_z[k] = q * dz
                        sum_z += q * dz
                if i < m:  # nobody is told from itself, or its pair
                    dx, dy = px - x[i], py - y[i]
                    square = dx * dx + dy * dy
                    if third:
                        dz = pz - z[i]
                        square += dz * dz
                    normaliser -= one / (one + square)
                    sum_x -= push_x[i]
                    sum_y -= push_y[i]
                    push_x[i] = push_y[i] = 0
                    if third:
                        sum_z -= push_z[i]
                        push_z[i] = 0
                total += np.log(normaliser / positive)
                scale, pull = two / normaliser, two * positive * (one - positive / normaliser)
                on_points[i, 0] -= scale * sum_x
                on_points[i, 1] -= scale * sum_y
                on_a[i, 0] += pull * apart_x
                on_a[i, 1] += pull * apart_y
                on_b[i, 0] -= pull * apart_x
                on_b[i, 1] -= pull * apart_y
                if third:
                    on_points[i, 2] -= scale * sum_z
                    on_a[i, 2] += pull * apart_z
                    on_b[i, 2] -= pull * apart_z
                for k in range(m):
                    on_x[k] += scale * push_x[k]
                    on_y[k] += scale * push_y[k]
                if third:
                    for k in range(m):
                        on_z[k] += scale * push_z[k]
        return total

    return loop
