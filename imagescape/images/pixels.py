"""Many images of any kind -> one uint8 array of equal squares, which is what networks eat."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from PIL import Image

from imagescape.errors import InputError
from imagescape.images.decode import Decoded, Fit, Resample, decode, from_array, read_file, square, to_rgb
from imagescape.runtime import worker_count

_CHUNK = 256  # images handed to the threads at a time, which bounds the memory of a Dataset's samples


def as_pixels(images: Any, size_px: int, *, fit: Fit = "crop", resample: Resample = "bicubic") -> np.ndarray:
    """Square RGB pixels of many images, in the order given.

    Args:
        images: One of
            a uint8 array (n, h, w) or (n, h, w, c), also uint16, bool or float in [0, 1];
            a list of paths, encoded bytes, Pillow images or arrays, mixed as you like;
            a map-style torch Dataset (`len` and indexing) yielding an image or a tuple (image, label, ...);
            anything with a method `pixels(size_px, fit=...)`, as a Collection has; it is given `resample` too where
            that is another than "bicubic".
        size_px: Side of the squares.
        fit, resample: See `square`.

    Returns:
        uint8 (n, size_px, size_px, 3). An array of that very shape is returned as it is, not copied; a Collection
        may return a memory-mapped one.

    Raises:
        InputError: an image cannot be used (the message gives its position and why), or `images` is something else.
    """
    if hasattr(images, "pixels"):
        filtered = {} if resample == "bicubic" else {"resample": resample}
        return cast(np.ndarray, images.pixels(size_px, fit=fit, **filtered))
    if isinstance(images, (str, bytes, os.PathLike)) or not (
        hasattr(images, "__len__") and hasattr(images, "__getitem__")
    ):
        raise InputError(
            "images must be an array, a list, a map-style Dataset or a Collection, "
            f"got {type(images).__name__}; a single image goes in a list, a folder is opened with imagescape.ingest"
        )
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape[1:] == (size_px, size_px, 3):
        return images

    def pixels_of(numbered: tuple[int, Any]) -> np.ndarray:
        position, image = numbered
        try:
            return square(_as_image(image, at_least_px=size_px), size_px, fit, resample=resample)
        except InputError as error:
            raise InputError(f"image {position}{_named(image)} cannot be used: {error}") from error

    out = np.empty((len(images), size_px, size_px, 3), np.uint8)
    with ThreadPoolExecutor(worker_count()) as threads:
        for start in range(0, len(images), _CHUNK):
            # indexing stays on this thread: nothing promises that a Dataset may be used from several
            numbered = [(i, image_of(images[i])) for i in range(start, min(start + _CHUNK, len(images)))]
            for (position, _), pixels in zip(numbered, threads.map(pixels_of, numbered), strict=True):
                out[position] = pixels
    return out


def native_px(images: Any) -> int:
    """The short side of the largest image, as far as that is cheap to know: of a list or Dataset, of its first 16.

    Args:
        images: As for `as_pixels`; a Collection is asked for its own `native_px()`.

    Raises:
        InputError: there are no images, or one of the first cannot be used.
    """
    if hasattr(images, "native_px"):
        return cast(int, images.native_px() or 1)
    if isinstance(images, np.ndarray) and images.ndim >= 3:
        return min(images.shape[1:3])
    first = [_as_image(image_of(images[i]), at_least_px=1 << 16) for i in range(min(16, len(images)))]
    if not first:
        raise InputError("there are no images")
    return max(min(image.size) for image in first)


def image_of(sample: Any) -> Any:
    """The image of a Dataset's sample, which is the image itself or a tuple that begins with it.

    >>> image_of(("a.png", 3))
    'a.png'
    """
    return sample[0] if isinstance(sample, (tuple, list)) and len(sample) else sample


def _as_image(image: Any, at_least_px: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, (str, os.PathLike)):
        read = read_file(image)
    elif isinstance(image, (bytes, bytearray, memoryview)):
        read = bytes(image)
    else:
        return from_array(image)
    decoded = read if isinstance(read, Decoded) else decode(read, at_least_px=at_least_px)
    if decoded.image is None:
        raise InputError(f"{decoded.reason} ({decoded.status})")
    return decoded.image


def _named(image: Any) -> str:
    return f" ({os.fspath(image)})" if isinstance(image, (str, os.PathLike)) else ""
