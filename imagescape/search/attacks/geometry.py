"""Attacks on the geometry: scale, crop, rotate, shear, flip, perspective. RGB images in and out.

What comes from outside the image is black.
"""

import math

import numpy as np
from PIL import Image

_BICUBIC = Image.Resampling.BICUBIC


def scale(image: Image.Image, factor: float) -> Image.Image:
    """Resize both sides by `factor`: the one attack here that changes the size."""
    width, height = image.size
    return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), _BICUBIC)


def crop(image: Image.Image, percent: float) -> Image.Image:
    """Take `percent` of each dimension away, half at each side, and resize what is left to the original size."""
    width, height = image.size
    x, y = (side * percent / 200 for side in (width, height))
    return image.resize(image.size, _BICUBIC, box=(x, y, width - x, height - y))


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    """Rotate counter-clockwise in a frame that grows with it, then resize the frame to the original size."""
    return image.rotate(degrees, _BICUBIC, expand=True).resize(image.size, _BICUBIC)


def shear(image: Image.Image, degrees: float) -> Image.Image:
    """Shear by the same angle along both axes at once, about the centre, in a frame that stays.

    A point x to the right and y below the centre goes to (x + t y, t x + (1 + t^2) y), t = tan(degrees): one axis
    after the other, which keeps areas.
    """
    t = math.tan(math.radians(degrees))
    x, y = (side / 2 for side in image.size)
    inverse = np.array([[1 + t * t, -t], [-t, 1]])  # Pillow asks where a pixel of the result comes from
    offset = np.array([x, y]) - inverse @ [x, y]
    data = (*inverse[0], offset[0], *inverse[1], offset[1])
    return image.transform(image.size, Image.Transform.AFFINE, tuple(map(float, data)), _BICUBIC)


def flip_horizontal(image: Image.Image) -> Image.Image:
    """Mirror left and right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def flip_vertical(image: Image.Image) -> Image.Image:
    """Mirror top and bottom."""
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def perspective(image: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """Look at the image from aslant: each corner moves inwards by a random share of up to `percent` of each side.

    The whole image stays visible, in a frame of the original size.
    """
    width, height = image.size
    size = np.array([width, height], float)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size
    moved = corners + (size / 2 - corners) * 2 * rng.uniform(0.2, 1, (4, 2)) * percent / 100
    data = tuple(map(float, homography(moved, corners)))
    return image.transform(image.size, Image.Transform.PERSPECTIVE, data, _BICUBIC)


def homography(from_points: np.ndarray, to_points: np.ndarray) -> np.ndarray:
    """The eight coefficients (a, ..., h) of x' = (ax + by + c) / (gx + hy + 1), y' = (dx + ey + f) / (gx + hy + 1).

    Args:
        from_points: Four points (x, y), no three on a line, (4, 2).
        to_points: Where they go, (4, 2).
    """
    rows, right = [], []
    for (x, y), (to_x, to_y) in zip(from_points, to_points, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -to_x * x, -to_x * y], [0, 0, 0, x, y, 1, -to_y * x, -to_y * y]]
        right += [to_x, to_y]
    return np.linalg.solve(np.array(rows, float), np.array(right, float))
