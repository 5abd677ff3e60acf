"""What of an image's pixels says how good it is: a small row of raw numbers, which `quality.judge` makes scores of.

The numbers are of the image alone and not of its collection, and hold no opinion. A table stores them, and of a
collection that grew only the new images are measured.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imagescape.errors import InputError
from imagescape.images.decode import from_array, to_rgb
from imagescape.runtime import worker_count

EDGES_PX = 64  # longer side that an image is shrunk to before its edges are measured
_REDUCING_GAP = 4.0  # an image of 512 px or more is first reduced in whole steps: several times as fast
_CHUNK_BYTES = 2**22  # pixels that a thread is given at a time


class Measurement(NamedTuple):
    """Raw numbers of one image; NaN where it was not measured.

    Attributes:
        width_px: Of the image.
        height_px: Of the image.
        brightness_5th: 5th percentile over the pixels of perceived brightness, in [0, 1]. Perceived brightness is
            sqrt(.241 R^2 + .691 G^2 + .068 B^2) / 255 (the HSP model, Finley 2006).
        brightness_99th: 99th percentile of the same.
        entropy_bits: Shannon entropy of the counts of all values of all bands, in [0, log2 768]; of an image without
            colour, of one band, in [0, 8].
        color_spread: Largest difference between two channels of one pixel, in [0, 1]; 0 for an image without colour.
        edge_deviation: Standard deviation of the edges, in levels [0, 127.5], after the longer side is shrunk to
            64 px: of each grey pixel 8 times itself less its 8 neighbours, cut to [0, 255].
        histogram_deviation: Standard deviation of the 256 counts of grey levels of the shrunk image, in pixels.
        border_fraction: Share of the picture that is a frame of one colour, in [0, 1]: what lies outside of the least
            rectangle with all pixels that differ from the colour of a corner by more than 8 levels.
        blockiness: How much steps across the lines of JPEG's grid (every 8 px from the left and top) stand out from the
            steps beside them, over how much steps everywhere else do; means over the grey picture of
            max(2 |step| - |step before| - |step after|, 0), steps above 16 levels counting as 16, half a level added
            to both. About 1 where there is no such grid, 1.4 to 3 at JPEG's quality of 50, 3 to 10 at 10. A grid that
            does not begin at the corner, as in what was cut out of a JPEG, is not found. Compare Wang, Bovik, Evans
            2000, doi:10.1109/ICIP.2000.899622.
    """

    width_px: float
    height_px: float
    brightness_5th: float
    brightness_99th: float
    entropy_bits: float
    color_spread: float
    edge_deviation: float
    histogram_deviation: float
    border_fraction: float
    blockiness: float


NOT_MEASURED = Measurement(*[float("nan")] * len(Measurement._fields))
"""The row of an image that cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurements:
    """Raw numbers of many images.

    Attributes:
        values: (n, 10) float64, a column for each field of `Measurement`; a row of NaN was not measured.
    """

    values: np.ndarray

    def __post_init__(self) -> None:
        width = len(Measurement._fields)
        if self.values.ndim != 2 or self.values.shape[1] != width:
            raise InputError(f"measurements need a row of {width} numbers an image, got shape {self.values.shape}")

    @classmethod
    def of(cls, rows: Iterable[Measurement]) -> Self:
        """Rows as `measure` gives them, in their order."""
        values = np.array(list(rows), np.float64)
        return cls(values.reshape(len(values), len(Measurement._fields)))

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray]) -> Self:
        """From columns of a table, of which others are ignored.

        Raises:
            InputError: a column is missing, or they differ in length.
        """
        if missing := [name for name in Measurement._fields if name not in columns]:
            raise InputError(f"measurements need the columns {', '.join(missing)}; measure the images again")
        lengths = {len(columns[name]) for name in Measurement._fields}
        if len(lengths) > 1:
            raise InputError(f"columns of measurements must be equally long, got {sorted(lengths)}")
        return cls(np.stack([np.asarray(columns[name], np.float64) for name in Measurement._fields], axis=1))

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Those of several collections, or of what was there and what is new, one after the other."""
        return cls(np.concatenate([np.empty((0, len(Measurement._fields))), *[part.values for part in parts]]))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> np.ndarray:
        """The column of a field of `Measurement`, (n,) float64."""
        return self.values[:, Measurement._fields.index(name)]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All columns by name, (n,) float64 each."""
        return {name: self[name] for name in Measurement._fields}

    @property
    def measured(self) -> np.ndarray:
        """Which images were, (n,) bool."""
        return np.isfinite(self.values).all(axis=1)


def measure(image: Image.Image | np.ndarray) -> Measurement:
    """Raw numbers of one image. Safe to call from many threads, and holds Python's lock for a moment only.

    Args:
        image: A Pillow image in any mode, or an array as `from_array` takes it, at full size: of a smaller copy the
            size, the grid of JPEG and the entropy would be others. Transparency is composited over white.

    Raises:
        InputError: an array that is no image.
    """
    rgb = to_rgb(image) if isinstance(image, Image.Image) else from_array(image)
    pixels = np.ascontiguousarray(rgb)[None]
    size = _edges_px(*rgb.size)
    small = pixels if size == rgb.size else np.ascontiguousarray(rgb.resize(size, reducing_gap=_REDUCING_GAP))[None]
    return Measurement(*_measured(pixels, small)[0])


def measure_all(pixels: UInt8[np.ndarray, "n h w 3"]) -> Measurements:
    """Raw numbers of images that are equally large, on all cores, without a step of Python an image.

    Args:
        pixels: RGB, at full size; may be a memory map. Larger than 64 px, they are shrunk by torch in one step, and
            `edge_deviation` and `histogram_deviation` differ a little from those of `measure`, by a few hundredths.

    Raises:
        InputError: another shape or type.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise InputError(f"images must be uint8 (n, h, w, 3), got {pixels.dtype} {pixels.shape}; see `measure`")
    if not len(pixels):
        return Measurements.of([])
    if not pixels[0].size:
        raise InputError(f"images must have pixels, got {pixels.shape[2]}x{pixels.shape[1]}")
    size = _edges_px(pixels.shape[2], pixels.shape[1])
    step = max(1, _CHUNK_BYTES // pixels[0].nbytes)

    def some(start: int) -> np.ndarray:
        chunk = np.ascontiguousarray(pixels[start : start + step])
        return _measured(chunk, _shrunk(chunk, size))

    with ThreadPoolExecutor(worker_count()) as threads:
        return Measurements(np.concatenate(list(threads.map(some, range(0, len(pixels), step)))))


def _edges_px(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height, EDGES_PX)
    return max(width * EDGES_PX // longer, 1), max(height * EDGES_PX // longer, 1)


def _shrunk(chunk: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if size == chunk.shape[2:0:-1]:
        return chunk
    import torch

    with torch.inference_mode():
        planes = torch.from_numpy(chunk if chunk.flags.writeable else chunk.copy()).permute(0, 3, 1, 2)
        small = torch.nn.functional.interpolate(planes, size[::-1], mode="bicubic", antialias=True)
        return np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy())


def _measured(pixels: np.ndarray, small: np.ndarray) -> np.ndarray:
    # Here and not above: it loads a compiler, which only those who measure need.
    from imagescape.audit.pixel_kernel import measure_pixels

    figures = np.empty((len(pixels), len(Measurement._fields) - 2))
    measure_pixels(pixels, small, figures)
    size = np.broadcast_to(np.array(pixels.shape[2:0:-1], np.float64), (len(pixels), 2))
    return np.concatenate([size, figures], axis=1)
