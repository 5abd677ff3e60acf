"""A small map with pictures, drawn from a seed."""

import io

import numpy as np
import pytest
from PIL import Image


def picture(color, size=(24, 16)):
    out = io.BytesIO()
    Image.new("RGB", size, tuple(int(c) for c in color)).save(out, "WEBP", lossless=True)
    return out.getvalue()


@pytest.fixture(name="picture")
def picture_fixture():
    """One plain colour as WebP bytes: picture((r, g, b), (width, height))."""
    return picture


@pytest.fixture
def small_map():
    """300 points of 5 classes as (coords, class names, thumbnails); row 7 has no picture, row 9 no class."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, 300)
    centers = np.array([[0, 40], [40, 0], [0, -40], [-40, 0], [0, 0]])
    coords = centers[codes] + rng.normal(0, 7, (300, 2))
    names = [
        None if row == 9 else ["$cats_dogs$", "fish", "<b>", "birds"][code % 4] + str(code)
        for row, code in enumerate(codes)
    ]
    thumbnails = [None if row == 7 else picture(rng.integers(0, 256, 3)) for row in range(300)]
    return coords, names, thumbnails
