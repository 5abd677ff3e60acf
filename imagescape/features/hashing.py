"""Perceptual hashes: a few dozen bytes that stay nearly the same when an image is resized, recompressed or retouched.

Four kinds, all of brightness alone and all on a square grid of `side` x `side` bits:

* `ahash`: is this cell brighter than the mean?
* `phash`: is this low frequency of the cosine transform stronger than the median one?
* `dhash`: is this cell brighter than the one to its left?
* `whash`: is this low frequency of the Haar wavelets above the median one?

Images are compared by the number of bits that differ (the Hamming distance). The bits are those of the `imagehash`
library 4.3 with its default settings, in its order, and so `hash_images(...)[0].tobytes().hex()` is what its hashes
print. Three things are different on purpose:

* Where a value equals the median exactly, the definition says 0. The library compares floating-point results there
  and its bit is rounding noise. It takes symmetric, flat or tiny pictures for this to show (`phash`, `whash`).
* Transparency is composited over white, as everywhere in imagescape; the library drops it.
* 16-bit and floating-point images are scaled by their range; the library clips them.

The bits are of the full-size image. Of a JPEG decoded at 1/2, 1/4 or 1/8 of its size (`decode(at_least_px=...)`) a few
bits differ, so a collection and its queries should be decoded the same way; docs/attacks.md has the figures.
"""

import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import numpy as np
from PIL import Image

from imagescape.errors import InputError
from imagescape.images.decode import to_rgb
from imagescape.runtime import worker_count

HashKind = Literal["ahash", "phash", "dhash", "whash"]

KINDS: tuple[HashKind, ...] = get_args(HashKind)

# Sides whose square is a number of whole bytes. The Haar wavelets halve and halve again: powers of two.
_SIDES = {kind: (8, 16, 32) if kind == "whash" else tuple(range(8, 33, 4)) for kind in KINDS}

HASHES: tuple[str, ...] = tuple(f"{kind}{side**2}" for kind in KINDS for side in _SIDES[kind])
"""Names of all hashes, kind and bits: "ahash64" to "whash1024"."""

_PHASH_OVERSAMPLING = 4  # pixels a side of its input for each frequency that is kept
_PHASH_GRID = 2.0**-16  # of a transform whose values reach 2**24 and whose rounding errors stay below 2**-26
_CHUNK = 256  # images held at a time as hash inputs


def parse_hash(name: str) -> tuple[HashKind, int]:
    """Kind and bits of a hash's name.

    Raises:
        InputError: there is no hash of that name.

    >>> parse_hash("phash64")
    ('phash', 64)
    """
    match = re.fullmatch(r"([a-z]+)([0-9]+)", name)
    if name not in HASHES or match is None:
        raise InputError(f"a hash must be one of {', '.join(HASHES)}, got '{name}'")
    kind: HashKind = match[1]  # type: ignore[assignment]
    return kind, int(match[2])


def hash_input_px(kind: HashKind, bits: int, image_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height that an image is resized to before it is hashed.

    Args:
        kind: Of the hash.
        bits: Of the hash.
        image_px: Width and height of the image. Only `whash` looks at it, and takes the largest power of two that
            fits into the shorter side.

    Raises:
        InputError: there is no such hash.
    """
    side = _side(kind, bits)
    if kind == "dhash":
        return side + 1, side
    if kind == "phash":
        side *= _PHASH_OVERSAMPLING
    elif kind == "whash":
        side = max(side, 1 << (min(image_px).bit_length() - 1))
    return side, side


def hash_images(images: Sequence[Image.Image], kind: HashKind, bits: int = 64) -> np.ndarray:
    """Hashes of images of any size, resized on all cores.

    Args:
        images: Pillow images in any mode, decoded at full size.
        kind: "ahash", "phash", "dhash" or "whash".
        bits: 64 to 1024, the square of a multiple of 4; for `whash` 64, 256 or 1024.

    Returns:
        (n, bits / 8) uint8, in the order given: rows of the grid one after the other, 8 bits a byte, the first bit
        being the most significant.

    Raises:
        InputError: there is no such hash.
    """
    _side(kind, bits)
    out = np.empty((len(images), bits // 8), np.uint8)
    with ThreadPoolExecutor(worker_count()) as threads:
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            inputs = list(threads.map(lambda image: hash_input(image, kind, bits), chunk))
            for shape in {grey.shape for grey in inputs}:
                rows = [row for row, grey in enumerate(inputs) if grey.shape == shape]
                out[[start + row for row in rows]] = hash_pixels(np.stack([inputs[row] for row in rows]), kind, bits)
    return out


def hash_input(image: Image.Image, kind: HashKind, bits: int = 64) -> np.ndarray:
    """The brightness of an image at the size that its hash is made of: uint8 (height, width), for `hash_pixels`.

    Args:
        image: A Pillow image in any mode, decoded at full size.
        kind: As for `hash_images`.
        bits: As for `hash_images`.

    Raises:
        InputError: there is no such hash.
    """
    grey = (image if image.mode == "L" and "transparency" not in image.info else to_rgb(image)).convert("L")
    return np.asarray(grey.resize(hash_input_px(kind, bits, image.size), Image.Resampling.LANCZOS))


def hash_pixels(grey: np.ndarray, kind: HashKind, bits: int = 64) -> np.ndarray:
    """Hashes of images already resized, without any Python for the single image.

    Args:
        grey: uint8 (n, height, width), as `hash_input` gives them.
        kind: As for `hash_images`.
        bits: As for `hash_images`.

    Returns:
        (n, bits / 8) uint8, as `hash_images`.

    Raises:
        InputError: there is no such hash, or the pixels are of another size or type.
    """
    side = _side(kind, bits)
    if grey.ndim != 3 or grey.dtype != np.uint8:
        raise InputError(f"a hash takes uint8 pixels (n, height, width), got {grey.dtype} {grey.shape}")
    height, width = grey.shape[1:]
    if (width, height) != hash_input_px(kind, bits, (width, height)):
        wanted = (
            "a square of a power of two" if kind == "whash" else "x".join(map(str, hash_input_px(kind, bits, (1, 1))))
        )
        raise InputError(f"{kind}{bits} takes images of {wanted} px (width x height), got {width}x{height}")
    if not len(grey):
        return np.empty((0, bits // 8), np.uint8)
    return np.packbits(_BITS[kind](grey, side).reshape(len(grey), bits), axis=1)


def _side(kind: str, bits: int) -> int:
    parse_hash(f"{kind}{bits}")
    return math.isqrt(bits)


def _average(grey: np.ndarray, side: int) -> np.ndarray:
    return grey > grey.mean((1, 2), keepdims=True)


def _cosine(grey: np.ndarray, side: int) -> np.ndarray:
    frequencies = low_frequencies(side, grey.shape[1])
    low = frequencies @ (grey.astype(np.float64) @ frequencies.T)
    # Equal frequencies, as those a symmetric image lacks, must compare as equal whatever the order of summation was.
    low = np.rint(low / _PHASH_GRID)
    return low > np.median(low, axis=(1, 2), keepdims=True)


def low_frequencies(count: int, samples: int) -> np.ndarray:
    """The first `count` rows of the cosine transform DCT-II of `samples` values, unnormalised: (count, samples)."""
    phases = np.outer(np.arange(count), 2 * np.arange(samples) + 1)
    return 2 * np.cos(np.pi / (2 * samples) * phases)


def _difference(grey: np.ndarray, side: int) -> np.ndarray:
    return grey[:, :, 1:] > grey[:, :, :-1]


def _haar(grey: np.ndarray, side: int) -> np.ndarray:
    """A low-pass Haar coefficient is the sum of its block, up to a factor: no wavelets need be computed.

    The library also takes the image's mean away first, which moves all blocks and their median alike.
    """
    block = grey.shape[1] // side
    sums = grey.reshape(len(grey), side, block, side, block).sum((2, 4), dtype=np.int64)
    return sums > np.median(sums, axis=(1, 2), keepdims=True)


_BITS: dict[HashKind, Callable[[np.ndarray, int], np.ndarray]] = {
    "ahash": _average,
    "phash": _cosine,
    "dhash": _difference,
    "whash": _haar,
}
