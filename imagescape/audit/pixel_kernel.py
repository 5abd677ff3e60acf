"""What is measured on every pixel of an image, compiled: a pass for colour, one for the grid of JPEG, one for edges.

Written as array operations the same work makes a dozen arrays as large as the image, and takes many times as long.
Import this where it is used and not at the head of a module: it loads the compiler, and compiles in some seconds the
first time, after which the code is kept beside this file or in the user's cache.
"""

from typing import Any

import numba
import numpy as np

_LEVELS = 2**12  # steps of perceived brightness: percentiles are right to 1 in 8,192
_BORDER_TOLERANCE = 8  # levels of 255 a channel, what JPEG makes of a flat colour
_GRID = 8  # px a block of JPEG
_EDGE = 16  # levels of a step: what is more is an edge of the picture, and counts as much as this
_LEAST_STEP = 0.5  # levels added on both sides, so that flat pictures have no blocks

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_IMAGES = numba.types.Array(numba.uint8, 4, "C", readonly=True)


@numba.njit(**_OPTIONS)
def _percentile(histogram: Any, total: int, share: float) -> float:
    """Between the two pixels next to the place, as `numpy.percentile` has it; in levels."""
    place = share * (total - 1)
    below = int(place)
    seen, level = histogram[0], 0
    while seen <= below:
        level += 1
        seen += histogram[level]
    first = level
    while seen <= below + 1 and level < len(histogram) - 1:
        level += 1
        seen += histogram[level]
    return first + (place - below) * (level - first)


@numba.njit(**_OPTIONS)
def _entropy(counts: Any, total: int) -> float:
    bits = 0.0
    for count in counts:
        if count:
            bits -= count / total * np.log2(count / total)
    return bits


@numba.njit(**_OPTIONS)
def _luma(red: int, green: int, blue: int) -> int:
    """ITU-R BT.601 in integers, as Pillow converts."""
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


@numba.njit(**_OPTIONS)
def _color(image: Any, grey: Any, level: Any, levels: Any, counts: Any, out: Any) -> None:
    """Brightness, entropy and how far a pixel is from grey; leaves the grey image."""
    height, width = grey.shape
    levels[:] = 0
    counts[:] = 0
    scale = np.float32(_LEVELS / np.sqrt(65_025_000.0))
    spread: Any = 0
    for y in range(height):
        row, tones = image[y], grey[y]
        for x in range(width):  # without a step that depends on another, so that it is vectorised
            red, green, blue = np.int32(row[x, 0]), np.int32(row[x, 1]), np.int32(row[x, 2])
            square = np.float32(241 * red * red + 691 * green * green + 68 * blue * blue)
            level[x] = np.uint16(np.sqrt(square) * scale + np.float32(0.5))
            spread = max(spread, max(red, green, blue) - min(red, green, blue))
            tones[x] = _luma(red, green, blue)
        for x in range(width):
            side = x & 1  # neighbours are often alike, and a count that was just written is slow to read
            levels[side, level[x]] += 1
            counts[side, row[x, 0]] += 1
            counts[side, 256 + row[x, 1]] += 1
            counts[side, 512 + row[x, 2]] += 1
    levels[0] += levels[1]
    counts[0] += counts[1]
    total = height * width
    out[0] = _percentile(levels[0], total, 0.05) / _LEVELS
    out[1] = _percentile(levels[0], total, 0.99) / _LEVELS
    # An image without colour is one band, whether it is stored as one or as three.
    out[2] = _entropy(counts[0], 3 * total) if spread else _entropy(counts[0, :256], total)
    out[3] = spread / 255


@numba.njit(**_OPTIONS)
def _edges(image: Any, grey: Any, counts: Any, out: Any) -> None:
    """Deviation of the edges (each pixel against its 8 neighbours), and of the counts of the grey histogram."""
    height, width = image.shape[:2]
    counts[:256] = 0
    for y in range(height):
        for x in range(width):
            grey[y, x] = _luma(np.int32(image[y, x, 0]), np.int32(image[y, x, 1]), np.int32(image[y, x, 2]))
            counts[grey[y, x]] += 1
    total: Any = 0
    squares: Any = 0
    for y in range(height):
        for x in range(width):
            edge: Any = np.int32(grey[y, x])
            if 0 < y < height - 1 and 0 < x < width - 1:  # Pillow leaves the rim as it is
                edge *= 9
                for j in range(y - 1, y + 2):
                    for i in range(x - 1, x + 2):
                        edge -= np.int32(grey[j, i])
                edge = min(max(edge, 0), 255)
            total += edge
            squares += edge * edge
    many = height * width
    out[4] = np.sqrt(max(squares / many - (total / many) ** 2, 0.0))
    deviation = 0.0
    for level in range(256):
        deviation += (counts[level] - many / 256) ** 2
    out[5] = np.sqrt(deviation / 256)


@numba.njit(**_OPTIONS)
def _is_flat(image: Any, top: int, bottom: int, left: int, right: int, tone: Any) -> bool:
    for y in range(top, bottom):
        for x in range(left, right):
            for c in range(3):
                if abs(np.int32(image[y, x, c]) - tone[c]) > _BORDER_TOLERANCE:
                    return False
    return True


@numba.njit(**_OPTIONS)
def _border(image: Any) -> float:
    """Share of the image outside of the least rectangle that holds all that is not of a corner's colour."""
    height, width = image.shape[:2]
    tone, most = np.empty(3, np.int32), 0.0
    for corner in range(4):
        for c in range(3):
            tone[c] = image[(height - 1) * (corner // 2), (width - 1) * (corner % 2), c]
        top, bottom, left, right = 0, height, 0, width
        while top < bottom and _is_flat(image, top, top + 1, 0, width, tone):
            top += 1
        while bottom > top and _is_flat(image, bottom - 1, bottom, 0, width, tone):
            bottom -= 1
        while left < right and _is_flat(image, top, bottom, left, left + 1, tone):
            left += 1
        while right > left and _is_flat(image, top, bottom, right - 1, right, tone):
            right -= 1
        most = max(most, 1 - (bottom - top) * (right - left) / (height * width))
    return most


@numba.njit(**_OPTIONS)
def _stands_out(a: int, b: int, c: int, d: int) -> int:
    """Twice how much larger the step between b and c is than the steps beside it."""
    before, step, after = min(abs(b - a), _EDGE), min(abs(c - b), _EDGE), min(abs(d - c), _EDGE)
    return max(2 * step - before - after, 0)


@numba.njit(**_OPTIONS)
def _blockiness(grey: Any, columns: Any) -> float:
    """Mean of `stands_out` across the lines of the grid, over that across all other lines."""
    height, width = grey.shape
    columns[:] = 0
    on_grid, lines_on_grid, elsewhere, lines_elsewhere = 0.0, 0, 0.0, 0
    for y in range(height):
        row = grey[y]
        for x in range(2, width - 1):
            columns[x] += _stands_out(
                np.int32(row[x - 2]), np.int32(row[x - 1]), np.int32(row[x]), np.int32(row[x + 1])
            )
    for x in range(2, width - 1):
        if x % _GRID:
            elsewhere += columns[x]
            lines_elsewhere += height
        else:
            on_grid += columns[x]
            lines_on_grid += height
    for y in range(2, height - 1):
        up, above, here, below = grey[y - 2], grey[y - 1], grey[y], grey[y + 1]
        total = np.int32(0)
        for x in range(width):
            total += _stands_out(np.int32(up[x]), np.int32(above[x]), np.int32(here[x]), np.int32(below[x]))
        if y % _GRID:
            elsewhere += total
            lines_elsewhere += width
        else:
            on_grid += total
            lines_on_grid += width
    if not lines_on_grid or not lines_elsewhere:
        return 1.0
    return (on_grid / lines_on_grid + _LEAST_STEP) / (elsewhere / lines_elsewhere + _LEAST_STEP)


@numba.njit(numba.void(_IMAGES, _IMAGES, numba.float64[:, ::1]), **_OPTIONS)
def measure_pixels(pixels: Any, small: Any, out: Any) -> None:
    """Write the figures of images that are equally large, without holding Python's lock.

    Args:
        pixels: (n, h, w, 3) uint8, C-contiguous.
        small: The same images, shrunk as the edges are to be measured, (n, h', w', 3) uint8, C-contiguous.
        out: (n, 8) float64: the fields of `measuring.Measurement` after the size, in their order.
    """
    grey = np.empty(pixels.shape[1:3], np.uint8)
    small_grey = np.empty(small.shape[1:3], np.uint8)
    levels, counts = np.empty((2, _LEVELS + 1), np.int32), np.empty((2, 768), np.int32)
    level, columns = np.empty(pixels.shape[2], np.uint16), np.empty(pixels.shape[2], np.int32)
    for i in range(len(pixels)):
        _color(pixels[i], grey, level, levels, counts, out[i])
        _edges(small[i], small_grey, counts[0], out[i])
        out[i, 6] = _border(pixels[i])
        out[i, 7] = _blockiness(grey, columns)
